"""What chapters 05 to 07 measure with, compared with independent computations."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special
import scipy.stats
import sklearn.decomposition

import course
import vae_helpers as vh
from course import evaluation

RNG = np.random.default_rng(0)


def test_frechet_distance_matches_the_formula_with_scipys_matrix_root():
    mix = RNG.normal(size=(8, 8))
    a, b = RNG.normal(size=(500, 8)) @ mix, RNG.normal(0.3, 1, (700, 8)) @ mix.T
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    direct = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert evaluation.squared_frechet(a, b) == pytest.approx(direct, rel=1e-8)
    assert evaluation.squared_frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_feature_sets_are_64_numbers_and_the_same_each_time():
    data = vh.load_data()
    classifier = vh.load(evaluation.CLASSIFIER)
    sets, again = (evaluation.feature_sets(classifier, data.x_train) for _ in "ab")
    x = data.x_test[:50]
    for name, features_of in sets.items():
        features = features_of(x)
        assert features.shape == (50, 64) and np.std(features, axis=0).max() > 0, name
        np.testing.assert_array_equal(features, again[name](x), name)
    pca = sklearn.decomposition.PCA(64, svd_solver="full").fit(data.x_train)
    # Directions are unique up to their signs, and distances do not depend on these.
    theirs, ours = pca.transform(x), sets["principal components"](x)
    np.testing.assert_allclose(abs(ours), abs(theirs), atol=1e-3)


def small_bernoulli_model():
    """One latent dimension, three pixels: decoder and images, for exact integrals."""
    weights, bias = np.array([[2.0, -1.0, 0.5]]), np.array([0.3, 0.0, -0.5])
    decoder = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, "sigmoid")])
    decoder.layers[0].set_weights([weights, bias])
    x = np.array([[1, 0, 1], [0.2, 0.9, 0.5]], "float32")

    def log_p_x_given_z(image, z):
        p = scipy.special.expit(z[:, None] * weights[0] + bias)
        return np.sum(image * np.log(p) + (1 - image) * np.log(1 - p), axis=1)

    return decoder, x, log_p_x_given_z


def test_rate_plus_distortion_exceeds_the_exact_value_by_kl_to_the_posterior():
    decoder, x, log_p_x_given_z = small_bernoulli_model()
    means, log_vars, density = [0.8, -0.3], [-1.0, 0.2], scipy.stats.norm(0.7, 0.5)
    z = np.linspace(-12, 12, 20_001)
    for i, image in enumerate(x):
        many = np.repeat(image[None], 50_000, axis=0)
        mean, log_var = (np.full((50_000, 1), v[i]) for v in (means, log_vars))
        rate, distortion = evaluation.rate_and_distortion(
            decoder, many, mean, log_var, lambda z: density.logpdf(z)[:, 0], draws=1
        )
        q = scipy.stats.norm(means[i], np.exp(0.5 * log_vars[i]))
        joint = log_p_x_given_z(image, z) + density.logpdf(z)
        log_p_x = np.log(scipy.integrate.trapezoid(np.exp(joint), z))
        to_posterior = q.pdf(z) * (q.logpdf(z) - joint + log_p_x)
        gap = scipy.integrate.trapezoid(to_posterior, z)
        assert gap > 0.01
        bound = np.mean(rate + distortion)
        assert bound == pytest.approx(-log_p_x + gap, abs=0.03)
        of_all_draws = scipy.special.logsumexp(-rate - distortion) - np.log(len(many))
        assert of_all_draws == pytest.approx(log_p_x, abs=0.03)
        to_prior = q.pdf(z) * (q.logpdf(z) - density.logpdf(z))
        kl = scipy.integrate.trapezoid(to_prior, z)
        assert rate.mean() == pytest.approx(kl, abs=0.03)


@pytest.fixture(scope="module")
def reference_vae():
    """The baseline VAE's decoder, 500 test images, their means and log-variances."""
    encoder, decoder = (
        vh.load(course.REFERENCE / f"vae_{name}.keras")
        for name in ("encoder", "decoder")
    )
    x = vh.load_data().x_test[:500]
    return decoder, x, *map(np.asarray, encoder(x))


def test_rate_and_distortion_of_the_vae_match_its_loss(reference_vae):
    decoder, x, mean, log_var = reference_vae
    rate, distortion = evaluation.rate_and_distortion(decoder, x, mean, log_var)
    kl = np.asarray(vh.kl_to_prior(mean, log_var)).sum(axis=1)
    assert rate.mean() == pytest.approx(kl.mean(), abs=0.15)
    sampling = vh.Sampling(seed=0)
    codes = [sampling([mean, log_var]) for _ in range(10)]
    nll = [vh.bernoulli_nll(x, decoder(z)) for z in codes]
    assert distortion.mean() == pytest.approx(np.mean(nll), abs=0.15)


def test_samples_of_relu_codes_are_not_negative():
    codes = RNG.normal(size=(5000, 4)).clip(0).astype("float32")
    normal, fitted = (evaluation.sample_codes(codes, count, 100) for count in (0, 50))
    assert normal.min() < 0 and fitted.min() == 0
    assert np.array_equal(fitted, evaluation.sample_codes(codes, 50, 100))
    assert evaluation.sample_codes(codes - 1, 10, 100).min() < 0


@pytest.mark.parametrize("name", ["wide", "better"])
def test_reference_vaes_reconstruct_within_the_bands(name):
    vae, x = evaluation.load_vae(name), vh.load_data().x_test
    mean, log_var = map(np.asarray, vae.encoder(x))
    nll = np.mean(vh.bernoulli_nll(x, vae.decoder(mean)))
    assert nll < 222, "the baseline VAE has 225"
    is_noisy = np.exp(log_var).mean() < 1 and abs(mean).max() < 10
    assert is_noisy == (name == "better"), "only the better VAE was trained with KL"


def test_noiseless_model_decodes_the_mean_and_has_no_warm_up():
    model, callbacks = evaluation.build_vae(evaluation.Noiseless, 0.0)
    x = vh.load_data().x_test[:8]
    np.testing.assert_allclose(model(x), model.decoder(model.encoder(x)[0]), rtol=1e-5)
    assert np.array_equal(model(x), model(x)) and not callbacks


def test_the_vae_passes_the_training_flag_on():
    """Dropout acts in training, in the encoder and in the decoder, and only there."""
    image, z = keras.Input((784,)), keras.Input((10,))
    hidden = keras.layers.Dropout(0.5)(image)
    encoder = keras.Model(image, [keras.layers.Dense(10)(hidden) for _ in range(2)])
    restored = keras.layers.Dropout(0.5)(keras.layers.Dense(784)(z))
    decoder = keras.Model(z, keras.layers.Activation("sigmoid")(restored))
    vae, x, kl = vh.VAE(encoder, decoder), vh.load_data().x_test[:8], []
    for flag, share in [(True, 0.5), (False, 0)]:
        dropped = np.asarray(vae(x, training=flag)) == 0.5
        assert dropped.mean() == pytest.approx(share, abs=0.05)
        kl.append(float(vae.losses[0]))
    assert not np.isclose(*kl), "dropout in the encoder changes the KL term"


def test_warm_up_raises_the_kl_weight_from_0_to_1():
    vae, (callback,) = evaluation.build_vae(warm_up_epochs=4)
    weights = []
    for epoch in range(6):
        callback.on_epoch_begin(epoch)
        weights.append(float(vae.kl_weight.numpy()))
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1]
