"""`import vae_helpers` works without standard streams, or fails with one sentence."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

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
    assert len(lines) < 12 and not any("site-packages" in line for line in lines)


PROGRAMS = ["experiments"]
PROGRAMS += [pytest.param(name, marks=pytest.mark.slow) for name in ("run", "pages")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_end_with_one_sentence_about_the_backend(name):
    backend = "nonsense" if importlib.util.find_spec("torch") else "torch"
    status, lines = run_python("-m", f"tools.{name}", KERAS_BACKEND=backend)
    assert status == 1 and len(lines) == 1
    assert lines[0].startswith(BACKEND.format(backend)) and ADVICE in lines[0]


@pytest.mark.parametrize("in_the_way", [None, "course.py", "course/__init__.py"])
def test_helper_without_its_package_asks_for_a_clone(in_the_way, tmp_path):
    shutil.copy(course.ROOT / "vae_helpers.py", tmp_path)
    if in_the_way:
        (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
        (tmp_path / in_the_way).touch()
    status, lines = run_python("-c", "import vae_helpers", folder=tmp_path)
    assert status == 1 and lines[-1] == f"ImportError: {CLONE}"
    assert len(lines) < 12


CLOSED = [(0, 1, 2)]
CLOSED += [pytest.param((n,), marks=pytest.mark.slow) for n in (0, 1, 2)]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", CLOSED)
def test_import_works_with_closed_standard_streams(closed):
    """Afterwards they are the null device, and no file that was opened since."""
    code = (
        "import vae_helpers, os, sys\n"
        "null = os.stat(os.devnull).st_rdev\n"
        f"sys.exit(sum(os.fstat(n).st_rdev != null for n in {closed}))"
    )
    close = " ".join(f"{n}>&-" for n in closed)
    command = f'exec "$0" -c "$1" {close}'
    ended = subprocess.run(["sh", "-c", command, sys.executable, code], cwd=course.ROOT)
    assert ended.returncode == 0
