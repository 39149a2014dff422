"""Where the tests find the course, and what they share."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

# Many processes compile the same models: XLA caches them in a folder of this session.
if sys.platform == "linux" and "TF_XLA_FLAGS" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="xla-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"

import course
from course.data import load_sample

LONGEST = ("tests/test_fit.py", "tests/test_exercises.py", "notebooks/")


def pytest_collectstart():
    """Import the helper before any test imports Keras: it sets the backend.

    Not at the top, because with `-n 2` the process that only distributes the tests
    would import TensorFlow first, and the others wait for it.
    """
    import vae_helpers  # noqa: F401


def pytest_collection_modifyitems(items):
    """Run the longest tests first, so that two processes end at about the same time."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))


@pytest.fixture
def images():
    """Sixty test images (60, 784) of the sample."""
    return load_sample()[2][:60]


@pytest.fixture
def vae():
    """The baseline VAE with seeded first weights, neither trained nor compiled."""
    import vae_helpers as vh  # isort: skip  (before Keras)

    import keras

    keras.utils.set_random_seed(1)
    return vh.VAE(vh.build_encoder(), vh.build_decoder())


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the rendered pages, rendered once for all tests."""
    import test_pages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "BUILD", tmp_path_factory.mktemp("site") / "build")
        return test_pages.rendered()


@pytest.fixture
def float64():
    """Keras computes in float64 for the length of a test."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def run_python():
    """A function that runs code in a new process, and what `subprocess.run` returns."""

    def run(code, folder=course.ROOT, **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(course.ROOT), **environment},
            capture_output=True,
            encoding="utf-8",
        )

    return run
