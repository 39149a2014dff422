"""What the chapters of "VAE vs. autoencoder on Fashion-MNIST" teach, in one module.

Images are float32 rows of 784 pixels in [0, 1]; losses are in nats per image; codes
have 10 columns. The rest of the course stands in the package `course`:
`course.data` finds, verifies and downloads Fashion-MNIST; `course.training` holds
`fit` and checkpoints; `course.saving` saves and loads models; `course.results`
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
    ) from None

import keras
import numpy as np
from keras import layers, ops

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
from course.saving import save, save_if_full_run  # noqa: F401
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
    """Draws z from N(z_mean, exp(z_log_var)) so that gradients reach both inputs.

    The reparameterisation z = mean + sigma * noise of Kingma and Welling (2014),
    "Auto-Encoding Variational Bayes", section 2.4. Inputs [z_mean, z_log_var]
    and output are (batch, latent_dim).
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True  # there are no weights to make

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


class BatchMean(keras.losses.Loss):
    """The mean over a batch as Keras takes it, with sample weights."""

    def call(self, y_true, y_pred):
        return y_pred


class VAEConfiguration(keras.Model):
    """What `VAE` needs to be changed and saved.

    `vae.kl_weight = 0.5` also reaches a compiled training step. A model is described
    before its file is opened: one that cannot be described leaves an older file whole.
    """

    @property
    def kl_weight(self):
        return self._kl_weight

    @kl_weight.setter
    def kl_weight(self, value):
        self._kl_weight.assign(value)

    def get_config(self):
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        config = {k: keras.saving.serialize_keras_object(v) for k, v in parts.items()}
        config["kl_weight"] = float(ops.convert_to_numpy(self.kl_weight))
        config["seed"] = self.sampling.seed_generator.get_config()["seed"]
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        load = keras.saving.deserialize_keras_object
        parts = {name: load(config[name]) for name in ("encoder", "decoder")}
        return cls(**{**config, **parts})

    def save(self, *args, **kwargs):
        keras.saving.serialize_keras_object(self)
        super().save(*args, **kwargs)


@keras.saving.register_keras_serializable(package="vae_course")
class VAE(VAEConfiguration):
    """Variational autoencoder; fit it on `(x, x)`.

    loss = mean over the batch of [BCE summed over pixels + kl_weight * KL summed over
    latent dimensions] in nats per image, + the penalties of regularisers. With
    kl_weight = 1 and no regulariser it is the negative ELBO of Kingma and Welling
    (2014), with one sample of z per image. `encoder` gives z_mean and z_log_var,
    (batch, latent_dim) each; `decoder` gives probabilities (batch, pixels). A loss
    named in `compile` is accepted and not used. Sample weights weight images in the
    loss, not in `reconstruction` and `kl`. `seed` fixes the noise.
    """

    def __init__(self, encoder, decoder, kl_weight=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder, self.sampling = encoder, decoder, Sampling(seed)
        self._kl_weight = keras.Variable(kl_weight, trainable=False, name="kl_weight")
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def call(self, inputs, training=None):
        z_mean, z_log_var = self.encoder(inputs, training=training)
        # sigma = 22,000: a single image further out would make the gradients overflow.
        z_log_var = ops.minimum(z_log_var, 20.0)
        # For compute_loss, which Keras calls next in the same step.
        self._kl = ops.sum(kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var]), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        reconstruction = bernoulli_nll(y, y_pred)
        self.reconstruction_tracker.update_state(reconstruction)
        self.kl_tracker.update_state(self._kl)
        mean = BatchMean(dtype=reconstruction.dtype)
        loss = mean(y, reconstruction + self.kl_weight * self._kl, sample_weight)
        return loss + sum(mean(y, ops.reshape(part, (1,))) for part in self.losses)


# The models that the course saves, by the names of their files.
MODELS = {
    "autoencoder": build_autoencoder,
    "vae_encoder": build_encoder,
    "vae_decoder": build_decoder,
    "vae2d_encoder": lambda: build_encoder(latent_dim=2),
    "vae2d_decoder": lambda: build_decoder(latent_dim=2),
}


def load(path):
    """The model in a .keras file, not compiled; errors as in `course.saving.load`."""
    return saving.load(path, MODELS)


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
    squares, nearest = np.square(others).sum(axis=1), []
    for part in np.array_split(codes, len(codes) // 200 + 1):  # 90 MB for m = 55,000
        # |part|^2 is the same for all others: it does not change which is nearest.
        index = np.argmin(squares - 2 * part @ others.T, axis=1)
        nearest.append(np.linalg.norm(part - others[index], axis=1))
    return np.concatenate(nearest)


def active_dimensions(kl, threshold=0.01):
    """How many latent dimensions have a mean KL above `threshold` nats.

    `kl` is (n, latent_dim): one number per image and dimension.
    """
    if np.ndim(kl) != 2 or not len(kl) or not np.isfinite(kl).all():
        raise ValueError(f"kl must be finite, (n, latent_dim), not {np.shape(kl)}.")
    return int((np.mean(kl, axis=0) > threshold).sum())
