"""The course with other versions of its dependencies. Run by the Makefile's test-NAME, in that lane's environment.

usage: python tests/lane.py --packages NAME   what pip has to install for the lane
       python tests/lane.py NAME              every chapter in quick mode from a fresh clone, then unit tests
       python tests/lane.py --save FOLDER     the reference models, saved with this lane's Keras, and their outputs
       python tests/lane.py --load FOLDER...  load with Keras alone what other lanes saved, and compare the outputs

`colab` runs each chapter as Colab does: alone in a folder, with nothing to find but what its first cell clones.
`jax` has no TensorFlow, and so no chapters: unit tests of models and losses only.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Colab's own of autumn 2026, as far as the course uses them; the rest as requirements.txt has it.
COLAB = {"tensorflow": "2.20.0", "keras": "3.13.2", "numpy": "2.1.3", "matplotlib": "3.10.0", "ipywidgets": "7.7.1"}
JAX = ["jax", "keras", "numpy", "matplotlib", "scipy", "pytest"]
# What does not look at stored outputs.
TESTS = ["tests/test_losses.py", "tests/test_models.py"]
WITH_TENSORFLOW = ["tests/test_saving.py", "tests/test_fit.py::test_fit_gives_the_history_of_keras_fit_in_float64"]
SAME = ["read_only", "by_heart", "vae-True"]  # but these, which take long, hardly depend on versions
WITH_JAX = ["tests/test_devices.py"]


def packages(lane):
    """The packages of a lane, as pip takes them."""
    text = re.sub(r" *#.*", "", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    ranges = {re.match(r"[\w-]+", line)[0]: line for line in text.split()}
    if lane == "jax":
        return [ranges.get(name, name) for name in JAX]
    if lane == "colab":
        ranges |= {name: f"{name}=={version}" for name, version in COLAB.items()}
    if lane == "lowest":
        ranges = {name: re.sub(r">=([\d.]+).*", r"==\1", line) for name, line in ranges.items()}
    return list(ranges.values())


def git(*arguments):
    """Git with a name of its own, on whatever machine."""
    identity = ["-c", "user.name=lane", "-c", "user.email=lane@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=ROOT, check=True)


def run_chapter(path, lane, served, scratch):
    """One sentence about what is wrong with a chapter run in a folder of its own, or None."""
    import nbformat
    from nbclient import NotebookClient

    import refresh

    environment = {
        **os.environ, "VAE_COURSE_QUICK": "1", "FASHION_MNIST_DIR": str(ROOT / "notebooks" / "data"),
        "OMP_NUM_THREADS": "1",  # chapters at the same time would get in each other's way
    }  # fmt: skip
    folder = scratch / path.stem
    if lane == "colab":
        folder.mkdir()
        startup = scratch / f"{path.stem} ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "colab.py").write_text("import google.colab")  # Colab's kernel has it loaded
        (startup / "google" / "colab").mkdir(parents=True)
        (startup / "google" / "colab" / "__init__.py").touch()
        environment |= {
            "IPYTHONDIR": str(startup.parents[1]), "PYTHONPATH": str(startup),
            "COLAB_RELEASE_TAG": "release-colab", "KERAS_BACKEND": "tensorflow", "TF2_BEHAVIOR": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{served}.insteadOf",
            "GIT_CONFIG_VALUE_0": refresh.repository(),
        }  # fmt: skip
    else:
        git("clone", "--quiet", served, folder)
        folder = folder / "notebooks"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / path.name)
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=place, extra_arguments=["--log-level=40"]
    )
    try:
        client.execute(env=environment)
    except Exception as error:
        return f"{path.name}: {error}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    said = "".join(output.text for cell in code for output in cell.outputs if output.get("name") == "stderr")
    if said:
        return f"{path.name} wrote to stderr: {said}"
    if any(cell.execution_count is None for cell in code):
        return f"{path.name} was not run to its end."
    if lane == "colab" and sorted(os.listdir(folder)) != sorted([path.name, refresh.repository().rsplit("/")[-1]]):
        return f"{path.name} left {os.listdir(folder)}."


def run_chapters(lane):
    """All chapters, two at a time, from a repository that holds the files as they are now."""
    import refresh

    with tempfile.TemporaryDirectory() as scratch:
        served = f"{scratch}/served"
        git("init", "--quiet", served)
        for command in (["add", "--all"], ["commit", "--quiet", "--message", "as it is now"]):
            git(f"--git-dir={served}/.git", f"--work-tree={ROOT}", *command)
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(lambda path: run_chapter(path, lane, served, Path(scratch)), refresh.chapters())
            failures = [failure for failure in found if failure]
    if failures:
        sys.exit("\n".join(failures))
    print(f"{lane}: {len(refresh.chapters())} chapters ran without a word on stderr")


def save(folder):
    """Save the reference models with this Keras, and what they answer to 60 images."""
    import keras
    import numpy as np

    import vae_helpers as vh
    from notebooks import files

    x = files.sample()[2][:60]
    models = {name: keras.saving.load_model(vh.REFERENCE / f"{name}.keras") for name in vh.MODELS}
    vh.save(folder, **models)
    z_mean = np.asarray(models["vae_encoder"](x)[0])
    answers = [np.asarray(models["autoencoder"](x)), z_mean, np.asarray(models["vae_decoder"](z_mean))]
    np.savez(Path(folder) / "answers.npz", x=x, z_mean=z_mean, **dict(zip(vh.MODELS, answers)))


def load(folders):
    """Load with Keras alone what each lane saved; its outputs must be the same within rounding."""
    import keras
    import numpy as np

    for folder in map(Path, folders):
        there, largest = np.load(folder / "answers.npz"), 0
        for name in ("autoencoder", "vae_encoder", "vae_decoder"):
            model = keras.saving.load_model(folder / f"{name}.keras")
            answer = model(there["z_mean" if name == "vae_decoder" else "x"])
            answer = np.asarray(answer[0] if name == "vae_encoder" else answer)
            largest = max(largest, np.abs(answer - there[name]).max())
        print(f"Keras {keras.__version__} ({keras.backend.backend()}) loads {folder.name}: differs by {largest:.1e}")
        assert largest < 1e-4, "the same model must give the same outputs"


def main(what, *others):
    sys.path[:0] = [str(ROOT), str(ROOT / "notebooks")]
    if what == "--packages":
        print(*packages(*others), sep="\n")
    elif what == "--save":
        save(*others)
    elif what == "--load":
        load(others)
    else:
        if what != "jax":
            run_chapters(what)
        # nbval's options of pyproject.toml are not for the JAX lane, which lacks it.
        tests = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-k", f"not {' and not '.join(SAME)}", *TESTS]
        tests += WITH_JAX if what == "jax" else WITH_TENSORFLOW
        sys.exit(subprocess.run(tests, cwd=ROOT).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
