"""`fit`: Keras' `model.fit`, with each epoch as one XLA program.

The loop is Keras' own. The callback `WholeEpochs` lets one "step" of that loop be a
whole epoch, and one test step the whole validation. What this cannot do is left to
`model.fit` as it is; `fallback_reason` says why.
"""

import functools
import random
import time

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course import checkpoints
from course.checks import check_data, first_line, integer, is_array, is_vae


def fit(
    model, x=None, y=None, *, batch_size=128, epochs=1, verbose=1, callbacks=None,
    validation_data=None, **options,
):  # fmt: skip
    """`model.fit`, faster: the same steps, with each epoch as one XLA program.

    Takes what `model.fit` takes and returns its History. The order of the images in an
    epoch follows from Python's seed and the epoch's number, the noise from the model's
    seed. What does not fit into one program is trained by `model.fit` itself, with one
    printed line that says why: another backend, several devices, data that are not
    arrays, callbacks that act on batches, some arguments, a device without XLA.

    An epoch that ends in NaN or infinity ends the training, with a printed line. Then,
    and after an interrupt, the model has the weights of the last completed epoch, and
    its history ends there. Where VAE_COURSE_RESUME names a folder, as tools/run.py
    does, a training that was killed resumes from the last completed epoch.

    Args:
        x, y: arrays (n, ...). y is the target: x itself for an autoencoder or a VAE.
        batch_size: 128 unless given; None stands for Keras' 32.
        verbose: 0 hides the line with the epoch, its losses and the time left.
        validation_data: a pair of arrays (x, y), or what else `model.fit` accepts.

    Returns:
        `keras.callbacks.History`.

    Raises:
        ValueError: the model is not compiled; x and y have other lengths or shapes than
            the model needs; a number is not finite; a target of a VAE or of a
            cross-entropy is outside its range; the VAE's decoder leaves [0, 1].
    """
    if not model.compiled:
        raise ValueError("Compile the model first: model.compile(optimizer='adam').")
    batch_size = integer("batch_size", 32 if batch_size is None else batch_size)
    epochs = integer("epochs", epochs, lowest=0)
    check_data(model, x, y, validation_data)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    users = keras.tree.flatten(callbacks or [])
    reason = fallback_reason(model, x, y, validation_data, users, options)
    data = dict(x=x, y=y, validation_data=validation_data, batch_size=batch_size)
    guard, whole_epochs = DivergenceGuard(), None
    callbacks = [guard, *users, keras.callbacks.History()]
    if reason is None:
        whole_epochs = WholeEpochs(model, **data, **options)
        callbacks.append(whole_epochs)
        if folder := checkpoints.checkpoint_folder(users):
            about = whole_epochs.seed, epochs, options
            callbacks.append(checkpoints.Checkpoint(folder, users, data, about))
        data, options = whole_epochs.stand_in, {}
    else:
        print(f"Training with Keras' own fit: {reason}.")
    if verbose:
        callbacks.append(Progress())
    try:
        return model.fit(
            **data, **options, epochs=epochs, verbose=0, callbacks=callbacks
        )
    except Diverged as message:
        print(message)
        checkpoints.restore(guard.before)
        model.optimizer.finalize_variable_values(model.trainable_variables)
        for callback in callbacks:
            callback.on_train_end(guard.logs)
        return model.history
    except KeyboardInterrupt:
        checkpoints.restore(guard.before)
        raise
    finally:
        if whole_epochs:
            whole_epochs.put_back()


# ---------------------------------------------------------------- epochs as programs


class WholeEpochs(keras.callbacks.Callback):
    """Lets one step of Keras' loop be a whole epoch; stands after a user's callbacks.

    Keras' loop gets `stand_in`, data sets of a single batch. So it calls
    `model.train_function` once in an epoch and `model.test_function` once in a
    validation, and for this one call the function is a program. At all other times,
    such as in `model.evaluate` called by a callback, it is that from before.

    A program that fails the first time is not used again: the model gets back the
    state from before, and Keras' functions take one step after the other.
    """

    def __init__(
        self, model, x, y, validation_data, batch_size, shuffle=True,
        validation_batch_size=None, **options,
    ):  # fmt: skip
        super().__init__()
        self.seed = random.randrange(2**31)  # of the order of images
        self.shuffle, self.former, self.has_failed = shuffle, None, False
        self.noise = checkpoints.snapshot(checkpoints.noise_states(model))
        self.training = Program(model, "train", x, y, batch_size)
        self.validation = validation_data and Program(
            model, "test", *validation_data, validation_batch_size or batch_size
        )
        self.stand_in = {
            "x": self.training.first_batch(),
            "validation_data": self.validation and self.validation.first_batch(),
            "shuffle": False,  # Keras warns of shuffling a data set
            **options,
        }

    def set_params(self, params):
        super().set_params(params)
        params["steps"] = self.training.steps  # all callbacks have the same `params`

    def on_train_begin(self, logs=None):
        # Keras' BackupAndRestore sets the first epoch, and keeps no states of noise.
        steps = self.training.steps + (self.validation.steps if self.validation else 0)
        done = steps * (self.model._initial_epoch or 0)
        for variable, (key, count) in self.noise:
            if np.array_equal(variable.numpy(), [key, count]):
                variable.assign([key, count + done])

    def on_epoch_begin(self, epoch, logs=None):
        order = np.arange(self.training.length)
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(order))
        self._replace(self.training, order)

    def on_test_begin(self, logs=None):
        self._replace(self.validation, np.arange(self.validation.length))

    def _replace(self, program, order):
        """Let the next call of the model's function run a program."""
        name = f"{program.kind}_function"
        self.former = name, getattr(self.model, name)
        setattr(self.model, name, lambda iterator: self._run(program, order))

    def put_back(self):
        """Give the model back its own function."""
        if self.former:
            setattr(self.model, *self.former)
            self.former = None

    def _run(self, program, order):
        self.put_back()
        if self.has_failed:
            return program.run_by_batches(order)
        if program.is_proven:
            return program.run(order)
        before = checkpoints.snapshot(checkpoints.training_state(self.model))
        try:
            logs = keras.tree.map_structure(np.asarray, program.run(order))
        except Exception as error:  # devices without XLA raise one or another
            checkpoints.restore(before)
            self.model.reset_metrics()
            if self.model.jit_compile:  # Keras would compile the same again
                self.model.jit_compile = False
                self.model.train_function = self.model.test_function = None
            print(
                "Training with Keras' own fit: XLA cannot train this model here "
                f"({type(error).__name__}: {first_line(error)})."
            )
            self.has_failed = True
            return program.run_by_batches(order)
        program.is_proven = True
        return logs


class Program:
    """A model's steps on all batches of arrays, the smaller last one included."""

    def __init__(self, model, kind, x, y, batch_size):
        """`kind` is "train" or "test"."""
        arrays = [x] if y is None or y is x else [x, y]  # x = y is gathered once
        self.model, self.kind, self.is_proven = model, kind, False
        self.tensors = [_tensor(array) for array in arrays]
        self.copies = 2 if y is x else 1
        self.length, self.size = len(x), min(batch_size, len(x))
        self.steps = -(-self.length // self.size)

    def first_batch(self):
        """A data set of the first batch."""
        import tensorflow as tf

        batch = _batch(self.tensors, np.arange(self.size), self.copies)
        return tf.data.Dataset.from_tensors(batch)

    def run(self, order):
        """Take all steps in one XLA program, on the images in this order."""
        import tensorflow as tf

        shapes = [(tensor.shape, tensor.dtype) for tensor in self.tensors]
        key = self.kind, self.size, self.copies, *shapes
        programs = _programs(self.model)
        if key not in programs:
            step = getattr(self.model, f"{self.kind}_step")
            programs[key] = _compile(step, self.size, self.copies)
        return programs[key](tf.constant(order, "int32"), self.tensors)

    def run_by_batches(self, order):
        """Take the same steps with Keras' own function, one call for each."""
        getattr(self.model, f"make_{self.kind}_function")()
        step = getattr(self.model, f"{self.kind}_function")
        for start in range(0, self.length, self.size):
            rows = order[start : start + self.size]
            logs = step(iter([_batch(self.tensors, rows, self.copies)]))
        return logs


def _compile(step, size, copies):
    """A program that calls `step` on all batches of tensors, in a given order."""
    import tensorflow as tf

    def epoch(order, tensors):
        def batch(start, count):
            return step(_batch(tensors, tf.slice(order, [start], [count]), copies))

        def one_more(start):
            batch(start, size)
            return start + size

        last = order.shape[0] % size or size  # XLA needs to know its size
        end = order.shape[0] - last
        if end:
            tf.while_loop(lambda start: start < end, one_more, [0])
        return batch(end, last)

    # A partial: TensorFlow warns where one function is compiled for several models.
    return tf.function(functools.partial(epoch), jit_compile=True, autograph=False)


def _batch(tensors, rows, copies):
    import tensorflow as tf

    return copies * tuple(tf.gather(tensor, rows) for tensor in tensors)


def _programs(model):
    """The compiled programs of a model, kept with it: TensorFlow never frees one.

    They are made again after `compile`, and when other weights are trainable.
    """
    parts = [model.optimizer, *model.metrics, *model.trainable_variables]
    former, programs = vars(model).get("_programs", ([], {}))
    if list(map(id, parts)) != list(map(id, former)):
        programs = {}
        vars(model)["_programs"] = parts, programs  # unseen by Keras
    return programs


def _tensor(array):
    """An array as a tensor, floats in Keras' precision, as `model.fit` makes them."""
    import tensorflow as tf

    is_float = np.asarray(array).dtype.kind == "f"
    return tf.cast(array, keras.config.floatx()) if is_float else tf.constant(array)


# ---------------------------------------------------------------- when Keras trains


BATCH_HOOKS = (
    "on_batch_begin", "on_train_batch_begin", "on_test_batch_begin",
    "on_batch_end", "on_train_batch_end", "on_test_batch_end",
)  # fmt: skip
SUPPORTED = {"shuffle", "initial_epoch", "validation_freq", "validation_batch_size"}


def fallback_reason(model, x, y, validation_data, callbacks, options):
    """Why `fit` has to leave the training to `model.fit`, or None."""
    if keras.backend.backend() != "tensorflow":
        return f"epochs as programs need TensorFlow, not {keras.backend.backend()}"
    import tensorflow as tf

    default = type(tf.distribute.get_strategy())
    if tf.distribute.has_strategy() or type(model.distribute_strategy) is not default:
        return "the work is shared between devices"
    if model.run_eagerly or tf.config.functions_run_eagerly():
        return "functions run eagerly"
    if getattr(keras.config, "max_steps_per_epoch", lambda: None)():
        return "the steps of an epoch are limited"
    if unsupported := set(options) - SUPPORTED:
        return f"it was given {', '.join(sorted(unsupported))}"
    for name in ("fit", "evaluate", "make_train_function", "make_test_function"):
        if checkpoints.override(model, name, keras.Model):
            return f"{type(model).__name__} has its own {name}"
    if not (is_array(x) and (y is None or is_array(y))):
        return "x and y are not both arrays"
    if validation_data is not None:
        pair = validation_data if isinstance(validation_data, (tuple, list)) else []
        if len(pair) != 2 or not all(map(is_array, pair)):
            return "validation_data is not a pair of arrays"
    for callback in callbacks:
        # Keras' own hooks return at once where save_freq is "epoch".
        is_idle = getattr(callback, "save_freq", None) == "epoch"
        for hook in BATCH_HOOKS:
            function = checkpoints.override(callback, hook)
            is_keras = str(getattr(function, "__module__", "")).startswith("keras.")
            if function and not (is_idle and is_keras):
                return f"{type(callback).__name__} acts on batches"
    return None


# ---------------------------------------------------------------- callbacks


class DivergenceGuard(keras.callbacks.Callback):
    """Ends a training by NaN or infinity; stands before all other callbacks.

    So no other callback sees, or saves, the epoch that went wrong.
    """

    before, logs = (), None

    def on_epoch_begin(self, epoch, logs=None):
        self.before = checkpoints.snapshot(checkpoints.training_state(self.model))

    def on_epoch_end(self, epoch, logs=None):
        losses = [value for name, value in logs.items() if name.endswith("loss")]
        values = [*losses, *map(np.asarray, self.model.trainable_variables)]
        if not all(np.isfinite(value).all() for value in values):
            raise Diverged(
                f"Training stopped: epoch {epoch + 1} gave NaN or infinity. "
                "Try a smaller learning rate. "
                "The model has the weights from before that epoch."
            )
        if is_vae(self.model) and logs.get("reconstruction", 0) < 0:
            raise Diverged(
                "Training stopped: a reconstruction term below 0 means targets outside "
                "[0, 1]. Divide pixels from 0 to 255 by 255."
            )
        self.before, self.logs = (), logs


class Diverged(Exception):
    """An epoch gave what no training should go on from."""


class Progress(keras.callbacks.Callback):
    """Keeps one line up to date: epoch, losses, time left."""

    def on_train_begin(self, logs=None):
        self.now, self.handle = time.perf_counter(), None
        self.start = self.params.get("start", self.now)  # of a resumed training
        done = self.model._initial_epoch or 0
        if done and done == self.params["epochs"]:
            history = self.model.history.history
            self.on_epoch_end(done - 1, {name: history[name][-1] for name in history})
        else:
            self._show(f"epoch {done + 1}, compiling first")

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
        from IPython import display, get_ipython

        if get_ipython() is None:
            print(f"\r{line:<79}", end="", flush=True)
        elif self.handle is None:
            data = {"text/plain": line}
            self.handle = display.display(data, raw=True, display_id=True)
        else:
            self.handle.update({"text/plain": line}, raw=True)


def _minutes(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
