"""The course as pages for a browser: Sphinx renders the notebooks, as they were executed or as they are stored.

usage: python notebooks/pages.py      the stored notebooks, nothing is run, into build/pages/

The pages load nothing from elsewhere: formulas become MathML here, pictures are part of the page,
and the font for formulas lies beside it. What is needed beyond the course's own requirements is
the dependency group `pages` in pyproject.toml.
"""

import html
import importlib.util
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent
INTERRUPTED = "\nInterrupted."
sys.path[:0] = [str(NOTEBOOKS.parent), str(NOTEBOOKS)]

try:  # it takes seconds
    import refresh
    import vae_helpers as vh
    from notebooks import files
except KeyboardInterrupt:
    if __name__ == "__main__":
        sys.exit(INTERRUPTED)
    raise  # run.py says more
except ImportError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"{error} (What the course needs: python -m pip install -r requirements.txt)")

MISSING = (
    "The pages are left out, because Sphinx is not installed here: "
    "python -m pip install --group pages (pip 25.1 or newer), and run this again."
)
BESIDE = ("ERRATA.md", "TEACHING.md")
BADGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")  # a picture that the page would fetch from elsewhere
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")

SETTINGS = {
    "project": "VAE vs. autoencoder on Fashion-MNIST",
    "extensions": ["myst_nb", "pages"],
    "language": "en",
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_heading_anchors": 3,
    "html_math_renderer": "mathml",
    "html_theme": "furo",
    "html_title": "VAE vs. autoencoder",
    "html_static_path": ["_static"],
    "html_css_files": ["pages.css"],
    "html_copy_source": False,
    "suppress_warnings": ["toc.no_title"],  # a reader's own notebook may lack a heading
    "html_show_copyright": False,
}


def installed():
    """Whether what renders the pages is there."""
    return all(importlib.util.find_spec(name) for name in ("sphinx", "myst_nb", "furo", "math_core", "ziamath"))


def stored():
    """The chapters and the exercises as they are stored, {name: notebook}. Solutions have no page."""
    paths = [path for path in refresh.notebooks() if path.stem != "solutions"]
    return {path.name: refresh.read(path) for path in paths}


def write(notebooks, results, explorers=None):
    """Render executed notebooks, {name: notebook}, and the rest of the course as stored, into build/pages.

    Args:
        results: the section of the first page that compares results with what to expect, in Markdown.
        explorers: the folder with the explorer pages that the notebooks link to; default: build.

    Returns:
        The path of the first page.

    Raises:
        OSError: the pages could not be written.
        ValueError: Sphinx found a fault, such as a link that leads nowhere. The pages are written all the same.
    """
    from sphinx.application import Sphinx  # here: the course runs without it
    from sphinx.util.docutils import docutils_namespace

    notebooks = {name: notebook for name, notebook in notebooks.items() if name != "solutions.ipynb"}
    course = {**stored(), **notebooks}
    beside = [name for name in BESIDE if (NOTEBOOKS / name).is_file()]  # a handout may lack the teacher's
    names = [*course, *beside]
    with files.writing(vh.BUILD / "pages"), tempfile.TemporaryDirectory(dir=vh.BUILD) as folder:
        source, rendered = Path(folder, "source"), Path(folder, "pages")
        (source / "_static").mkdir(parents=True)
        rendered.mkdir()
        for name, notebook in course.items():
            nbformat.write(_prepared(notebook, names, explorers or vh.BUILD, rendered), source / name)
        for name in beside:
            text = (NOTEBOOKS / name).read_text(encoding="utf-8")
            (source / name).write_text(_local(text, names), encoding="utf-8")
        (source / "index.md").write_text(_first_page(course, beside, notebooks, results), encoding="utf-8")
        shutil.copytree(NOTEBOOKS / "pictures", source / "pictures")
        shutil.copy(NOTEBOOKS / "pages.css", source / "_static")
        shutil.copy(_font(), source / "_static" / "math.ttf")
        said = io.StringIO()
        with docutils_namespace():
            app = Sphinx(source, None, rendered, Path(folder, "doctrees"), "html", SETTINGS, status=None, warning=said)
            app.build()
        for page in rendered.glob("*.html"):  # for those who read by keyboard or by ear
            text = page.read_text(encoding="utf-8").replace("<pre>", '<pre tabindex="0">')
            page.write_text(text.replace('role="heading"', 'role="heading" aria-level="2"'), encoding="utf-8")
        _replace(vh.BUILD / "pages", rendered, Path(folder, "old"))
        if said.getvalue():
            faults = re.sub(r"\x1b\[[\d;]*m", "", said.getvalue().replace(f"{source}/", "")).strip()  # no colours
            raise ValueError(f"The pages are in {vh.BUILD / 'pages'}, but have a fault. Sphinx says: {faults}")
    return vh.BUILD / "pages" / "index.html"


def _replace(place, new, old):
    """Put the folder `new` in `place`, and what was there in `old`; if that fails, nothing changes."""
    try:
        if place.is_dir():
            place.rename(old)
        new.rename(place)
    except BaseException:  # Ctrl-C too
        if old.is_dir() and not place.exists():
            old.rename(place)
        raise


def _prepared(notebook, names, explorers, folder):
    """A copy of a notebook as Sphinx needs it; its explorer is copied from `explorers` into `folder`."""
    import explorer

    notebook = nbformat.from_dict(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for page in explorer.embed(notebook, explorers):
        shutil.copy(page, folder)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _local(cell.source, names)
    for output in (output for cell in cells for output in cell.outputs):  # myst-nb leaves alternative texts out
        data = output.get("data", {})
        if "image/png" in data and "text/html" not in data:
            alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
            data["text/html"] = f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"].strip()}">'
    return notebook


def _local(text, names, folder=NOTEBOOKS):
    """Markdown of a file in `folder` without pictures from elsewhere; what is no page leads to the repository."""

    def target(match):
        name, mark, place = match[1].partition("#")
        path = (folder / name).resolve()
        if not path.is_relative_to(vh.ROOT):
            return match[0]
        path = path.relative_to(vh.ROOT)
        if path.name in names or path.parent.name == "pictures":
            return f"]({path.relative_to('notebooks').as_posix()}{mark}{place})"
        return f"]({refresh.repository()}/blob/main/{path.as_posix()}{mark}{place})"

    return LINK.sub(target, BADGE.sub(r"\1", text))


def _first_page(course, beside, executed, results):
    """README up to its list of chapters, the list of pages, the results."""
    readme = (vh.ROOT / "README.md").read_text(encoding="utf-8")
    opening = _local(readme.partition("\n## The chapters")[0], [*course, *beside], vh.ROOT)
    said = f"Run on this machine: {', '.join(Path(name).stem for name in executed)}. The others" if executed else "All"
    return "\n".join([
        opening, "", "## The chapters", "",
        f"{said} show the outputs that are stored in the course.", "",
        "```{toctree}", ":maxdepth: 1", ":caption: The course", *course, "```",
        "```{toctree}", ":maxdepth: 1", ":caption: Beside it", *beside, "```", "", results, "",
    ])  # fmt: skip


def _font():
    """The font for formulas, for readers whose system has none: STIX Two Math, as ziamath brings it."""
    folder = Path(importlib.util.find_spec("ziamath").origin).parent
    return folder / "fonts" / "STIXTwoMath-Regular.ttf"


def setup(app):
    """For Sphinx: formulas as MathML."""
    from docutils import nodes
    from math_core import LatexError, LatexToMathML
    from sphinx.util import logging

    converter, logger = LatexToMathML(), logging.getLogger(__name__)

    def visit(translator, node):
        display = isinstance(node, nodes.math_block)
        try:
            formula = converter.convert_with_local_state(node.astext(), displaystyle=display)
        except LatexError:
            formula = ""
            logger.warning("this formula cannot be rendered: %s", node.astext(), location=node)
        translator.body.append(f'<div class="math">{formula}</div>' if display else formula)
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (visit, None), (visit, None))


def main():
    """The stored notebooks as pages, with the explorer of the stored models, as chapter 04 makes it."""
    import explorer

    if not installed():
        sys.exit(MISSING)
    models, data = [vh.load(vh.REFERENCE / f"vae_{part}.keras") for part in ("encoder", "decoder")], vh.load_data()
    with tempfile.TemporaryDirectory() as folder:
        explorer.write(Path(folder, "explorer.html"), *models, data.x_val, data.y_val, "The VAE of chapter 03")
        results = f"## What you should see\n\n{refresh.results_table(stored().values())}"
        print(f"Read on: {write({}, results, Path(folder))}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
