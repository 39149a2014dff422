"""Keep the notebooks in step with vae_helpers.py and with the repository's address.

usage: python notebooks/refresh.py            taught cells and badges as they should be
       python notebooks/refresh.py OWNER      the same, after the repository moved to that owner

A code cell that begins `# from vae_helpers.py: NAMES` (or `# from scores.py: NAMES`) holds its source of those names.
The address stands once, in pyproject.toml; badges and first cells of all notebooks and of
README.md repeat it. README's table of results is made from experiments.json and the outputs
stored in the notebooks. Those outputs are left as they are, but for the address.
"""

import ast
import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from notebooks import files

TAUGHT = {"# from vae_helpers.py: ": ROOT / "vae_helpers.py", "# from scores.py: ": ROOT / "notebooks" / "scores.py"}
ADDRESS = re.compile(r"(github\.com/|research\.google\.com/github/)[\w.-]+/vae-vs-autoencoder\b")


def chapters():
    """The chapters, in reading order."""
    return sorted((ROOT / "notebooks").glob("0[1-9]_*.ipynb"))


def notebooks():
    """The chapters, then the exercises and their solutions."""
    return [*chapters(), *(ROOT / "notebooks" / f"{name}.ipynb" for name in ("exercises", "solutions"))]


def text_of(path):
    """The text of a file of the course; why it cannot be read is said in one sentence."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"{path} could not be read ({error.strerror})"
        raise type(error)(f"{reason}: restore it with git, or make it readable.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged: restore it with git.") from None


def read(path):
    """The notebook in a file.

    Raises:
        ValueError: it is damaged, or no notebook. The message names it.
    """
    try:
        notebook = nbformat.convert(nbformat.reader.reads(text_of(path)), 4)
        nbformat.validate(notebook)  # nbformat.read would only print what is wrong, at length
    except OSError:
        raise
    except Exception:  # what is no notebook fails in many ways
        raise ValueError(f"{path} is not a whole notebook: restore it with git.") from None
    return notebook


def committed(part, path=ROOT / "notebooks" / "experiments.json"):
    """A part of experiments.json: its "bands", {name: [low, high]}, or its "runs"."""
    try:
        return json.loads(text_of(path))[part]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: restore it with git.") from None


def repository():
    """The repository's address, https://github.com/OWNER/vae-vs-autoencoder."""
    return _address(text_of(ROOT / "pyproject.toml"))


def _address(settings):
    try:
        return tomllib.loads(settings)["tool"]["course"]["repository"]
    except (ValueError, KeyError):
        raise ValueError(f"{ROOT / 'pyproject.toml'} is damaged: restore it with git.") from None


def source_of(names, mark="# from vae_helpers.py: "):
    """The module's source of `names` (a list), decorators included, as a taught cell shows it."""
    text = TAUGHT[mark].read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if getattr(node, "name", None) in names:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    missing = ", ".join(sorted(set(names) - set(found)))
    if missing:
        raise ValueError(f"{TAUGHT[mark].name} has no function or class {missing}: correct '{mark}...' in the cell.")
    return f"{mark}{', '.join(names)}\n" + "\n\n\n".join(found[name] for name in names)


def refreshed(source, address):
    """The source of a cell as it should be."""
    for mark in TAUGHT:
        if source.startswith(mark):
            names = source.splitlines()[0].removeprefix(mark).split(",")
            source = source_of([name.strip() for name in names], mark)
    owner_and_name = address.removeprefix("https://github.com/")
    return ADDRESS.sub(lambda match: match[1] + owner_and_name, source)


def refreshed_notebook(path, address):
    """The notebook in a file as it should be."""
    notebook = read(path)
    for cell in notebook.cells:
        try:
            cell.source = refreshed(cell.source, address)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        for output in cell.get("outputs", []):  # the link that explorer.strip leaves
            data = output.get("data", {})
            data.update({kind: refreshed(data[kind], address) for kind in data if kind.startswith("text/")})
    return notebook


def stored_result(notebooks, name):
    """A result and its band as a stored notebook shows them, ("239.1", "237.7 to 239.6"), or None."""
    outputs = [output for notebook in notebooks for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "\n".join(output.get("text", "") for output in outputs)
    found = re.search(rf"^{re.escape(name)} +(\S+) +expected (\S+ to \S+) ", said, flags=re.M)
    return found and found.groups()


def results_table(notebooks):
    """README's table: each expected result, the one stored in the notebooks, and its band."""
    lines = ["| result | ours | expected |", "|---|---|---|"]
    for name in committed("bands"):
        ours, band = stored_result(notebooks, name) or ("not run", "")
        lines.append(f"| {name} | {ours} | {band} |")
    return "\n".join(lines)


def refreshed_readme(text, notebooks, address):
    """README as it should be."""
    table = f"<!-- results -->\n{results_table(notebooks)}\n<!-- end of results -->"
    text = re.sub(r"<!-- results -->.*<!-- end of results -->", lambda _: table, text, flags=re.S)
    return refreshed(text, address)


def main(owner=None):
    if owner and not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", owner):
        sys.exit(f"'{owner}' is not the name of a GitHub user or organisation.")
    settings, readme = ROOT / "pyproject.toml", ROOT / "README.md"
    before = {path: text_of(path) for path in (settings, readme)}
    after = dict(before)
    if owner:
        after[settings] = ADDRESS.sub(lambda match: f"{match[1]}{owner}/vae-vs-autoencoder", before[settings])
    address, read_now = _address(after[settings]), []
    for path in notebooks():
        if not path.is_file():  # solutions, in what is handed out to students
            continue
        notebook = refreshed_notebook(path, address)
        read_now.append(notebook)
        if notebook != read(path):
            before[path], after[path] = None, nbformat.writes(notebook) + "\n"
    after[readme] = refreshed_readme(before[readme], read_now, address)
    for path, text in after.items():  # all is read and right: only now is anything written
        if text != before[path]:
            files.write_text(path, text)
            print(f"refreshed: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except (OSError, ValueError) as error:
        sys.exit(str(error))
