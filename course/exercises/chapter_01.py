"""Checks of the exercises on chapter 01."""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers

from course.exercises import common

__all__ = ["grey_card", "other_data"]


@common.check
def grey_card(prediction, answer):
    right = vh.pixel_entropy(np.full((1, 784), 0.5))
    mistakes = {
        "this is the BCE of one pixel: how many does an image have?": right / 784,
        "this is in bits: use nats, with the natural logarithm.": right / np.log(2),
        "a perfect prediction of a grey pixel does not cost 0: look at the curves of "
        "chapter 01 again.": 0,
    }
    common.diagnose(answer, right, mistakes, "the answer", rtol=2e-3)
    return (
        f"{common.compare_prediction(prediction, right, ' nats')} No model can do "
        "better: the loss of a perfect model is not 0."
    )


@common.check
def other_data(load):
    names = ("the training images", "the validation images", "the test images")
    seen = {row.tobytes() for row in common.load_images()[0]}
    sets = common.call_for(3, load)
    for name, images in zip(names, sets):
        values = common.require_array(images, name).astype("float32")
        rows = {row.tobytes() for row in values}
        problems = {
            "be float32": "float32" not in str(getattr(images, "dtype", "")),
            "be rows of 784 pixels": values.ndim != 2 or values.shape[-1] != 784,
            "have pixels in [0, 1]": values.min() < 0 or values.max() > 1,
            "be brighter": values.max() < 0.5,
            "not be among those of an earlier part, or among the garments": len(
                rows & seen
            )
            > 0.02 * len(rows),
        }
        common.refuse({f"{name} should {hint}.": problems[hint] for hint in problems})
        seen |= rows
    image, code = keras.Input((784,)), keras.Input((10,))
    heads = [layers.Dense(10)(image), layers.Dense(10)(image)]
    decoder = keras.Model(code, layers.Dense(784, "sigmoid")(code))
    x = np.asarray(sets[0])[:512]
    common.train_briefly(vh.VAE(keras.Model(image, heads), decoder), x, x)
    return (
        "a small VAE trains on your images; the entropy of the test images' pixels, "
        f"{vh.pixel_entropy(values):.0f} nats, is what to compare its loss with."
    )
