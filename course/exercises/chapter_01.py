"""Checks of the exercises on chapter 01."""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers

from course.exercises.common import (
    WrongAnswer,
    call_for,
    check,
    compare_prediction,
    diagnose,
    load_images,
    require_array,
    train_briefly,
)

__all__ = ["grey_card", "other_data"]


@check
def grey_card(prediction, answer):
    right = vh.pixel_entropy(np.full((1, 784), 0.5))
    mistakes = {
        "this is the BCE of one pixel: how many does an image have?": right / 784,
        "this is in bits: use nats, with the natural logarithm.": right / np.log(2),
        "a perfect prediction of a grey pixel does not cost 0: look at the curves of "
        "chapter 01 again.": 0,
    }
    diagnose(answer, right, mistakes, "the answer", rtol=2e-3)
    return (
        f"{compare_prediction(prediction, right, ' nats')} No model can do better: the "
        "loss of a perfect model is not 0."
    )


@check
def other_data(load):
    names = ("the training images", "the validation images", "the test images")
    seen = {row.tobytes() for row in load_images()[0]}
    for name, images in zip(names, call_for(3, load)):
        values = require_array(images, name).astype("float32")
        problems = {
            "be float32": str(getattr(images, "dtype", "")).find("float32") < 0,
            "be rows of 784 pixels": values.ndim != 2 or values.shape[-1] != 784,
            "have pixels in [0, 1]": values.min() < 0 or values.max() > 1,
            "be brighter, and not all alike": values.max() < 0.5
            or np.ptp(values, axis=0).max() == 0,
        }
        for problem, is_there in problems.items():
            if is_there:
                raise WrongAnswer(f"{name} should {problem}.")
        rows = {row.tobytes() for row in values}
        if len(rows & seen) > 0.02 * len(rows):
            raise WrongAnswer(
                f"{name} are among those of an earlier part, or among the garments."
            )
        seen |= rows
        if name == names[0]:
            image, code = keras.Input((784,)), keras.Input((10,))
            heads = [layers.Dense(10)(image), layers.Dense(10)(image)]
            decoder = keras.Model(code, layers.Dense(784, "sigmoid")(code))
            model = vh.VAE(keras.Model(image, heads), decoder)
            train_briefly(model, values[:512], values[:512])
    return (
        "a small VAE trains on your images; the entropy of the test images' pixels, "
        f"{vh.pixel_entropy(values):.0f} nats, is what to compare its loss with."
    )
