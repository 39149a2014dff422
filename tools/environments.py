"""Test the course with other versions of its dependencies.

The Makefile makes the environments colab, lowest, newest and jax in build/environments
and runs this module with the Python of each (make test-colab, ..., make test-exchange).

usage: python -m tools.environments --packages NAME
           print what pip has to install for an environment
       python -m tools.environments NAME
           run the chapters in quick mode, each from a fresh clone, then unit tests
       python -m tools.environments --save FOLDER
           save the reference models with this environment's Keras, and their outputs
       python -m tools.environments --load FOLDER...
           load what others saved, with Keras alone, and compare the outputs

In colab, each chapter runs as it does in Colab: alone in a folder, so that its first
cell has to clone the course. jax has no TensorFlow and therefore runs no chapter, only
unit tests of models and losses.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import course

NAMES = ("colab", "lowest", "newest", "jax")
# Colab's own versions in autumn 2026; for other packages, see requirements.txt.
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.2",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
    "scikit-learn": "1.6.1",
    "ipywidgets": "7.7.1",
    "ipython": "7.34.0",
    "ipykernel": "6.17.1",
}
JAX = ["jax", "keras", "numpy", "matplotlib", "scipy", "pytest"]

# Tests that read no stored outputs, which only today's versions reproduce.
TESTS = ["tests/test_losses.py", "tests/test_models.py"]
TESTS_WITH_TENSORFLOW = [
    "tests/test_saving.py",
    "tests/test_fit.py::test_fit_gives_the_history_of_keras_fit_in_float64",
]
TESTS_WITH_JAX = ["tests/test_devices.py"]
# Among them, tests that take long and hardly depend on versions.
LEFT_OUT = ["overfits", "vae-True"]


def packages(environment):
    """What pip has to install for an environment, such as "keras==3.13.2": a list."""
    text = (course.ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = re.sub(r" *#.*", "", text).split()
    requirements = {re.match(r"[\w-]+", line)[0]: line for line in lines}
    if environment == "jax":
        return [requirements.get(package, package) for package in JAX]
    if environment == "colab":
        requirements |= {package: f"{package}=={v}" for package, v in COLAB.items()}
    if environment == "lowest":
        requirements = {
            package: re.sub(r">=([\d.]+).*", r"==\1", line)
            for package, line in requirements.items()
        }
    return list(requirements.values())


def git(*arguments):
    """Run Git in the repository's root, with an identity that needs no settings."""
    name, email = "user.name=environments", "user.email=environments@example.org"
    command = ["git", "-c", name, "-c", email, *arguments]
    subprocess.run(command, cwd=course.ROOT, check=True)


def run_chapter(path, environment, served, scratch):
    """Run the chapter in `path` in a folder of its own, inside the folder `scratch`.

    `served` is a Git repository with the course as it is now. Returns one sentence
    about what went wrong, or None.
    """
    import nbformat
    from nbclient import NotebookClient

    from tools import refresh

    # A first cell clones nothing while the address is a placeholder. The name that
    # replaces it here cannot belong to an account either.
    address = refresh.repository().replace("/-OWNER-/", "/-test-/")
    variables = {
        **os.environ,
        "VAE_COURSE_QUICK": "1",
        "FASHION_MNIST_DIR": str(course.SAMPLE),
        "OMP_NUM_THREADS": "1",  # chapters that run at the same time would compete
    }
    folder = scratch / path.stem
    if environment == "colab":
        folder.mkdir()
        startup = scratch / f"{path.stem} ipython" / "profile_default" / "startup"
        # Colab's kernel has already imported google.colab.
        (startup / "google" / "colab").mkdir(parents=True)
        (startup / "google" / "colab" / "__init__.py").touch()
        (startup / "colab.py").write_text("import google.colab")
        variables |= {
            "IPYTHONDIR": str(startup.parents[1]),
            "PYTHONPATH": str(startup),
            "COLAB_RELEASE_TAG": "release-colab",
            "KERAS_BACKEND": "tensorflow",
            "TF2_BEHAVIOR": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            # Git clones `served` in place of the address.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{served}.insteadOf",
            "GIT_CONFIG_VALUE_0": address,
        }
    else:
        git("clone", "--quiet", served, folder)
        folder = folder / "notebooks"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = refresh.refreshed(cell.source, address)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / path.name)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=40"],
    )
    try:
        client.execute(env=variables)
    except Exception as error:
        return f"{path.name}: {error}"
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    ]
    warnings = "".join(
        output.text
        for cell in cells
        for output in cell.outputs
        if output.get("name") == "stderr"
    )
    if warnings:
        return f"{path.name} wrote to stderr: {warnings}"
    if any(cell.execution_count is None for cell in cells):
        return f"{path.name} was not run to its end."
    if environment == "colab":
        files, clone = sorted(os.listdir(folder)), address.rsplit("/")[-1]
        if files != sorted([path.name, clone]):
            return f"{path.name} left other files than its clone behind: {files}."


def run_chapters(environment):
    """Run all chapters, two at a time, from a repository of the files as they are."""
    from tools import refresh

    with tempfile.TemporaryDirectory() as scratch:
        served = f"{scratch}/served"
        here = f"--git-dir={served}/.git", f"--work-tree={course.ROOT}"
        git("init", "--quiet", served)
        git(*here, "add", "--all")
        git(*here, "commit", "--quiet", "--message", "The course as it is now")
        with ThreadPoolExecutor(2) as pool:
            outcomes = pool.map(
                lambda path: run_chapter(path, environment, served, Path(scratch)),
                refresh.chapters(),
            )
            failures = [failure for failure in outcomes if failure]
    if failures:
        sys.exit("\n".join(failures))
    print(f"{environment}: {len(refresh.chapters())} chapters ran, nothing on stderr")


def save(folder):
    """Save the reference models with this Keras, and their outputs for 60 images."""
    import keras
    import numpy as np

    import vae_helpers as vh
    from course.data import load_sample

    x = load_sample()[2][:60]
    models = {
        name: keras.saving.load_model(course.REFERENCE / f"{name}.keras")
        for name in vh.MODELS
    }
    vh.save(folder, **models)
    z_mean = np.asarray(models["vae_encoder"](x)[0])
    outputs = {
        "autoencoder": np.asarray(models["autoencoder"](x)),
        "vae_encoder": z_mean,
        "vae_decoder": np.asarray(models["vae_decoder"](z_mean)),
    }
    np.savez(Path(folder) / "outputs.npz", x=x, **outputs)


def load(folders):
    """Load with Keras alone what each environment saved; compare the outputs."""
    import keras
    import numpy as np

    for folder in map(Path, folders):
        saved, largest = np.load(folder / "outputs.npz"), 0
        for name in ("autoencoder", "vae_encoder", "vae_decoder"):
            model = keras.saving.load_model(folder / f"{name}.keras")
            output = model(saved["vae_encoder" if name == "vae_decoder" else "x"])
            output = np.asarray(output[0] if name == "vae_encoder" else output)
            largest = max(largest, np.abs(output - saved[name]).max())
        print(
            f"Keras {keras.__version__} on {keras.backend.backend()} loads the models "
            f"of {folder.name}: outputs differ by at most {largest:.1e}"
        )
        assert largest < 1e-4, "the same model must give the same outputs"


def test(environment):
    """Run the chapters, where there is TensorFlow, and the unit tests; then exit."""
    if environment == "jax":
        tests = TESTS + TESTS_WITH_JAX
    else:
        run_chapters(environment)
        tests = TESTS + TESTS_WITH_TENSORFLOW
    # The options in pyproject.toml are nbval's, which jax lacks.
    options = ["-q", "-o", "addopts=", "-k", f"not {' and not '.join(LEFT_OUT)}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    sys.exit(subprocess.run(command, cwd=course.ROOT).returncode)


def main(arguments):
    match arguments:
        case ["--packages", environment] if environment in NAMES:
            print(*packages(environment), sep="\n")
        case ["--save", folder]:
            save(folder)
        case ["--load", *folders] if folders:
            load(folders)
        case [environment] if environment in NAMES:
            test(environment)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
