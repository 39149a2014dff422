"""Save and load the course's models.

`builders` is a dictionary {name: function} that builds each model of the course:
`vae_helpers.MODELS`.
"""

import contextlib
import json
import zipfile
from pathlib import Path

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

import course
from course.files import atomic_write


def save(folder, **models):
    """Write functional models to `folder`/NAME.keras, all of them or none.

    The optimiser's state is left out: it would make the files three times as large.

    Raises:
        OSError: the folder cannot be written. Files that were there stay as they were.
        ValueError: a model is not functional, such as a whole VAE.
    """
    for name, model in models.items():
        if _shapes(model) == "None to None":
            raise ValueError(
                f"{name} is not a functional model: "
                "save its parts, such as vae.encoder and vae.decoder."
            )
    paths = [Path(folder) / f"{name}.keras" for name in models]
    with atomic_write(*paths) as names:
        for name, model in zip(names, models.values()):
            keras.Model(model.input, model.output, name=model.name).save(name)
            _remove_unset_options(name)


def _remove_unset_options(path):
    """Remove the options that are not set from a .keras file.

    Other versions of Keras do not know all of them, and would refuse the file.
    """

    def is_set(options):
        return {
            key: value
            for key, value in options.items()
            if value is not None and key != "ragged"
        }

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"], object_hook=is_set)
    parts["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def load(path, builders):
    """The model in a .keras file, not compiled.

    A file of the course that a newer Keras wrote, whose configuration this one cannot
    read, is loaded by building the model here and reading its weights.

    Raises:
        OSError, ValueError: the file is missing or cannot be read, is not a complete
            Keras model, or contains Python code, which is never run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run chapters 02 and 03, or restore it with git."
        )
    try:
        path.open("rb").close()
    except OSError as error:
        raise type(error)(
            f"{path} cannot be read ({error.strerror}): check the file's permissions."
        ) from None
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras each raise their own
        # Keras names safe_mode where it refuses a file that contains Python code.
        if "safe_mode" not in str(error):
            with contextlib.suppress(Exception):
                model = builders[path.stem]()
                model.load_weights(path)
                with zipfile.ZipFile(path) as archive:
                    if _layers(archive.read("config.json")) == _layers(model.to_json()):
                        return model
        raise ValueError(
            f"{path} is not a complete Keras model of standard layers: "
            "delete it and save it again."
        ) from None


def _layers(config):
    """Class and activation of each layer, which the shapes of weights do not show."""
    return [
        (layer["class_name"], layer["config"].get("activation"))
        for layer in json.loads(config)["config"]["layers"]
    ]


def save_if_full_run(data, **models):
    """Save models in build/models for chapter 04, after a full run only.

    Prints which models were saved, or why they were not.
    """
    names = " and ".join(models)
    if not data.is_full_run:
        print(f"{names}: not saved, because this was not a full run")
        return
    try:
        save(course.BUILD / "models", **models)
        print(f"{names}: saved in build/models")
    except OSError as error:
        print(error)


def load_trained(builders, *names):
    """The reader's own models if build/models has all of `names`, else the reference.

    Prints which of the two they are.

    Raises:
        OSError, ValueError: as `load`, or a model has other shapes than the course's,
            or weights that are not finite.
    """
    own = course.BUILD / "models"
    if all((own / f"{name}.keras").is_file() for name in names):
        folder, source = own, "your own, from build/models"
    else:
        folder, source = course.REFERENCE, "the reference, from course/assets/models"
    print(f"{' and '.join(names)}: {source}")
    models = [load(folder / f"{name}.keras", builders) for name in names]
    for name, model in zip(names, models):
        path, shapes = folder / f"{name}.keras", _shapes(builders[name]())
        if _shapes(model) != shapes:
            raise ValueError(f"{path} does not map {shapes}: train the model again.")
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError(
                f"{path} contains NaN or infinite weights: train the model again."
            )
    return models


def _shapes(model):
    """Shapes of input and output as text; "None to None" for a subclassed model."""
    return " to ".join(
        str(getattr(model, f"{end}_shape", None)) for end in ("input", "output")
    )
