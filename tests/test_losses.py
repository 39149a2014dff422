"""The loss is what the chapters say it is."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import vae_helpers as vh


def test_reconstruction_term_is_784_times_keras_mean(images, vae):
    x_hat = vae(images)
    by_hand = -(images * np.log(x_hat) + (1 - images) * np.log(1 - x_hat)).sum(axis=1)
    mean = keras.losses.binary_crossentropy(images, x_hat)
    assert np.allclose(vh.bernoulli_nll(images, x_hat), by_hand, rtol=1e-5)
    assert np.allclose(784 * mean, by_hand, rtol=1e-5)


def test_reconstruction_term_is_finite_at_0_and_1():
    x = np.tile(np.array([[0.0, 1.0, 0.5, 0.0]], "float32"), 196)
    assert np.isfinite(vh.bernoulli_nll(x, 1 - np.round(x))).all()


def test_reconstruction_term_is_never_below_the_pixel_entropy(images):
    entropy = vh.pixel_entropy(images)
    lowest = np.mean(vh.bernoulli_nll(images, images))
    assert lowest == pytest.approx(entropy, rel=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(5):
        guess = np.clip(images + rng.normal(0, 0.05, images.shape), 0, 1)
        assert np.mean(vh.bernoulli_nll(images, guess.astype("float32"))) > entropy


@pytest.mark.parametrize("mean, log_var", [(0.0, 0.0), (1.3, -3.0), (-2.0, 1.0)])
def test_kl_matches_scipy_integral(mean, log_var):
    """SciPy integrates the relative entropy of two of its own densities."""
    q, p = scipy.stats.norm(mean, np.exp(0.5 * log_var)), scipy.stats.norm
    integral, _ = scipy.integrate.quad(
        lambda z: scipy.special.rel_entr(q.pdf(z), p.pdf(z)),
        mean - 9 * q.std(),
        mean + 9 * q.std(),
        points=[mean],
        limit=200,
        epsabs=1e-10,
    )
    kl = float(vh.kl_to_prior(np.float64(mean), np.float64(log_var)))
    assert kl == pytest.approx(integral, abs=1e-7)


def test_loss_is_summed_over_pixels_and_over_dimensions(images):
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=3.0)
    x_hat = np.asarray(model(images), "float64")
    mean, log_var = (np.asarray(output, "float64") for output in model.encoder(images))
    bce = -(images * np.log(x_hat) + (1 - images) * np.log(1 - x_hat))  # (60, 784)
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var)  # (60, 10)
    bce, kl = bce.sum(axis=1), kl.sum(axis=1)
    loss = float(model.compute_loss(images, images, x_hat.astype("float32")))
    assert loss == pytest.approx((bce + 3 * kl).mean(), rel=1e-5)
    assert float(model.kl_tracker.result()) == pytest.approx(kl.mean(), rel=1e-4)


def test_loss_in_the_history_is_the_sum_of_its_terms(images):
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=2.5)
    model.compile(optimizer="adam", loss="mse", metrics=["mse"])
    pair = (images, images)
    history = model.fit(*pair, 16, 2, verbose=0, validation_data=pair).history
    names = {"loss", "reconstruction", "kl", "mse"}
    assert set(history) == names | {f"val_{name}" for name in names}
    curves = {name: np.array(values) for name, values in history.items()}
    for part in ("", "val_"):
        total = curves[f"{part}reconstruction"] + 2.5 * curves[f"{part}kl"]
        assert np.allclose(curves[f"{part}loss"], total, rtol=1e-5)


def test_averages_are_over_images_not_batches(images, vae):
    vae.compile(loss="mse", metrics=["mse"])
    # Almost no noise, so that the two evaluations can be compared.
    head = vae.encoder.get_layer("z_log_var")
    head.set_weights([np.zeros((128, 10)), np.full(10, -40.0)])
    one_batch, two_batches = (  # 60, and 59 + 1
        vae.evaluate(images, images, batch_size=size, verbose=0, return_dict=True)
        for size in (60, 59)
    )
    assert one_batch == pytest.approx(two_batches, rel=1e-5)


def test_validation_draws_z_as_training_does(images, vae):
    vae.compile()
    first, second = (
        vae.evaluate(images, images, verbose=0, return_dict=True)["reconstruction"]
        for _ in range(2)
    )
    assert first != second


def test_loss_named_in_compile_changes_no_gradient(images):
    def after_one_step(loss):
        keras.utils.set_random_seed(1)
        model = vh.VAE(vh.build_encoder(), vh.build_decoder())
        before = model.get_weights()
        optimizer = keras.optimizers.SGD(1e-3)  # with Adam, factors would not show
        model.compile(optimizer=optimizer, loss=loss)
        model.train_on_batch(images, images)
        assert not all(map(np.array_equal, before, model.get_weights()))
        return model.get_weights()

    assert all(map(np.array_equal, after_one_step("mse"), after_one_step(None)))


def test_gradient_matches_finite_differences(float64, images):
    # On JAX, keras.ops.mean computes in float32.
    tf = pytest.importorskip("tensorflow")
    keras.utils.set_random_seed(2)
    x = images[:8].astype("float64")
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=1.7)
    state = model.sampling.seed_generator.state
    seed = state.numpy()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, x, model(x))
    gradients = tape.gradient(loss, model.trainable_weights)
    rng = np.random.default_rng(1)
    for variable, slope in zip(model.trainable_weights, gradients):
        value = variable.numpy()
        direction = rng.normal(size=value.shape)
        step = 1e-6 / np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            variable.assign(value + sign * step * direction)
            state.assign(seed)  # the same noise every time
            losses.append(float(model.compute_loss(x, x, model(x))))
        variable.assign(value)
        difference = (losses[0] - losses[1]) / (2 * step)
        expected = pytest.approx(difference, rel=1e-4, abs=1e-4)
        assert np.sum(slope * direction) == expected, variable.path


def test_vae_without_targets_or_with_sample_weights_is_refused(images, vae):
    with pytest.raises(ValueError, match="must both be images"):
        vae.compute_loss(images, None, vae(images))
    with pytest.raises(AssertionError, match="VAE takes no sample weights"):
        vae.compute_loss(images, images, vae(images), np.ones(60))


def test_pca_reconstruction_matches_a_plain_svd(images):
    mean = images.mean(axis=0)
    u, s, vt = np.linalg.svd(images - mean, full_matrices=False)
    by_hand = mean + (u[:, :7] * s[:7]) @ vt[:7]
    assert np.allclose(vh.pca_reconstruct(images, images, 7), by_hand, atol=1e-4)


def test_active_dimensions_counts_those_above_the_threshold():
    assert vh.active_dimensions(np.array([[0.0, 0.02, 3.0], [0.0, 0.0, 1.0]])) == 1
