"""`make set-repo` writes the repository's address everywhere, or nothing."""

import shutil
import subprocess

import pytest

import course
from tools import address, refresh

FORK = address.Address("Some-One", "re.named_course", "release/1.0")
REMOTES = [
    "https://github.com/Some-One/re.named_course",
    "https://github.com/Some-One/re.named_course.git",
    "https://github.com/Some-One/re.named_course/",
    "https://me:secret@github.com/Some-One/re.named_course.git",
    "git@github.com:Some-One/re.named_course",
    "git@github.com:Some-One/re.named_course.git",
    "ssh://git@github.com/Some-One/re.named_course.git",
    "ssh://git@ssh.github.com:443/Some-One/re.named_course.git",
]
NONSENSE = [
    "https://gitlab.com/someone/course.git",
    "https://github.com.example.org/someone/course",
    "https://github.com/-OWNER-/vae-vs-autoencoder",
    "https://github.com/a--b/course",
    "https://github.com/a b/course",
    "https://github.com/someone",
    "https://github.com/someone/..",
    "https://github.com/someone/course/tree/main",
    "/srv/course",
    "",
]


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A function: a Git repository with what holds the address, and such an origin."""
    root = tmp_path / "copy"
    for path in {path for place in address.PLACES for path in course.ROOT.glob(place)}:
        copy = root / path.relative_to(course.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.setattr(address, "ROOT", root)
    monkeypatch.setattr(refresh, "ROOT", root)

    def with_origin(remote, branch=FORK.branch):
        git(root, "init", "--quiet", "--initial-branch", branch)
        if remote:
            git(root, "remote", "add", "origin", remote)
        # Nothing is asked of GitHub itself.
        git(root, "config", "url./nowhere/.insteadOf", remote or "nothing")
        return root

    return with_origin


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def texts(root):
    paths = [path for place in address.PLACES for path in root.glob(place)]
    return {
        p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in paths
    }


@pytest.mark.parametrize("remote", REMOTES)
def test_owner_and_name_are_read_from_every_form_of_a_remote(remote):
    assert address.parsed(remote) == FORK[:2]


@pytest.mark.parametrize("remote", NONSENSE)
def test_what_is_no_address_on_github_is_refused(remote, copied):
    root = copied(remote)
    before = texts(root)
    with pytest.raises(
        ValueError, match=r"^The Git remote origin is .*: set it with .*"
    ):
        address.main()
    assert texts(root) == before


def test_a_branch_that_no_link_could_name_is_refused(copied):
    copied(REMOTES[0], branch="a(b)")
    with pytest.raises(ValueError, match=r"'a\(b\)' cannot be the default branch"):
        address.main()


def test_the_address_is_written_everywhere_and_once(copied, capsys):
    root = copied(REMOTES[1])
    before = texts(root)
    address.main()
    after = texts(root)
    assert address.current() == FORK
    names = {"pyproject.toml", "README.md", "CITATION.cff", "docs/teaching.md"}
    names |= {name for name in before if name.endswith(".ipynb")}
    assert names <= {name for name in after if after[name] != before[name]}
    for name, text in after.items():
        assert "-OWNER-/" not in text and "-owner-." not in text, name
        assert len(text.splitlines()) == len(before[name].splitlines()), name
    badge = FORK.colab("notebooks/01_data.ipynb")
    assert badge in after["README.md"] and badge in after["notebooks/01_data.ipynb"]
    address.main()
    assert texts(root) == after, "a second time, nothing is left to change"
    for path in refresh.notebooks():
        assert refresh.refreshed_notebook(path) == refresh.read_notebook(path)


def test_a_copy_of_a_copy_is_moved_again(copied):
    root = copied(REMOTES[0])
    before, here = texts(root), address.current()
    address.main()
    there = address.Address("next", "vae", "main")
    git(root, "remote", "set-url", "origin", there.repository)
    git(root, "symbolic-ref", "HEAD", "refs/heads/main")
    address.main()
    assert address.current() == there
    del before["pyproject.toml"]  # names the branch by itself
    after = texts(root)
    for name, text in before.items():
        assert after[name] == address.moved(text, here, there), name


def test_only_whole_names_are_moved():
    old, new = address.Address("a", "course", "main"), FORK
    kept = (
        "https://github.com/a/course-2 https://github.com/a/course.js github.com/b/course"
        " https://a.github.io/course-2/ https://example.org/a/course"
    )
    assert address.moved(kept, old, new) == kept
    text = (
        "See https://github.com/a/course. Or https://github.com/a/course/tree/main/docs"
    )
    assert address.moved(text, old, new) == (
        "See https://github.com/Some-One/re.named_course. "
        "Or https://github.com/Some-One/re.named_course/tree/release/1.0/docs"
    )


def test_the_default_branch_is_the_remotes(copied, tmp_path):
    root = copied(REMOTES[0], branch="mine")
    bare = tmp_path / "bare.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "trunk", str(bare))
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    git(root, *identity, "commit", "--quiet", "--allow-empty", "--message", "x")
    git(root, "push", "--quiet", str(bare), "HEAD:trunk", "HEAD:mine")
    git(root, "config", "--unset", "url./nowhere/.insteadOf")
    git(root, "config", f"url.{bare.as_uri()}.insteadOf", REMOTES[0])
    assert address.of_origin() == FORK._replace(branch="trunk")


def test_pages_of_a_users_own_site_are_at_its_root():
    assert FORK.pages == "https://some-one.github.io/re.named_course"
    own = address.Address("Some-One", "some-one.github.io", "main")
    assert own.pages == "https://some-one.github.io"


def test_no_other_tracked_file_holds_the_address():
    tracked = subprocess.run(
        ["git", "grep", "-lI", "-e", "-OWNER-/", "-e", "-owner-[.]"],
        cwd=course.ROOT,
        capture_output=True,
        encoding="utf-8",
    ).stdout.split()
    written = {
        path.relative_to(course.ROOT).as_posix()
        for place in address.PLACES
        for path in course.ROOT.glob(place)
    }
    checks = {"tests/test_address.py", "tests/test_notebooks.py"}
    assert set(tracked) <= written | checks | {"tools/refresh.py"}
