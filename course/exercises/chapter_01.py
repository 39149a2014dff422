"""Checks of the exercises on chapter 01."""

import numpy as np

import vae_helpers as vh
from course.exercises import common


@common.check
def grey_card(prediction, answer):
    right = 784 * np.log(2)
    mistakes = {
        "this is the BCE of one pixel: how many does an image have?": np.log(2),
        "a perfect prediction of a grey pixel does not cost 0: look at the curves of "
        "chapter 01 again.": 0,
    }
    common.diagnose(answer, right, mistakes, "the answer", rtol=2e-3)
    return (
        f"you predicted {prediction} nats; the result is {right:.1f} nats. No model "
        "can do better: the loss of a perfect model is not 0."
    )


@common.check
def other_data(load):
    train, validation, test = common.call(load)
    seen = {row.tobytes() for row in common.load_images()[0]}
    sets = {"training": train, "validation": validation, "test": test}
    for kind, images in sets.items():
        name = f"the array of {kind} images"
        images = common.require_images(images, len(images), name)
        rows = {row.tobytes() for row in images}
        problems = {
            f"{name} should be brighter.": images.max() < 0.5,
            f"{name} should not hold images of an earlier part, or garments.": (
                len(rows & seen) > 0.02 * len(rows)
            ),
        }
        common.refuse(problems)
        seen |= rows
    return (
        "a VAE can be trained on your images; the entropy of the test images' pixels, "
        f"{vh.pixel_entropy(test):.0f} nats, is what to compare its loss with."
    )
