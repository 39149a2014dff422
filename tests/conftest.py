"""Where the tests find the course, and what they share."""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile

import pytest

# The same models are compiled in many processes: XLA keeps what it compiled, in a folder for this session alone.
if sys.platform == "linux" and "TF_XLA_FLAGS" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="xla-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"

import course
import vae_helpers as vh
from course.data import load_sample

LONGEST = (
    "killed_again",
    "make_run_stopped",
    "are_kept_and_taken_again",
    "two_devices",
)


def pytest_collection_modifyitems(items):
    """The longest tests first: of two processes, neither then waits long for the other."""
    items.sort(key=lambda item: not any(name in item.name for name in LONGEST))


@pytest.fixture
def images():
    """Sixty real test images (60, 784) of the embedded sample."""
    return load_sample()[2][:60]


@pytest.fixture
def vae():
    """A small-seeded VAE as specified, not trained, not compiled."""
    import keras

    keras.utils.set_random_seed(1)
    return vh.VAE(vh.build_encoder(), vh.build_decoder())


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the rendered pages: the stored notebooks, and two of the tests' own as if they had just run."""
    import test_pages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "BUILD", tmp_path_factory.mktemp("site") / "build")
        return test_pages.rendered()


@pytest.fixture
def nobody_special():
    """Root may read everything: as a context, be somebody else for a while."""

    @contextlib.contextmanager
    def somebody_else():
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)

    return somebody_else()
