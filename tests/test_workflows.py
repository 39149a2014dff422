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


def uses(text):
    return re.findall(r"uses: *(.*)", text)


def unpinned(text):
    return [action for action in uses(text) if not PINNED.fullmatch(action)]


def excess(workflow, may):
    """The permissions that a workflow or its jobs have beyond what they may."""
    permissions = workflow.get("permissions", "all of the repository's default")
    found = [] if permissions in ({}, {"contents": "read"}) else [permissions]
    for name, job in workflow["jobs"].items():
        if job.get("permissions", {}) != may.get(name, {}):
            found.append((name, job.get("permissions")))
    return found


def keeps_credentials(job):
    """Whether a job's checkout leaves a token behind for the steps that follow."""
    return any(
        "checkout" in step.get("uses", "")
        and step.get("with", {}).get("persist-credentials") is not False
        for step in job["steps"]
    )


@each_workflow
def test_every_action_is_pinned_by_digest(path):
    assert unpinned(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "action",
    [
        "actions/checkout@v7",
        "actions/checkout@main # v7.0.1",
        "actions/checkout@3d3c42e # v7.0.1",
        "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1",
        "other/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    ],
)
def test_what_is_not_pinned_is_found(action):
    assert unpinned(f"- uses: {action}\n") == [action]


def test_an_action_has_one_version_everywhere():
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    pins = {use for text in texts for use in uses(text)}
    assert len(pins) == len({pin.partition("@")[0] for pin in pins}) == 5


@each_workflow
def test_jobs_have_the_least_permissions(path):
    workflow, may = load(path), MAY.get(path.name, {})
    assert excess(workflow, may) == []
    for name, job in workflow["jobs"].items():
        may_push = "contents" in may.get(name, {})
        assert keeps_credentials(job) == may_push, name
        assert "timeout-minutes" in job, name


def test_an_excess_of_permissions_is_found():
    for permissions in ({}, {"permissions": "write-all"}):
        assert excess({**permissions, "jobs": {}}, {})
    jobs = {"a": {"permissions": {"contents": "write"}}}
    assert excess({"permissions": {}, "jobs": jobs}, {})


def test_only_the_address_workflow_commits_and_only_by_hand():
    pushing = [p.name for p in WORKFLOWS if "git push" in p.read_text(encoding="utf-8")]
    assert pushing == ["address.yml"]
    assert list(load(course.ROOT / ".github/workflows/address.yml")[True]) == [
        "workflow_dispatch"  # YAML reads the key `on` as true
    ]


def test_published_pages_get_the_address_first():
    jobs = load(course.ROOT / ".github/workflows/pages.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert commands.index("python -m tools.address") < next(
        i for i, command in enumerate(commands) if command.startswith("make pages")
    )


def test_no_workflow_depends_on_the_name_of_a_branch():
    for path in WORKFLOWS:
        assert not re.search(r"\bmain\b", path.read_text(encoding="utf-8")), path.name


def test_dependabot_renews_actions_only():
    updates = load(course.ROOT / ".github" / "dependabot.yml")["updates"]
    assert [update["package-ecosystem"] for update in updates] == ["github-actions"]


# ---------------------------------------------------------------- Python


@pytest.mark.parametrize(
    "fact, value, words",
    [
        ("sys.version_info", (3, 14, 0), "Python 3.14"),
        ("sys.version_info", (3, 10, 9), "Python 3.10"),
        ("sys.maxsize", 2**31 - 1, "32 bits"),
        ("platform.python_implementation", lambda: "PyPy", "PyPy"),
        ("platform.system", lambda: "Darwin", "macOS on Intel"),
        ("platform.libc_ver", lambda: ("", ""), "without glibc"),
        ("sysconfig.get_config_var", lambda name: 1, "without a global lock"),
    ],
)
def test_a_python_without_tensorflow_is_named(fact, value, words, monkeypatch):
    for name, constant in [("system", "Linux"), ("machine", "x86_64")]:
        monkeypatch.setattr(f"platform.{name}", lambda constant=constant: constant)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    assert check_python.fault() is None
    monkeypatch.setattr(fact, value)
    assert words in check_python.fault()


def test_the_check_prints_nothing_here_and_one_sentence_elsewhere():
    command = [sys.executable, "-m", "tools.check_python"]
    ended = subprocess.run(command, cwd=course.ROOT, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    code = (
        "import platform, runpy\nplatform.python_implementation = lambda: 'PyPy'\n"
        "runpy.run_module('tools.check_python', run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=course.ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert ended.returncode == 1
    assert re.fullmatch(r"There is no TensorFlow for PyPy: [^\n]*\.\n", ended.stderr)


def test_the_range_of_pythons_is_the_same_everywhere():
    low, high = (
        ".".join(map(str, end)) for end in (check_python.LOWEST, check_python.HIGHEST)
    )
    above = f"3.{check_python.HIGHEST[1] + 1}"
    texts = {
        name: (course.ROOT / name).read_text(encoding="utf-8")
        for name in ("README.md", "requirements.txt", ".github/workflows/ci.yml")
    }
    assert f"Python {low} to {high}" in texts["README.md"]
    assert f'tensorflow<0; python_version >= "{above}"' in texts["requirements.txt"]
    [job] = [load(p)["jobs"]["quick"] for p in WORKFLOWS if p.name == "ci.yml"]
    matrix = job["strategy"]["matrix"]
    tested = {*matrix["python"], *(row["python"] for row in matrix["include"])}
    assert {min(tested), max(tested)} == {low, high}
    assert all(word in check_python.NEEDED for word in (low, high))


def test_make_checks_python_before_it_installs_anything():
    makefile = (course.ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [line.strip() for line in makefile.splitlines()]
    makers = [
        i for i, line in enumerate(lines) if "-m venv" in line and "peers" not in line
    ]
    assert len(makers) == 3
    for i in makers:
        assert lines[i - 1] == "@$(PYTHON) -m tools.check_python", lines[i]
