"""The state of a training in one file, from which it resumes as if undisturbed.

`tools/run.py` asks `fit` for checkpoints by naming a folder in VAE_COURSE_RESUME. The
folder stands for the code: its name follows from the notebook and the modules. A file
in it stands for one training: its name follows from the data, the first weights and the
settings. A training that was changed is another one, and starts from the beginning.
"""

import collections
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course.files import atomic_write

_count = collections.Counter()  # trainings of this process that start alike


def training_state(model):
    """All variables that training changes: the model's, then its optimiser's.

    Among the model's are the states of its noise, and the KL weight of a VAE.
    """
    if model.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def noise_states(model):
    """The variables that hold the states of a model's noise."""
    name = "seed_generator_state"
    return [variable for variable in model.variables if variable.name == name]


def snapshot(variables):
    """Variables, each with its value now, for `restore`: a list of pairs."""
    return [(variable, variable.numpy()) for variable in variables]


def restore(pairs):
    """Give variables the values that they had in a `snapshot`."""
    for variable, value in pairs:
        variable.assign(value)


def code_fingerprint(*modules, data=b""):
    """16 letters that change with these modules, the data and what Keras runs on.

    `data` is bytes or an array.
    """
    engine = keras.backend.backend()
    versions = [sys.version, keras.__version__, np.__version__, engine]
    versions.append(getattr(sys.modules.get(engine), "__version__", ""))
    files = [Path(module).read_bytes() for module in modules]
    return _fingerprint(repr(versions).encode(), *files, data)


def _fingerprint(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part))
    return digest.hexdigest()[:16]


def write(path, model, states=(), **about):
    """Write the state of a model to a file, whole or not at all.

    `states` are dictionaries of arrays, one for each callback that keeps a state;
    `about` is stored as JSON.
    """
    values = [variable.numpy() for variable in training_state(model)]
    arrays = {f"{i} {k}": v for i, state in enumerate(states) for k, v in state.items()}
    with atomic_write(path) as [name]:
        np.savez(name, *values, about=json.dumps(about, default=float), **arrays)


def read(path, model, callbacks=()):
    """Give a model, and callbacks with `set_state`, the state in a file.

    Returns:
        What `write` was given as `about`.

    Raises:
        ValueError: the file is damaged, or belongs to another model.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
        values = [arrays[name] for name in arrays if name.startswith("arr_")]
        restore(zip(training_state(model), values, strict=True))
        for i, callback in enumerate(callbacks):
            names = [name for name in arrays if name.startswith(f"{i} ")]
            callback.set_state({n.removeprefix(f"{i} "): arrays[n] for n in names})
        return json.loads(str(arrays["about"]))
    except Exception as error:  # a damaged file raises one or another
        raise ValueError(
            f"{path} is damaged ({error}): delete it to restart training."
        ) from None


def override(thing, name, base=keras.callbacks.Callback):
    """The function that stands for a method of `base`, inherited or the object's own.

    None if it is that of `base` itself.
    """
    method = getattr(thing, name, None)
    function = getattr(method, "__func__", method)
    return None if function is getattr(base, name) else function


def checkpoint_folder(callbacks):
    """The folder named in VAE_COURSE_RESUME, if this training can be resumed, or None.

    It cannot if a callback acts at the end of epochs and has no `get_state` and
    `set_state`: what it collects would have gaps.
    """
    folder = os.environ.get("VAE_COURSE_RESUME")
    for callback in callbacks:
        if override(callback, "on_epoch_end") and not _keeps_state(callback):
            return None
    return folder and Path(folder)


def _keeps_state(callback):
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


class Checkpoint(keras.callbacks.Callback):
    """Writes the state of a training after each epoch; resumes from an earlier run's.

    Callbacks with `get_state` and `set_state` (a dictionary of arrays) are stored and
    restored with the rest. It stands after them, and after Keras' History.
    """

    def __init__(self, folder, callbacks, data, settings):
        super().__init__()
        self.folder, self.data, self.settings = folder, data, settings
        self.stateful = list(filter(_keeps_state, callbacks))

    def on_train_begin(self, logs=None):
        name = training_name(self.model, self.data, *self.settings)
        _count[name] += 1
        self.path = self.folder / f"{name}-{_count[name]}.npz"
        done, seconds = 0, 0.0
        if self.path.is_file():
            resumed = read(self.path, self.model, self.stateful)
            done, seconds = resumed["done"], resumed["seconds"]
            self.model.history.history.update(resumed["history"])
            self.model.history.epoch += resumed["epochs"]
        self.model._initial_epoch = done
        self.params["start"] = time.perf_counter() - seconds  # for `Progress`

    def on_epoch_end(self, epoch, logs=None):
        write(
            self.path,
            self.model,
            [callback.get_state() for callback in self.stateful],
            done=self.params["epochs"] if self.model.stop_training else epoch + 1,
            seconds=time.perf_counter() - self.params["start"],
            epochs=self.model.history.epoch,
            history=self.model.history.history,
        )

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None  # or the next training would start there


def training_name(model, data, *settings):
    """16 letters for a training: model, first weights, data and settings."""
    loss = model.loss
    if not isinstance(loss, str):
        loss = getattr(loss, "__name__", type(loss).__name__)
    options = {**model.optimizer.get_config(), "name": "numbered"}
    about = model.name, loss, type(model.optimizer).__name__, options, *settings
    arrays = [part for part in keras.tree.flatten(data) if part is not None]
    return _fingerprint(repr(about).encode(), *arrays, *training_state(model))
