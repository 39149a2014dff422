"""Keep the notebooks in step with the modules and with each other.

usage: python -m tools.refresh

Writes what every notebook has in common: a cell with the badge and the links to its
neighbours, the first code cell and the sentence above it, and the links at the end. A
code cell that begins `# from vae_helpers.py: NAMES` holds the module's source of those
names; so does `# from course/flow.py: NAMES`, for any module. The alternative text in a
cell's metadata is copied to its stored images; else stored outputs stay as they are.
The tables in README.md and docs/results.md are made from the notebooks.
"""

import ast
import re
import sys

import nbformat

from course import ROOT
from course.files import write_text
from course.results import expected_ranges, format_range

# `make set-repo` writes a copy's own addresses here and everywhere else.
REPOSITORY = "https://github.com/-OWNER-/vae-vs-autoencoder"
PAGES = "https://-owner-.github.io/vae-vs-autoencoder"
COLAB = f"https://colab.research.google.com/github{REPOSITORY[18:]}/blob/main"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"

# In Colab, the cell is a form of one line; in JupyterLab and in the pages it is closed.
FIRST_CELL = f"""\
# @title Find the course; in Colab and Kaggle, fetch it first.
import os
import sys
from pathlib import Path
places = [Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*")]
found = [str(p) for p in places if os.access(p / "vae_helpers.py", os.R_OK)]
if not found and {{"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}} & {{*os.environ}}:
    !git clone -q --depth 1 {REPOSITORY} vae-course
sys.path[:0] = found[:1] or [os.path.abspath("vae-course")]"""
CLOSED = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "tags": ["hide-input"],
}
ABOVE_FIRST_CELL = (
    "*The next cell finds the course. In Colab and Kaggle it fetches the course (in "
    "Kaggle, first turn on the internet under Settings). Elsewhere, open this notebook "
    f"in a clone of [the repository]({REPOSITORY}).*"
)
SAVE_A_COPY = (
    "In Colab, what you type is lost when the tab is closed, "
    "unless you first choose *File*, *Save a copy in Drive*."
)
README_RESULTS = (
    "autoencoder, test MSE",
    "VAE, test -ELBO (nats)",
    "VAE, test KL (nats)",
    "VAE, active latent dimensions",
)


def chapters():
    """The chapters, in reading order."""
    return sorted((ROOT / "notebooks").glob("0[1-9]_*.ipynb"))


def notebooks():
    """The chapters, then the exercises and, where they are, their solutions."""
    names = ("notebooks/exercises.ipynb", "docs/solutions.ipynb")
    return [*chapters(), *(ROOT / name for name in names if (ROOT / name).is_file())]


def source_of(names, file="vae_helpers.py"):
    """The source of `names` (a list) as a taught cell shows it, decorators included.

    Raises:
        ValueError: the file, a path relative to the root, has no such name.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    nodes = {getattr(node, "name", None): node for node in ast.parse(text).body}
    sources = []
    for name in names:
        if name not in nodes:
            raise ValueError(
                f"{file} has no function or class {name}: "
                f"correct the line '# from {file}: ...' in the cell."
            )
        node = nodes[name]
        first = min(part.lineno for part in [node, *node.decorator_list])
        sources.append("\n".join(text.splitlines()[first - 1 : node.end_lineno]))
    return f"# from {file}: {', '.join(names)}\n" + "\n\n\n".join(sources)


def refreshed(source):
    """The source of a code cell as it should be: a taught cell's from its module."""
    taught = re.match(r"# from (\w+(?:/\w+)*\.py): (.*)", source)
    if not taught:
        return source
    names = [name.strip() for name in taught[2].split(",")]
    return source_of(names, taught[1])


def copy_alternative_texts(notebook):
    """Give a cell's images the alternative text of its metadata, in place.

    It stands where MyST-NB has it: {"mystnb": {"image": {"alt": ...}}}.
    """
    for cell in notebook.cells:
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        for output in cell.get("outputs", []):
            if alt and "image/png" in output.get("data", {}):
                output.metadata.setdefault("image/png", {})["alt"] = alt


def short_title(notebook):
    """A notebook's title up to its colon, such as "01 · The data"."""
    text = "\n".join(cell.source for cell in notebook.cells)
    title = re.search(r"^# ([^:\n]*)", text, re.M)
    return title[1] if title else "untitled"


def navigation(path):
    """The Markdown of a notebook's head and foot: links to its neighbours, and so on.

    Links between notebooks are relative. They work in Jupyter, in the rendered pages,
    and on GitHub and in Colab, as long as the notebook is opened from the repository.
    The solutions lead to the exercises, but the exercises do not lead to them.
    """
    order = [None, *notebooks()]
    i, links = order.index(path), []
    if before := order[i - 1]:
        folder = "" if path.parent == before.parent else "../notebooks/"
        title = short_title(nbformat.read(before, 4))
        links.append(f"[← {title}]({folder}{before.name})")
    if path.stem != "solutions":
        if path.stem != "exercises":
            title = short_title(nbformat.read(order[i + 1], 4))
            links.append(f"[{title} →]({order[i + 1].name})")
        links.append(f"[as a web page]({PAGES}/notebooks/{path.stem}.html)")
    head, foot = " · ".join([badge(path), *links]), " · ".join(links)
    return (f"{head}\n\n{SAVE_A_COPY}" if path.stem == "exercises" else head), foot


def badge(path):
    """The badge that opens a notebook in Colab, in Markdown."""
    return f"[![Open in Colab]({BADGE})]({COLAB}/{path.relative_to(ROOT).as_posix()})"


def refreshed_notebook(path):
    """The notebook in a file as it should be."""
    try:
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            cell.source = refreshed(cell.source)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    copy_alternative_texts(notebook)
    if path.resolve() in notebooks():  # a reader's own notebook is left as it is
        _add_what_all_have(notebook, path.resolve())
    return notebook


def _add_what_all_have(notebook, path):
    """Put the first code cell and the links into a notebook of the course."""
    cells = notebook.cells
    own = [c for c in cells if "navigation" not in c.metadata.get("tags", [])]
    place, first = next((i, c) for i, c in enumerate(own) if c.cell_type == "code")
    if "sys.path" not in first.source:  # a new notebook
        first = nbformat.v4.new_code_cell(id="find-the-course")
        own.insert(place, first)
    first.source = FIRST_CELL
    first.metadata.update(nbformat.from_dict(CLOSED))
    own.insert(place, _navigation("first", ABOVE_FIRST_CELL))
    head, foot = navigation(path)
    notebook.cells = [_navigation("head", head), *own, _navigation("foot", foot)]


def _navigation(name, source):
    """A Markdown cell that is written anew each time."""
    tags = {"tags": ["navigation"]}
    return nbformat.v4.new_markdown_cell(source, id=f"navigation-{name}", metadata=tags)


def strip_explorer(notebook):
    """Remove the interactive page from the outputs of an executed notebook, in place.

    What remains, for notebooks that are stored, is its picture. Returns the notebook.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "explorer" in output.get("metadata", {}):
                output["data"].pop("text/html", None)
    return notebook


def stored_result(notebooks, name):
    """A result as executed notebooks show it, or None.

    ("239.1", "237.7 to 239.6", "ok"): the value, the expected range, the verdict.
    """
    line = re.compile(rf"^{re.escape(name)} +(\S+) +expected (\S+ to \S+) +(.+)$", re.M)
    for notebook in notebooks:
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if found := line.search(output.get("text", "")):
                    return found.groups()
    return None


def results_table(notebooks, names=None):
    """A table in Markdown: result, what the stored notebooks show, expected range."""
    lines = ["| result | ours | expected |", "|---|---|---|"]
    for name, (low, high) in expected_ranges().items():
        if names is None or name in names:
            ours = (stored_result(notebooks, name) or ["not run"])[0]
            lines.append(f"| {name} | {ours} | {format_range(low, high)} |")
    return "\n".join(lines)


def chapters_table(notebooks):
    """README's table of {path: notebook}: title, time as its first table has it, badge."""
    lines = ["| | chapter | takes | |", "|---|---|---|---|"]
    for path, notebook in notebooks.items():
        if path.stem == "solutions":
            continue
        text = "\n".join(cell.source for cell in notebook.cells)
        takes = re.search(r"\*\*It takes\*\* \| (?:about )?(.*?)(?: on |,|;| \|)", text)
        number, _, title = short_title(notebook).rpartition(" · ")
        minutes = takes[1] if takes and number else ""
        name = path.relative_to(ROOT).as_posix()
        lines.append(f"| {number} | [{title}]({name}) | {minutes} | {badge(path)} |")
    return "\n".join(lines)


def refreshed_page(text, notebooks, names=None):
    """A Markdown page with its tables of {path: notebook}, between comments, renewed.

    `names` are the results that the page shows; default: all.
    """
    tables = {
        "chapters": chapters_table(notebooks),
        "results": results_table(notebooks.values(), names),
    }
    for name, table in tables.items():
        block = f"<!-- {name} -->\n{table}\n<!-- end of {name} -->"
        pattern = rf"<!-- {name} -->.*?<!-- end of {name} -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.S)
    return text


def main():
    """Write all that is not as it should be."""
    renewed = {path: refreshed_notebook(path) for path in notebooks()}
    texts = {path: nbformat.writes(nb) + "\n" for path, nb in renewed.items()}
    for name, results in {"README.md": README_RESULTS, "docs/results.md": None}.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        texts[ROOT / name] = refreshed_page(text, renewed, results)
    # Everything has been read and is right: only now is anything written.
    for path, text in texts.items():
        if text != path.read_text(encoding="utf-8"):
            write_text(path, text)
            print(f"refreshed: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
