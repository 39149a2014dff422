"""What GitHub runs: actions pinned by digest, the least permissions, one Python range."""

import re
import subprocess
import sys

import pytest
import yaml

import course
from tools import check_python

WORKFLOWS = sorted(course.ROOT.glob(".github/workflows/*.yml"))
# {file: {job: what it may do beyond reading the repository}}
MAY = {
    "address.yml": {"write": {"contents": "write"}},
    "pages.yml": {"deploy": {"pages": "write", "id-token": "write"}},
}
PINNED = re.compile(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@each_workflow
def test_every_action_is_pinned_by_digest(path):
    for action in re.findall(r"uses: *(.*)", path.read_text(encoding="utf-8")):
        assert PINNED.fullmatch(action), action


@each_workflow
def test_jobs_have_the_least_permissions(path):
    workflow, may = load(path), MAY.get(path.name, {})
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == may.get(name, {}), name
        assert "timeout-minutes" in job, name
        for step in job["steps"]:
            if "checkout" in step.get("uses", "") and "contents" not in may.get(
                name, {}
            ):
                assert step["with"]["persist-credentials"] is False, name


def test_the_only_workflow_that_commits_is_run_by_hand():
    pushing = [p.name for p in WORKFLOWS if "git push" in p.read_text(encoding="utf-8")]
    assert pushing == ["address.yml"]
    address = load(course.ROOT / ".github/workflows/address.yml")
    assert list(address[True]) == ["workflow_dispatch"]  # YAML reads `on` as true


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


def test_the_check_of_python_prints_nothing_here():
    command = [sys.executable, "-m", "tools.check_python"]
    ended = subprocess.run(command, cwd=course.ROOT, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_the_range_of_pythons_is_the_same_everywhere():
    low, high = (
        ".".join(map(str, end)) for end in (check_python.LOWEST, check_python.HIGHEST)
    )
    above = f"3.{check_python.HIGHEST[1] + 1}"
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    requirements = (course.ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert f"Python {low} to {high}" in readme
    assert f'tensorflow<0; python_version >= "{above}"' in requirements
    matrix = load(course.ROOT / ".github/workflows/ci.yml")["jobs"]["quick"]["strategy"]
    rows = (
        matrix["matrix"]["python"],
        *(x["python"] for x in matrix["matrix"]["include"]),
    )
    tested = {*rows[0], *rows[1:]}
    assert {min(tested), max(tested)} == {low, high}
