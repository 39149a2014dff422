"""Checks of the exercises on chapter 04."""

import keras
import numpy as np
from keras import layers
from scipy.stats import chi2

from course.exercises import common

__all__ = ["inside_ball", "new_garments", "pairs"]


@common.check
def inside_ball(prediction, answer):
    right, line = chi2(10).cdf(1.0), chi2(1).cdf(1.0)
    mistakes = {
        "none of your draws is inside, because very few are: draw many more.": 0,
        "this is right in one dimension: how many does a code have?": line,
        "give a share between 0 and 1, not a percentage.": 100 * right,
    }
    if not 0.6 * right < np.mean(answer) < 1.6 * right:  # few draws are inside
        common.diagnose(answer, right, mistakes, "the answer", rtol=0.05)
    return (
        f"{common.compare_prediction(prediction, right)} Density is highest at the "
        "origin, and hardly any code is there: a typical length is near 3.2."
    )


@common.find_the_bug
def new_garments(function):
    """Mean and log-variance are an image's first pixels; an output shows its code."""
    n, image, code = 2_000, keras.Input((784,)), keras.Input((10,))
    look, show = (layers.Dense(units, use_bias=False) for units in (10, 784))
    encoder = keras.Model(image, [look(image), look(image)])
    decoder = keras.Model(code, show(code))
    look.set_weights([np.eye(784, 10)])
    show.set_weights([np.eye(10, 784)])
    codes = []
    for level in (0.0, 3.0):  # of the pixels, hence of the mean and the log-variance
        images = np.full((n, 784), level, "float32")
        result = common.call(function, encoder, decoder, images, n)
        codes.append(common.require_shape(result, (n, 784))[:, :10])
    problems = {
        'the "new" images change with the images that are passed in: where do the '
        "codes come from?": abs(codes[0].mean() - codes[1].mean()) > 0.2,
        "all images show the same garment.": np.ptp(codes[0], axis=0).max() < 1e-3,
        "the images are new, but the codes do not have the mean and the width of the "
        "prior.": not all(map(common.is_standard_normal, codes)),
    }
    common.refuse(problems)
    return "the codes are the prior's: no image goes in, so the garments are new."


@common.find_the_bug
def pairs(function):
    labels = np.random.default_rng(0).integers(0, 10, 3_000)
    ends = common.require_shape(common.call(function, labels, 200), (200, 2))
    ends = ends.astype(int)
    classes = np.sort(labels[ends], axis=1)
    same = classes[:, 0] == classes[:, 1]
    kinds, different = (len(np.unique(part, axis=0)) for part in (classes, ends))
    problems = {
        "look at the classes at the two ends.": same.mean() > 0.5,
        "better, but some interpolations still begin and end in the same class.": (
            same.any()
        ),
        "the ends differ, but nearly all pairs join the same few classes.": kinds < 30,
        "the ends differ, but pairs are repeated.": different < 150,
    }
    common.refuse(problems)
    return "all classes occur, and no pair stays in one: this test can fail."
