"""Checks of the exercises on chapter 05."""

import functools

import vae_helpers as vh  # isort: skip  (before Keras)

import numpy as np
from scipy.special import logsumexp

from course.exercises import common

__all__ = ["detector", "bound", "refine", "anomaly_score", "likeness", "negative_elbo"]


def negative_elbo(decoder, x, z_mean, z_log_var, draws=20):
    """Reconstruction and KL of each image in nats, (n,) both; the noise is fixed."""
    rng, nll = np.random.default_rng(0), np.zeros(len(x))
    for _ in range(draws):
        noise = rng.normal(size=z_mean.shape)
        z = (z_mean + np.exp(0.5 * z_log_var) * noise).astype("float32")
        nll += np.asarray(vh.bernoulli_nll(x, decoder(z))) / draws
    return nll, np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1)


def anomaly_score(encoder, decoder, x):
    """-ELBO of images (n, 784) minus the entropy of their pixels, in nats: (n,)."""
    posteriors = [np.asarray(part) for part in encoder(x)]
    entropy = np.asarray(vh.bernoulli_nll(x, x))
    return np.add(*negative_elbo(decoder, x, *posteriors)) - entropy


def likeness(images):
    """The highest correlation of each image's pixels with those of a garment: (n,).

    The garments are the first 2,000 of the course's sample.
    """
    rows = []
    for part in (images, common.load_images()[0][:2_000]):
        part = part - part.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        rows.append(part / np.maximum(lengths, 1e-6))
    return (rows[0] @ rows[1].T).max(axis=1)


@functools.cache
def detector_limits():
    """Of 1,000 other garments, the median score and the 5% quantile of likeness."""
    garments = common.load_images()[0][2_000:3_000]
    scores = anomaly_score(*common.load_reference(), garments)
    return float(np.median(scores)), float(np.quantile(likeness(garments), 0.05))


@common.check
def detector(image):
    image = common.require_images(np.reshape(image, (1, -1)), 1, "the image")
    highest, most_alike = detector_limits()
    score = anomaly_score(*common.load_reference(), image)[0]
    alike = likeness(image)[0]
    problems = {
        "it is darker than most garments: that a black image passes is known.": (
            image.mean() < 0.1
        ),
        f"it looks like a garment: its correlation with one is {alike:.2f}. Stay below "
        f"{most_alike:.2f}, as one garment in twenty does.": alike > most_alike,
        f"it does not pass: its score is {score:.0f} nats, the median of garments "
        f"{highest:.0f}.": score > highest,
    }
    common.refuse(problems)
    return (
        f"with {score:.0f} nats it looks more normal than half of all garments "
        f"({highest:.0f}). The score asks how well pixels are predicted, not what they "
        "show."
    )


@common.find_the_bug
def bound(function):
    rng = np.random.default_rng(0)
    for draws, n in ((4, 5), (500, 3)):
        weights = rng.normal(-240, 3, (draws, n))  # log [p(x | z) p(z) / q(z | x)]
        total = logsumexp(weights, axis=0)
        mistakes = {
            "if all K codes have the same weight, the bound should be the same for "
            "every K; try it.": -total,
            "this is the average of K values of −ELBO: it does not tighten.": (
                -weights.mean(axis=0)
            ),
            "the sign is that of a lower bound on log p(x).": total - np.log(draws),
        }
        result = common.call(function, weights)
        common.diagnose(result, np.log(draws) - total, mistakes, "the bound")
    return (
        "equal weights now give the same bound for every K; as given, it fell by ln K, "
        "6.2 nats for K = 500, whatever the model."
    )


@common.check
def refine(function):
    encoder, decoder = common.load_reference()
    x = common.load_images()[0][:8]
    start = [np.asarray(part) for part in encoder(x)]
    weights = decoder.get_weights()
    result = common.call_for(2, function, decoder, x, *start)
    is_changed = any((a != b).any() for a, b in zip(weights, decoder.get_weights()))
    decoder.set_weights(weights)  # it is shared with other checks
    end = [common.require_shape(part, (8, 10)).astype("float32") for part in result]
    (nll, kl), (nll_after, kl_after) = (
        negative_elbo(decoder, x, *codes, draws=200) for codes in (start, end)
    )
    gain = (nll + kl - nll_after - kl_after).mean()
    problems = {
        "the decoder has changed: only the codes may be optimised.": is_changed,
        "the reconstruction improves, and the KL rises by more: minimise their sum.": (
            gain < -0.05 and nll_after.mean() < nll.mean()
        ),
        f"−ELBO improves by {gain:.2f} nats: take more or larger steps, and more draws "
        "of the noise in each.": gain < 0.8,
    }
    common.refuse(problems)
    return (
        f"−ELBO improves by {gain:.1f} nats on eight images, with the same decoder and "
        "the same kind of Gaussian: so much at least is lost by sharing one encoder."
    )
