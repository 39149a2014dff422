"""What the chapters of "VAE vs. autoencoder on Fashion-MNIST" share.

In the order in which the course uses it: data, models, training, saving,
results, figures. The chapters show the parts that they teach and import the
rest. Images are float32 rows of 784 pixels in [0, 1]; losses are in nats per
image; "latent" arrays have 10 columns.
"""

import contextlib
import functools
import json
import os
import random
import zipfile
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # Colab and some readers have another one set


def _import_quietly():
    """Import Keras and compile a first operation with stderr closed.

    TensorFlow greets on stderr (no GPU, oneDNN, ...), before any setting of its own can
    stop it, and notebooks would store that. Set TF_CPP_MIN_LOG_LEVEL=0 to read it.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        return
    with open(os.devnull, "w") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                with contextlib.suppress(Exception):  # XLA may be missing: fit will say so
                    tf.function(lambda: tf.zeros(1) + 1, jit_compile=True)()
        except ImportError as error:
            reason = f"Keras cannot run on {os.environ['KERAS_BACKEND']} here ({error})"
            raise ImportError(f"{reason}: set KERAS_BACKEND=tensorflow.") from None
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


_import_quietly()

import keras  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers, ops  # noqa: E402

from notebooks import files, training  # noqa: E402

keras.config.set_floatx("float32")  # whatever else keras.json says
if keras.backend.backend() != "tensorflow":
    print(f"Keras runs on {keras.backend.backend()}; the chapters need KERAS_BACKEND=tensorflow and a new kernel.")

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build"  # what the reader's own runs leave behind
REFERENCE = ROOT / "notebooks" / "models"  # trained by the course's own full run
EXPERIMENTS = ROOT / "notebooks" / "experiments.json"

SEED = 0  # fixed before any result was seen


# ---------------------------------------------------------------- data

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

VALIDATION = {"full": 5_000, "sample": 500}  # the last images of the training file
QUICK_IMAGES, QUICK_EPOCHS = 2_000, 2


class Data(NamedTuple):
    """Images as float32 (n, 784) in [0, 1], labels as int (n,) in 0..9."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    complete: bool  # all 70,000 images, no quick mode: results may be compared


def quick():
    """Whether VAE_COURSE_QUICK asks for the short run: fewer epochs and training images."""
    return os.environ.get("VAE_COURSE_QUICK", "") not in ("", "0")


def epochs(number):
    """`number` of epochs, or the few of quick mode."""
    return min(number, QUICK_EPOCHS) if quick() else number


def load_data():
    """Fashion-MNIST, split into training, validation and test images.

    Looks in the folder FASHION_MNIST_DIR, if that is set, and nowhere else;
    otherwise in Debian's package, Keras' cache or download, and the sample in
    notebooks/data. Files are used only if the SHA-256 of their content is right.

    Returns:
        `Data`, with 55,000 / 5,000 / 10,000 images (sample: 5,500 / 500 / 1,000).

    Raises:
        OSError, ValueError: FASHION_MNIST_DIR, or the sample, lacks a file or
            holds a wrong one. The message names it and says what to do.
    """
    kind, found = files.find()
    images, y, x_test, y_test = files.arrays_of(found)
    x_val, y_val = images[-VALIDATION[kind] :], y[-VALIDATION[kind] :]
    n_train = QUICK_IMAGES if quick() else len(images) - len(x_val)
    print(
        f"Fashion-MNIST: {n_train:,} training, {len(x_val):,} validation, {len(x_test):,} test images"
        + (" (quick mode)" if quick() else "")
    )
    return Data(images[:n_train], y[:n_train], x_val, y_val, x_test, y_test, kind == "full" and not quick())


def check_images(x, name="x"):
    """`x` as an array, if it is images: floats (n, 784) in [0, 1], n > 0.

    Raises:
        ValueError: it is something else. The message says what, and names it `name`.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 784 or not len(x):
        raise ValueError(f"{name} must be images (n, 784), not an array {x.shape}.")
    if x.dtype.kind != "f" or not -1e-6 <= x.min() <= x.max() <= 1 + 1e-6:  # rounding is no fault, nan is
        raise ValueError(f"{name} must be floats from 0 to 1: divide pixels from 0 to 255 by 255, and look for nan.")
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
    """The two halves of `build_autoencoder()`: encoder (n, 784) -> (n, 18), decoder (n, 18) -> (n, 784)."""
    code = autoencoder.get_layer("code").output
    return keras.Model(autoencoder.input, code, name="ae_encoder"), keras.Model(
        code, autoencoder.output, name="ae_decoder"
    )


def build_encoder(latent_dim=10, activation="relu"):
    """VAE encoder 784 - 512 - 256 - 128 - two linear heads of `latent_dim` units.

    Input (batch, 784) in [0, 1]; outputs `z_mean` and `z_log_var`, both (batch, latent_dim).
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

    Input z (batch, latent_dim); output (batch, 784), the probability of "on" for each pixel.
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
        noise = keras.random.normal(ops.shape(z_mean), dtype=z_mean.dtype, seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * noise


def bernoulli_nll(x, x_hat):
    """Reconstruction error in nats per image: binary cross-entropy summed over the 784 pixels.

    `x` and `x_hat` are (batch, 784) in [0, 1]; the result is (batch,). It equals
    784 * mean BCE. Keras clips `x_hat` to [1e-7, 1 - 1e-7], so it is always finite.
    """
    if len(x.shape) != 2 or x.shape[-1] != x_hat.shape[-1]:  # NumPy's rules would stretch one of them
        raise ValueError(f"x and x_hat must be images (batch, pixels), not {x.shape} and {x_hat.shape}.")
    return ops.sum(ops.binary_crossentropy(x, x_hat), axis=-1)


def kl_to_prior(z_mean, z_log_var):
    """KL(N(z_mean, exp(z_log_var)) || N(0, 1)) in nats, for each image and each latent dimension.

    Arguments and result are (batch, latent_dim). Closed form of Kingma and Welling (2014), appendix B.
    """
    if z_mean.shape != z_log_var.shape:  # NumPy's rules would stretch one of them
        raise ValueError(f"z_mean {z_mean.shape} and z_log_var {z_log_var.shape} must have the same shape.")
    return 0.5 * (ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var)


class BatchMean(keras.losses.Loss):
    """The mean over a batch as Keras takes it: devices that share a batch each give their part of the mean."""

    def call(self, y_true, y_pred):
        return y_pred


@keras.saving.register_keras_serializable(package="vae_course")
class VAE(keras.Model):
    """Variational autoencoder; fit it on `(x, x)`.

    loss = mean over the batch of [BCE summed over pixels + kl_weight * KL summed
    over latent dimensions], in nats per image. With kl_weight = 1 this is the
    negative ELBO of Kingma and Welling (2014), with one sample of z an image.
    A loss named in `compile` is accepted and has no part in it. `seed` fixes the noise.
    """

    def __init__(self, encoder, decoder, kl_weight=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder, self.sampling = encoder, decoder, Sampling(seed)
        # A variable, so that `vae.kl_weight.assign(2.0)` also reaches a compiled step.
        self.kl_weight = keras.Variable(kl_weight, trainable=False, name="kl_weight")
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def call(self, inputs):
        z_mean, z_log_var = self.encoder(inputs)
        z_log_var = ops.minimum(z_log_var, 20.0)  # sigma = 22,000: one image further out would overflow the weights
        # Kept for compute_loss, which Keras calls next, in the same step: no second forward pass.
        self._kl = ops.sum(kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None or sample_weight is not None:
            raise ValueError("A VAE is fitted on (x, x), without sample weights: vae.fit(x, x).")
        reconstruction = bernoulli_nll(y, y_pred)
        self.reconstruction_tracker.update_state(reconstruction)
        self.kl_tracker.update_state(self._kl)
        return BatchMean()(y, reconstruction + self.kl_weight * self._kl)

    def get_config(self):
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        config = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        return {**super().get_config(), **config, "kl_weight": float(self.kl_weight.numpy())}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("encoder", "decoder")}
        return cls(**{**config, **parts})


# The models that the course saves, by the names of their files.
MODELS = {"autoencoder": build_autoencoder, "vae_encoder": build_encoder, "vae_decoder": build_decoder}


# ---------------------------------------------------------------- training


def fit(model, x, y=None, *, epochs, batch_size=128, validation_data=None, callbacks=(), verbose=1, **others):
    """`model.fit`, with each epoch and its validation in one XLA program: the same steps, sooner.

    Calls the model's own `train_step` and `test_step` on the batches that `model.fit` would
    make, the smaller last one included. Callbacks act where epochs begin and end. The order of
    an epoch follows from Python's seed and the epoch's number, its noise from the model's seed
    and that number, so that a resumed run goes on like an undisturbed one. What does not go
    into one XLA program is handed over to `model.fit`, and said: a distribution strategy, another
    backend, data that is not an array, callbacks for every batch, and any further argument
    of `model.fit` but `shuffle` and `initial_epoch`.

    An epoch that ends in NaN or infinity ends the training, and is said. Then, and when the reader interrupts it,
    the model has the weights of the last whole epoch, and `model.history` ends there (not so where `model.fit` trains).
    Where VAE_COURSE_RESUME names a folder, as notebooks/run.py does, a training that was killed goes on from its last
    whole epoch.

    Args:
        x, y: arrays (n, ...), as `model.fit` takes them; `validation_data` is a pair of them.
        verbose: 0 leaves out the line with the epoch, its losses and the time left.

    Returns:
        `keras.callbacks.History`.

    Raises:
        ValueError: the model is not compiled, or x and y are not what it takes: their lengths, shapes or values.
    """
    if not model.compiled:
        raise ValueError("Compile the model first: model.compile(optimizer='adam', ...).")
    if isinstance(validation_data, np.ndarray):
        raise ValueError("validation_data must be a pair of arrays, (x, y).")
    arguments = dict(epochs=epochs, batch_size=batch_size, validation_data=validation_data, verbose=0, **others)
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or ())
    kept, line = [], [training.progress()] if verbose else []

    def check(epoch, logs):
        if not np.isfinite(logs["loss"]):
            model.stop_training = True
            print(_stopped(epoch))

    def hand_over(reason):
        print(f"Training with Keras' own fit: {reason}.")
        last = keras.callbacks.LambdaCallback(on_epoch_end=check)
        return model.fit(x, y, callbacks=[*callbacks, *line, last], **arguments)

    reason = training.reason_for_keras(model, [x, y, *(validation_data or [])], callbacks, others)
    if reason:
        return hand_over(reason)
    for pair in [(x, y), *([validation_data] if validation_data else [])]:
        training.check_data(model, isinstance(model, VAE), batch_size, *pair)
    import tensorflow as tf

    variables = variables_of(model, x.shape[1:])
    train, arrays, steps = training.all_batches(model, model.train_step, x, y, batch_size)
    test, test_arrays, test_steps = None, [], 0
    if validation_data:
        test, test_arrays, test_steps = training.all_batches(model, model.test_step, *validation_data, batch_size)
        # Keras makes a metric's variables when it first meets data. Made here, they spare tracing the epoch twice.
        one = (test_arrays[0][:1], test_arrays[-1][:1])
        tf.function(model.test_step, autograph=False).get_concrete_function(one)

    def whole_epoch(order, arrays, test_arrays):
        logs = train(order, arrays)
        found = test(tf.range(test_arrays[0].shape[0]), test_arrays) if test else {}
        return {**logs, **{f"val_{name}": value for name, value in found.items()}}

    # `partial`, because TensorFlow warns of retracing when one function is compiled for several models.
    run_epoch = tf.function(functools.partial(whole_epoch), jit_compile=True, autograph=False)
    seed = random.randrange(2**31)
    noise = [(variable, variable.numpy()) for variable in model.variables if variable.name == "seed_generator_state"]
    if os.environ.get("VAE_COURSE_RESUME"):
        from notebooks import states

        kept = [states.keeper(model, callbacks, [*arrays, *test_arrays], seed, epochs, batch_size, others)]
    calls = keras.callbacks.CallbackList(
        [*callbacks, *kept, *line], add_history=True, model=model, epochs=epochs, steps=steps, verbose=0
    )
    model.stop_training, logs = False, None
    calls.on_train_begin()
    good = [variable.numpy() for variable in variables]
    first = model._initial_epoch or others.get("initial_epoch", 0)  # BackupAndRestore and the keeper set it

    def step_back():
        for variable, value in zip(variables, good):
            variable.assign(value)

    try:
        for epoch in range(first, epochs):
            calls.on_epoch_begin(epoch)
            generator = np.random.default_rng((seed, epoch))
            order = generator.permutation(len(x)) if others.get("shuffle", True) else np.arange(len(x))
            for variable, (key, count) in noise:
                variable.assign([key, count + epoch * (steps + test_steps)])  # one draw a step, as Keras counts
            results = run_epoch(tf.constant(order, "int32"), arrays, test_arrays)
            logs = {name: float(value) for name, value in results.items()}
            losses = [logs.get("loss", 0), logs.get("val_loss", 0)]
            if not all(np.isfinite(found).all() for found in [*losses, *map(np.asarray, model.trainable_variables)]):
                step_back()
                print(f"{_stopped(epoch)} The model has the weights from before it.")
                break
            calls.on_epoch_end(epoch, logs)
            good = [variable.numpy() for variable in variables]
            if model.stop_training:
                break
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if logs is not None:
            raise
        return hand_over(f"XLA cannot compile this model ({error.message[:99]}...)")
    except KeyboardInterrupt:
        step_back()
        raise
    model.optimizer.finalize_variable_values(model.trainable_variables)
    calls.on_train_end(logs)
    return model.history


def variables_of(model, shape=(784,)):
    """All that training changes, made if not there yet: weights, `kl_weight`, states of the noise, the optimiser's."""
    if not model.built:
        model(keras.Input(shape))  # makes the weights, and draws no noise
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _stopped(epoch):
    return f"Training stopped: epoch {epoch + 1} gave NaN or infinity. Try a smaller learning rate."


# ---------------------------------------------------------------- saving and loading


def save(folder, **models):
    """Write functional models to `folder`/NAME.keras, all of them or none, without optimiser state.

    Raises:
        OSError: the folder cannot be written. Files that were there stay as they were.
        ValueError: a model is not functional, such as a whole VAE.
    """
    for name, model in models.items():
        if _shapes(model) == "None to None":
            raise ValueError(f"{name} is not a functional model: save its parts, such as vae.encoder and vae.decoder.")
    with files.whole_files(*(Path(folder) / f"{name}.keras" for name in models)) as names:
        for name, model in zip(names, models.values()):
            # A model that was compiled saves its optimiser too, at three times the size.
            keras.Model(model.input, model.output, name=model.name).save(name)
            _leave_out_unused_options(name)


def _leave_out_unused_options(path):
    """Take from a .keras file the options that were not set: other versions of Keras do not know all of them."""

    def used(options):
        return {key: value for key, value in options.items() if value is not None and key != "ragged"}

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = json.dumps(json.loads(parts["config.json"], object_hook=used))
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def load(path):
    """The model in a .keras file, not compiled.

    A file of the course that a newer Keras wrote, whose description this one cannot read,
    is loaded by building the model here and reading its weights.

    Raises:
        OSError, ValueError: the file is missing or cannot be read, is not a whole Keras model,
            or holds Python code, which is never run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run chapters 02 and 03, or restore it with git.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise type(error)(f"{path} cannot be read ({error.strerror}): make it readable by you.") from None
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras each raise their own
        if "safe_mode" not in str(error):  # which Keras names where it refuses a file with Python code in it
            with contextlib.suppress(Exception):
                model = MODELS[path.stem]()
                model.load_weights(path)
                with zipfile.ZipFile(path) as archive:
                    if _layers(archive.read("config.json")) == _layers(model.to_json()):
                        return model
        raise ValueError(f"{path} is not a whole Keras model of known layers: delete it and save it again.") from None


def _layers(config):
    """Class and activation of each layer in a model's description: what the shapes of weights do not tell."""
    layers = json.loads(config)["config"]["layers"]
    return [(layer["class_name"], layer["config"].get("activation")) for layer in layers]


def keep(data, **models):
    """After a complete run, save models in build/models for chapter 04, and say so."""
    names = " and ".join(models)
    if not data.complete:
        print(f"{names}: not kept, because this was not the full run")
        return
    try:
        save(BUILD / "models", **models)
        print(f"{names}: kept in build/models")
    except OSError as error:
        print(error)


def load_trained(*names):
    """The models that the reader trained in full, if all of `names` are there, else the course's own; says which."""
    own = all((BUILD / "models" / f"{name}.keras").is_file() for name in names)
    folder = BUILD / "models" if own else REFERENCE
    print(f"{' and '.join(names)}: {'your own, from build/models' if own else 'the reference, from notebooks/models'}")
    models = [load(folder / f"{name}.keras") for name in names]
    for name, model in zip(names, models):
        if _shapes(model) != (shapes := _shapes(MODELS[name]())):
            raise ValueError(f"{folder / name}.keras does not map {shapes}, as the course's does: train it anew.")
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError(f"{folder / name}.keras has weights that are nan or infinite: train it anew.")
    return models


def _shapes(model):
    """How a model's output follows from its input, in words; a subclassed model does not know."""
    return " to ".join(str(getattr(model, f"{end}_shape", None)) for end in ("input", "output"))


# ---------------------------------------------------------------- scores and results


def one_of_each(labels):
    """Index of the first image of each class in `labels` (n,): (10,). The chapters show these."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or set(range(10)) - set(labels.tolist()):
        raise ValueError("labels must be classes (n,), with each of 0 to 9 among them.")
    return np.array([np.flatnonzero(labels == c)[0] for c in range(10)])


def pixel_entropy(x):
    """The least that BCE can be, in nats per image: the entropy of the pixels, each read as a probability.

    `x` is (n, 784) in [0, 1]; the result is a float, the mean over images. Predicting x itself reaches it.
    """
    x = np.clip(check_images(x), 1e-7, 1 - 1e-7).astype("float64")
    return float(-(x * np.log(x) + (1 - x) * np.log(1 - x)).sum(axis=1).mean())


def pca_reconstruct(x_fit, x, components):
    """Project `x` (n, 784) on the first principal components of `x_fit` and back: (n, 784), not clipped."""
    if not isinstance(components, (int, np.integer)) or not 1 <= components <= 784:
        raise ValueError(f"components must be a whole number from 1 to 784, not {components}.")
    x_fit, x = check_images(x_fit, "x_fit"), check_images(x)
    mean = x_fit.mean(axis=0)
    centred = x_fit - mean
    # The singular vectors of the 784 x 784 scatter matrix are those of the data, at a fraction of the cost.
    directions = np.linalg.svd(centred.T @ centred)[2][:components]
    return mean + (x - mean) @ directions.T @ directions


def mse(x, x_hat):
    """Mean squared error for each pixel, over images (n, 784); a float."""
    if np.shape(x_hat) != check_images(x).shape or not np.isfinite(x_hat).all():
        raise ValueError(f"x_hat must be finite numbers of the shape of x, {x.shape}; its shape is {np.shape(x_hat)}.")
    return float(np.mean(np.square(np.asarray(x, "float64") - x_hat)))


def distance_to_nearest(codes, others):
    """Euclidean distance of each row of `codes` (n, d) to the nearest row of `others` (m, d): (n,)."""
    codes, others = np.asarray(codes), np.asarray(others)
    if codes.ndim != 2 or codes.shape[1:] != others.shape[1:] or not len(others):
        raise ValueError(f"codes and others must be (n, d) and (m, d), m > 0, not {codes.shape} and {others.shape}.")
    if codes.dtype.kind + others.dtype.kind != "ff" or not (np.isfinite(codes).all() and np.isfinite(others).all()):
        raise ValueError("codes and others must be finite floats.")
    squared = np.square(codes).sum(axis=1)[:, None] - 2 * codes @ others.T + np.square(others).sum(axis=1)
    return np.sqrt(squared.clip(0).min(axis=1))


def active_dimensions(kl, threshold=0.01):
    """How many latent dimensions carry more than `threshold` nats on average; `kl` is (n, latent_dim)."""
    if np.ndim(kl) != 2 or not len(kl) or not np.isfinite(kl).all():
        raise ValueError(f"kl must be finite numbers (n, latent_dim), not {np.shape(kl)}: no mean is taken before.")
    return int((np.mean(kl, axis=0) > threshold).sum())


def expect(name, value, data):
    """Print a result beside the band of the full run; keep it in build/results.json.

    The bands are in experiments.json: mean +- 4 standard deviations over the seeds trained
    there. After a quick run, or on the sample, the band is printed, with the words "not compared".
    """
    low, high = json.loads(EXPERIMENTS.read_text(encoding="utf-8"))["bands"][name]
    shown, low_shown, high_shown = (short(number) for number in (value, low, high))
    line = f"{name:<42}{shown:>9}   expected {low_shown} to {high_shown}"
    if not data.complete:
        print(f"{line}   not compared")
        return
    inside = bool(low <= value <= high)
    print(f"{line}   {'ok' if inside else 'OUTSIDE'}")
    path = BUILD / "results.json"
    try:
        results = {}
        with contextlib.suppress(OSError, ValueError, TypeError):  # none yet, or not whole: begin anew
            results = {**json.loads(path.read_text(encoding="utf-8"))}
        value = int(value) if isinstance(value, (int, np.integer)) else float(value)
        results[name] = {"value": value, "low": low, "high": high, "ok": inside}
        files.write_text(path, json.dumps(results, indent=1))
    except OSError as error:
        print(error)


def short(number):
    """A number as the course prints it: 239.1, 12.02, 0.01273; counts without a point."""
    if isinstance(number, (int, np.integer)):
        return str(number)
    digits = 1 if abs(number) >= 50 else 2 if abs(number) >= 1 else 5
    return f"{number:.{digits}f}"


# ---------------------------------------------------------------- figures


def use_style():
    """Figures of the course: the colour-blind-safe palette petroff10, sharp on a laptop screen."""
    plt.style.use("petroff10")
    plt.rcParams.update({
        "figure.dpi": 100, "figure.constrained_layout.use": True, "axes.grid": False, "image.cmap": "gray",
        "image.interpolation": "none", "axes.spines.top": False, "axes.spines.right": False,
    })  # fmt: skip


def show(figure, alt):
    """Display a figure once, with `alt` as its alternative text, and close it."""
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def image_grid(rows, row_labels=None, column_labels=None, size=0.85):
    """Figure with one row of pictures for each of `rows`, values in [0, 1].

    A row is an array (columns, 784) of images, or (columns, height, width) of anything else.

    Raises:
        ValueError: a row is neither.
    """
    rows = [np.asarray(row) for row in rows]
    rows = [row.reshape(-1, 28, 28) if row.ndim == 2 and row.shape[1] == 784 else row for row in rows]
    if not rows or any(row.ndim != 3 or not row.size or not np.abs(row).max() < 10 for row in rows):
        raise ValueError(f"rows must be images (columns, 784) in [0, 1], not {[row.shape for row in rows][:3]}.")
    columns = max(map(len, rows))
    figure, axes = plt.subplots(
        len(rows), columns, squeeze=False, figsize=(size * columns + 1.2 * bool(row_labels), size * len(rows) + 0.3)
    )
    for i, j in np.ndindex(*axes.shape):
        axes[i, j].set(xticks=[], yticks=[])
        axes[i, j].spines[:].set(visible=j < len(rows[i]), color="0.8", linewidth=0.5)
        if j < len(rows[i]):
            axes[i, j].imshow(rows[i][j], vmin=0, vmax=1)
    for axis, label in zip(axes[:, 0], row_labels or ()):
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    for axis, label in zip(axes[0], column_labels or ()):
        axis.set_title(label, fontsize=9)
    return figure
