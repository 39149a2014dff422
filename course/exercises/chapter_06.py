"""Checks of the exercises on chapter 06, and the images that they need."""

import functools

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import vae_helpers as vh
from course import evaluation
from course.exercises import common


@functools.cache
def samples(n=2_000):
    """Images (n, 784) of the reference VAE: its samples from a mixture of 50.

    The mixture is fitted to the codes of 3,000 images of the sample.
    """
    encoder, decoder = common.load_reference()
    z_mean, z_log_var = map(np.asarray, encoder(common.load_images()[0][:3_000]))
    noise = np.random.default_rng(1).normal(size=z_mean.shape)
    codes = (z_mean + np.exp(0.5 * z_log_var) * noise).astype("float32")
    return np.asarray(decoder(evaluation.sample_codes(codes, 50, n)))


def mystery_rows():
    """Four rows of ten images, {letter: (10, 784)}, from A to D."""
    encoder, decoder = common.load_reference()
    x = common.load_images()[0]
    codes = np.random.default_rng(3).normal(size=(10, 10)).astype("float32")
    return {
        "A": np.asarray(decoder(encoder(x[3_020:3_030])[0])),
        "B": samples()[:10],
        "C": x[3_010:3_020],
        "D": np.asarray(decoder(codes)),
    }


@common.check
def rows(answer):
    kinds = ("reconstructions", "mixture of 50", "real garments", "N(0, I)")
    common.match_letters(answer, dict(zip("ABCD", kinds)))
    return (
        "reconstructions and samples of the mixture look equally soft: that comes from "
        "the decoder. Holes and smears come with N(0, I)."
    )


def scores(images):
    """The squared Frechet distance of images (2000, 784) from real ones, by each of
    the four feature sets of chapter 06: {name: distance}."""
    x = common.load_images()[0]
    sets = evaluation.feature_sets(vh.load(evaluation.CLASSIFIER), x[:3_000])
    return {
        name: evaluation.squared_frechet(f(images), f(x[3_000:5_000]))
        for name, f in sets.items()
    }


@common.check
def fool(function):
    before = samples()
    after = common.require_images(common.call(function, before), len(before))
    old, new = scores(before), scores(after)
    ratios = {name: new[name] / old[name] for name in old}
    listed = ", ".join(f"{name} × {ratio:.1f}" for name, ratio in ratios.items())
    ours = ratios.pop("our classifier")
    hint = f"{listed}: the first should fall by a third, each other one rise by half."
    common.refuse({hint: ours > 2 / 3 or min(ratios.values()) < 1.5})
    return (
        f"{listed}: one says better, three say worse. A score measures what its "
        "features see."
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
    return np.mean(results)


@common.check
def few_labels(function):
    encoder, decoder = common.load_reference()
    x, labels = common.load_images()
    features = np.asarray(common.call(function, encoder, decoder, x))
    yours, pixels, codes = (
        neighbour_accuracy(part, labels)
        for part in (features, x, np.asarray(encoder(x)[0]))
    )
    listed = f"yours {yours:.0%}, pixels {pixels:.0%}, the encoder's means {codes:.0%}"
    hint = f"with 100 labels, {listed}: be a point above the pixels."
    common.refuse({hint: yours < pixels + 0.01})
    return (
        f"{listed}. That a code is small does not make its distances good: neighbours "
        "depend on how far apart things are, which the loss does not ask of a code."
    )
