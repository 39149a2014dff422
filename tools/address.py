"""Write the repository's address wherever the course needs it.

usage: python -m tools.address    read owner, name and default branch from the Git
                                  remote "origin", and write them

The address stands in pyproject.toml. The pages in Markdown, CITATION.cff and the
notebooks with their stored outputs repeat it. Needs Python and Git alone.
"""

import os
import re
import subprocess
import sys
import tomllib
from typing import NamedTuple

from course import ROOT
from course.files import write_text

PLACES = ("pyproject.toml", "CITATION.cff", "*.md", "docs/*.md", "*/*.ipynb")
HOST = r"(?:(?:https?|git)://(?:[^/@]+@)?github\.com/|git@github\.com:"
HOST += r"|ssh://git@(?:ssh\.)?github\.com(?::\d+)?/)"
# What GitHub allows. The placeholder's owner, -OWNER-, begins with a hyphen, so that
# nobody can have that name.
OWNER = r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?:_[A-Za-z0-9]+)?"
NAME = r"(?!\.{1,2}$)[\w.-]{1,100}?"
BRANCH = r"(?!.*(?:\.\.|//))\w[\w./-]*(?<![./])"


class Address(NamedTuple):
    """Where a copy of the course is: the parts of its address on GitHub."""

    owner: str
    name: str
    branch: str

    @property
    def repository(self):
        """The repository's address, without a slash at its end."""
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def pages(self):
        """The address of the published pages, without a slash at its end."""
        host = f"{self.owner}.github.io".lower()
        return f"https://{host}" + f"/{self.name}" * (self.name.lower() != host)

    def file(self, path):
        """The address of a file, whose path is relative to the root."""
        return f"{self.repository}/blob/{self.branch}/{path}"

    def colab(self, path):
        """The address that opens a notebook in Colab."""
        github = self.file(path).removeprefix("https://github.com")
        return f"https://colab.research.google.com/github{github}"


PLACEHOLDER = Address("-OWNER-", "vae-vs-autoencoder", "main")


def read_text(path):
    """The text of a file of the course.

    Raises:
        OSError, ValueError: it cannot be read, in one sentence that names it.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise type(error)(
            f"{path} could not be read ({error.strerror}): "
            "restore it with git, or check its permissions."
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged: restore it with git.") from None


def current():
    """The address in pyproject.toml.

    Raises:
        OSError, ValueError: it cannot be read, in one sentence.
    """
    path = ROOT / "pyproject.toml"
    try:
        settings = tomllib.loads(read_text(path))["tool"]["course"]
        owner, name = settings["repository"].rsplit("/", 2)[1:]
        return Address(owner, name, settings["branch"])
    except (ValueError, KeyError):
        raise ValueError(f"{path} is damaged: restore it with git.") from None


def parsed(remote):
    """Owner and name in the address of a Git remote, or None if it is not GitHub's."""
    match = re.fullmatch(rf"{HOST}({OWNER})/({NAME})(?:\.git)?/?", remote)
    return match and match.groups()


def of_origin():
    """The address of the Git remote "origin".

    Raises:
        ValueError: there is none, or it is not on GitHub, in one sentence.
    """
    # The second is the first without what url.*.insteadOf puts in its place.
    remotes = [git("remote", "get-url", "origin"), git("config", "remote.origin.url")]
    found = next(filter(None, map(parsed, remotes)), None)
    if not found:
        what = (
            f"is {remotes[0]}, which is not on GitHub" if remotes[0] else "is missing"
        )
        raise ValueError(
            f"The Git remote origin {what}: set it with "
            "`git remote add origin https://github.com/OWNER/NAME` (or `set-url`)."
        )
    branch = default_branch()
    if not re.fullmatch(BRANCH, branch):
        raise ValueError(
            f"'{branch}' cannot be the default branch here: rename it to letters, "
            "digits, '.', '-', '_' and '/'."
        )
    return Address(*found, branch)


def default_branch():
    """The branch that the remote calls its default; offline, the best guess."""
    listed = git("ls-remote", "--symref", "origin", "HEAD")
    head = re.match(r"ref: refs/heads/(\S+)", listed)
    stored = git("symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    here = git("symbolic-ref", "--short", "HEAD")
    return head[1] if head else stored.removeprefix("origin/") or here or "main"


def git(*arguments):
    """What a Git command prints; nothing if it fails, asks, or takes a minute."""
    try:
        ended = subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if ended.returncode else ended.stdout.strip()


def moved(text, old, new):
    """`text` with every address of `old` as it is for `new`."""
    hosts = r"(github\.com/|research\.google\.com/github/)"
    end = r"(?![\w-]|\.\w)"  # not inside a longer name
    file = rf"(?:/(blob|tree|raw)/{re.escape(old.branch)}(?=/))?"

    def address(match):
        folder = f"/{match[2]}/{new.branch}" if match[2] else ""
        return f"{match[1]}{new.owner}/{new.name}{folder}"

    path = f"{re.escape(old.owner)}/{re.escape(old.name)}"
    text = re.sub(hosts + path + end + file, address, text)
    return re.sub(re.escape(old.pages) + end, lambda _: new.pages, text)


def main():
    old, new, changed = current(), of_origin(), {}
    for path in sorted({path for place in PLACES for path in ROOT.glob(place)}):
        before = read_text(path)
        after = before
        for address in {old, PLACEHOLDER}:
            after = moved(after, address, new)
        if path.name == "pyproject.toml":
            line = f'branch = "{new.branch}"'
            after = re.sub(r"^branch = .*", line, after, flags=re.M)
        if after != before:
            changed[path] = after
    # Everything has been read and is right: only now is anything written.
    for path, text in changed.items():
        write_text(path, text)
        print(f"written: {path.relative_to(ROOT)}")
    print(f"The address is {new.repository}, branch {new.branch}; pages: {new.pages}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
