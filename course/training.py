"""`fit`: Keras' `model.fit`, with each epoch as one XLA program.

The loop is Keras' own. `WholeEpochs`, the list of callbacks that it gets, lets one
"step" of that loop be a whole epoch, and one test step the whole validation. What this
cannot do is left to `model.fit` as it is; `fallback_reason` says why.
"""

import functools
import random
import time

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course.checkpoints import (
    Checkpoint,
    checkpoint_folder,
    noise_states,
    training_state,
)
from course.checks import check_data, integer, is_array, is_vae


def fit(
    model,
    x=None,
    y=None,
    *,
    batch_size=128,
    epochs=1,
    verbose=1,
    callbacks=None,
    validation_data=None,
    **options,
):
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
    callbacks = keras.tree.flatten(callbacks or [])
    reason = fallback_reason(model, x, y, validation_data, callbacks, options)
    guard, line = DivergenceGuard(), [Progress()] if verbose else []
    callbacks = [guard, *callbacks, *line]
    try:
        if reason is None:
            pairs = [(x, y), validation_data and tuple(validation_data)]
            callbacks = training = WholeEpochs(
                model, callbacks, pairs, epochs, batch_size, **options
            )
            try:
                return training.fit()
            except ProgramFailed as failure:
                reason = f"XLA cannot train this model here ({failure})"
        print(f"Training with Keras' own fit: {reason}.")
        return model.fit(
            x, y, batch_size=batch_size, epochs=epochs, callbacks=callbacks, verbose=0,
            validation_data=validation_data, **options,
        )  # fmt: skip
    except Diverged as message:
        print(message)
        guard.restore()
        model.optimizer.finalize_variable_values(model.trainable_variables)
        for callback in getattr(callbacks, "callbacks", callbacks):
            callback.on_train_end(guard.logs)
        return model.history
    except KeyboardInterrupt:
        guard.restore()
        raise


class ProgramFailed(Exception):
    """The program of an epoch failed before the first epoch had ended."""


class Diverged(Exception):
    """An epoch gave what no training should go on from."""


# ---------------------------------------------------------------- epochs as programs


class WholeEpochs(keras.callbacks.CallbackList):
    """Callbacks for `model.fit`, which let one step of Keras' loop be a whole epoch.

    Keras' loop calls `model.train_function` between `on_train_batch_begin` and
    `on_train_batch_end`. It gets a data set of a single batch, and between these hooks
    `train_function` is the program of an epoch; likewise `test_function` is that of the
    validation between `on_test_begin` and `on_test_end`. At all other times, such as in
    `model.evaluate` called by a callback, the functions are those from before.
    """

    def __init__(
        self, model, callbacks, pairs, epochs, batch_size, shuffle=True,
        initial_epoch=0, validation_freq=1, validation_batch_size=None,
    ):  # fmt: skip
        sizes = [batch_size, validation_batch_size or batch_size]
        self.seed = random.randrange(2**31)  # of the order of images
        self.pairs, self.shuffle = pairs, shuffle
        self.settings = epochs, batch_size, shuffle, initial_epoch, validation_freq
        self.programs = [pair and Program(*pair, n) for pair, n in zip(pairs, sizes)]
        self.epoch = self.before = self.former = None
        self.is_proven = False  # whether a whole epoch has been trained in this way
        self.is_active = True  # whether epochs are programs
        own = (DivergenceGuard, Progress)
        users = [one for one in callbacks if not isinstance(one, own)]
        if folder := checkpoint_folder(users):
            arrays = [array for pair in pairs for array in pair or ()]
            arrays = [array for array in arrays if array is not None]
            about = self.seed, *self.settings, validation_batch_size
            checkpoint = Checkpoint(folder, users, arrays, about)
            callbacks.insert(1 + len(users), checkpoint)
        steps = self.programs[0].steps
        super().__init__(
            callbacks, add_history=True, model=model, epochs=epochs, verbose=0,
            steps=steps,
        )  # fmt: skip
        self.noise = noise_states(model)

    def fit(self):
        """Train with Keras' loop, on data sets of a single batch that stand for all.

        Raises:
            ProgramFailed: in the first epoch; the model is as it was before it.
        """
        import tensorflow as tf

        data, validation = (
            program and tf.data.Dataset.from_tensors(program.first_batch())
            for program in self.programs
        )
        epochs, _, _, initial_epoch, validation_freq = self.settings
        try:
            return self.model.fit(
                data, epochs=epochs, callbacks=self, verbose=0, shuffle=False,
                validation_data=validation, initial_epoch=initial_epoch,
                validation_freq=validation_freq,
            )  # fmt: skip
        finally:
            self._put_back()

    def on_train_begin(self, logs=None):
        if self.epoch is None:  # not again where Keras' own fit takes over
            super().on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        if self.epoch != epoch:
            self.epoch = epoch
            super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.is_proven, self.before = True, None

    def on_train_batch_begin(self, batch, logs=None):
        if self.is_active:
            self._put("train_function", self._train)
        else:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        if self.is_active:
            self._put_back()
        else:
            super().on_train_batch_end(batch, logs)

    def on_test_begin(self, logs=None):
        super().on_test_begin(logs)
        if self.is_active:
            self._put("test_function", self._test)

    def on_test_end(self, logs=None):
        self._put_back()
        super().on_test_end(logs)

    def _put(self, name, function):
        self.former = name, getattr(self.model, name)
        setattr(self.model, name, function)

    def _put_back(self):
        if self.former:
            setattr(self.model, *self.former)
            self.former = None

    def _train(self, iterator):
        program, n = self.programs[0], len(self.pairs[0][0])
        order = np.arange(n)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(n)
        if self.epoch and self.before is None and not self.is_proven:
            # Keras' BackupAndRestore does not keep the states of the noise.
            steps = sum(program.steps for program in self.programs if program)
            for variable, (key, count) in self.noise:
                if np.array_equal(variable.numpy(), [key, count]):
                    variable.assign([key, count + self.epoch * steps])
        return self._run(program, "train_step", order)

    def _test(self, iterator):
        program = self.programs[1]
        return self._run(program, "test_step", np.arange(len(self.pairs[1][0])))

    def _run(self, program, step, order):
        if self.is_proven:
            return program.run(self.model, step, order)
        state = training_state(self.model)
        if self.before is None:
            self.before = [variable.numpy() for variable in state]
        try:
            logs = program.run(self.model, step, order)
            return keras.tree.map_structure(np.asarray, logs)  # errors show here
        except Exception as error:  # devices without XLA raise one or another
            for variable, value in zip(state, self.before):
                variable.assign(value)
            self._put_back()
            self.is_active = False
            if self.model.jit_compile:  # Keras would compile the same again
                self.model.jit_compile = False
                self.model.train_function = self.model.test_function = None
            reason = str(error).strip().partition("\n")[0][:99]
            raise ProgramFailed(f"{type(error).__name__}: {reason}") from error


class Program:
    """All batches of arrays (x, y), the smaller last one included, in one program."""

    def __init__(self, x, y, batch_size):
        arrays = [x] if y is None or y is x else [x, y]  # x = y is gathered once
        self.tensors = [_tensor(array) for array in arrays]
        self.copies = 2 if y is x else 1
        self.size, self.steps = min(batch_size, len(x)), -(-len(x) // batch_size)

    def first_batch(self):
        return self.copies * tuple(tensor[: self.size] for tensor in self.tensors)

    def run(self, model, step, order):
        """Call the model's `train_step` or `test_step` on all batches in this order."""
        import tensorflow as tf

        shapes = [(tensor.shape, tensor.dtype) for tensor in self.tensors]
        key = step, self.size, self.copies, *shapes
        compiled = Programs.of(model).compiled
        if key not in compiled:
            compiled[key] = _compile(getattr(model, step), self.size, self.copies)
        return compiled[key](tf.constant(order, "int32"), self.tensors)


def _compile(step, size, copies):
    """A program that calls `step` on all batches of tensors, in a given order."""
    import tensorflow as tf

    def epoch(order, tensors):
        def batch(start, count):
            rows = tf.slice(order, [start], [count])
            return step(copies * tuple(tf.gather(tensor, rows) for tensor in tensors))

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


class Programs:
    """The compiled programs of a model, kept with it: TensorFlow never frees one.

    They are made again after `compile`, and when other weights are trainable.
    """

    def __init__(self, parts):
        self.parts, self.compiled = parts, {}

    @classmethod
    def of(cls, model):
        parts = [model.optimizer, *model.metrics, *model.trainable_variables]
        programs = vars(model).get("_programs")
        if programs is None or list(map(id, parts)) != list(map(id, programs.parts)):
            programs = vars(model)["_programs"] = cls(parts)  # unseen by Keras
        return programs


def _tensor(array):
    """An array as a tensor, floats in Keras' precision, as `model.fit` makes them."""
    import tensorflow as tf

    is_float = np.asarray(array).dtype.kind == "f"
    return tf.cast(array, keras.config.floatx()) if is_float else tf.constant(array)


# ---------------------------------------------------------------- when Keras trains


BATCH_HOOKS = [
    f"on_{kind}batch_{end}"
    for kind in ("", "train_", "test_")
    for end in ("begin", "end")
]
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
        method = getattr(model, name)
        if getattr(method, "__func__", method) is not getattr(keras.Model, name):
            return f"{type(model).__name__} has its own {name}"
    if not (is_array(x) and (y is None or is_array(y))):
        return "x and y are not both arrays"
    if validation_data is not None:
        pair = validation_data if isinstance(validation_data, (tuple, list)) else []
        if len(pair) != 2 or not all(map(is_array, pair)):
            return "validation_data is not a pair of arrays"
    for callback in callbacks:
        for hook in BATCH_HOOKS:
            if _acts(callback, hook):
                return f"{type(callback).__name__} acts on batches"
    return None


def _acts(callback, hook):
    """Whether a callback's hook does anything; inherited and instance hooks count."""
    method = getattr(callback, hook, None)
    function = getattr(method, "__func__", method)
    if function is getattr(keras.callbacks.Callback, hook):
        return False
    # Keras' own callbacks with save_freq="epoch" return at once from the hook.
    is_keras = getattr(function, "__module__", "").startswith("keras.")
    return not (is_keras and getattr(callback, "save_freq", None) == "epoch")


# ---------------------------------------------------------------- callbacks


class DivergenceGuard(keras.callbacks.Callback):
    """Ends a training by NaN or infinity; stands before all other callbacks.

    So no other callback sees, or saves, the epoch that went wrong.
    """

    good = logs = None

    def on_epoch_begin(self, epoch, logs=None):
        self.good = [(v, v.numpy()) for v in training_state(self.model)]

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
        self.good, self.logs = None, logs

    def restore(self):
        """Give the model the weights of the last completed epoch."""
        for variable, value in self.good or []:
            variable.assign(value)


class Progress(keras.callbacks.Callback):
    """Keeps one line up to date: epoch, losses, time left."""

    def on_train_begin(self, logs=None):
        resumed = self.params.get("resumed")  # by `Checkpoint`
        self.now, self.handle = time.perf_counter(), None
        self.start = self.now - (resumed["seconds"] if resumed else 0)
        done = resumed["done"] if resumed else 0
        if done and done == self.params["epochs"]:
            last = {name: values[-1] for name, values in resumed["history"].items()}
            self.on_epoch_end(done - 1, last)
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
