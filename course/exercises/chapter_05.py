"""Checks of the exercises on chapter 05."""

import numpy as np
from scipy.special import logsumexp

import vae_helpers as vh
from course import evaluation
from course.exercises import common


def anomaly_score(encoder, decoder, x):
    """-ELBO of images (n, 784) minus the entropy of their pixels, in nats: (n,)."""
    posteriors = [np.asarray(part) for part in encoder(x)]
    parts = evaluation.rate_and_distortion(decoder, x, *posteriors, draws=20)
    return sum(parts) - np.asarray(vh.bernoulli_nll(x, x))


def likeness(images):
    """The highest correlation of each image's pixels with those of a garment: (n,).

    The garments are the first 2,000 of the course's sample.
    """
    garments = common.load_images()[0][:2_000]
    with np.errstate(invalid="ignore"):  # an image of one grey is like none
        correlations = np.corrcoef(images, garments)
    return np.nan_to_num(correlations)[: len(images), len(images) :].max(axis=1)


@common.check
def detector(image):
    image = common.require_images(np.reshape(image, (1, -1)), 1, "the image")
    networks, garments = common.load_reference(), common.load_images()[0][2_000:3_000]
    median = np.median(anomaly_score(*networks, garments))
    most_alike = np.quantile(likeness(garments), 0.05)
    [score], [alike] = anomaly_score(*networks, image), likeness(image)
    problems = {
        "it is darker than most garments: that a black image passes is known.": (
            image.mean() < 0.1
        ),
        f"it looks like a garment: its correlation with one is {alike:.2f}. Stay below "
        f"{most_alike:.2f}, as one garment in twenty does.": alike > most_alike,
        f"it does not pass: its score is {score:.0f} nats, the median of garments "
        f"{median:.0f}.": score > median,
    }
    common.refuse(problems)
    return (
        f"with {score:.0f} nats it looks more normal than half of all garments "
        f"({median:.0f}). The score asks how well pixels are predicted, not what they "
        "show."
    )


@common.find_the_bug
def bound(function):
    weights = np.random.default_rng(0).normal(-240, 3, (500, 3))
    total = logsumexp(weights, axis=0)
    mistakes = {
        "if all K codes have the same weight, the bound should be the same for every "
        "K; try it.": -total,
        "this is the average of K values of −ELBO: it does not tighten.": (
            -weights.mean(axis=0)
        ),
    }
    result = common.call(function, weights)
    common.diagnose(result, np.log(500) - total, mistakes, "the bound")
    return (
        "equal weights now give the same bound for every K; as given, it fell by ln K, "
        "6.2 nats for K = 500, whatever the model."
    )


@common.check
def refine(function):
    x = common.load_images()[0][:8]
    encoder, decoder = common.load_reference()
    start = [np.asarray(part) for part in encoder(x)]
    mean, log_var = common.call(function, decoder, x, *start)
    end = [common.require_array(part, (8, 10)) for part in (mean, log_var)]
    _, decoder = common.load_reference()  # the first one may have been trained
    before, after = (
        np.mean(evaluation.rate_and_distortion(decoder, x, *codes, draws=200), axis=1)
        for codes in (start, end)
    )
    gain = sum(before - after)
    problems = {
        "the reconstruction improves, and the KL rises by more: minimise their sum.": (
            gain < 0 and after[1] < before[1]
        ),
        f"with the decoder as it was, −ELBO improves by {gain:.2f} nats: take more or "
        "larger steps, and more draws of the noise in each.": gain < 0.8,
    }
    common.refuse(problems)
    return (
        f"−ELBO improves by {gain:.1f} nats on eight images, with the same decoder and "
        "the same kind of Gaussian: so much at least is lost by sharing one encoder."
    )
