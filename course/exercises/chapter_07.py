"""Checks of the exercises on chapter 07."""

import functools

import vae_helpers as vh  # isort: skip  (before Keras)

import numpy as np

import course
from course import evaluation
from course.exercises.common import (
    WrongAnswer,
    call,
    call_for,
    check,
    diagnose,
    find_the_bug,
    require_images,
    require_shape,
)

__all__ = ["velocity", "straight_paths", "on_request"]


@check
def velocity(prediction, answer):
    mistakes = {
        "the way to the code is not over at once: how much time is left?": [1.5, 0],
        "that is the whole way from the mean of the noise: the point has come some of "
        "it already.": [2, 0],
        "the first is right. At z = 0 both codes are equally probable: the velocity is "
        "the average of two.": [3, 4],
    }
    diagnose(answer, [3.0, 0.0], mistakes, "the answer", atol=1e-2)
    return (
        "the velocity is an average over all codes that may lie ahead; between two it "
        f"is 0 (you predicted {prediction}), and noise decides which one is reached."
    )


@find_the_bug
def straight_paths(function):
    n = 20_000
    codes = np.full((n, 3), [1.0, -2.0, 0.5], "float32")
    rng = np.random.default_rng(0)
    point, t, speed = (
        require_shape(part, shape)
        for part, shape in zip(
            call_for(3, function, codes, rng), [(n, 3), (n, 1), (n, 3)]
        )
    )
    if t.min() < 0 or t.max() > 1 or not 0.28 < t.std() < 0.3:
        raise WrongAnswer("the times should be uniform from 0 to 1, one for each code.")
    if not np.allclose(point + (1 - t) * speed, codes, atol=1e-3):
        raise WrongAnswer(
            "a point that keeps its velocity until time 1 should arrive at its code."
        )
    noise = point - t * speed
    if abs(noise.mean()) > 0.05 or abs(noise.std() - 1) > 0.05:
        raise WrongAnswer("a point that goes back to time 0 should be at N(0, I).")
    return "every point now lies on the way from one noise to one code, at its speed."


@functools.cache
def load_generator():
    """The flow of chapter 07, the decoder of chapter 02, and the classifier."""
    from course import flow

    autoencoder = vh.load(course.REFERENCE / "autoencoder.keras")
    decoder = vh.split_autoencoder(autoencoder)[1]
    return flow.load_reference(), decoder, vh.load(evaluation.CLASSIFIER)


@check
def on_request(function):
    net, decoder, classifier = load_generator()
    recognised, spread, count = [], [], 100
    for label in range(10):
        images = require_images(call(function, net, decoder, label, count), count)
        features, classes = evaluation.classify(classifier, images)
        recognised.append(np.mean(classes.argmax(axis=1) == label))
        spread.append(features.std(axis=0).mean())
    worst = int(np.argmin(recognised))
    result = f"{np.mean(recognised):.0%} are recognised as asked"
    least = f"least of all {vh.CLASS_NAMES[worst]}, {recognised[worst]:.0%}"
    if np.mean(recognised) < 0.7:
        raise WrongAnswer(f"{result}, {least}: does the label reach the flow?")
    if min(spread) < 1e-3:
        raise WrongAnswer(f"{result}, but all garments of a class are the same.")
    if np.mean(recognised) < 0.9:
        raise WrongAnswer(f"{result}, {least}. Chapter 07 has a way to insist.")
    return (
        f"{result}, {least}. Guidance makes the class clearer by making garments more "
        f"typical: their features spread by {np.mean(spread):.2f} in a class."
    )
