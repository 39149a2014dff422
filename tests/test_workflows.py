"""What GitHub runs and `make` lists: pinned actions, one range of Pythons."""

import re
import shutil
import subprocess

import pytest
import yaml

import course
from tools import check_python

WORKFLOWS = sorted(course.ROOT.glob(".github/workflows/*.yml"))
PINNED = re.compile(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@each_workflow
def test_every_action_is_pinned_by_digest(path):
    for action in re.findall(r"uses: *(.*)", path.read_text(encoding="utf-8")):
        assert PINNED.fullmatch(action), action


@each_workflow
def test_workflows_read_only_and_one_that_is_run_by_hand_commits(path):
    workflow, text = load(path), path.read_text(encoding="utf-8")
    assert workflow["permissions"] in ({}, {"contents": "read"})
    if path.name == "address.yml":
        assert list(workflow[True]) == ["workflow_dispatch"]  # YAML reads `on` as true
    else:
        assert "contents: write" not in text and "git push" not in text


@pytest.mark.parametrize(
    "fact, value, words",
    [
        ("sys.version_info", (3, 14, 0), "Python 3.14"),
        ("sys.version_info", (3, 10, 9), "Python 3.10"),
        ("sys.maxsize", 2**31 - 1, "32 bits"),
        ("platform.system", lambda: "Darwin", "macOS on Intel"),
        ("platform.libc_ver", lambda: ("", ""), "without glibc"),
    ],
)
def test_a_python_without_tensorflow_is_named(fact, value, words, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    assert check_python.fault() is None
    monkeypatch.setattr(fact, value)
    assert words in check_python.fault()


def test_the_range_of_pythons_is_the_same_everywhere():
    ends = check_python.LOWEST, check_python.HIGHEST
    low, high = (".".join(map(str, end)) for end in ends)
    above = f"3.{check_python.HIGHEST[1] + 1}"
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    requirements = (course.ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert f"Python {low} to {high}" in readme
    assert f'tensorflow<0; python_version >= "{above}"' in requirements
    quick = load(course.ROOT / ".github/workflows/ci.yml")["jobs"]["quick"]
    matrix = quick["strategy"]["matrix"]
    tested = {*matrix["python"], *(row["python"] for row in matrix["include"])}
    assert {min(tested), max(tested)} == {low, high}


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_lists_its_commands():
    listed = subprocess.check_output(["make"], cwd=course.ROOT, encoding="utf-8")
    names = re.findall(r"^make (\S+) +\S", listed, flags=re.M)
    makefile = (course.ROOT / "Makefile").read_text(encoding="utf-8")
    phony = " ".join(re.findall(r"^\.PHONY:(.*)", makefile, flags=re.M)).split()
    assert names[:3] == ["run", "test", "lab"] and sorted(names) == sorted(phony)
