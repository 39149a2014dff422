"""Checks of the exercises on chapter 02."""

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
    is_close,
    load_images,
)

__all__ = ["parameters", "prune"]


@check
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
    diagnose(answer, right, mistakes, "the answer", rtol=0)
    return (
        f"{compare_prediction(prediction, right)} Almost all of them are in the first "
        "and the last layer, where the 784 pixels are."
    )


@check
def prune(function):
    x = load_images()[0][:500]
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
    alive = int(codes.any(axis=0).sum())
    small_encoder, small_decoder = call_for(2, function, encoder, decoder, x)
    new = np.asarray(small_encoder(x))
    if new.shape == codes.shape:
        raise WrongAnswer("the code has as many units as before.")
    if new.shape[-1] < alive:
        raise WrongAnswer(
            "units are missing that are active for some images: a dead unit is 0 for "
            "all of them."
        )
    if new.shape[-1] > alive:
        raise WrongAnswer("there are still dead units in the code.")
    if not is_close(new, codes[:, codes.any(axis=0)], atol=1e-3):
        raise WrongAnswer("the number of units is right, and their values are not.")
    right = np.asarray(decoder(codes))
    if not is_close(small_decoder(new), right, atol=1e-3):
        raise WrongAnswer("the encoder is right, but the images are not the same.")
    diagnose(np.asarray(encoder(x)), codes, what="the code of the given encoder")
    return (
        f"{alive} units reconstruct exactly what {codes.shape[1]} did: a dead unit "
        "carries nothing, and the code is smaller than it looks."
    )
