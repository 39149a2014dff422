"""Checks of the exercises on chapter 02."""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers

from course.exercises import common

__all__ = ["parameters", "prune"]


@common.check
def parameters(prediction, answer):
    network = keras.Sequential(
        [keras.Input((784,)), *[layers.Dense(units) for units in (100, 10, 100, 784)]]
    )
    sizes = [w.shape for w in network.weights]
    mistakes = {
        "this counts the weight matrices only: what does a layer add after its matrix "
        "product?": sum(np.prod(size) for size in sizes if len(size) == 2),
        "this is half of the network, which also has to reconstruct the image.": sum(
            np.prod(size) for size in sizes[:4]
        ),
    }
    right = network.count_params()
    common.diagnose(answer, right, mistakes, "the answer", rtol=0)
    return (
        f"{common.compare_prediction(prediction, right)} Almost all of them are in the "
        "first and the last layer, where the 784 pixels are."
    )


@common.check
def prune(function):
    x = common.load_images()[0][:500]
    keras.utils.set_random_seed(0)
    autoencoder = vh.build_autoencoder()
    code = autoencoder.get_layer("code")
    kernel, bias = code.get_weights()
    bias[[3, 8, 17]] = -100.0  # never active
    encoder, decoder = vh.split_autoencoder(autoencoder)
    codes = encoder.predict(x, verbose=0)
    bias[5] = -np.partition(codes[:, 5], -3)[-3]  # active for two images: not dead
    code.set_weights([kernel, bias])
    codes = encoder.predict(x, verbose=0)
    alive = codes.any(axis=0)
    small_encoder, small_decoder = common.call_for(2, function, encoder, decoder, x)
    new = np.asarray(small_encoder(x))
    problems = {
        "there are still dead units in the code.": new.shape[-1] > alive.sum(),
        "units are missing that are active for some images: a dead unit is 0 for all "
        "of them.": new.shape[-1] < alive.sum(),
    }
    common.refuse(problems)
    common.diagnose(new, codes[:, alive], what="the new code", atol=1e-3)
    right = np.asarray(decoder(codes))
    common.diagnose(small_decoder(new), right, what="the new image", atol=1e-3)
    return (
        f"{alive.sum()} units reconstruct exactly what {codes.shape[1]} did: a dead "
        "unit carries nothing, and the code is smaller than it looks."
    )
