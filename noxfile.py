"""Test the course with other versions of its dependencies.

`nox --list` lists the environments, `nox` makes and tests all, `nox -s lowest` one, and
`nox -s lowest -- all` runs all chapters in it. The environments are made by uv, which
finds or downloads the Python that they need.
"""

import re
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"

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
QUICK = {
    "VAE_COURSE_QUICK": "1",
    "FASHION_MNIST_DIR": str(Path("course/assets/sample").resolve()),
}
MODELS = ["tests/test_losses.py", "tests/test_models.py"]


def requirements(*names):
    """The lines of requirements.txt, or those of these packages, without comments."""
    text = Path("requirements.txt").read_text(encoding="utf-8")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    # A line with a marker is for Pythons that the course does not run on.
    lines = [line for line in lines if line and ";" not in line]
    found = {re.match(r"[\w-]+", line)[0]: line for line in lines}
    return [found[name] for name in names or found]


def unit_tests(session, *paths):
    """Run unit tests, without the options that are nbval's."""
    options = ["-q", "-o", "addopts=", "-m", "not slow"]
    session.run("python", "-m", "pytest", *options, *paths)


def chapters(session, pattern="0*"):
    """Execute chapters in quick mode; nothing is stored."""
    paths = sorted(Path("notebooks").glob(f"{pattern}.ipynb"))
    session.run("jupyter", "execute", *map(str, paths), env=QUICK)


@nox.session(python="3.13")
def colab(session):
    """The chapters and the unit tests with Colab's versions."""
    pins = [f"{name}=={version}" for name, version in COLAB.items()]
    session.install(*requirements(), *pins)
    chapters(session)
    unit_tests(session, *MODELS, "tests/test_saving.py")


@nox.session(python="3.11")
def lowest(session):
    """One chapter and the unit tests with the lowest versions of requirements.txt."""
    session.install("--resolution", "lowest-direct", *requirements())
    chapters(session, "0*" if session.posargs == ["all"] else "03*")
    unit_tests(session, *MODELS, "tests/test_saving.py")


@nox.session(python="3.13")
def newest(session):
    """One chapter and the unit tests with the newest versions of requirements.txt."""
    session.install("--upgrade", *requirements())
    chapters(session, "0*" if session.posargs == ["all"] else "03*")
    unit_tests(session, *MODELS, "tests/test_saving.py")


@nox.session(python="3.13")
def jax(session):
    """Models, losses and two devices with Keras on JAX, without TensorFlow."""
    needed = requirements("keras", "numpy", "matplotlib", "scikit-learn")
    session.install("jax", "ipython", "pytest", *needed)
    session.env.update(KERAS_BACKEND="jax", JAX_ENABLE_X64="1")
    unit_tests(session, *MODELS, "tests/test_devices.py")


@nox.session(venv_backend="none")
def exchange(session):
    """Models saved in each environment load in all the others, with Keras alone."""
    session.env["PYTHONPATH"] = "."
    names = ["colab", "lowest", "newest"]
    pythons = {name: f".nox/{name}/bin/python" for name in [*names, "jax"]}
    folders = [f"build/exchange/{name}" for name in names]
    for name, folder in zip(names, folders):
        session.run(pythons[name], "tests/exchange.py", "--save", folder)
    for name, python in pythons.items():
        backend = {"KERAS_BACKEND": "jax" if name == "jax" else "tensorflow"}
        session.run(python, "tests/exchange.py", *folders, env=backend)


@nox.session(python="3.11", default=False)
def bench(session):
    """Time `fit` beside PyTorch and JAX, on an idle machine."""
    others = ["torch", "jax", "optax"]
    session.install("--torch-backend=cpu", *others, *requirements())
    session.run("python", "-m", "tools.bench", *session.posargs)
