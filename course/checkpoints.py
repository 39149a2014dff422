"""The state of a training in one file, from which it goes on as if nothing had happened.

`run.py` asks `vae_helpers.fit` for it, by naming a folder in VAE_COURSE_RESUME. The folder stands for the code:
its name follows from the notebook and the modules. The file in it stands for one training: its name follows from
the data, the first weights and the settings. What was changed is another training, and begins anew.
"""

import collections
import hashlib
import json
import os
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course.files import atomic_write
from course.training import training_state

_begun = collections.Counter()  # trainings of this kernel that begin alike


def code_fingerprint(*modules, data=b""):
    """16 letters that change as soon as these modules do, the data (bytes, or an array), or what Keras runs on."""
    parts = [Path(module).read_bytes() for module in modules]
    parts += [
        f"{sys.version} {[version(name) for name in ('tensorflow', 'keras', 'numpy')]}".encode(),
        data,
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def write(path, model, **about):
    """Keep the state of a model in a file, with what is to be known about it; whole or not at all."""
    with atomic_write(path) as [name]:
        np.savez(
            name,
            *[v.numpy() for v in training_state(model)],
            about=json.dumps(about, default=float),
        )


def read(path, model):
    """Give a model the state in a file; returns what `write` was told about it.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path) as file:
            values = [file[f"arr_{i}"] for i in range(len(file.files) - 1)]
            about = json.loads(str(file["about"]))
        for variable, value in zip(training_state(model), values, strict=True):
            variable.assign(value)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it, and the training begins anew."
        ) from None
    return about


def _name(model, arrays, *settings):
    """16 letters that stand for a training: the model and its first weights, the data, the settings."""
    loss = (
        model.loss
        if isinstance(model.loss, str)
        else getattr(model.loss, "__name__", type(model.loss).__name__)
    )
    optimizer = (
        type(model.optimizer).__name__,
        {**model.optimizer.get_config(), "name": "numbered"},
    )
    digest = hashlib.sha256(repr((model.name, loss, optimizer, *settings)).encode())
    for array in [*arrays, *(variable.numpy() for variable in training_state(model))]:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def keeper(model, callbacks, arrays, *settings):
    """A callback that keeps the state of a training after each epoch, and takes up what an earlier run kept.

    It does nothing if another callback acts at the end of epochs: what that one collects would have holes.
    """
    nothing = keras.callbacks.Callback.on_epoch_end
    if any(
        getattr(other.on_epoch_end, "__func__", None) is not nothing
        for other in callbacks
    ):
        return keras.callbacks.Callback()
    name = _name(model, arrays, *settings)
    _begun[name] += 1
    path = Path(os.environ["VAE_COURSE_RESUME"]) / f"{name}-{_begun[name]}.npz"
    state = {"start": time.perf_counter()}

    def train_begin(logs=None):
        if path.is_file():
            before = read(path, model)
            model._initial_epoch = before["done"]
            model.history.history.update(before["history"])
            state["start"] -= before["seconds"]
            callback.params["before"] = before

    def epoch_end(epoch, logs):
        history = {
            key: [*model.history.history.get(key, []), value]
            for key, value in logs.items()
        }
        done = callback.params["epochs"] if model.stop_training else epoch + 1
        write(
            path,
            model,
            done=done,
            seconds=time.perf_counter() - state["start"],
            history=history,
        )

    def train_end(logs=None):
        model._initial_epoch = (
            None  # else the next training of this model would begin there
        )
        model.history.epoch[:0] = range(
            callback.params.get("before", {}).get("done", 0)
        )

    callback = keras.callbacks.LambdaCallback(
        on_train_begin=train_begin, on_epoch_end=epoch_end, on_train_end=train_end
    )
    return callback
