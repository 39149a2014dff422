"""Where `import vae_helpers` cannot work, it fails with one sentence."""

import os
import shutil
import subprocess
import sys

import course

BACKEND = "Keras cannot run on {} here ("
ADVICE = ": set KERAS_BACKEND=tensorflow and start Python again."
CLONE = (
    "vae_helpers.py needs its own folder `course` beside it: clone the whole "
    "repository vae-vs-autoencoder, or copy both."
)


def run_python(*arguments, folder=course.ROOT, **variables):
    """The exit status and the lines of stderr of a new Python process."""
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    )
    return ended.returncode, ended.stderr.splitlines()


def test_unknown_backend_is_named():
    status, lines = run_python("-c", "import vae_helpers", KERAS_BACKEND="tf")
    assert status == 1
    assert lines[-1].startswith(f"ImportError: {BACKEND.format('tf')}")
    assert lines[-1].endswith(ADVICE)


def test_helper_without_its_package_asks_for_a_clone(tmp_path):
    shutil.copy(course.ROOT / "vae_helpers.py", tmp_path)
    status, lines = run_python("-c", "import vae_helpers", folder=tmp_path)
    assert status == 1 and lines[-1] == f"ImportError: {CLONE}"
