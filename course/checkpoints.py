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
import zipfile
from pathlib import Path

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course.files import atomic_write

# What reading a damaged .npz file, or one of another model, raises.
DAMAGED = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError,
    zipfile.BadZipFile,
)  # fmt: skip

_count = collections.Counter()  # trainings of this process that start alike


def training_state(model):
    """All variables that training changes: the model's, then its optimiser's.

    Among the model's are the states of its noise, and the KL weight of a VAE.
    """
    if model.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def noise_states(model):
    """The states of a model's noise, each with its value now: a list of pairs."""
    return [
        (variable, variable.numpy())
        for variable in model.variables
        if variable.name == "seed_generator_state"
    ]


def code_fingerprint(*modules, data=b""):
    """16 letters that change with these modules, the data and what Keras runs on.

    `data` is bytes or an array.
    """
    engine = keras.backend.backend()
    versions = [keras.__version__, np.__version__, engine]
    versions.append(getattr(sys.modules.get(engine), "__version__", ""))
    parts = [Path(module).read_bytes() for module in modules]
    parts += [f"{sys.version} {versions}".encode(), data]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
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
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        count = sum(name.startswith("arr_") for name in arrays)
        values = [arrays.pop(f"arr_{i}") for i in range(count)]
        for variable, value in zip(training_state(model), values, strict=True):
            variable.assign(value)
        for i, callback in enumerate(callbacks):
            names = [name for name in arrays if name.startswith(f"{i} ")]
            callback.set_state({n.removeprefix(f"{i} "): arrays[n] for n in names})
    except DAMAGED as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it to restart training."
        ) from None
    return about


def checkpoint_folder(callbacks):
    """The folder named in VAE_COURSE_RESUME, if this training can be resumed, or None.

    It cannot if a callback acts at the end of epochs and has no `get_state` and
    `set_state`: what it collects would have gaps.
    """
    folder = os.environ.get("VAE_COURSE_RESUME")
    return Path(folder) if folder and all(map(_can_resume, callbacks)) else None


def _can_resume(callback):
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return True
    function = getattr(callback.on_epoch_end, "__func__", None)
    return function is keras.callbacks.Callback.on_epoch_end


class Checkpoint(keras.callbacks.Callback):
    """Writes the state of a training after each epoch; resumes from an earlier run's.

    Callbacks with `get_state` and `set_state` (a dictionary of arrays) are stored and
    restored with the rest.
    """

    def __init__(self, folder, callbacks, arrays, settings):
        super().__init__()
        self.folder, self.arrays, self.settings = folder, arrays, settings
        self.stateful = [c for c in callbacks if hasattr(c, "get_state")]

    def on_train_begin(self, logs=None):
        name = training_name(self.model, self.arrays, *self.settings)
        _count[name] += 1
        self.path = self.folder / f"{name}-{_count[name]}.npz"
        self.start, self.done = time.perf_counter(), 0
        if self.path.is_file():
            resumed = read(self.path, self.model, self.stateful)
            self.done = self.model._initial_epoch = resumed["done"]
            self.model.history.history.update(resumed["history"])
            self.start -= resumed["seconds"]
            self.params["resumed"] = resumed  # for `Progress`

    def on_epoch_end(self, epoch, logs=None):
        past = self.model.history.history
        history = {name: [*past.get(name, []), value] for name, value in logs.items()}
        write(
            self.path,
            self.model,
            [callback.get_state() for callback in self.stateful],
            done=self.params["epochs"] if self.model.stop_training else epoch + 1,
            seconds=time.perf_counter() - self.start,
            history=history,
        )

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None  # or the next training would start there
        self.model.history.epoch[:0] = range(self.done)


def training_name(model, arrays, *settings):
    """16 letters for a training: model, first weights, data and settings."""
    loss = model.loss
    if not isinstance(loss, str):
        loss = getattr(loss, "__name__", type(loss).__name__)
    options = {**model.optimizer.get_config(), "name": "numbered"}
    about = model.name, loss, type(model.optimizer).__name__, options, *settings
    digest = hashlib.sha256(repr(about).encode())
    state = [variable.numpy() for variable in training_state(model)]
    for array in [*arrays, *state]:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]
