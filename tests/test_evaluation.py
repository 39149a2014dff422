"""What chapter 05 measures with, compared with independent computations."""

import keras
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import test_resume

import course
import vae_helpers as vh
from course import evaluation
from course.checkpoints import training_state

RNG = np.random.default_rng(0)


def test_frechet_distance_of_gaussians_is_the_known_one():
    a = RNG.normal(0, [1, 2, 3], (400_000, 3))
    b = RNG.normal([1, 0, -2], [2, 2, 1], (400_000, 3))
    # The dimensions are independent: their distances add up.
    known = (1 + 0 + 4) + ((1 - 2) ** 2 + (2 - 2) ** 2 + (3 - 1) ** 2)
    assert evaluation.squared_frechet(a, b) == pytest.approx(known, rel=0.01)
    assert evaluation.squared_frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_matches_the_formula_with_scipys_matrix_root():
    mix = RNG.normal(size=(8, 8))
    a, b = RNG.normal(size=(500, 8)) @ mix, RNG.normal(0.3, 1, (700, 8)) @ mix.T
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    direct = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert evaluation.squared_frechet(a, b) == pytest.approx(direct, rel=1e-8)
    assert evaluation.squared_frechet(b, a) == pytest.approx(direct, rel=1e-8)


def linear_gaussian_model(d=6, latent_dim=3):
    """x = W z + b + 0.5 noise, for which p(x) is known.

    Returns the decoder, its -log p(x | z), the exact p(x), and an encoder that is close
    to the true posterior, but not equal to it.
    """
    weights, bias = RNG.normal(size=(latent_dim, d)), RNG.normal(size=d)
    decoder = keras.Sequential([keras.Input((latent_dim,)), keras.layers.Dense(d)])
    decoder.layers[0].set_weights([weights, bias])
    variance = 0.25
    covariance = weights.T @ weights + variance * np.eye(d)
    marginal = scipy.stats.multivariate_normal(bias, covariance)
    precision = np.eye(latent_dim) + weights @ weights.T / variance

    def encoder(x):
        projected = weights @ (np.asarray(x) - bias).T / variance
        mean = np.linalg.solve(precision, projected).T + 0.1
        log_var = np.log(1 / np.diag(precision)) + 0.3
        log_var = np.broadcast_to(log_var, mean.shape)
        return mean.astype("float32"), log_var.astype("float32")

    def nll(x, x_hat):
        density = scipy.stats.norm(np.asarray(x_hat), variance**0.5)
        return -density.logpdf(x).sum(axis=-1)

    return decoder, nll, marginal, encoder


def test_importance_bound_falls_to_the_exact_likelihood():
    decoder, nll, marginal, encoder = linear_gaussian_model()
    x = marginal.rvs(200, random_state=1).astype("float32")
    groups = [1, 10, 100, 2000]
    bounds = evaluation.importance_bound(encoder, decoder, x, 2000, groups, nll=nll)
    bounds = bounds.mean(axis=1)
    exact = -marginal.logpdf(x).mean()
    assert bounds[0] > bounds[1] > bounds[2] > bounds[3] > exact - 0.02
    assert bounds[0] - exact > 0.3, "with this encoder, one sample must not be enough"
    assert bounds[3] == pytest.approx(exact, abs=0.03)


def test_importance_bound_with_one_sample_is_minus_elbo():
    encoder = vh.load(course.REFERENCE / "vae_encoder.keras")
    decoder = vh.load(course.REFERENCE / "vae_decoder.keras")
    x = vh.load_data().x_test[:20]
    z_mean, z_log_var = map(np.asarray, encoder(x))
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1)
    noise = RNG.normal(size=(400, 20, 10)).astype("float32")
    z = z_mean + np.exp(0.5 * z_log_var) * noise
    reconstruction = np.mean(
        [np.asarray(vh.bernoulli_nll(x, decoder(part))) for part in z], axis=0
    )
    bound = evaluation.importance_bound(encoder, decoder, x, 400, [1])[0]
    np.testing.assert_allclose(bound.mean(), (reconstruction + kl).mean(), rtol=0.002)


def test_fitted_mixture_recovers_the_density_of_the_codes():
    centres = np.array([[-4.0, 0], [4, 0], [0, 6]])
    codes = centres[RNG.integers(3, size=6000)] + 0.3 * RNG.normal(size=(6000, 2))
    samples = evaluation.sample_from_mixture(codes.astype("float32"), 3, 3000)
    assert samples.shape == (3000, 2) and samples.dtype == "float32"
    distance = np.linalg.norm(samples[:, None] - centres, axis=2)
    assert (distance.min(axis=1) < 1.5).mean() > 0.99
    shares = np.bincount(distance.argmin(axis=1)) / 3000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.05)


def test_samples_of_relu_codes_are_not_negative():
    codes = RNG.normal(size=(5000, 4)).clip(0).astype("float32")
    samples = evaluation.sample_codes(codes, 100)
    names = ["N(0, I)", "one Gaussian", "mixture of 10", "mixture of 50"]
    normal, *fitted = samples.values()
    assert list(samples) == names
    assert normal.min() < 0 and all(part.min() >= 0 for part in fitted)


def test_noiseless_model_decodes_the_mean_and_has_no_warm_up():
    model, callbacks = evaluation.build_vae(evaluation.Noiseless, 0.0)
    x = vh.load_data().x_test[:8]
    np.testing.assert_allclose(model(x), model.decoder(model.encoder(x)[0]), rtol=1e-5)
    assert np.array_equal(model(x), model(x)) and not callbacks


@pytest.mark.parametrize("kind", [vh.VAE, evaluation.Noiseless])
def test_models_pass_the_training_flag_on(kind):
    """Dropout acts in training, in the encoder and in the decoder, and only there."""
    image, z = keras.Input((784,)), keras.Input((10,))
    hidden = keras.layers.Dropout(0.5)(image)
    z_mean, z_log_var = (keras.layers.Dense(10)(hidden) for _ in range(2))
    encoder = keras.Model(image, [z_mean, z_log_var])
    restored = keras.layers.Dropout(0.5)(keras.layers.Dense(784)(z))
    decoder = keras.Model(z, keras.layers.Activation("sigmoid")(restored))
    model, x = kind(encoder, decoder), vh.load_data().x_test[:8]
    share_of_dropped = [
        np.mean(np.asarray(model(x, training=flag)) == 0.5) for flag in (True, False)
    ]
    assert share_of_dropped == pytest.approx([0.5, 0], abs=0.05)
    kl = [(model(x, training=flag), np.asarray(model._kl))[1] for flag in [False, True]]
    assert not np.allclose(*kl), "dropout in the encoder changes the KL term"


def test_warm_up_raises_the_kl_weight_from_0_to_1():
    vae, (callback,) = evaluation.build_vae(warm_up_epochs=4)
    weights = []
    for epoch in range(6):
        callback.on_epoch_begin(epoch)
        weights.append(float(vae.kl_weight.numpy()))
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.slow
def test_trained_models_are_saved_and_loaded_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    monkeypatch.setattr(vh, "limit_epochs", lambda number: 1)
    small = test_resume.tiny()  # these models compile sooner
    clone = keras.models.clone_model
    monkeypatch.setattr(vh, "build_encoder", lambda activation: clone(small.encoder))
    monkeypatch.setattr(vh, "build_decoder", lambda activation: clone(small.decoder))
    data = vh.load_data()
    data = data._replace(
        x_train=data.x_train[:256], x_val=data.x_val[:256], is_full_run=True
    )

    def is_loaded(data, **changes):
        """Whether the model was loaded, and the model."""
        capsys.readouterr()
        model = evaluation.trained_vae(data, **changes)
        return "loaded from build/models" in capsys.readouterr().out, model

    def saved():
        return list((tmp_path / "models").iterdir())

    trained_first, first = is_loaded(data, kl_weight=0.5)
    loaded_then, second = is_loaded(data, kl_weight=0.5)
    assert (trained_first, loaded_then) == (False, True)
    for one, other in zip(training_state(first), training_state(second)):
        assert np.array_equal(one.numpy(), other.numpy()), (
            f"{one.path}: samples from the model would differ"
        )
    assert not is_loaded(data, kl_weight=0.25)[0], "another beta is another model"
    other_data = data._replace(x_train=data.x_train[::-1].copy())
    assert not is_loaded(other_data, kl_weight=0.25)[0], "other data, another model"
    assert len(saved()) == 2, "of each model only the latest is kept"

    class OwnVAE(vh.VAE):
        """The next class of this name may be another one."""

    for changes in (
        {"kind": OwnVAE},
        {"activation": keras.ops.tanh},
        {"kl_weight": np.inf},
    ):
        evaluation.trained_vae(data, **changes)
    assert len(saved()) == 2, "a reader's own code, and what diverged, is not saved"
