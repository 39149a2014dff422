"""Save models with this Keras, or load with Keras alone what others saved (noxfile.py).

usage: PYTHONPATH=. python tests/exchange.py --save FOLDER
       PYTHONPATH=. python tests/exchange.py FOLDER...
"""

import sys
from pathlib import Path

import keras
import numpy as np

import course

NAMES = ("autoencoder", "vae_encoder", "vae_decoder")


def outputs(folder):
    """What the models in a folder compute of 60 images, and each other: three arrays."""
    from course.data import load_sample

    models = [keras.saving.load_model(folder / f"{name}.keras") for name in NAMES]
    autoencoder, encoder, decoder = models
    x = load_sample()[2][:60]
    z_mean = encoder(x)[0]
    arrays = autoencoder(x), z_mean, decoder(z_mean)
    return [keras.ops.convert_to_numpy(array) for array in arrays]


def save(folder):
    """Save the reference models anew, and their outputs."""
    import vae_helpers as vh

    models = {name: vh.load(course.REFERENCE / f"{name}.keras") for name in NAMES}
    vh.save(folder, **models)
    np.savez(folder / "outputs.npz", *outputs(folder))


def compare(folder):
    """Load what another environment saved; exit unless the outputs are the same."""
    with np.load(folder / "outputs.npz") as saved:
        pairs = zip(outputs(folder), saved.values())
        largest = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
    keras_here = f"Keras {keras.__version__} on {keras.backend.backend()}"
    print(f"{keras_here}, models of {folder.name}: outputs differ by {largest:.1e}")
    if not largest < 1e-4:
        sys.exit("The same model must give the same outputs.")


if __name__ == "__main__":
    if sys.argv[1] == "--save":
        save(Path(sys.argv[2]))
    else:
        for name in sys.argv[1:]:
            compare(Path(name))
