"""The two models are the ones specified."""

import keras
import numpy as np
import pytest

import vae_helpers as vh


def dense(model):
    """(units, activation) of every dense layer."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return [(layer.units, layer.activation.__name__) for layer in layers]


def test_autoencoder_is_as_specified():
    model = vh.build_autoencoder()
    widths = [128, 64, 32, 18, 32, 64, 128]
    assert dense(model) == [*((units, "relu") for units in widths), (784, "sigmoid")]
    assert model.count_params() == 223_586


def test_vae_is_as_specified():
    encoder, decoder = vh.build_encoder(), vh.build_decoder()
    heads = [(10, "linear"), (10, "linear")]
    assert dense(encoder) == [(512, "relu"), (256, "relu"), (128, "relu"), *heads]
    assert dense(decoder) == [
        (128, "relu"),
        (256, "relu"),
        (512, "relu"),
        (784, "sigmoid"),
    ]
    assert encoder.count_params() == 568_724 and decoder.count_params() == 568_208
    assert [output.shape for output in encoder.outputs] == [(None, 10), (None, 10)]


def test_halves_of_the_autoencoder_make_the_whole(images):
    model = vh.build_autoencoder()
    encoder, decoder = vh.split_autoencoder(model)
    assert encoder(images).shape == (60, 18)
    assert np.allclose(decoder(encoder(images)), model(images), atol=1e-6)


def test_sampling_has_the_mean_and_variance_it_is_given():
    mean, log_var = (
        np.full((200_000, 1), 2.0, "float32"),
        np.full((200_000, 1), np.log(0.25), "float32"),
    )
    z = np.asarray(vh.Sampling(seed=0)([mean, log_var]))
    assert z.mean() == pytest.approx(2.0, abs=5 * 0.5 / 200_000**0.5)
    assert z.std() == pytest.approx(0.5, rel=0.01)


def test_sampling_draws_anew_for_every_call_and_image_and_repeats_with_the_seed():
    inputs = [np.zeros((4, 10), "float32")] * 2
    layer = vh.Sampling(seed=5)
    first, second = np.asarray(layer(inputs)), np.asarray(layer(inputs))
    assert not np.array_equal(first, second) and len(np.unique(first)) == 40
    assert np.array_equal(first, vh.Sampling(seed=5)(inputs))


def test_call_returns_the_reconstruction(images, vae):
    x_hat = np.asarray(vae(images))
    assert x_hat.shape == (60, 784) and x_hat.min() > 0 and x_hat.max() < 1


def test_kl_weight_can_be_changed_after_compiling(images, vae):
    vae.compile(jit_compile=True)
    vae.evaluate(images, images, verbose=0)
    vae.kl_weight.assign(1000.0)
    scores = vae.evaluate(images, images, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(
        scores["reconstruction"] + 1000 * scores["kl"], rel=1e-5
    )


@pytest.mark.slow
def test_one_batch_can_be_learnt_by_heart(images, vae):
    """Training works at all: 200 steps on 60 images."""
    vae.compile(optimizer="adam", loss="mse", jit_compile=True)
    losses = vae.fit(images, images, batch_size=60, epochs=200, verbose=0).history[
        "loss"
    ]
    assert losses[-1] < 0.6 * losses[0]


def test_diagram_and_grid_take_what_they_should(images):
    figure = vh.image_grid(
        [images[:3], images[3:6].reshape(3, 28, 28), np.zeros((3, 2, 5))],
        ["a", "b", "c"],
    )
    assert len(figure.axes) == 9
    with pytest.raises(ValueError, match="columns, 784"):
        vh.image_grid([images[0]])


def test_a_runaway_log_variance_leaves_loss_and_gradients_finite(images, vae):
    """One image whose log-variance is 200: exp of it is beyond float32. Within bounds, not a bit changes."""
    tf = pytest.importorskip("tensorflow")

    def loss_and_gradients():
        vae.sampling.seed_generator.state.assign([1, 0])
        with tf.GradientTape() as tape:
            loss = vae.compute_loss(images, images, vae(images))
        return [
            np.asarray(a) for a in (loss, *tape.gradient(loss, vae.trainable_weights))
        ]

    def unguarded():
        z_mean, z_log_var = vae.encoder(images)
        vae.sampling.seed_generator.state.assign([1, 0])
        with tf.GradientTape() as tape:
            z_mean, z_log_var = vae.encoder(images)
            x_hat = vae.decoder(vae.sampling([z_mean, z_log_var]))
            kl = keras.ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
            loss = keras.ops.mean(vh.bernoulli_nll(images, x_hat) + vae.kl_weight * kl)
        return [
            np.asarray(a) for a in (loss, *tape.gradient(loss, vae.trainable_weights))
        ]

    assert all(np.array_equal(a, b) for a, b in zip(loss_and_gradients(), unguarded()))
    vae.encoder.get_layer("z_log_var").bias.assign([200.0] + [0.0] * 9)
    assert all(np.isfinite(part).all() for part in loss_and_gradients())
    assert not all(np.isfinite(part).all() for part in unguarded())
