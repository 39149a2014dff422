"""`fit`: Keras' `model.fit`, with each epoch as one XLA program.

Keras' own loop runs. One "step" of it is a whole epoch, and one step of its validation
all of the validation data. What this cannot do is left to `model.fit` as it is, with
one printed line; `fallback_reason` says why.
"""

import functools
import random
import time

from course import backend  # isort: skip  (before Keras)

import keras
import numpy as np
from IPython import display, get_ipython

from course.data import limit_epochs

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def fit(
    model, x=None, y=None, *, batch_size=128, epochs=1, verbose=1, callbacks=None,
    validation_data=None, **options,
):  # fmt: skip
    """`model.fit`, faster: the same steps, with each epoch as one XLA program.

    Takes what `model.fit` takes and returns its History. The order of the images in an
    epoch follows from Python's seed and the epoch's number, the noise from the model's
    `SeedGenerator`s. Left to `model.fit`, with one line that says why: data that are
    not arrays, callbacks that act on batches, convolutions on a CPU (XLA is slower
    there), random numbers without a `SeedGenerator` (XLA ignores their seeds), another
    backend, a device without XLA, eager execution, arguments not named here.

    Args:
        model: a compiled Keras model.
        x, y: arrays with one row for each image. A VAE is fitted on `(x, x)`.
        batch_size: 128 unless given; None stands for Keras' 32.
        epochs: in quick mode, no more than `course.data.limit_epochs` admits.
        verbose: 0 hides the line with the epoch, its losses and the time left.
        callbacks: Keras' callbacks. `keras.callbacks.BackupAndRestore("folder")` lets
            an interrupted training go on from its last epoch.
        validation_data: a pair of arrays (x, y), or what else `model.fit` accepts.
        options: shuffle, initial_epoch, validation_freq, validation_batch_size; with
            any other of Keras' arguments, `model.fit` trains.

    Raises:
        ValueError: the model is not compiled, or in a scope of `tf.distribute`; x and y
            are not finite, or not of one length; the cross-entropy `bernoulli_nll` gets
            targets or a decoder's output outside [0, 1].
    """
    if not model.compiled:
        raise ValueError("Compile the model first: model.compile(optimizer='adam').")
    _check_pair(model, x, y, "")
    if isinstance(validation_data, (tuple, list)) and len(validation_data) == 2:
        _check_pair(model, *validation_data, " of validation_data")
    callbacks = keras.tree.flatten(callbacks or [])
    reason = fallback_reason(model, x, y, validation_data, callbacks, options)
    callbacks += [Divergence(), Progress()] if verbose else [Divergence()]
    options.update(epochs=limit_epochs(epochs), verbose=0)
    if reason is None:
        size = batch_size or 32
        training = WholeEpochs(model, "train", x, y, size)
        reason = unsuitable(training.operations())
    if reason:
        print(f"Training with Keras' own fit: {reason}.")
        options.update(validation_data=validation_data, batch_size=batch_size)
        return model.fit(x=x, y=y, callbacks=callbacks, **options)
    seed = random.randrange(2**31)  # after tracing, which may draw seeds, too
    training.seed = seed if options.pop("shuffle", True) else None
    programs, stand_in = [training], tf.data.Dataset.range(1)
    size = options.pop("validation_batch_size", None) or size
    if validation_data:
        programs.append(WholeEpochs(model, "test", *validation_data, size))
        options["validation_data"] = stand_in
    callbacks += programs  # after Progress: others act on Keras' own functions
    try:
        return model.fit(stand_in, callbacks=callbacks, shuffle=False, **options)
    finally:
        for program in programs:
            program.put_back()


# ---------------------------------------------------------------- epochs as programs


class WholeEpochs(keras.callbacks.Callback):
    """Lets one step of Keras' loop be a whole epoch, or all of a validation.

    Keras' loop gets data of a single step. So it calls `model.train_function` once in
    an epoch and `model.test_function` once in a validation, and for this one call the
    function is a program. At all other times, such as in `model.evaluate` called by a
    callback, it is Keras' own.
    """

    def __init__(self, model, kind, x, y, batch_size):
        """`kind` is "train" or "test"."""
        super().__init__()
        self.set_model(model)
        arrays = [x] if y is None or y is x else [x, y]  # x = y is gathered once
        self.tensors = [_tensor(array) for array in arrays]
        self.kind, self.length = kind, len(x)
        self.settings = min(batch_size, len(x)), y is not None
        self.seed = self.former = None  # of the order of images; to be put back

    def set_params(self, params):
        super().set_params(params)
        if self.kind == "train":  # all callbacks have the same `params`
            params["steps"] = -(-self.length // self.settings[0])

    def on_epoch_begin(self, epoch, logs=None):
        if self.kind == "train":
            order = np.arange(self.length)
            if self.seed is not None:
                order = np.random.default_rng((self.seed, epoch)).permutation(order)
            self.replace(order)

    def on_test_begin(self, logs=None):
        if self.kind == "test":
            self.replace(np.arange(self.length))

    def replace(self, order):
        """Let the next call of the model's function take all steps, in this order."""

        def run(iterator):
            self.put_back()
            return self.program()(tf.constant(order, "int32"), self.tensors)

        name = f"{self.kind}_function"
        self.former = name, getattr(self.model, name)
        setattr(self.model, name, run)

    def put_back(self):
        """Give the model back Keras' own function."""
        if self.former:
            setattr(self.model, *self.former)
            self.former = None

    def operations(self):
        """The names of TensorFlow's operations in the program, a set."""
        graph = self.program().graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        return {node.op for node in nodes}

    def program(self):
        """A function of the order (length,) and the tensors.

        Kept for the next call, one for each optimizer and set of trainable weights.
        All hang on Keras' training function, which `compile` makes anew.
        """
        model = self.model
        model.make_train_function()
        programs = vars(model.train_function).setdefault("programs", {})
        specs = [tf.TensorSpec.from_tensor(tensor) for tensor in self.tensors]

        def key():
            parts = [model.optimizer, *model.trainable_variables]
            return self.kind, *self.settings, *specs, *map(id, parts)

        if key() not in programs:
            if model.built and not model.optimizer.built:  # or it is traced twice
                model.optimizer.build(model.trainable_variables)
            step = getattr(model, f"{self.kind}_step")
            epoch = functools.partial(_epoch, step, *self.settings)
            traced = tf.function(
                epoch, jit_compile=True, autograph=False
            ).get_concrete_function(tf.TensorSpec([self.length], "int32"), specs)
            # The trace may have built weights. Kept, or others might get their ids.
            programs[key()] = traced, model.optimizer, model.trainable_variables
        return programs[key()][0]


def _epoch(step, size, has_targets, order, tensors):
    """A step on each batch, the smaller last one included; the last one's results.

    It gets what Keras gives it: x alone where there are no targets, or (x, y).
    """

    def batch(start, count):
        rows = tf.slice(order, [start], [count])
        parts = [tf.gather(tensor, rows) for tensor in tensors]
        return step((parts[0], parts[-1]) if has_targets else parts[0])

    def one_more(start):
        batch(start, size)
        return start + size

    length = order.shape[0]
    last = length % size or size  # XLA needs to know its size
    end = length - last
    if end:
        tf.while_loop(lambda start: start < end, one_more, [0])
    return batch(end, last)


def _tensor(array):
    """An array as a tensor, floats in Keras' precision, as `model.fit` makes them."""
    is_float = np.asarray(array).dtype.kind == "f"
    return tf.cast(array, keras.config.floatx()) if is_float else tf.constant(array)


# ---------------------------------------------------------------- when Keras trains


BATCH_HOOKS = [name for name in dir(keras.callbacks.Callback) if "batch" in name]
SUPPORTED = {"shuffle", "initial_epoch", "validation_freq", "validation_batch_size"}
UNSEEDED = {  # TensorFlow's random numbers with a state that XLA does not have
    "Multinomial", "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoissonV2",
    "RandomShuffle", "RandomStandardNormal", "RandomUniform", "RandomUniformInt",
    "TruncatedNormal",
}  # fmt: skip


def fallback_reason(model, x, y, validation_data, callbacks, options):
    """Why `fit` has to leave the training to `model.fit`, or None.

    Raises:
        ValueError: several devices share the work.
    """
    if keras.backend.backend() != "tensorflow":
        return f"epochs as programs need TensorFlow, not {keras.backend.backend()}"
    default = type(tf.distribute.get_strategy())
    if tf.distribute.has_strategy() or type(model.distribute_strategy) is not default:
        raise ValueError(
            "fit trains on one device: build and compile the model outside the scope "
            "of tf.distribute. For several devices, see keras.distribution (on JAX)."
        )
    if model.run_eagerly or tf.config.functions_run_eagerly():
        return "functions run eagerly"
    if unsupported := set(options) - SUPPORTED:
        return f"it was given {', '.join(sorted(unsupported))}"
    for name in ("fit", "evaluate", "make_train_function", "make_test_function"):
        if _overrides(model, name, keras.Model):
            return f"{type(model).__name__} has its own {name}"
    if not (is_array(x) and (y is None or is_array(y))):
        return "x and y are not both arrays"
    if validation_data is not None:
        pair = validation_data if isinstance(validation_data, (tuple, list)) else []
        if len(pair) != 2 or not all(map(is_array, pair)):
            return "validation_data is not a pair of arrays"
    for callback in callbacks:
        # Keras' own hooks return at once where save_freq is "epoch".
        is_keras = type(callback).__module__.startswith("keras.")
        if is_keras and getattr(callback, "save_freq", None) == "epoch":
            continue
        if isinstance(callback, keras.callbacks.TerminateOnNaN):
            continue  # what it does on batches, Divergence does on epochs
        if any(_overrides(callback, h, keras.callbacks.Callback) for h in BATCH_HOOKS):
            return f"{type(callback).__name__} acts on batches"
    if not backend.has_xla():
        return "XLA does not work on this device"
    return None


def unsuitable(operations):
    """Why a program of these operations is better left to `model.fit`, or None."""
    if unseeded := operations & UNSEEDED:
        return f"XLA ignores the seed of {min(unseeded)}; use a SeedGenerator"
    has_convolution = any("Conv" in name for name in operations)
    if has_convolution and not tf.config.list_physical_devices("GPU"):
        return "on a CPU, XLA is slower at convolutions"
    return None


def is_array(x):
    """Whether x is an array or a dense tensor of numbers, with one axis or more."""
    if keras.ops.is_tensor(x) and hasattr(x, "numpy"):
        x = x.numpy()
    return isinstance(x, np.ndarray) and x.dtype.kind in "fiub" and x.ndim > 0


def _overrides(thing, name, base):
    """Whether something else stands for a method of `base`."""
    method = getattr(thing, name)
    return getattr(method, "__func__", method) is not getattr(base, name)


# ---------------------------------------------------------------- what is refused


def _check_pair(model, x, y, where):
    """Refuse arrays on which a model would train to nonsense without a word."""
    for name, array in {"x": x, "y": y}.items():
        if is_array(array) and not (len(array) and np.isfinite(array).all()):
            raise ValueError(f"{name}{where} must be finite numbers, one row or more.")
    if not (is_array(x) and is_array(y)):
        return
    if len(x) != len(y):
        raise ValueError(f"y{where} must have as many rows as x: {len(x)}.")
    if not uses_bernoulli_nll(model):
        return
    if not -1e-6 <= np.min(y) <= np.max(y) <= 1 + 1e-6:  # allow rounding errors
        raise ValueError(
            f"y{where} must be from 0 to 1, where a cross-entropy has a meaning: "
            "divide pixels from 0 to 255 by 255."
        )
    noise = [v for v in model.variables if v.name == "seed_generator_state"]
    before = [variable.numpy() for variable in noise]
    x_hat = np.asarray(model(x[:32], training=False))
    for variable, value in zip(noise, before):
        variable.assign(value)
    if not -1e-3 <= x_hat.min() <= x_hat.max() <= 1 + 1e-3:  # half precision
        raise ValueError(
            "The decoder's output must lie in [0, 1], and goes from "
            f"{x_hat.min():.3g} to {x_hat.max():.3g}: end it with activation='sigmoid'."
        )


def uses_bernoulli_nll(model):
    """Whether a model's loss is the course's cross-entropy, here or in a notebook."""
    for kind in type(model).__mro__:
        code = getattr(vars(kind).get("compute_loss"), "__code__", None)
        if code and "bernoulli_nll" in code.co_names:
            return True
        if code and "super" not in code.co_names:
            return False
    return False


# ---------------------------------------------------------------- callbacks


class Divergence(keras.callbacks.TerminateOnNaN):
    """Ends a training by NaN or infinity, and says what to do."""

    def on_epoch_end(self, epoch, logs=None):
        advice = None
        if not np.isfinite(logs.get("loss", 0)):
            advice = f"{logs['loss']}. Try a smaller learning rate, and train again"
        elif uses_bernoulli_nll(self.model) and logs.get("reconstruction", 0) < 0:
            advice = "below 0: targets are outside [0, 1]. Divide pixels by 255"
        if advice:
            print(f"Training stopped in epoch {epoch + 1}: the loss is {advice}.")
            self.model.stop_training = True


class Progress(keras.callbacks.Callback):
    """Keeps one line up to date: epoch, losses, time left."""

    def on_train_begin(self, logs=None):
        self.start = self.now = time.perf_counter()
        self.handle = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.start == self.now:
            self._show(f"epoch {epoch + 1}, compiling first")

    def on_epoch_end(self, epoch, logs=None):
        done, total, now = epoch + 1, self.params["epochs"], time.perf_counter()
        left, self.now = (now - self.now) * (total - done), now  # at the last pace
        losses = "  ".join(
            f"{name} {logs[name]:.5g}" for name in ("loss", "val_loss") if name in logs
        )
        took = f"took {_minutes(now - self.start)}"
        clock = took if done == total else f"{_minutes(left)} left"
        self._show(f"epoch {done}/{total}  {losses}  {clock}")

    def _show(self, line):
        if get_ipython() is None:
            print(f"\r{line:<79}", end="", flush=True)
        elif self.handle is None:
            data = {"text/plain": line}
            self.handle = display.display(data, raw=True, display_id=True)
        else:
            self.handle.update({"text/plain": line}, raw=True)


def _minutes(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
