"""What `vae_helpers.fit` stands on.

When Keras' own must do, which data are refused, all batches as one program, the line of progress.
"""

import functools
import os
import random
import time

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np


def fit(
    model,
    x,
    y=None,
    *,
    epochs,
    batch_size=128,
    validation_data=None,
    callbacks=(),
    verbose=1,
    **others,
):
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
    Where VAE_COURSE_RESUME names a folder, as tools/run.py does, a training that was killed goes on from its last
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
        raise ValueError(
            "Compile the model first: model.compile(optimizer='adam', ...)."
        )
    if isinstance(validation_data, np.ndarray):
        raise ValueError("validation_data must be a pair of arrays, (x, y).")
    arguments = dict(
        epochs=epochs,
        batch_size=batch_size,
        validation_data=validation_data,
        verbose=0,
        **others,
    )
    callbacks = (
        [callbacks]
        if isinstance(callbacks, keras.callbacks.Callback)
        else list(callbacks or ())
    )
    kept, line = [], [progress()] if verbose else []

    def check(epoch, logs):
        if not np.isfinite(logs["loss"]):
            model.stop_training = True
            print(_stopped(epoch))

    def hand_over(reason):
        print(f"Training with Keras' own fit: {reason}.")
        last = keras.callbacks.LambdaCallback(on_epoch_end=check)
        return model.fit(x, y, callbacks=[*callbacks, *line, last], **arguments)

    reason = fallback_reason(model, [x, y, *(validation_data or [])], callbacks, others)
    if reason:
        return hand_over(reason)
    for pair in [(x, y), *([validation_data] if validation_data else [])]:
        check_data(model, is_vae(model), batch_size, *pair)
    import tensorflow as tf

    variables = training_state(model, x.shape[1:])
    train, arrays, steps = all_batches(model, model.train_step, x, y, batch_size)
    test, test_arrays, test_steps = None, [], 0
    if validation_data:
        test, test_arrays, test_steps = all_batches(
            model, model.test_step, *validation_data, batch_size
        )
        # Keras makes a metric's variables when it first meets data. Made here, they spare tracing the epoch twice.
        one = (test_arrays[0][:1], test_arrays[-1][:1])
        tf.function(model.test_step, autograph=False).get_concrete_function(one)

    def whole_epoch(order, arrays, test_arrays):
        logs = train(order, arrays)
        found = test(tf.range(test_arrays[0].shape[0]), test_arrays) if test else {}
        return {**logs, **{f"val_{name}": value for name, value in found.items()}}

    # `partial`, because TensorFlow warns of retracing when one function is compiled for several models.
    run_epoch = tf.function(
        functools.partial(whole_epoch), jit_compile=True, autograph=False
    )
    seed = random.randrange(2**31)
    noise = [
        (variable, variable.numpy())
        for variable in model.variables
        if variable.name == "seed_generator_state"
    ]
    if os.environ.get("VAE_COURSE_RESUME"):
        from course import checkpoints

        kept = [
            checkpoints.keeper(
                model,
                callbacks,
                [*arrays, *test_arrays],
                seed,
                epochs,
                batch_size,
                others,
            )
        ]
    calls = keras.callbacks.CallbackList(
        [*callbacks, *kept, *line],
        add_history=True,
        model=model,
        epochs=epochs,
        steps=steps,
        verbose=0,
    )
    model.stop_training, logs = False, None
    calls.on_train_begin()
    good = [variable.numpy() for variable in variables]
    first = model._initial_epoch or others.get(
        "initial_epoch", 0
    )  # BackupAndRestore and the keeper set it

    def step_back():
        for variable, value in zip(variables, good):
            variable.assign(value)

    try:
        for epoch in range(first, epochs):
            calls.on_epoch_begin(epoch)
            generator = np.random.default_rng((seed, epoch))
            order = (
                generator.permutation(len(x))
                if others.get("shuffle", True)
                else np.arange(len(x))
            )
            for variable, (key, count) in noise:
                variable.assign(
                    [key, count + epoch * (steps + test_steps)]
                )  # one draw a step, as Keras counts
            results = run_epoch(tf.constant(order, "int32"), arrays, test_arrays)
            logs = {name: float(value) for name, value in results.items()}
            losses = [logs.get("loss", 0), logs.get("val_loss", 0)]
            if not all(
                np.isfinite(found).all()
                for found in [*losses, *map(np.asarray, model.trainable_variables)]
            ):
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


def training_state(model, shape=(784,)):
    """All that training changes, made if not there yet: weights, `kl_weight`, states of the noise, the optimiser's."""
    if not model.built:
        model(keras.Input(shape))  # makes the weights, and draws no noise
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _stopped(epoch):
    return f"Training stopped: epoch {epoch + 1} gave NaN or infinity. Try a smaller learning rate."


def is_vae(model):
    """Whether a model is a VAE as `vae_helpers` has it, by its parts: no import of the helper is needed."""
    return all(hasattr(model, part) for part in ("encoder", "decoder", "kl_weight"))


def fallback_reason(model, arrays, callbacks, others):
    """Why `fit` has to hand over to `model.fit`, or None."""
    if keras.backend.backend() != "tensorflow":
        return "it runs on other backends too"
    import tensorflow as tf

    hooks = (
        "on_batch_begin",
        "on_batch_end",
        "on_train_batch_begin",
        "on_train_batch_end",
    )
    for callback in callbacks:
        # Keras' own callbacks have these methods for the option save_freq; LambdaCallback keeps them in vars.
        kept = vars(
            callback
            if type(callback).__module__.startswith("keras.")
            else type(callback)
        )
        if getattr(callback, "save_freq", "epoch") != "epoch" or any(
            hook in kept for hook in hooks
        ):
            return f"{type(callback).__name__} acts on every batch"
    if tf.distribute.has_strategy() or type(model.distribute_strategy) is not type(
        tf.distribute.get_strategy()
    ):
        return "it shares the work between devices"
    if model.run_eagerly or set(others) - {"shuffle", "initial_epoch"}:
        return f"it knows {', '.join(sorted(others)) or 'run_eagerly'}"
    if (
        any(
            not isinstance(array, (np.ndarray, tf.Tensor, type(None)))
            for array in arrays
        )
        or len(arrays) > 4
    ):
        return "it takes more than arrays x, y"


def check_data(model, vae, batch_size, x, y=None):
    """Refuse what XLA would take without a word, such as labels of other images, and what Keras explains at length."""
    takes, gives = (
        getattr(model.encoder if vae else model, f"{end}_shape", None)
        for end in ("input", "output")
    )
    known = [
        isinstance(shape, tuple) and None not in shape[1:] for shape in (takes, gives)
    ]
    loss = model.loss if known[1] and isinstance(model.loss, str) else ""
    if known[0] and takes[1:] != np.shape(x)[1:]:
        raise ValueError(
            f"x must be {takes}, as the model takes it, not {np.shape(x)}."
        )
    if vae and gives[0] != model.decoder.input_shape:
        raise ValueError(
            "The decoder must take codes of the length that the encoder gives: build both alike."
        )
    if not np.size(x) or (len(x) != len(y) if y is not None else loss):
        raise ValueError(
            "x and y must both be given, equally long, of one image or more."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"batch_size must be a whole number above 0, not {batch_size}."
        )
    x, y = np.asarray(x), np.asarray(x if y is None else y)
    if x.dtype.kind != "f" or not np.isfinite(x).all() or (vae and not _in_range(x)):
        raise ValueError(
            "x must be floats from 0 to 1: divide pixels from 0 to 255 by 255, and look for nan."
        )
    if loss.startswith("sparse_"):
        if not 0 <= y.min() <= y.max() < gives[-1]:
            raise ValueError(f"y must be classes from 0 to {gives[-1] - 1}.")
    elif loss and y.size != len(x) * np.prod(gives[1:]):
        raise ValueError(f"y must be {gives}, as the model gives it, not {y.shape}.")
    elif y.dtype.kind not in "fiub" or not np.isfinite(y).all():
        raise ValueError("y must be finite numbers.")
    elif (vae or loss == "binary_crossentropy") and not _in_range(y):
        raise ValueError(
            "y must be from 0 to 1 like x: a cross-entropy has no meaning elsewhere."
        )


def _in_range(x):
    return -1e-6 <= x.min() <= x.max() <= 1 + 1e-6  # rounding is no fault, nan is


def all_batches(model, step, x, y, size):
    """A function for `tf.function` that calls `step` on all batches in a given order, its arrays, and their number."""
    import tensorflow as tf

    number, size = len(x), min(size, len(x))
    last = (
        number % size or size
    )  # done outside the loop, because XLA wants to know its size
    arrays = [x] if y is None or y is x else [x, y]  # what is the same is gathered once
    tensors = [
        tf.constant(
            a, keras.config.floatx() if np.asarray(a).dtype.kind == "f" else None
        )
        for a in arrays
    ]

    def run(order, tensors):
        def batch(start, count):
            rows = tf.slice(order, [start], [count])
            parts = [tf.gather(tensor, rows) for tensor in tensors]
            return step((*parts, *parts) if y is x else tuple(parts))

        def one_more(start):
            batch(start, size)
            return start + size

        model.reset_metrics()
        tf.while_loop(lambda start: start < number - last, one_more, [0])
        logs = batch(number - last, last)
        results = model.get_metrics_result()
        return results if results.keys() == logs.keys() else logs  # as Keras does

    return run, tensors, -(-number // size)


def progress():
    """A callback that keeps one line up to date: epoch, losses, time left."""
    from IPython import display, get_ipython

    state = {}

    def say(line):
        if get_ipython() is None:
            print(f"\r{line:<79}", end="", flush=True)
        elif "line" not in state:
            state["line"] = display.display(
                {"text/plain": line}, raw=True, display_id=True
            )
        else:
            state["line"].update({"text/plain": line}, raw=True)

    def begin(logs=None):
        before = callback.params.get(
            "before", {}
        )  # epochs of a run that was killed, put there by the keeper
        state["epoch"] = time.perf_counter()
        state["start"] = state["epoch"] - before.get("seconds", 0)
        if before.get("done") == callback.params["epochs"]:
            epoch_end(
                before["done"] - 1,
                {name: values[-1] for name, values in before["history"].items()},
            )
        else:
            say(f"epoch {before.get('done', 0) + 1}, compiling first")

    def epoch_end(epoch, logs=None):
        done, total = epoch + 1, callback.params["epochs"]
        now = time.perf_counter()
        left, state["epoch"] = (
            (now - state["epoch"]) * (total - done),
            now,
        )  # at the pace of the last epoch
        losses = "  ".join(
            f"{name} {logs[name]:.5g}" for name in ("loss", "val_loss") if name in logs
        )
        clock = (
            f"{_minutes(left)} left"
            if done < total
            else f"took {_minutes(now - state['start'])}"
        )
        say(f"epoch {done}/{total}  {losses}  {clock}")

    callback = keras.callbacks.LambdaCallback(
        on_train_begin=begin, on_epoch_end=epoch_end
    )
    return callback


def _minutes(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
