"""Keep the notebooks in step with the modules and with the repository's address.

usage: python -m tools.refresh

Writes what every notebook has in common: a cell with the badge and the links to its
neighbours, the first code cell, and the links at the end. A code cell that begins
`# from vae_helpers.py: NAMES` holds the module's source of those names; so does
`# from course/evaluation.py: NAMES`. The tables of results in README.md and
docs/results.md are made from the outputs stored in the notebooks. The placeholder of
the address is replaced by the address in pyproject.toml (see tools/address.py). Stored
outputs stay as they are, except for the address.
"""

import ast
import re
import sys

import nbformat

from course import ROOT
from course.files import write_text
from course.results import expected_ranges, format_range
from tools import address
from tools.address import read_text

TAUGHT = {
    "# from vae_helpers.py: ": ROOT / "vae_helpers.py",
    "# from course/evaluation.py: ": ROOT / "course" / "evaluation.py",
}
# In Colab, the cell is a form of one line; in JupyterLab and in the pages it is closed.
FIRST_CELL = """\
# @title Find the course; in Colab and Kaggle, fetch it first.
import os
import subprocess
import sys
from pathlib import Path

ADDRESS = "https://github.com/-OWNER-/vae-vs-autoencoder"
clone = Path(ADDRESS.rsplit("/")[-1]).absolute()
caller = Path(f"/proc/{os.getppid()}/cmdline")  # papermill may have started elsewhere
words = caller.read_text("utf-8", "replace") if os.access(caller, os.R_OK) else ""
files = [Path(w).absolute() for w in words.split("\\0") if w.endswith(".ipynb")]
folders = [f for p in (Path.cwd(), clone, *files) for f in (p, *p.parents)]
roots = [folder for folder in folders if (folder / "vae_helpers.py").is_file()]
advice = f"open this notebook inside a clone of {ADDRESS}"
if "-OWNER-" in ADDRESS:
    advice = "open this notebook inside a clone (this copy has no address to fetch the "
    advice += "course from; `make set-repo` or the workflow Address writes it)"
elif "google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
    advice = "turn on the internet (in Kaggle: Settings, Internet), check that "
    advice += f"{ADDRESS} is public, and run this cell again"
    roots or subprocess.run(["git", "clone", "--quiet", "--depth", "1", ADDRESS])
    roots += [clone] * (clone / "vae_helpers.py").is_file()
if not roots:
    raise ModuleNotFoundError(f"vae_helpers.py was not found: {advice}.")
sys.path.insert(0, str(roots[0]))"""
FIRST_METADATA = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "tags": ["hide-input"],
}
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
OLD_BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*")
SAVE_A_COPY = (
    "In Colab, what you type is lost when the tab is closed, "
    "unless you first choose *File*, *Save a copy in Drive*."
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


def refreshed(source, here):
    """The source of a cell as it should be where the course is at `here`."""
    for mark in TAUGHT:
        if source.startswith(mark):
            names = source.splitlines()[0].removeprefix(mark).split(",")
            source = source_of([name.strip() for name in names], mark)
    return address.moved(source, address.PLACEHOLDER, here)


def short_title(notebook):
    """A notebook's title up to its colon, such as "01 · The data"."""
    titles = [re.search(r"^# (.*)", cell.source, re.M) for cell in notebook.cells]
    title = next(filter(None, titles), None)
    return title[1].partition(":")[0] if title else "untitled"


def neighbours(path):
    """The notebooks before and after one in reading order, two paths or None.

    The solutions lead to the exercises, but the exercises do not lead to them.
    """
    order = [None, *notebooks()]
    i = order.index(path)
    return order[i - 1], order[i + 1] if i + 2 < len(order) else None


def navigation(path, here):
    """The Markdown of a notebook's head and foot: links to its neighbours, and so on.

    Links between notebooks are relative. They work in Jupyter, in the rendered pages,
    and on GitHub and in Colab, as long as the notebook is opened from the repository.
    """
    before, after = neighbours(path)
    prefix = "" if path.parent.name == "notebooks" else "../notebooks/"

    def link(other, text):
        title = text.format(short_title(read_notebook(other)))
        return f"[{title}]({prefix}{other.name})"

    links = [link(before, "← {}")] if before else []
    links += [link(after, "{} →")] if after else []
    name = path.relative_to(ROOT).as_posix()
    if prefix == "":  # solutions have no page
        page = f"{here.pages}/{name.removesuffix('.ipynb')}.html"
        links.append(f"[as a web page]({page})")
    badge = f"[![Open in Colab]({BADGE})]({here.colab(name)})"
    head, foot = " · ".join([badge, *links]), " · ".join(links)
    return (f"{head}\n\n{SAVE_A_COPY}" if path.stem == "exercises" else head), foot


def refreshed_notebook(path, here=None):
    """The notebook in a file as it should be; default `here`: the current address."""
    notebook, here = read_notebook(path), here or address.current()
    for cell in notebook.cells:
        try:
            cell.source = refreshed(cell.source, here)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        for output in cell.get("outputs", []):  # the link of `strip_explorer`
            data = output.get("data", {})
            for kind in data:
                if kind.startswith("text/"):
                    data[kind] = refreshed(data[kind], here)
    if path.resolve() in notebooks():  # a reader's own notebook is left as it is
        _add_what_all_have(notebook, path.resolve(), here)
    return notebook


def _add_what_all_have(notebook, path, here):
    """Put the first code cell and the links into a notebook of the course."""
    own = [cell for cell in notebook.cells if not is_navigation(cell)]
    for cell in own:
        if cell.cell_type == "markdown":
            cell.source = OLD_BADGE.sub("", cell.source)
    place, first = next((i, c) for i, c in enumerate(own) if c.cell_type == "code")
    if "sys.path.insert" not in first.source:  # a new notebook
        first = nbformat.v4.new_code_cell(id="find-the-course")
        own.insert(place, first)
    first.source = address.moved(FIRST_CELL, address.PLACEHOLDER, here)
    first.metadata.update(nbformat.from_dict(FIRST_METADATA))
    head, foot = navigation(path, here)
    notebook.cells = [_navigation("head", head), *own, _navigation("foot", foot)]


def is_navigation(cell):
    """Whether `refreshed_notebook` wrote this Markdown cell."""
    return "navigation" in cell.metadata.get("tags", [])


def _navigation(name, source):
    tags = {"tags": ["navigation"]}
    return nbformat.v4.new_markdown_cell(source, id=f"navigation-{name}", metadata=tags)


def strip_explorer(notebook):
    """Remove the explorer's page from the outputs of an executed notebook, in place.

    What remains, for notebooks that are stored, is its picture and a link to where one
    learns to run the notebook. Returns the notebook (nbformat 4).
    """
    where = f"{address.current().repository}#run-it"
    words = "Run this notebook"
    link = {
        "text/plain": f"{words} to play: {where}",
        "text/html": f'<a href="{where}">{words}</a>, and the page appears here.',
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


def refreshed_page(text, notebooks, here, names=None):
    """A Markdown page with its table of results, between two comments, renewed."""
    table = results_table(notebooks, names)
    block = f"<!-- results -->\n{table}\n<!-- end of results -->"
    pattern = r"<!-- results -->.*<!-- end of results -->"
    return refreshed(re.sub(pattern, lambda _: block, text, flags=re.S), here)


def main():
    pages = {ROOT / "README.md": README_RESULTS, ROOT / "docs" / "results.md": None}
    before = {path: read_text(path) for path in pages}
    here, after, renewed = address.current(), dict(before), []
    for path in notebooks():
        if not path.is_file():  # the solutions, in what students are given
            continue
        notebook = refreshed_notebook(path, here)
        renewed.append(notebook)
        if notebook != read_notebook(path):
            before[path], after[path] = None, nbformat.writes(notebook) + "\n"
    for path, names in pages.items():
        after[path] = refreshed_page(before[path], renewed, here, names)
    # Everything has been read and is right: only now is anything written.
    for path, text in after.items():
        if text != before[path]:
            write_text(path, text)
            print(f"refreshed: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
