"""What the chapters of "VAE vs. autoencoder on Fashion-MNIST" teach, in one module.

Images are float32 rows of 784 pixels in [0, 1]; losses are in nats per image; codes
have 10 columns. The rest of the course stands in the package `course`:
`course.data` finds, verifies and downloads Fashion-MNIST; `course.training` holds
`fit`; `course.saving` saves and loads models; `course.results`
compares with expected ranges; `course.figures` draws; `course.evaluation` scores
models in chapters 05 and 06; `course.exercises` checks answers.
"""

try:
    from course import BUILD, EXPERIMENTS, backend  # noqa: F401  isort: skip  (first)
except ImportError as error:
    if error.name != "course":
        raise
    raise ImportError(
        "vae_helpers.py needs its own folder `course` beside it: clone the whole "
        "repository vae-vs-autoencoder, or copy both."
    ) from error

import keras
import numpy as np
from keras import layers, ops
from sklearn.metrics import pairwise_distances_argmin

from course import saving
from course.data import (  # noqa: F401
    CLASS_NAMES,
    Data,
    limit_epochs,
    load_data,
    one_of_each,
    quick_mode,
)
from course.figures import (  # noqa: F401
    image_grid,
    scatter_classes,
    use_style,
)
from course.results import expect  # noqa: F401
from course.saving import load, save, save_if_full_run  # noqa: F401
from course.training import fit  # noqa: F401

SEED = 0  # fixed before any result was seen


def check_images(x, name="x"):
    """`x` as an array, if it holds images: floats (n, 784) in [0, 1], n > 0.

    Raises:
        ValueError: it does not. The message calls the argument `name`.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 784 or not len(x):
        raise ValueError(f"{name} must be images (n, 784), not an array {x.shape}.")
    # Allow rounding errors; NaN fails this comparison.
    if x.dtype.kind != "f" or not -1e-6 <= x.min() <= x.max() <= 1 + 1e-6:
        raise ValueError(
            f"{name} must be floats from 0 to 1: divide pixels by 255, check for NaN."
        )
    return x


# ---------------------------------------------------------------- models


def build_autoencoder():
    """Deep autoencoder 784 - 128 - 64 - 32 - 18 - 32 - 64 - 128 - 784, not compiled.

    ReLU throughout, the 18-unit code included; sigmoid at the output.
    Input and output (batch, 784), in [0, 1].
    """
    image = keras.Input((784,), name="image")
    x = image
    for units in (128, 64, 32):
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(18, activation="relu", name="code")(x)
    for units in (32, 64, 128):
        x = layers.Dense(units, activation="relu")(x)
    reconstruction = layers.Dense(784, activation="sigmoid", name="reconstruction")(x)
    return keras.Model(image, reconstruction, name="autoencoder")


def split_autoencoder(autoencoder):
    """The two halves of `build_autoencoder()`.

    An encoder (n, 784) -> (n, 18) and a decoder (n, 18) -> (n, 784), with its weights.
    """
    code = autoencoder.get_layer("code").output
    encoder = keras.Model(autoencoder.input, code, name="ae_encoder")
    decoder = keras.Model(code, autoencoder.output, name="ae_decoder")
    return encoder, decoder


def build_encoder(latent_dim=10, activation="relu"):
    """VAE encoder 784 - 512 - 256 - 128 - two linear heads of `latent_dim` units.

    Input (batch, 784) in [0, 1]; outputs `z_mean`, `z_log_var`, (batch, latent_dim).
    """
    image = keras.Input((784,), name="image")
    x = image
    for units in (512, 256, 128):
        x = layers.Dense(units, activation=activation)(x)
    z_mean = layers.Dense(latent_dim, name="z_mean")(x)
    z_log_var = layers.Dense(latent_dim, name="z_log_var")(x)
    return keras.Model(image, [z_mean, z_log_var], name="vae_encoder")


def build_decoder(latent_dim=10, activation="relu"):
    """VAE decoder `latent_dim` - 128 - 256 - 512 - 784 (sigmoid).

    Input z (batch, latent_dim); output (batch, 784), each pixel's probability of "on".
    """
    z = keras.Input((latent_dim,), name="z")
    x = z
    for units in (128, 256, 512):
        x = layers.Dense(units, activation=activation)(x)
    reconstruction = layers.Dense(784, activation="sigmoid", name="reconstruction")(x)
    return keras.Model(z, reconstruction, name="vae_decoder")


@keras.saving.register_keras_serializable(package="vae_course")
class Sampling(layers.Layer):
    """Samples z from N(z_mean, exp(z_log_var)) so that gradients reach both inputs.

    The reparameterisation z = mean + sigma * noise of Kingma and Welling (2014),
    "Auto-Encoding Variational Bayes", section 2.4. Inputs [z_mean, z_log_var]
    and output are (batch, latent_dim).
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        shape, dtype = ops.shape(z_mean), z_mean.dtype
        noise = keras.random.normal(shape, dtype=dtype, seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * noise


def bernoulli_nll(x, x_hat):
    """Reconstruction error in nats per image: BCE summed over the 784 pixels.

    `x` and `x_hat` are (batch, 784) in [0, 1]; the result is (batch,), in float32 or,
    where one of them is, in float64. It equals 784 * mean BCE. Keras clips `x_hat` to
    [1e-7, 1 - 1e-7]: it is always finite.
    """
    # Broadcasting would hide a shape mismatch.
    if len(getattr(x, "shape", ())) != 2 or x.shape[-1] != x_hat.shape[-1]:
        raise ValueError("x and x_hat must both be images (batch, pixels).")
    dtype = "float64" if "float64" in f"{x.dtype} {x_hat.dtype}" else "float32"
    bce = ops.binary_crossentropy(ops.cast(x, dtype), ops.cast(x_hat, dtype))
    return ops.sum(bce, axis=-1)


def kl_to_prior(z_mean, z_log_var):
    """KL(N(z_mean, exp(z_log_var)) || N(0, 1)) in nats, per image and latent dimension.

    Arguments and result are (batch, latent_dim); precision as in `bernoulli_nll`. The
    closed form of Kingma and Welling (2014), appendix B.
    """
    if z_mean.shape != z_log_var.shape:  # broadcasting would hide a shape mismatch
        raise ValueError("z_mean and z_log_var must have the same shape.")
    dtype = "float64" if "float64" in str(z_mean.dtype) else "float32"
    z_mean, z_log_var = ops.cast(z_mean, dtype), ops.cast(z_log_var, dtype)
    return 0.5 * (ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var)


@keras.saving.register_keras_serializable(package="vae_course")
class VAE(keras.Model):
    """VAE of Kingma and Welling (2014), fitted on `(x, x)`. Loss in nats, batch mean of
    BCE summed over pixels + kl_weight * KL summed over dimensions; + regularisers'."""

    def __init__(self, encoder, decoder, kl_weight=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder, self.sampling = encoder, decoder, Sampling(seed)
        self.kl_weight = keras.Variable(float(kl_weight), trainable=False)
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def call(self, x, training=None):
        z_mean, z_log_var = self.encoder(x, training=training)
        z_log_var = ops.minimum(z_log_var, 20.0)  # or exp might overflow
        self.add_loss(ops.mean(ops.sum(kl_to_prior(z_mean, z_log_var), axis=-1)))
        return self.decoder(self.sampling([z_mean, z_log_var]), training=training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        assert sample_weight is None, "VAE takes no sample weights."
        nll, kl = ops.mean(bernoulli_nll(y, y_pred)), sum(self.losses[:1])
        self.reconstruction_tracker.update_state(nll, ops.shape(y)[0])
        self.kl_tracker.update_state(kl, ops.shape(y)[0])
        return nll + self.kl_weight * kl + sum(self.losses[1:])

    def get_config(self):
        own = dict(encoder=self.encoder, decoder=self.decoder, seed=self.sampling.seed)
        return {**super().get_config(), **own, "kl_weight": float(self.kl_weight)}

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


# The models that the course saves, by the names of their files.
MODELS = {
    "autoencoder": build_autoencoder,
    "vae_encoder": build_encoder,
    "vae_decoder": build_decoder,
    "vae2d_encoder": lambda: build_encoder(latent_dim=2),
    "vae2d_decoder": lambda: build_decoder(latent_dim=2),
}


def load_trained(*names):
    """Models of `MODELS`: the reader's own if all are there, else the reference.

    Returns a list. Errors as in `course.saving.load_trained`.
    """
    return saving.load_trained(MODELS, *names)


# ---------------------------------------------------------------- metrics


def pixel_entropy(x):
    """The lowest possible BCE in nats per image: the entropy of the pixels.

    `x` is (n, 784) in [0, 1], each pixel read as a probability; the result is a float,
    the mean over images. Predicting x itself reaches it.
    """
    x = np.clip(check_images(x), 1e-7, 1 - 1e-7).astype("float64")
    return float(-(x * np.log(x) + (1 - x) * np.log(1 - x)).sum(axis=1).mean())


def pca_reconstruct(x_fit, x, components):
    """Project `x` (n, 784) on the first principal components of `x_fit`, and back.

    The result is (n, 784), not clipped.
    """
    if not isinstance(components, (int, np.integer)) or not 1 <= components <= 784:
        raise ValueError(f"components must be an integer from 1 to 784: {components}.")
    x_fit, x = check_images(x_fit, "x_fit"), check_images(x)
    mean = x_fit.mean(axis=0)
    centred = x_fit - mean
    # The singular vectors of the 784 x 784 scatter matrix are those of the data,
    # at a fraction of the cost.
    directions = np.linalg.svd(centred.T @ centred)[2][:components]
    return mean + (x - mean) @ directions.T @ directions


def mse(x, x_hat):
    """Mean squared error per pixel, over images (n, 784); a float."""
    if np.shape(x_hat) != check_images(x).shape or not np.isfinite(x_hat).all():
        raise ValueError(
            f"x_hat must be finite numbers {x.shape}, like x, not {np.shape(x_hat)}."
        )
    return float(np.mean(np.square(np.asarray(x, "float64") - x_hat)))


def distance_to_nearest(codes, others):
    """Euclidean distance of each row of `codes` to the nearest row of `others`.

    `codes` is (n, d), `others` (m, d). The result is (n,), in float64, and 0 where a
    row is among the others.
    """
    codes, others = np.asarray(codes), np.asarray(others)
    if codes.ndim != 2 or codes.shape[1:] != others.shape[1:] or not len(others):
        raise ValueError(
            f"codes, others must be (n, d), (m, d): {codes.shape}, {others.shape}."
        )
    finite = np.isfinite(codes).all() and np.isfinite(others).all()
    if codes.dtype.kind + others.dtype.kind != "ff" or not finite:
        raise ValueError("codes and others must be finite floats.")
    codes, others = codes.astype("float64"), others.astype("float64")
    nearest = pairwise_distances_argmin(codes, others)
    return np.linalg.norm(codes - others[nearest], axis=1)


def active_dimensions(kl, threshold=0.01):
    """How many latent dimensions have a mean KL above `threshold` nats.

    `kl` is (n, latent_dim): one number per image and dimension.
    """
    if np.ndim(kl) != 2 or not len(kl) or not np.isfinite(kl).all():
        raise ValueError(f"kl must be finite, (n, latent_dim), not {np.shape(kl)}.")
    return int((np.mean(kl, axis=0) > threshold).sum())
