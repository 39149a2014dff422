"""Checks of the exercises on chapter 04."""

import keras
import numpy as np
from keras import layers
from scipy.stats import chi2

from course.exercises.common import (
    WrongAnswer,
    build_transparent_decoder,
    call,
    check,
    compare_prediction,
    diagnose,
    find_the_bug,
    is_close,
    require_shape,
)

__all__ = ["inside_ball", "new_garments", "pairs"]


@check
def inside_ball(prediction, answer):
    right, line = chi2(10).cdf(1.0), chi2(1).cdf(1.0)
    mistakes = {
        "none of your draws is inside, because very few are: draw many more.": 0,
        "this is right in one dimension: how many does a code have?": line,
        "this is the share in a cube: how long is the code?": line**10,
        "give a share between 0 and 1, not a percentage.": 100 * right,
    }
    if not 0.6 * right < np.mean(answer) < 1.6 * right:  # few draws are inside
        diagnose(answer, right, mistakes, "the answer", rtol=0.05)
    return (
        f"{compare_prediction(prediction, right)} Density is highest at the origin, "
        "and hardly any code is there: a typical length is near 3.2."
    )


@find_the_bug
def new_garments(function):
    n = 2_000
    image, show = keras.Input((784,)), layers.Dense(10, use_bias=False)
    encoder = keras.Model(image, [show(image), show(image)])
    show.set_weights([np.eye(784, 10, dtype="float32")])
    decoder, codes = build_transparent_decoder(), []
    for level in (0.0, 3.0):  # of the pixels, hence of the mean and the log-variance
        images = np.full((n, 784), level, "float32")
        result = require_shape(call(function, encoder, decoder, images, n), (n, 784))
        codes.append(result[:, :10])
    problems = {
        'the "new" images change with the images that are passed in: where do the '
        "codes come from?": abs(codes[0].mean() - codes[1].mean()) > 0.2
        or not is_close(codes[0].std(), codes[1].std(), 0.1),
        "all images show the same garment.": np.ptp(codes[0], axis=0).max() < 1e-3,
        "the images are new, but the codes do not have the mean and the width of the "
        "prior.": np.abs(codes[0].mean(axis=0)).max() > 0.15
        or np.abs(codes[0].std(axis=0) - 1).max() > 0.1,
        "the ten numbers of a code depend on each other, and the prior's do not."
        "": np.abs(np.corrcoef(codes[0], rowvar=False) - np.eye(10)).max() > 0.2,
        "mean and width are the prior's, the shape is not: it is a normal distribution."
        "": not 0.66 < np.mean(np.abs(codes[0]) < 1) < 0.71,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise WrongAnswer(problem)
    return "the codes are the prior's: no image goes in, so the garments are new."


@find_the_bug
def pairs(function):
    for seed in range(3):
        labels = np.random.default_rng(seed).integers(0, 10, 3_000)
        ends = require_shape(call(function, labels, 200), (200, 2)).astype(int)
        if ends.min() < 0 or not 9 < ends.max() < len(labels):
            raise WrongAnswer("the result should be indices of images.")
        a, b = labels[ends.T]
        problems = {
            "look at the classes at the two ends.": (a == b).mean() > 0.5,
            "better, but some interpolations still begin and end in the same class.": (
                a == b
            ).any(),
            "the ends differ, but nearly all pairs join the same few classes.": len(
                set(zip(np.minimum(a, b), np.maximum(a, b)))
            )
            < 30,
            "the ends differ, but pairs are repeated.": len(np.unique(ends, axis=0))
            < 150,
        }
        for problem, is_there in problems.items():
            if is_there:
                raise WrongAnswer(problem)
    return "all classes occur, and no pair stays in one: this test can fail."
