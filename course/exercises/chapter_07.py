"""Checks of the exercises on chapter 07."""

import numpy as np

import course
import vae_helpers as vh
from course import evaluation, flow
from course.exercises import common


@common.check
def velocity(prediction, answer):
    mistakes = {
        "the way to the code is not over at once: how much time is left?": [1.5, 0],
        "that is the whole way from the mean of the noise: the point has come some of "
        "it already.": [2, 0],
        "the first is right. At z = 0 both codes are equally probable: the velocity is "
        "the average of two.": [3, 4],
    }
    common.diagnose(answer, [3.0, 0.0], mistakes, "the answer", atol=1e-2)
    return (
        "the velocity is an average over all codes that may lie ahead; between two it "
        f"is 0 (you predicted {prediction}), and noise decides which one is reached."
    )


@common.find_the_bug
def straight_paths(function):
    n = 20_000
    codes = np.full((n, 3), [1.0, -2.0, 0.5], "float32")
    rng = np.random.default_rng(0)
    point, t, speed = common.call(function, codes, rng)
    point, speed = (common.require_array(part, (n, 3)) for part in (point, speed))
    t = common.require_array(t, (n, 1), "the array of times")
    noise, end = point - t * speed, point + (1 - t) * speed
    is_uniform = 0 <= t.min() and t.max() <= 1 and 0.28 < t.std() < 0.3
    problems = {
        "the times should be uniform from 0 to 1, one for each code.": not is_uniform,
        "a point that keeps its velocity until time 1 should arrive at its code.": (
            not common.is_close(end, codes, atol=1e-3)
        ),
        "a point that goes back to time 0 should be at N(0, I).": (
            not common.is_standard_normal(noise, 0.05)
        ),
    }
    common.refuse(problems)
    return "every point now lies on the way from one noise to one code, at its speed."


@common.check
def on_request(function):
    autoencoder = vh.load(course.REFERENCE / "autoencoder.keras")
    decoder = vh.split_autoencoder(autoencoder)[1]
    net, classifier = vh.load(flow.REFERENCE), vh.load(evaluation.CLASSIFIER)
    x, labels = common.load_images()
    recognised, spread, of_real, count = [], [], [], 100
    for label in range(10):
        images = common.call(function, net, decoder, label, count)
        images = common.require_images(images, count)
        features, classes = evaluation.classify(classifier, images)
        real, _ = evaluation.classify(classifier, x[labels == label][:count])
        recognised.append(np.mean(classes.argmax(axis=1) == label))
        spread.append(features.std(axis=0).mean())
        of_real.append(real.std(axis=0).mean())
    share, worst = np.mean(recognised), int(np.argmin(recognised))
    result = f"{share:.0%} are recognised as asked"
    least = f"least of all {vh.CLASS_NAMES[worst]}"
    problems = {
        f"{result}, {least}: does the label reach the flow?": share < 0.7,
        f"{result}, but all garments of a class are the same.": min(spread) < 1e-3,
        f"{result}, {least}. Chapter 07 has a way to insist.": share < 0.9,
    }
    common.refuse(problems)
    return (
        f"{result}, {least}. Within a class their features spread by "
        f"{np.mean(spread):.2f}, those of real garments by {np.mean(of_real):.2f}: "
        "what is recognised more surely varies less."
    )
