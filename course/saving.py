"""Save and load the course's models.

`builders` is a dictionary {name: function} that builds each model of the course:
`vae_helpers.MODELS`.
"""

import re
import zipfile
from pathlib import Path

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

import course
from course.files import atomic_write


def save(folder, **models):
    """Write functional models to `folder`/NAME.keras, all of them or none.

    The optimizer's state is left out: it would make the files three times as large.

    Raises:
        OSError: the folder cannot be written. Files that were there stay as they were.
        ValueError: a model is not functional, such as a whole VAE, or could not be
            loaded again, such as one with a layer of your own that is not registered.
    """
    bare = {}  # without the optimizer
    for name, model in models.items():
        try:
            bare[name] = keras.Model(model.input, model.output, name=model.name)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"{name} is not a functional model: save its parts, such as "
                "vae.encoder and vae.decoder, and build a Sequential first."
            ) from error
    paths = [Path(folder) / f"{name}.keras" for name in models]
    with atomic_write(*paths) as names:
        for file, (name, model) in zip(names, bare.items()):
            model.save(file)
            leave_out_new_options(file)
            try:
                load(file)
            except Exception as error:  # each layer raises its own
                raise ValueError(
                    f"{name} was not saved, because it could not be loaded again: "
                    f"{str(error).strip().partition(chr(10))[0]}"
                ) from error


# Keras 3.15 writes these even if unset; Colab's and older ones refuse them.
NEW_OPTIONS = ("quantization_config", "input_axes", "output_axes")


def leave_out_new_options(path):
    """Remove `NEW_OPTIONS` from a .keras file, where they are None."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    unset = f', "({"|".join(NEW_OPTIONS)})": null'
    parts["config.json"] = re.sub(unset, "", parts["config.json"].decode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def load(path):
    """The model in a .keras file, not compiled; errors are Keras' own."""
    return keras.saving.load_model(path, compile=False)


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
        ValueError: a model has other shapes than the course's, or weights that are not
            finite. Where Keras cannot load a file, its own error.
    """
    own = course.BUILD / "models"
    if all((own / f"{name}.keras").is_file() for name in names):
        folder, source = own, "your own, from build/models"
    else:
        folder, source = course.REFERENCE, "the reference, from course/assets/models"
    print(f"{' and '.join(names)}: {source}")
    models = []
    for name in names:
        path = folder / f"{name}.keras"
        model, right = load(path), builders[name]()
        models.append(model)
        shapes, needed = (
            f"{m.input_shape} to {m.output_shape}" for m in (model, right)
        )
        if shapes != needed:
            raise ValueError(
                f"{path} maps {shapes}, where {needed} is needed. It may have another "
                "latent size: rename it, or delete it to use the reference model."
            )
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError(
                f"{path} contains NaN or infinite weights: its training diverged."
            )
    return models
