"""The first code cell of every notebook finds the course, wherever it is opened.

The cell runs in a Python of its own. A local repository stands in for the one on
GitHub: Git's `insteadOf` puts it in its place.
"""

import os
import re
import subprocess
import sys

import pytest

import course
from tools import address, refresh

FORK = address.Address("someone", "renamed-course", "trunk")
COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('colab')\n"
KAGGLE = {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}
END = "\nimport vae_helpers\nprint(vae_helpers.__file__)"
ADVICE = r"ModuleNotFoundError: vae_helpers\.py was not found: ([^\n]*\.)"


def first_cell(path):
    cells = refresh.read_notebook(path).cells
    return next(cell for cell in cells if cell.cell_type == "code")


def test_it_is_the_same_in_every_notebook_and_short_and_collapsed():
    cells = [first_cell(path) for path in refresh.notebooks()]
    assert len({cell.source for cell in cells}) == 1
    assert len(cells[0].source.splitlines()) <= 25
    assert cells[0].source.startswith("# @title ")  # a form's title in Colab
    for cell in cells:
        assert cell.metadata.cellView == "form"
        assert cell.metadata.jupyter.source_hidden
        assert "hide-input" in cell.metadata.tags


@pytest.fixture
def served(tmp_path):
    """A bare repository that stands in for the one on GitHub."""
    work, bare = tmp_path / "work", tmp_path / "bare.git"
    work.mkdir()
    (work / "vae_helpers.py").touch()
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (
        ["init", "--quiet", "--initial-branch", FORK.branch],
        ["add", "--all"],
        [*identity, "commit", "--quiet", "--message", "The course"],
        ["clone", "--quiet", "--bare", ".", str(bare)],
    ):
        subprocess.run(["git", *arguments], cwd=work, check=True)
    return bare


@pytest.fixture
def run_cell(served, tmp_path):
    """A function that runs the cell: the helper that it found, or the error's advice."""

    def run(folder, here=FORK, before="", variables=None, words=()):
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{served.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": FORK.repository,
            "GIT_TERMINAL_PROMPT": "0",
            "PYTHONUTF8": "1",
        }
        left_out = ("PYTHONPATH", *KAGGLE)
        inherited = {k: v for k, v in os.environ.items() if k not in left_out}
        cell = address.moved(refresh.FIRST_CELL, address.PLACEHOLDER, here)
        program = tmp_path / "program.py"
        program.write_text(before + cell + END, encoding="utf-8")
        # As a kernel is started by another process.
        start = (
            f"import subprocess; subprocess.run([{sys.executable!r}, {str(program)!r}])"
        )
        ended = subprocess.run(
            [sys.executable, "-c", start, *map(str, words)],
            cwd=folder,
            env={**inherited, **settings, **(variables or {})},
            capture_output=True,
            encoding="utf-8",
        )
        advice = re.search(ADVICE, ended.stderr)
        return advice[1] if advice else ended.stdout.strip()

    return run


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "a clone"
    (folder / "notebooks" / "mine").mkdir(parents=True)
    (folder / "vae_helpers.py").touch()
    return folder


HOSTS = pytest.mark.parametrize(
    "host", [{"before": COLAB}, {"variables": KAGGLE}], ids=["colab", "kaggle"]
)


@HOSTS
def test_colab_and_kaggle_fetch_a_renamed_fork_once(host, run_cell, tmp_path, served):
    empty = tmp_path / "empty"
    expected = str(empty / FORK.name / "vae_helpers.py")
    assert run_cell(empty, **host) == expected
    assert [path.name for path in empty.iterdir()] == [FORK.name]
    served.rename(tmp_path / "gone")  # a second run of the cell needs no network
    assert run_cell(empty, **host) == expected


@HOSTS
def test_nothing_is_fetched_from_the_placeholder(host, run_cell, tmp_path):
    advice = run_cell(tmp_path / "empty", here=address.PLACEHOLDER, **host)
    assert "inside a clone" in advice and "`make set-repo`" in advice
    assert list((tmp_path / "empty").iterdir()) == []


@HOSTS
def test_a_fetch_that_fails_names_the_setting(host, run_cell, tmp_path, served):
    served.rename(tmp_path / "gone")
    advice = run_cell(tmp_path / "empty", **host)
    assert "Kaggle: Settings, Internet" in advice and FORK.repository in advice


def test_elsewhere_nothing_is_fetched(run_cell, tmp_path):
    assert run_cell(tmp_path / "x") == (
        f"open this notebook inside a clone of {FORK.repository}."
    )
    assert list((tmp_path / "x").iterdir()) == []


@HOSTS
@pytest.mark.parametrize("here", [FORK, address.PLACEHOLDER], ids=["set", "not set"])
@pytest.mark.parametrize("folder", [".", "notebooks", "notebooks/mine"])
def test_a_clone_is_found_from_its_folders(host, here, folder, run_cell, clone):
    expected = str(clone / "vae_helpers.py")
    assert run_cell(clone / folder, here=here, **host) == expected


def test_a_course_that_cannot_be_written_is_found(run_cell, clone):
    for folder in (clone, clone / "notebooks"):
        folder.chmod(0o555)
    try:
        assert run_cell(clone / "notebooks") == str(clone / "vae_helpers.py")
    finally:
        for folder in (clone, clone / "notebooks"):
            folder.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere: papermill --cwd")
def test_papermill_may_run_elsewhere(run_cell, clone, tmp_path):
    words = ["papermill", clone / "notebooks" / "01_data.ipynb", "out.ipynb"]
    found = run_cell(tmp_path / "elsewhere", words=words)
    assert found == str(clone / "vae_helpers.py")
    found = run_cell(tmp_path, words=["a clone/notebooks/01_data.ipynb"])
    assert found == str(clone / "vae_helpers.py")


def test_the_cell_is_what_the_notebooks_hold():
    moved = address.moved(refresh.FIRST_CELL, address.PLACEHOLDER, address.current())
    assert first_cell(refresh.notebooks()[0]).source == moved
    assert course.ROOT / "notebooks" == refresh.notebooks()[0].parent
