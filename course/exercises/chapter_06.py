"""Checks of the exercises on chapter 06, and the images that they need."""

import functools

import vae_helpers as vh  # isort: skip  (before Keras)

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from course import evaluation
from course.exercises.common import (
    WrongAnswer,
    call,
    check,
    is_close,
    load_images,
    load_reference,
    require_array,
    require_images,
)

__all__ = ["rows", "fool", "few_labels", "mystery_rows", "samples", "scores"]

ROWS = {  # what the rows of `mystery_rows` show
    "A": "reconstructions",
    "B": "mixture of 50",
    "C": "real garments",
    "D": "N(0, I)",
}


@functools.cache
def samples(n=2_000):
    """Images (n, 784) of the reference VAE: its samples from a mixture of 50.

    The mixture is fitted to the codes of 3,000 images of the sample.
    """
    encoder, decoder = load_reference()
    z_mean, z_log_var = map(np.asarray, encoder(load_images()[0][:3_000]))
    noise = np.random.default_rng(1).normal(size=z_mean.shape)
    codes = (z_mean + np.exp(0.5 * z_log_var) * noise).astype("float32")
    return np.asarray(decoder(evaluation.sample_from_mixture(codes, 50, n)))


def mystery_rows():
    """Four rows of ten images, {letter: (10, 784)}, from A to D."""
    encoder, decoder = load_reference()
    x = load_images()[0]
    codes = np.random.default_rng(3).normal(size=(10, 10)).astype("float32")
    images = {
        "real garments": x[3_010:3_020],
        "reconstructions": np.asarray(decoder(encoder(x[3_020:3_030])[0])),
        "N(0, I)": np.asarray(decoder(codes)),
        "mixture of 50": samples()[:10],
    }
    return {letter: images[kind] for letter, kind in ROWS.items()}


@check
def rows(answer):
    if not isinstance(answer, dict) or set(answer) != set(ROWS):
        raise WrongAnswer("the answer should have a kind for each of A, B, C and D.")
    right = [letter for letter, kind in ROWS.items() if answer[letter] == kind]
    if len(right) < len(ROWS):
        raise WrongAnswer(f"{len(right)} of 4 are right.")
    return (
        "reconstructions and samples of the mixture are equally soft: softness is the "
        "decoder's, and only the failures are the prior's."
    )


@functools.cache
def feature_sets():
    """The four feature sets of chapter 06, and 2,000 real images seen through each."""
    classifier = vh.load(evaluation.CLASSIFIER)
    images = load_images()[0]
    sets = evaluation.feature_sets(classifier, images[:3_000])
    return {name: (f, f(images[3_000:5_000])) for name, f in sets.items()}


def scores(images):
    """The squared Frechet distance of images (2000, 784) from real ones, by each of
    the four feature sets of chapter 06: {name: distance}."""
    return {
        name: evaluation.squared_frechet(features_of(images), real)
        for name, (features_of, real) in feature_sets().items()
    }


@check
def fool(function):
    before = samples()
    after = require_images(call(function, before), len(before))
    if not is_close(require_images(call(function, before[:50]), 50), after[:50]):
        raise WrongAnswer(
            "each image should change by itself, always alike: the result depends on "
            "the other images, or on chance."
        )
    old, new = scores(before), scores(after)
    ratios = {name: new[name] / old[name] for name in old}
    ours = ratios.pop("our classifier")
    listed = ", ".join(f"{name} × {ratio:.2f}" for name, ratio in ratios.items())
    if ours > 2 / 3:
        raise WrongAnswer(f"our classifier × {ours:.2f}: let it fall by a third.")
    if min(ratios.values()) < 1.5:
        raise WrongAnswer(
            f"our classifier's score × {ours:.2f}, but the others do not all rise "
            f"by half ({listed})."
        )
    return (
        f"our classifier × {ours:.2f}, {listed}: one says better, three say worse. A "
        "score measures what its features see."
    )


def neighbour_accuracy(features, labels, amount=100, draws=10):
    """Accuracy of five nearest neighbours with `amount` labels, a mean over draws.

    The labelled images are among the first 4,000; the others are classified.
    """
    results = []
    for seed in range(draws):
        chosen = np.random.default_rng(seed).permutation(4_000)[:amount]
        nearest = KNeighborsClassifier(5).fit(features[chosen], labels[chosen])
        results.append(nearest.score(features[4_000:], labels[4_000:]))
    return float(np.mean(results))


@check
def few_labels(function):
    encoder, decoder = load_reference()
    x, labels = load_images()
    features = require_array(call(function, encoder, decoder, x), "the features")
    if features.ndim != 2 or len(features) != len(x):
        raise WrongAnswer(
            f"the features of {len(x)} images should be ({len(x)}, d), not "
            f"{features.shape}."
        )
    means = np.asarray(encoder(x)[0])
    yours, pixels, codes = (
        neighbour_accuracy(part, labels) for part in (features, x, means)
    )
    listed = f"yours {yours:.1%}, pixels {pixels:.1%}, the encoder's means {codes:.1%}"
    if yours < pixels + 0.01:
        raise WrongAnswer(f"with 100 labels, {listed}: be a point above the pixels.")
    return (
        f"{listed}. That a code is small does not make its distances good: neighbours "
        "depend on how far apart things are, which the loss does not ask of a code."
    )
