"""The two models are the baseline ones; small metrics of their codes are exact."""

import inspect
import json
import types

import keras
import numpy as np
import pytest

import course
import vae_helpers as vh


def dense_layers(model):
    """(units, activation) of every dense layer."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return [(layer.units, layer.activation.__name__) for layer in layers]


def test_autoencoder_has_the_baseline_layers():
    model = vh.build_autoencoder()
    layers = [(units, "relu") for units in (128, 64, 32, 18, 32, 64, 128)]
    assert dense_layers(model) == [*layers, (784, "sigmoid")]
    assert model.count_params() == 223_586


def test_vae_has_the_baseline_layers():
    encoder, decoder = vh.build_encoder(), vh.build_decoder()
    layers = [(units, "relu") for units in (512, 256, 128)]
    assert dense_layers(encoder) == [*layers, (10, "linear"), (10, "linear")]
    assert dense_layers(decoder) == [*layers[::-1], (784, "sigmoid")]
    assert encoder.count_params() == 568_724 and decoder.count_params() == 568_208
    assert [output.shape for output in encoder.outputs] == [(None, 10), (None, 10)]


def test_halves_of_the_autoencoder_make_the_whole(images):
    model = vh.build_autoencoder()
    encoder, decoder = vh.split_autoencoder(model)
    assert encoder(images).shape == (60, 18)
    assert np.allclose(decoder(encoder(images)), model(images), atol=1e-6)


def test_sampling_has_the_mean_and_variance_of_its_inputs():
    n = 200_000
    mean = np.full((n, 1), 2.0, "float32")
    log_var = np.full((n, 1), np.log(0.25), "float32")
    z = np.asarray(vh.Sampling(seed=0)([mean, log_var]))
    assert z.mean() == pytest.approx(2.0, abs=5 * 0.5 / n**0.5)
    assert z.std() == pytest.approx(0.5, rel=0.01)


def test_sampling_differs_by_call_and_image_and_repeats_with_its_seed():
    inputs = [np.zeros((4, 10), "float32")] * 2
    layer = vh.Sampling(seed=5)
    first, second = np.asarray(layer(inputs)), np.asarray(layer(inputs))
    assert not np.array_equal(first, second) and len(np.unique(first)) == 40
    assert np.array_equal(first, vh.Sampling(seed=5)(inputs))


def test_kl_weight_can_be_changed_after_compiling(images, vae):
    vae.compile(jit_compile=True)
    vae.evaluate(images, images, verbose=0)
    vae.kl_weight.assign(1000.0)
    scores = vae.evaluate(images, images, verbose=0, return_dict=True)
    expected = scores["reconstruction"] + 1000 * scores["kl"]
    assert scores["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_vae_overfits_a_single_batch(images, vae):
    """Training works at all: 200 steps on 60 images."""
    vae.compile(optimizer="adam", loss="mse", jit_compile=True)
    history = vae.fit(images, images, batch_size=60, epochs=200, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]


def test_large_log_variance_leaves_loss_and_gradients_finite(images, vae):
    """One image's is 200, whose exp overflows; within bounds, not a bit changes."""
    tf = pytest.importorskip("tensorflow")

    def as_arrays(loss, tape):
        gradients = tape.gradient(loss, vae.trainable_weights)
        return [np.asarray(value) for value in (loss, *gradients)]

    def guarded():
        vae.sampling.seed_generator.state.assign([1, 0])
        with tf.GradientTape() as tape:
            loss = vae.compute_loss(images, images, vae(images))
        return as_arrays(loss, tape)

    def unguarded():
        vae.sampling.seed_generator.state.assign([1, 0])
        with tf.GradientTape() as tape:
            z_mean, z_log_var = vae.encoder(images)
            x_hat = vae.decoder(vae.sampling([z_mean, z_log_var]))
            kl = keras.ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
            loss = keras.ops.mean(vh.bernoulli_nll(images, x_hat))
            loss = loss + vae.kl_weight * keras.ops.mean(kl)
        return as_arrays(loss, tape)

    vae(images)
    assert all(np.array_equal(a, b) for a, b in zip(guarded(), unguarded()))
    vae.encoder.get_layer("z_log_var").bias.assign([200.0] + [0.0] * 9)
    assert all(np.isfinite(value).all() for value in guarded())
    assert not all(np.isfinite(value).all() for value in unguarded())


# ---------------------------------------------------------------- distances


@pytest.mark.parametrize("offset", [0, 100])
def test_distance_of_a_code_to_itself_is_exactly_0(offset):
    codes = np.random.default_rng(0).normal(offset, size=(1000, 18)).astype("float32")
    assert np.array_equal(vh.distance_to_nearest(codes, codes), np.zeros(1000))


def test_the_taught_vae_has_at_most_32_lines():
    assert len(inspect.getsource(vh.VAE).splitlines()) <= 32


def test_taught_cells_pasted_into_an_empty_module_train():
    path = course.ROOT / "notebooks" / "03_vae.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    taught = [text for text in sources if text.startswith("# from vae_helpers.py: ")]
    imports = "import keras\nimport numpy as np\nfrom keras import layers, ops"
    module = types.ModuleType("pasted")
    exec("\n".join([imports, *taught]), vars(module))
    vae = module.VAE(module.build_encoder(), module.build_decoder())
    vae.compile("adam", loss="mse", run_eagerly=True)
    x = np.random.default_rng(0).uniform(size=(8, 784)).astype("float32")
    before = vae.encoder.get_weights()[0]
    logs = vae.train_on_batch(x, x, return_dict=True)
    assert np.isfinite(logs["loss"]) and {"reconstruction", "kl"} <= set(logs)
    assert not np.array_equal(before, vae.encoder.get_weights()[0])
