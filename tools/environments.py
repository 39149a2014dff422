"""Test the course with other versions of its dependencies.

The Makefile makes the environments colab, lowest, newest and jax in build/environments
and runs this module with the Python of each (make test-colab, ..., make test-exchange).

usage: python -m tools.environments --python NAME
           print which Python an environment is made with
       python -m tools.environments --packages NAME
           print what pip has to install for an environment
       python -m tools.environments NAME
           run the chapters in quick mode, each from a fresh clone, then unit tests
       python -m tools.environments --save FOLDER
           save the reference models with this environment's Keras, and their outputs
       python -m tools.environments --load FOLDER...
           load what others saved, with Keras alone, and compare the outputs

In colab, each chapter runs as it does in Colab: alone in a folder, so that its first
cell has to clone the course. Chapters 01 and 04 also run as in Kaggle. jax has no
TensorFlow and therefore runs no chapter, only unit tests of models and losses.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import course
from course.files import write_text

NAMES = ("colab", "lowest", "newest", "jax")
# Colab's, and the newest that TensorFlow has wheels for: there, NumPy is newer too.
PYTHON = {"colab": "3.13", "newest": "3.13"}
# Colab's own versions in autumn 2026; for other packages, see requirements.txt.
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.2",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",  # newer ones and this scikit-learn do not agree
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


def interpreter(environment):
    """The Python to make an environment with: `PYTHON`'s, or else the one in use."""
    version = PYTHON.get(environment)
    if version is None:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    installed = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    for python in (shutil.which(f"python{version}"), *installed):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        # pyenv's stand-ins exist for Pythons that are not active, and fail.
        if (
            python
            and version
            in subprocess.run(
                [python, "-c", code], capture_output=True, encoding="utf-8"
            ).stdout.split()
        ):
            return str(python)
    print(f"{environment}: no Python {version} here", file=sys.stderr)
    return sys.executable


def packages(environment):
    """What pip has to install for an environment, such as "keras==3.13.2": a list."""
    text = (course.ROOT / "requirements.txt").read_text(encoding="utf-8")
    # A line with a marker is for Pythons that the course does not run on.
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line and ";" not in line]
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


def prepare_host(host, folder):
    """Files and variables that make `folder`'s parent look like Colab or Kaggle.

    Returns a dictionary of environment variables.
    """
    if host == "kaggle":
        return {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}
    startup = folder.parent / f"{folder.name} ipython" / "profile_default" / "startup"
    # Colab's kernel has already imported google.colab.
    (startup / "google" / "colab").mkdir(parents=True)
    (startup / "google" / "colab" / "__init__.py").touch()
    write_text(startup / "colab.py", "import google.colab")
    return {
        "IPYTHONDIR": str(startup.parents[1]),
        "PYTHONPATH": str(startup),
        "COLAB_RELEASE_TAG": "release-colab",
        "KERAS_BACKEND": "tensorflow",
        "TF2_BEHAVIOR": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def run_chapter(path, host, served, scratch):
    """Run the chapter in `path` in a folder of its own, inside the folder `scratch`.

    `host` is "colab" or "kaggle", where the chapter is alone, or None: in a clone.
    `served` is a Git repository with the course as it is now. Returns one sentence
    about what went wrong, or None.
    """
    import nbformat
    from nbclient import NotebookClient

    from tools import address, refresh

    # A first cell clones nothing while the address is a placeholder. The name that
    # replaces it here cannot belong to an account either.
    old = address.current()
    new = address.Address("-test-", "course-under-another-name", old.branch)
    variables = {
        **os.environ,
        "VAE_COURSE_QUICK": "1",
        "FASHION_MNIST_DIR": str(course.SAMPLE),
        "OMP_NUM_THREADS": "1",  # chapters that run at the same time would compete
    }
    folder = scratch / f"{path.stem} {host}"
    if host:
        folder.mkdir()
        variables |= prepare_host(host, folder) | {
            # Git clones `served` in place of the address.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{served}.insteadOf",
            "GIT_CONFIG_VALUE_0": new.repository,
        }
    else:
        git("clone", "--quiet", served, folder)
        folder = folder / "notebooks"
    notebook = refresh.refreshed_notebook(path)
    for cell in notebook.cells:
        cell.source = address.moved(cell.source, old, new)
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
    place = f"{path.name}, {host or 'in a clone'}"
    try:
        client.execute(env=variables)
    except Exception as error:
        return f"{place}: {error}"
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
        return f"{place} wrote to stderr: {warnings}"
    if any(cell.execution_count is None for cell in cells):
        return f"{place} was not run to its end."
    if host:
        files = sorted(os.listdir(folder))
        if files != sorted([path.name, new.name]):
            return f"{place} left other files than its clone behind: {files}."


def run_chapters(environment):
    """Run all chapters, two at a time, from a repository of the files as they are."""
    from tools import refresh

    runs = [(path, None) for path in refresh.chapters()]
    if environment == "colab":
        runs = [(path, "colab") for path, _ in runs]
        runs += [(path, "kaggle") for path, _ in runs if path.name[:2] in ("01", "04")]
    with tempfile.TemporaryDirectory() as scratch:
        served = f"{scratch}/served"
        here = f"--git-dir={served}/.git", f"--work-tree={course.ROOT}"
        git("init", "--quiet", served)
        git(*here, "add", "--all")
        git(*here, "commit", "--quiet", "--message", "The course as it is now")
        with ThreadPoolExecutor(2) as pool:
            outcomes = pool.map(
                lambda run: run_chapter(*run, served, Path(scratch)), runs
            )
            failures = [failure for failure in outcomes if failure]
    if failures:
        sys.exit("\n".join(failures))
    version = ".".join(map(str, sys.version_info[:3]))
    print(
        f"{environment}, Python {version}: "
        f"{len(runs)} runs of chapters, nothing on stderr"
    )


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
        case ["--python", environment] if environment in NAMES:
            print(interpreter(environment))
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
