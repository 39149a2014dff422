"""The scores of chapter 05 against independent computations."""

import keras
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import test_resume

import course
import vae_helpers as vh
from course import evaluation
from course.training import training_state

RNG = np.random.default_rng(0)


def test_frechet_of_gaussians_whose_distance_is_known():
    a = RNG.normal(0, [1, 2, 3], (400_000, 3))
    b = RNG.normal([1, 0, -2], [2, 2, 1], (400_000, 3))
    known = (
        1 + 0 + 4 + (1 - 2) ** 2 + (2 - 2) ** 2 + (3 - 1) ** 2
    )  # independent dimensions: they add up
    assert evaluation.squared_frechet(a, b) == pytest.approx(known, rel=0.01)
    assert evaluation.squared_frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_matches_the_formula_with_a_matrix_root_of_scipy():
    mix = RNG.normal(size=(8, 8))
    a, b = RNG.normal(size=(500, 8)) @ mix, RNG.normal(0.3, 1, (700, 8)) @ mix.T
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    direct = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert evaluation.squared_frechet(a, b) == pytest.approx(direct, rel=1e-8)
    assert evaluation.squared_frechet(b, a) == pytest.approx(direct, rel=1e-8)


def linear_gaussian_model(d=6, latent=3):
    """x = W z + b + 0.5 noise: decoder, its -log p(x | z), the exact p(x), and an encoder a little off the truth."""
    weights, bias = RNG.normal(size=(latent, d)), RNG.normal(size=d)
    decoder = keras.Sequential([keras.Input((latent,)), keras.layers.Dense(d)])
    decoder.layers[0].set_weights([weights, bias])
    variance = 0.25
    marginal = scipy.stats.multivariate_normal(
        bias, weights.T @ weights + variance * np.eye(d)
    )
    precision = np.eye(latent) + weights @ weights.T / variance

    def encoder(x):
        mean = (
            np.linalg.solve(precision, weights @ (np.asarray(x) - bias).T / variance).T
            + 0.1
        )
        log_var = np.log(1 / np.diag(precision)) + 0.3
        return mean.astype("float32"), np.broadcast_to(log_var, mean.shape).astype(
            "float32"
        )

    def nll(x, x_hat):
        return (
            -scipy.stats.norm(np.asarray(x_hat), variance**0.5).logpdf(x).sum(axis=-1)
        )

    return decoder, nll, marginal, encoder


def test_importance_bound_falls_to_a_likelihood_that_is_known_exactly():
    decoder, nll, marginal, encoder = linear_gaussian_model()
    x = marginal.rvs(200, random_state=1).astype("float32")
    bounds = evaluation.importance_bound(
        encoder, decoder, x, 2000, [1, 10, 100, 2000], nll=nll
    ).mean(axis=1)
    exact = -marginal.logpdf(x).mean()
    assert bounds[0] > bounds[1] > bounds[2] > bounds[3] > exact - 0.02
    assert bounds[0] - exact > 0.3, (
        "this encoder is off, so one draw must not be enough"
    )
    assert bounds[3] == pytest.approx(exact, abs=0.03)


def test_importance_bound_with_one_draw_is_minus_elbo():
    encoder, decoder = (
        vh.load(course.REFERENCE / "vae_encoder.keras"),
        vh.load(course.REFERENCE / "vae_decoder.keras"),
    )
    x = vh.load_data().x_test[:20]
    z_mean, z_log_var = map(np.asarray, encoder(x))
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1)
    z = z_mean + np.exp(0.5 * z_log_var) * RNG.normal(size=(400, 20, 10)).astype(
        "float32"
    )
    reconstruction = np.mean(
        [np.asarray(vh.bernoulli_nll(x, decoder(part))) for part in z], axis=0
    )
    bound = evaluation.importance_bound(encoder, decoder, x, 400, [1])[0]
    np.testing.assert_allclose(bound.mean(), (reconstruction + kl).mean(), rtol=0.002)


def test_fitted_densities_recover_what_they_were_fitted_to():
    centres = np.array([[-4.0, 0], [4, 0], [0, 6]])
    codes = (
        centres[RNG.integers(3, size=6000)] + 0.3 * RNG.normal(size=(6000, 2))
    ).astype("float32")
    drawn = evaluation.sample_from_mixture(codes, 3, 3000)
    assert drawn.shape == (3000, 2) and drawn.dtype == "float32"
    distance = np.linalg.norm(drawn[:, None] - centres, axis=2)
    assert (distance.min(axis=1) < 1.5).mean() > 0.99
    np.testing.assert_allclose(
        np.bincount(distance.argmin(axis=1)) / 3000, 1 / 3, atol=0.05
    )


def test_draws_of_relu_codes_are_not_negative():
    codes = RNG.normal(size=(5000, 4)).clip(0).astype("float32")
    drawn = evaluation.sample_codes(codes, 100)
    assert list(drawn) == ["N(0, I)", "one Gaussian", "mixture of 10", "mixture of 50"]
    assert drawn["N(0, I)"].min() < 0 and all(
        drawn[name].min() >= 0 for name in list(drawn)[1:]
    )


def test_noiseless_model_decodes_the_mean_and_warms_nothing_up():
    model, callbacks = evaluation.build_vae(evaluation.Noiseless, 0.0)
    x = vh.load_data().x_test[:8]
    np.testing.assert_allclose(model(x), model.decoder(model.encoder(x)[0]), rtol=1e-5)
    assert np.array_equal(model(x), model(x)) and not callbacks


def test_warm_up_rises_from_0_to_1():
    vae, (callback,) = evaluation.build_vae(warm_up_epochs=4)
    weights = []
    for epoch in range(6):
        callback.on_epoch_begin(epoch)
        weights.append(float(vae.kl_weight.numpy()))
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.slow
def test_trained_models_are_kept_and_taken_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    monkeypatch.setattr(vh, "epochs", lambda number: 1)
    small = test_resume.tiny()  # these compile sooner
    monkeypatch.setattr(
        vh, "build_encoder", lambda activation: keras.models.clone_model(small.encoder)
    )
    monkeypatch.setattr(
        vh, "build_decoder", lambda activation: keras.models.clone_model(small.decoder)
    )
    data = vh.load_data()
    data = data._replace(
        x_train=data.x_train[:256], x_val=data.x_val[:256], is_full_run=True
    )
    first = evaluation.trained_vae(data, kl_weight=0.5)
    capsys.readouterr()
    again = evaluation.trained_vae(data, kl_weight=0.5)
    assert "trained before" in capsys.readouterr().out
    for one, other in zip(training_state(first), training_state(again)):
        assert np.array_equal(one.numpy(), other.numpy()), (
            f"{one.path}: what is drawn from the model would differ"
        )
    evaluation.trained_vae(data, kl_weight=0.25)
    assert "trained before" not in capsys.readouterr().out, (
        "another beta is another model"
    )
    evaluation.trained_vae(
        data._replace(x_train=data.x_train[::-1].copy()), kl_weight=0.25
    )
    assert "trained before" not in capsys.readouterr().out, (
        "other data make another model"
    )
    assert len(list((tmp_path / "models").glob("*.npz"))) == 2, (
        "of each only the last is kept"
    )

    class Mine(vh.VAE):
        """May be another class of the same name the next time."""

    for changes in (
        dict(kind=Mine),
        dict(activation=keras.ops.tanh),
        dict(kl_weight=np.inf),
    ):
        evaluation.trained_vae(data, **changes)
    assert len(list((tmp_path / "models").iterdir())) == 2, (
        "a reader's own code, and what ended in NaN, is not kept"
    )
