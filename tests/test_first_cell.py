"""The first code cell finds the course, wherever a notebook is opened.

The cell runs in IPython. A local repository stands in for the one on GitHub: Git's
`insteadOf` puts it in its place.
"""

import os
import subprocess
import sys

import pytest

import course
from tools import refresh

HOSTS = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
}
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org")


def git(folder, *arguments):
    subprocess.run(["git", *IDENTITY, *arguments], cwd=folder, check=True)


@pytest.fixture
def course_folder(tmp_path):
    """A repository with the helper alone, in a folder of another name."""
    folder = tmp_path / "a renamed clone"
    (folder / "notebooks" / "mine").mkdir(parents=True)
    (folder / "vae_helpers.py").write_text("", encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The course")
    return folder


@pytest.fixture
def run_cell(course_folder, tmp_path):
    """A function that runs the cell in a folder: the helper's file, or the last line."""

    def run(folder, host=None):
        folder.mkdir(parents=True, exist_ok=True)
        program = tmp_path / "program.ipy"
        end = "\nimport vae_helpers\nprint(vae_helpers.__file__)"
        program.write_text(refresh.FIRST_CELL + end, encoding="utf-8")
        served = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{course_folder.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": refresh.REPOSITORY,
            "IPYTHONDIR": str(tmp_path / "ipython"),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "IPython", "--colors=NoColor", str(program)],
            cwd=folder,
            env={**os.environ, **served, **HOSTS.get(host, {})},
            capture_output=True,
            encoding="utf-8",
        )
        return ended.stdout.strip().splitlines()[-1]

    return run


def test_it_is_short_and_collapsed_and_says_above_what_to_do():
    cells = refresh.refreshed_notebook(refresh.chapters()[0]).cells
    i = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    assert cells[i].source == refresh.FIRST_CELL
    assert cells[i].metadata.cellView == "form"
    assert cells[i].metadata.jupyter.source_hidden
    assert "in a clone of" in cells[i - 1].source
    lines = refresh.FIRST_CELL.splitlines()
    assert len(lines) <= 9
    assert lines[0].startswith("# @title ")  # a form's title in Colab


@pytest.mark.parametrize("host", HOSTS)
def test_colab_and_kaggle_fetch_the_course_once(host, run_cell, tmp_path):
    empty = tmp_path / "empty"
    expected = str(empty / "vae-course" / "vae_helpers.py")
    assert run_cell(empty, host) == expected
    assert [path.name for path in empty.iterdir()] == ["vae-course"]
    (tmp_path / "a renamed clone").rename(tmp_path / "gone")
    assert run_cell(empty, host) == expected, "a second run needs no network"


@pytest.mark.parametrize("folder", [".", "notebooks", "notebooks/mine", ".."])
def test_a_renamed_clone_is_found_from_its_folders_and_from_above(
    folder, run_cell, course_folder
):
    found = run_cell((course_folder / folder).resolve(), "colab")
    assert found == str(course_folder / "vae_helpers.py")


def test_elsewhere_nothing_is_fetched(run_cell, tmp_path):
    empty = tmp_path / "some" / "where"
    assert "No module named 'vae_helpers'" in run_cell(empty)
    assert list(empty.iterdir()) == []


def test_no_placeholder_is_left_in_a_renamed_copy(tmp_path):
    """What `make set-repo` and the workflow Address do."""
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", "--no-hardlinks", str(course.ROOT), str(copy))
    names = ("OWNER=Some-One", "NAME=re.named")
    subprocess.run(["make", "--silent", "set-repo", *names], cwd=copy, check=True)
    left = subprocess.run(
        ["git", "grep", "-iI", "-e", "-[o]wner-", "-e", "[v]ae-vs-autoencoder/blob"],
        cwd=copy,
        capture_output=True,
        encoding="utf-8",
    )
    assert left.stdout == ""
    text = (copy / "README.md").read_text(encoding="utf-8")
    assert "Some-One.github.io/re.named" in text
    assert "Some-One/re.named/blob/main/notebooks/01" in text
    text = (copy / "tools" / "refresh.py").read_text(encoding="utf-8")
    assert "https://github.com/Some-One/re.named" in text
