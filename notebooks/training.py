"""What `vae_helpers.fit` stands on.

When Keras' own must do, which data are refused, all batches as one program, the line of progress.
"""

import time

import keras
import numpy as np


def reason_for_keras(model, arrays, callbacks, others):
    """Why `fit` has to hand over to `model.fit`, or None."""
    if keras.backend.backend() != "tensorflow":
        return "it runs on other backends too"
    import tensorflow as tf

    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    for callback in callbacks:
        # Keras' own callbacks have these methods for the option save_freq; LambdaCallback keeps them in vars.
        kept = vars(callback if type(callback).__module__.startswith("keras.") else type(callback))
        if getattr(callback, "save_freq", "epoch") != "epoch" or any(hook in kept for hook in hooks):
            return f"{type(callback).__name__} acts on every batch"
    if tf.distribute.has_strategy() or type(model.distribute_strategy) is not type(tf.distribute.get_strategy()):
        return "it shares the work between devices"
    if model.run_eagerly or set(others) - {"shuffle", "initial_epoch"}:
        return f"it knows {', '.join(sorted(others)) or 'run_eagerly'}"
    if any(not isinstance(array, (np.ndarray, tf.Tensor, type(None))) for array in arrays) or len(arrays) > 4:
        return "it takes more than arrays x, y"


def check_data(model, vae, batch_size, x, y=None):
    """Refuse what XLA would take without a word, such as labels of other images, and what Keras explains at length."""
    takes, gives = (getattr(model.encoder if vae else model, f"{end}_shape", None) for end in ("input", "output"))
    known = [isinstance(shape, tuple) and None not in shape[1:] for shape in (takes, gives)]
    loss = model.loss if known[1] and isinstance(model.loss, str) else ""
    if known[0] and takes[1:] != np.shape(x)[1:]:
        raise ValueError(f"x must be {takes}, as the model takes it, not {np.shape(x)}.")
    if vae and gives[0] != model.decoder.input_shape:
        raise ValueError("The decoder must take codes of the length that the encoder gives: build both alike.")
    if not np.size(x) or (len(x) != len(y) if y is not None else loss):
        raise ValueError("x and y must both be given, equally long, of one image or more.")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number above 0, not {batch_size}.")
    x, y = np.asarray(x), np.asarray(x if y is None else y)
    if x.dtype.kind != "f" or not np.isfinite(x).all() or (vae and not _in_range(x)):
        raise ValueError("x must be floats from 0 to 1: divide pixels from 0 to 255 by 255, and look for nan.")
    if loss.startswith("sparse_"):
        if not 0 <= y.min() <= y.max() < gives[-1]:
            raise ValueError(f"y must be classes from 0 to {gives[-1] - 1}.")
    elif loss and y.size != len(x) * np.prod(gives[1:]):
        raise ValueError(f"y must be {gives}, as the model gives it, not {y.shape}.")
    elif y.dtype.kind not in "fiub" or not np.isfinite(y).all():
        raise ValueError("y must be finite numbers.")
    elif (vae or loss == "binary_crossentropy") and not _in_range(y):
        raise ValueError("y must be from 0 to 1 like x: a cross-entropy has no meaning elsewhere.")


def _in_range(x):
    return -1e-6 <= x.min() <= x.max() <= 1 + 1e-6  # rounding is no fault, nan is


def all_batches(model, step, x, y, size):
    """A function for `tf.function` that calls `step` on all batches in a given order, its arrays, and their number."""
    import tensorflow as tf

    number, size = len(x), min(size, len(x))
    last = number % size or size  # done outside the loop, because XLA wants to know its size
    arrays = [x] if y is None or y is x else [x, y]  # what is the same is gathered once
    tensors = [tf.constant(a, keras.config.floatx() if np.asarray(a).dtype.kind == "f" else None) for a in arrays]

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
            state["line"] = display.display({"text/plain": line}, raw=True, display_id=True)
        else:
            state["line"].update({"text/plain": line}, raw=True)

    def begin(logs=None):
        before = callback.params.get("before", {})  # epochs of a run that was killed, put there by the keeper
        state["epoch"] = time.perf_counter()
        state["start"] = state["epoch"] - before.get("seconds", 0)
        if before.get("done") == callback.params["epochs"]:
            epoch_end(before["done"] - 1, {name: values[-1] for name, values in before["history"].items()})
        else:
            say(f"epoch {before.get('done', 0) + 1}, compiling first")

    def epoch_end(epoch, logs=None):
        done, total = epoch + 1, callback.params["epochs"]
        now = time.perf_counter()
        left, state["epoch"] = (now - state["epoch"]) * (total - done), now  # at the pace of the last epoch
        losses = "  ".join(f"{name} {logs[name]:.5g}" for name in ("loss", "val_loss") if name in logs)
        clock = f"{_minutes(left)} left" if done < total else f"took {_minutes(now - state['start'])}"
        say(f"epoch {done}/{total}  {losses}  {clock}")

    callback = keras.callbacks.LambdaCallback(on_train_begin=begin, on_epoch_end=epoch_end)
    return callback


def _minutes(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
