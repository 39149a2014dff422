"""Keep the notebooks in step with vae_helpers.py and with the repository's address.

usage: python -m tools.refresh            renew taught cells, badges and tables
       python -m tools.refresh OWNER      the same, after the repository moved to OWNER

A code cell that begins `# from vae_helpers.py: NAMES` holds the module's source of
those names; so does `# from course/evaluation.py: NAMES`. The address stands once, in
pyproject.toml; badges and first cells of all notebooks and of README.md repeat it. The
tables of results in README.md and docs/results.md are made from the outputs stored in
the notebooks. Those outputs stay as they are, except for the address.
"""

import ast
import re
import sys
import tomllib

import nbformat

from course import ROOT
from course.files import write_text
from course.results import expected_ranges, format_range

TAUGHT = {
    "# from vae_helpers.py: ": ROOT / "vae_helpers.py",
    "# from course/evaluation.py: ": ROOT / "course" / "evaluation.py",
}
ADDRESS = re.compile(
    r"(github\.com/|research\.google\.com/github/)[\w.-]+/vae-vs-autoencoder\b"
)
README_RESULTS = (
    "PCA-18, test MSE",
    "autoencoder, test MSE",
    "VAE, test -ELBO (nats)",
    "VAE, test KL (nats)",
    "VAE, active latent dimensions",
    "better VAE, test -ELBO (nats)",
)


def chapters():
    """The chapters, in reading order."""
    return sorted((ROOT / "notebooks").glob("0[1-9]_*.ipynb"))


def notebooks():
    """The chapters, then the exercises and their solutions."""
    exercises = ROOT / "notebooks" / "exercises.ipynb"
    return [*chapters(), exercises, ROOT / "docs" / "solutions.ipynb"]


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


def read_notebook(path):
    """The notebook in a file.

    Raises:
        OSError, ValueError: it cannot be read, or is not a valid notebook.
    """
    try:
        notebook = nbformat.convert(nbformat.reader.reads(read_text(path)), 4)
        nbformat.validate(notebook)  # nbformat.read would only print what is wrong
    except OSError:
        raise
    except Exception:  # a damaged notebook fails in many ways
        raise ValueError(
            f"{path} is not a complete notebook: restore it with git."
        ) from None
    return notebook


def repository():
    """The repository's address, https://github.com/OWNER/vae-vs-autoencoder."""
    return _address(read_text(ROOT / "pyproject.toml"))


def _address(settings):
    try:
        return tomllib.loads(settings)["tool"]["course"]["repository"]
    except (ValueError, KeyError):
        path = ROOT / "pyproject.toml"
        raise ValueError(f"{path} is damaged: restore it with git.") from None


def source_of(names, mark="# from vae_helpers.py: "):
    """The source of `names` (a list) as a taught cell shows it, decorators included."""
    path = TAUGHT[mark]
    text = path.read_text(encoding="utf-8")
    lines, sources = text.splitlines(), {}
    for node in ast.parse(text).body:
        if getattr(node, "name", None) in names:
            decorators = [decorator.lineno for decorator in node.decorator_list]
            first = min([node.lineno, *decorators])
            sources[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    missing = ", ".join(sorted(set(names) - set(sources)))
    if missing:
        raise ValueError(
            f"{path.name} has no function or class {missing}: "
            f"correct the line '{mark}...' in the cell."
        )
    heading = f"{mark}{', '.join(names)}\n"
    return heading + "\n\n\n".join(sources[name] for name in names)


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
    notebook = read_notebook(path)
    for cell in notebook.cells:
        try:
            cell.source = refreshed(cell.source, address)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        for output in cell.get("outputs", []):  # the link of `strip_explorer`
            data = output.get("data", {})
            for kind in data:
                if kind.startswith("text/"):
                    data[kind] = refreshed(data[kind], address)
    return notebook


def strip_explorer(notebook):
    """Remove the explorer's page from the outputs of an executed notebook, in place.

    What remains, for notebooks that are stored, is its picture and a link to where one
    learns to run the notebook. Returns the notebook (nbformat 4).
    """
    address, words = f"{repository()}#run-it", "Run this notebook"
    link = {
        "text/plain": f"{words} to play: {address}",
        "text/html": f'<a href="{address}">{words}</a>, and the page appears here.',
    }
    for cell in notebook["cells"]:
        for output in list(cell.get("outputs", [])):
            is_explorer = output.get("metadata", {}).get("explorer")
            if is_explorer and output["data"].pop("text/html", None):
                run_it = nbformat.v4.new_output(
                    "display_data", link, metadata={"run_it": True}
                )
                cell["outputs"].append(run_it)
    return notebook


def printed_text(notebooks):
    """All that the cells of executed notebooks printed, as one text."""
    return "\n".join(
        output.get("text", "")
        for notebook in notebooks
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def stored_result(notebooks, name):
    """A result and its range as stored notebooks show them, or None.

    ("239.1", "237.7 to 239.6")
    """
    line = rf"^{re.escape(name)} +(\S+) +expected (\S+ to \S+) "
    found = re.search(line, printed_text(notebooks), flags=re.M)
    return found and found.groups()


def results_table(notebooks, names=None):
    """A table in Markdown: result, what the stored notebooks show, expected range."""
    lines = ["| result | ours | expected | kind |", "|---|---|---|---|"]
    for name, (low, high, kind) in expected_ranges().items():
        if names is None or name in names:
            ours, _ = stored_result(notebooks, name) or ("not run", "")
            lines.append(f"| {name} | {ours} | {format_range(low, high)} | {kind} |")
    return "\n".join(lines)


def refreshed_page(text, notebooks, address, names=None):
    """A Markdown page with its table of results, between two comments, renewed."""
    table = results_table(notebooks, names)
    block = f"<!-- results -->\n{table}\n<!-- end of results -->"
    pattern = r"<!-- results -->.*<!-- end of results -->"
    return refreshed(re.sub(pattern, lambda _: block, text, flags=re.S), address)


def main(owner=None):
    if owner and not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", owner):
        sys.exit(f"'{owner}' is not the name of a GitHub user or organisation.")
    settings = ROOT / "pyproject.toml"
    pages = {ROOT / "README.md": README_RESULTS, ROOT / "docs" / "results.md": None}
    before = {path: read_text(path) for path in (settings, *pages)}
    after = dict(before)
    if owner:
        name = f"{owner}/vae-vs-autoencoder"
        after[settings] = ADDRESS.sub(lambda match: match[1] + name, before[settings])
    address, renewed = _address(after[settings]), []
    for path in notebooks():
        if not path.is_file():  # the solutions, in what students are given
            continue
        notebook = refreshed_notebook(path, address)
        renewed.append(notebook)
        if notebook != read_notebook(path):
            before[path], after[path] = None, nbformat.writes(notebook) + "\n"
    for path, names in pages.items():
        after[path] = refreshed_page(before[path], renewed, address, names)
    # Everything has been read and is right: only now is anything written.
    for path, text in after.items():
        if text != before[path]:
            write_text(path, text)
            print(f"refreshed: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except (OSError, ValueError) as error:
        sys.exit(str(error))
