"""Checks of the exercises on chapter 02."""

import numpy as np

import course
import vae_helpers as vh
from course.exercises import common


@common.check
def parameters(prediction, answer):
    right = 785 * 100 + 101 * 10 + 11 * 100 + 101 * 784
    mistakes = {
        "this counts the weight matrices only: what does a layer add after its matrix "
        "product?": right - (100 + 10 + 100 + 784),
        "this is half of the network, which also has to reconstruct the image.": (
            785 * 100 + 101 * 10
        ),
    }
    common.diagnose(answer, right, mistakes, "the answer", rtol=0)
    return (
        f"you predicted {prediction}; the result is {right:,}. Almost all of them are "
        "in the first and the last layer, where the 784 pixels are."
    )


@common.check
def prune(function):
    x = common.load_images()[0][:500]
    reference = vh.load(course.REFERENCE / "autoencoder.keras")
    autoencoder = vh.build_autoencoder()  # its layers have names of this session
    autoencoder.set_weights(reference.get_weights())
    encoder, decoder = vh.split_autoencoder(autoencoder)
    codes = np.asarray(encoder(x))
    alive = codes.any(axis=0)
    small_encoder, small_decoder = common.call(function, encoder, decoder, x)
    new = np.asarray(small_encoder(x))
    problems = {
        "there are still dead units in the code.": new.shape[-1] > alive.sum(),
        "units are missing that are active for some images: a dead unit is 0 for all "
        "of them.": new.shape[-1] < alive.sum(),
    }
    common.refuse(problems)
    common.diagnose(new, codes[:, alive], what="the new code", atol=1e-3)
    right = np.asarray(autoencoder(x))
    common.diagnose(small_decoder(new), right, what="the new image", atol=1e-3)
    return (
        f"{alive.sum()} units reconstruct exactly what {len(alive)} did: a dead unit "
        "carries nothing, and the code is smaller than it looks."
    )
