"""Checks of the exercises on chapter 04."""

import keras
import numpy as np
from keras import ops
from scipy.stats import chi2

from course.exercises import common


@common.check
def inside_ball(prediction, answer):
    right = chi2(10).cdf(1.0)
    mistakes = {
        "none of your draws is inside, because very few are: draw many more.": 0,
        "this is right in one dimension: how many does a code have?": chi2(1).cdf(1.0),
    }
    # Few draws are inside, so the share varies.
    common.diagnose(answer, right, mistakes, "the answer", rtol=0.6, atol=0)
    return (
        f"you predicted {prediction}; the result is {right:.2g}. Density is highest at "
        "the origin, and hardly any code is there: a typical length is near 3.2."
    )


@common.find_the_bug
def new_garments(function):
    """Mean and log-variance are an image's first pixels; an output shows its code."""
    n, image, code = 2_000, keras.Input((784,)), keras.Input((10,))
    encoder = keras.Model(image, [image[:, :10], image[:, :10]])
    decoder = keras.Model(code, ops.pad(code, [[0, 0], [0, 774]]))
    codes = []
    for level in (0.0, 3.0):  # of the pixels, hence of the mean and the log-variance
        images = np.full((n, 784), level, "float32")
        result = common.call(function, encoder, decoder, images, n)
        codes.append(common.require_array(result, (n, 784))[:, :10])
    problems = {
        'the "new" images change with the images that are passed in: where do the '
        "codes come from?": abs(codes[0].mean() - codes[1].mean()) > 0.2,
        "the codes do not have the mean and the width of the prior, or are alike.": (
            not all(map(common.is_standard_normal, codes))
        ),
    }
    common.refuse(problems)
    return "the codes are the prior's: no image goes in, so the garments are new."


@common.find_the_bug
def pairs(function):
    labels = np.random.default_rng(0).integers(0, 10, 3_000)
    ends = common.require_array(common.call(function, labels, 200), (200, 2))
    classes = np.sort(labels[ends.astype(int)], axis=1)
    same = classes[:, 0] == classes[:, 1]
    problems = {
        "look at the classes at the two ends.": same.mean() > 0.5,
        "better, but some interpolations still begin and end in the same class.": (
            same.any()
        ),
        "the ends differ, but nearly all pairs join the same few classes.": (
            len(np.unique(classes, axis=0)) < 30
        ),
    }
    common.refuse(problems)
    return "all classes occur, and no pair stays in one: this test can fail."
