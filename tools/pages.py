"""Render the course as pages for a browser, with Sphinx.

usage: python -m tools.pages    the stored notebooks into build/pages/

The sources are assembled in a temporary folder with the layout of the repository, so
that links between files stay as they are; docs/conf.py has Sphinx' settings. The pages
load nothing from elsewhere. What they need beyond the course's own requirements is the
dependency group `pages` in pyproject.toml.
"""

import base64
import html
import importlib.util
import io
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image

import course
import vae_helpers as vh
from course import evaluation, flow
from course.data import load_sample
from course.files import write_errors
from course.map import page as map_page
from course.map import train
from tools import refresh

MISSING = (
    "The pages were not rendered, because Sphinx is not installed: run "
    "`python -m pip install --group pages` (pip 25.1 or newer), then this again."
)
NEEDED = ("sphinx", "myst_nb", "furo", "math_core", "ziamath")
# The pages beside the chapters.
BESIDE = (
    "glossary.md", "mistakes.md", "teaching.md", "results.md", "further.md",
    "performance.md",
)  # fmt: skip
# A picture that the page would fetch from elsewhere.
BADGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
# The link of every notebook to its published page.
PUBLISHED = re.compile(r"(?: · )?\[as a web page\]\([^)]*\)")
# Where the pages are published, for pages that quote them.
PUBLIC = refresh.PAGES + "/"
DESCRIPTION = (
    "Half boot, half bag: build a variational autoencoder in Keras beside a plain one, "
    "and explore both in the browser."
)
# Beside those of docs/conf.py.
SETTINGS = {
    "html_favicon": map_page.ICON,
    "myst_html_meta": {
        "description": DESCRIPTION,
        "property=og:description": DESCRIPTION,
        "property=og:image": f"{PUBLIC}map.png",
    },
}
# The way back from the map, which is in notebooks/.
HOME = (
    '<nav><a href="../index.html">← The course</a> · '
    '<a href="../train.html">Watch a VAE learn</a></nav>'
)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]*)([^)\s]*)\)")


def installed():
    """Whether everything that renders the pages is installed."""
    return all(importlib.util.find_spec(name) for name in NEEDED)


def stored():
    """The stored chapters and exercises, {path: notebook}. Solutions have no page."""
    paths = [path for path in refresh.notebooks() if path.stem != "solutions"]
    return {path: nbformat.read(path, 4) for path in paths}


def write(notebooks, results, explorers=None):
    """Render executed notebooks, and the rest as it is stored, into build/pages.

    Args:
        notebooks: {path: executed notebook}.
        results: the section of the first page that compares results, in Markdown.
        explorers: the folder with the explorer pages that the notebooks link to;
            default: build.

    Returns:
        The path of the first page.

    Raises:
        OSError: the pages could not be written.
        ValueError: Sphinx found a fault, such as a link that leads nowhere. The pages
            are written all the same.
    """
    from sphinx.application import Sphinx  # here: the course runs without it
    from sphinx.util.docutils import docutils_namespace

    executed = {p.name: n for p, n in notebooks.items() if p.stem != "solutions"}
    chapters = {path.name: notebook for path, notebook in stored().items()} | executed
    pages = [f"notebooks/{name}" for name in chapters]
    pages += [f"docs/{name}" for name in BESIDE]
    build = course.BUILD / "pages"
    with write_errors(build), tempfile.TemporaryDirectory(dir=course.BUILD) as folder:
        source, rendered = Path(folder, "source"), Path(folder, "pages")
        for place in ("source/notebooks", "source/docs", "pages/notebooks"):
            Path(folder, place).mkdir(parents=True)
        cards, maps = [], []
        for name, notebook in chapters.items():
            cards.append(_card(notebook, f"notebooks/{Path(name).stem}.html"))
            notebook, used = _prepared(notebook, pages, explorers or course.BUILD)
            for page in used:
                copy = shutil.copy(page, rendered / "notebooks")
                _lead_home(Path(copy), HOME)
                maps.append(f"notebooks/{page.name}")
            nbformat.write(notebook, source / "notebooks" / name)
        for name in BESIDE:
            text = (course.ROOT / "docs" / name).read_text(encoding="utf-8")
            text = _local_links(text, "docs", pages)
            (source / "docs" / name).write_text(text, encoding="utf-8", newline="\n")
        first_page = _first_page(pages, executed, results, cards, maps)
        (source / "index.md").write_text(first_page, encoding="utf-8", newline="\n")
        shutil.copytree(course.ROOT / "docs" / "pictures", source / "docs" / "pictures")
        images, labels, *_ = load_sample()
        training = train.write(rendered / "train.html", images, labels)
        home = HOME.replace("../", "").replace("train.html", maps[0] if maps else "")
        _lead_home(training, home.replace("Watch a VAE learn", "The map of garments"))
        warnings = io.StringIO()
        places = source, course.ROOT / "docs", rendered, Path(folder, "doctrees")
        with docutils_namespace():
            Sphinx(*places, "html", SETTINGS, status=None, warning=warnings).build()
        _complete(rendered)
        shutil.rmtree(build, ignore_errors=True)
        rendered.rename(build)
    if warnings.getvalue():
        text = warnings.getvalue().replace(f"{source}{os.sep}", "")
        text = re.sub(r"\x1b\[[\d;]*m", "", text).strip()  # without colours
        raise ValueError(f"The pages are in {build}, but Sphinx found a fault: {text}")
    return build / "index.html"


def _lead_home(page, links):
    """Put links to the course into the header of a page of its own."""
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<header>", f"<header>{links}", 1), encoding="utf-8")


def _prepared(notebook, pages, explorers):
    """A copy of a notebook as Sphinx needs it, and the explorers that it shows."""
    notebook = nbformat.from_dict(notebook)
    used = embed_explorers(notebook, explorers)
    predicted = False  # whether the text above asks to predict what comes
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            predicted = "predict, then look" in cell.source.lower()
        elif predicted and cell.outputs:
            cell.metadata.setdefault("tags", []).append("hide-output")
            predicted = False
    # The theme has its own links at the foot.
    notebook.cells = [c for c in notebook.cells if c.get("id") != "navigation-foot"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = PUBLISHED.sub("", cell.source)
            cell.source = _local_links(source, "notebooks", pages)
    return notebook, used


def embed_explorers(notebook, folder):
    """Let a notebook show its explorers from the pages in `folder`, in place.

    Where a page is not there, the picture remains.

    Returns:
        The pages that are needed, a list of paths.
    """
    pages = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            path = Path(folder, output.get("metadata", {}).get("explorer", ""))
            if path.is_file():
                pages.append(path)
                source = f'src="{html.escape(path.name)}"'
                output["data"]["text/html"] = map_page.iframe(source)
    return pages


def _local_links(text, folder, pages):
    """Markdown of a file in `folder` whose links work in the rendered course.

    Badges become text. A link to a file that has no page leads to the repository.
    """

    def target(match):
        path = (course.ROOT / folder / match[1]).resolve()
        if not path.is_relative_to(course.ROOT):
            return match[0]
        name = path.relative_to(course.ROOT).as_posix()
        if name in pages or name.startswith("docs/pictures/"):
            return match[0]
        return f"]({refresh.REPOSITORY}/blob/main/{name}{match[2]})"

    return LINK.sub(target, BADGE.sub(r"\1", text))


def _card(notebook, page):
    """A card of the first page: a chapter's opening picture, its name, what one does.

    It is HTML without empty lines, which would end it in Markdown.
    """
    text = "\n".join(cell.source for cell in notebook.cells)
    goal = re.search(r"\*\*You will\*\* \| (.*?) \|", text)
    goal = re.sub(r"[$*`]|\[|\]\([^)]*\)", "", goal[1]) if goal else ""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    picture = ""
    if figures:
        png, file = base64.b64decode(figures[0].data["image/png"]), io.BytesIO()
        small = Image.open(io.BytesIO(png)).convert("RGB")
        small.thumbnail((640, 400))
        small.save(file, "PNG", optimize=True)
        alt = html.escape(figures[0].metadata.get("image/png", {}).get("alt", ""))
        data = base64.b64encode(file.getvalue()).decode()
        picture = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return (
        f'<a class="card" href="{html.escape(page)}">{picture}'
        f"<strong>{html.escape(refresh.short_title(notebook))}</strong>"
        f"<span>{html.escape(goal[:1].upper() + goal[1:])}</span></a>"
    )


def _first_page(pages, executed, results, cards, maps):
    """docs/index.md with the map, or README's picture, README's words, the chapters."""
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    opening, run = re.search(r"\n\n(.*?)\n## Run it\n(.*?)\n## ", readme, re.S).groups()
    run, picture = re.fullmatch(r"(.*\n)(!\[.*\))\s*", run, re.S).groups()
    shown, origin = picture, "All show the outputs that are stored in the course."
    if maps:
        source = html.escape(maps[0])
        frame = map_page.iframe(f'src="{source}"')
        shown = (
            f'<div class="map"><a class="door" href="{source}"><img src="map.png" '
            'alt="A map of garments, and what is decoded at its places">'
            f"<strong>Open the map</strong></a>{frame}</div>"
        )
    if executed:
        names = ", ".join(Path(name).stem for name in executed)
        origin = (
            f"These were run when the pages were built: {names}. "
            "All others show stored outputs."
        )
    heading, _, table = results.partition("\n")
    if table.strip():
        table = f"<details><summary>Show the table</summary>\n{table}\n\n</details>"
    parts = {
        "map": shown,
        "opening": opening,
        "cards": "".join(cards),
        "origin": origin,
        "run": run,
        "results": f"{heading}\n\n{table}",
        "chapters": "\n".join(p for p in pages if p.startswith("notebooks/")),
        "beside": "\n".join(p for p in pages if p.startswith("docs/")),
    }
    text = (course.ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    text = re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], text)
    return _local_links(text, "", pages)


def _complete(folder):
    """Lead to the training page that is here; add og:title; write math.woff.

    The font is STIX Two Math, from ziamath, reduced to the characters of the pages'
    formulas, for readers whose system has no such font.
    """
    from fontTools import subset  # here: comes with matplotlib, and takes a moment

    # A browser sets a single letter in italics, which are characters of their own.
    characters = {*range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C), 0x210E}
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for formula in re.findall("<math.*?</math>", text, re.S):
            characters |= set(map(ord, html.unescape(formula)))
        home = "../" * (len(page.relative_to(folder).parts) - 1)
        text = text.replace(f'"{PUBLIC}train.html"', f'"{home}train.html"')
        text = text.replace('role="heading"', 'role="heading" aria-level="2"')
        title = re.search("<title>(.*?)</title>", text, re.S)
        if title and "og:title" not in text:
            tag = f'<meta property="og:title" content="{title[1].strip()}">'
            text = text.replace("</title>", f"</title>{tag}", 1)
        page.write_text(text, encoding="utf-8", newline="\n")
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    options = subset.Options(flavor="woff", layout_features=["*"])
    fonts = Path(importlib.util.find_spec("ziamath").origin).parent / "fonts"
    font = subset.load_font(str(fonts / "STIXTwoMath-Regular.ttf"), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    subset.save_font(font, str(folder / "_static" / "math.woff"), options)


def reference_map(path):
    """Write the map of the reference models, as chapter 04 does; returns its path."""
    two, vae = map(evaluation.load_vae, ("vae2d", "vae"))
    autoencoder = vh.load(flow.AUTOENCODER)
    others = [(vae.encoder, vae.decoder), vh.split_autoencoder(autoencoder)]
    data = vh.load_data()
    arguments = two.encoder, two.decoder, data.x_val, data.y_val
    return map_page.write(path, *arguments, others=others)


def main():
    """Render the stored notebooks with the reference models' map."""
    if not installed():
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        reference_map(Path(folder, "map.html"))
        table = refresh.results_table(stored().values(), refresh.README_RESULTS)
        results = f"## What you should see\n\n{table}\n\n[All results](docs/results.md)"
        print(f"Read on: {write({}, results, Path(folder))}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nInterrupted.")
