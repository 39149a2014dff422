"""The loss is what the chapters say it is."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import vae_helpers as vh


def test_784_times_keras_mean_is_the_sum_over_pixels(images, vae):
    x_hat = vae(images)
    by_hand = -(images * np.log(x_hat) + (1 - images) * np.log(1 - x_hat)).sum(axis=1)
    assert np.allclose(vh.bernoulli_nll(images, x_hat), by_hand, rtol=1e-5)
    assert np.allclose(
        784 * keras.losses.binary_crossentropy(images, x_hat), by_hand, rtol=1e-5
    )


def test_reconstruction_term_is_finite_at_the_ends():
    x = np.tile(np.array([[0.0, 1.0, 0.5, 0.0]], "float32"), 196)
    assert np.isfinite(vh.bernoulli_nll(x, 1 - np.round(x))).all()


def test_reconstruction_term_is_never_below_the_pixel_entropy(images):
    assert np.mean(vh.bernoulli_nll(images, images)) == pytest.approx(
        vh.pixel_entropy(images), rel=1e-5
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        guess = np.clip(images + rng.normal(0, 0.05, images.shape), 0, 1).astype(
            "float32"
        )
        assert np.mean(vh.bernoulli_nll(images, guess)) > vh.pixel_entropy(images)


def test_kl_matches_monte_carlo():
    rng = np.random.default_rng(0)
    mean, log_var = np.array([0.0, 0.7, -1.5]), np.array([0.0, -2.0, 0.8])
    q = scipy.stats.norm(mean, np.exp(0.5 * log_var))
    z = q.rvs((400_000, 3), random_state=rng)
    estimate = q.logpdf(z) - scipy.stats.norm.logpdf(z)
    error = estimate.std(axis=0) / len(z) ** 0.5
    assert np.all(
        np.abs(estimate.mean(axis=0) - vh.kl_to_prior(mean, log_var))
        <= 5 * error + 1e-9
    )


@pytest.mark.parametrize(
    "mean, log_var", [(0.0, 0.0), (1.3, -3.0), (-2.0, 1.0), (0.01, -0.01)]
)
def test_kl_matches_scipy_integral(mean, log_var):
    """The integral of SciPy's own relative entropy of two of its own densities."""
    q = scipy.stats.norm(mean, np.exp(0.5 * log_var))
    reach = 9 * q.std()
    integral, _ = scipy.integrate.quad(
        lambda z: scipy.special.rel_entr(q.pdf(z), scipy.stats.norm.pdf(z)), mean - reach, mean + reach,
        points=[mean], limit=200, epsabs=1e-10,
    )  # fmt: skip
    assert float(
        vh.kl_to_prior(np.float64(mean), np.float64(log_var))
    ) == pytest.approx(integral, abs=1e-7)


def test_kl_is_zero_only_at_the_prior():
    rng = np.random.default_rng(0)
    assert float(vh.kl_to_prior(np.zeros(1), np.zeros(1))[0]) == 0
    assert np.all(
        np.asarray(vh.kl_to_prior(rng.normal(size=1000), rng.normal(size=1000))) > 0
    )


def test_loss_is_summed_over_pixels_and_over_dimensions(images):
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=3.0)
    x_hat = np.asarray(model(images), "float64")
    mean, log_var = (np.asarray(output, "float64") for output in model.encoder(images))
    bce = -(images * np.log(x_hat) + (1 - images) * np.log(1 - x_hat)).sum(
        axis=1
    )  # (60,) over 784 pixels
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(
        axis=1
    )  # (60,) over 10 dimensions
    loss = float(model.compute_loss(images, images, x_hat.astype("float32")))
    assert loss == pytest.approx((bce + 3 * kl).mean(), rel=1e-5)
    assert float(model.kl_tracker.result()) == pytest.approx(kl.mean(), rel=1e-4)


@pytest.mark.parametrize("kl_weight", [1.0, 2.5])
def test_history_adds_up_in_every_row(images, kl_weight):
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=kl_weight)
    model.compile(optimizer="adam", loss="mse", metrics=["mse"])
    history = model.fit(
        images,
        images,
        batch_size=16,
        epochs=2,
        validation_data=(images, images),
        verbose=0,
    ).history
    names = {"loss", "reconstruction", "kl", "mse"}
    assert set(history) == names | {f"val_{name}" for name in names}
    for row in ("", "val_"):
        total = np.array(history[f"{row}reconstruction"]) + kl_weight * np.array(
            history[f"{row}kl"]
        )
        assert np.allclose(history[f"{row}loss"], total, rtol=1e-5)


def test_averages_are_over_images_not_batches(images, vae):
    vae.compile(loss="mse", metrics=["mse"])
    head = vae.encoder.get_layer(
        "z_log_var"
    )  # next to no noise, so that batches can be compared
    head.set_weights([np.zeros((128, 10)), np.full(10, -40.0)])
    whole = vae.evaluate(images, images, batch_size=60, verbose=0, return_dict=True)
    uneven = vae.evaluate(
        images, images, batch_size=59, verbose=0, return_dict=True
    )  # 59 + 1
    assert whole == pytest.approx(uneven, rel=1e-5)


def test_validation_draws_z_as_training_does(images, vae):
    vae.compile()
    first, second = (
        vae.evaluate(images, images, verbose=0, return_dict=True)["reconstruction"]
        for _ in range(2)
    )
    assert first != second


def gradient(model, x):
    if keras.backend.backend() == "jax":
        import jax

        def loss(values):
            with keras.StatelessScope(zip(model.trainable_variables, values)):
                return model.compute_loss(x, x, model(x))

        return jax.grad(loss)(
            [variable.value for variable in model.trainable_variables]
        )
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, x, model(x))
    return tape.gradient(loss, model.trainable_weights)


def test_mse_named_at_compile_time_does_not_steer(images):
    def after_one_step(loss):
        keras.utils.set_random_seed(1)
        model = vh.VAE(vh.build_encoder(), vh.build_decoder())
        before = model.get_weights()
        model.compile(
            optimizer=keras.optimizers.SGD(1e-3), loss=loss
        )  # SGD, because Adam hides factors
        model.train_on_batch(images, images)
        assert any(
            not np.array_equal(a, b) for a, b in zip(before, model.get_weights())
        )
        return model.get_weights()

    assert all(
        np.array_equal(a, b)
        for a, b in zip(after_one_step("mse"), after_one_step(None))
    )


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def test_gradient_matches_finite_differences(float64, images):
    keras.utils.set_random_seed(2)
    x = images[:8].astype("float64")
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=1.7)
    state = model.sampling.seed_generator.state
    seed = state.numpy()
    gradients = gradient(model, x)
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
        by_difference = (losses[0] - losses[1]) / (2 * step)
        assert np.sum(slope * direction) == pytest.approx(
            by_difference, rel=1e-4, abs=1e-4
        ), variable.path


def test_vae_says_what_it_must_be_fitted_on(images, vae):
    with pytest.raises(ValueError, match="fitted on \\(x, x\\)"):
        vae.compute_loss(images, None, vae(images))
    with pytest.raises(ValueError, match="without sample weights"):
        vae.compute_loss(images, images, vae(images), sample_weight=np.ones(60))


def test_pca_reconstruction_matches_a_plain_svd(images):
    mean = images.mean(axis=0)
    u, s, vt = np.linalg.svd(images - mean, full_matrices=False)
    assert np.allclose(
        vh.pca_reconstruct(images, images, 7),
        mean + (u[:, :7] * s[:7]) @ vt[:7],
        atol=1e-4,
    )


def test_distance_to_nearest_matches_a_plain_loop():
    rng = np.random.default_rng(0)
    codes, others = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    plain = [min(np.linalg.norm(code - other) for other in others) for code in codes]
    assert np.allclose(vh.distance_to_nearest(codes, others), plain)


def test_active_dimensions_counts_those_above_the_threshold():
    assert vh.active_dimensions(np.array([[0.0, 0.02, 3.0], [0.0, 0.0, 1.0]])) == 1
    assert vh.active_dimensions(np.array([[0.0, 0.03, 3.0]])) == 2
