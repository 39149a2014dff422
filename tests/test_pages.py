"""The rendered pages: complete, legible without a network, and without a dead end."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

import course
from course import explorer
from tools import pages, refresh

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
ALT = 'A grey pixel, "alone" & <small>.'
SLIDERS = '<p>Sliders<script type="application/json" id="model">{"kl": [1, 0]}</script>'
PROSE = r"""# A small chapter

[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)

| | |
|---|---|
| **You will** | see $\hat{x}$ |

$$\begin{aligned} a &= \sum_{k=1}^K \mathbf{x} \\ &= \mathcal{N}(\mu, \text{one}) \end{aligned}$$

Read [chapter 03](03_vae.ipynb), then [the helper](../vae_helpers.py)."""


def small(page):
    """A notebook with a formula, a table, a figure, and an explorer, stored: a picture and a link to run it."""
    picture = {"image/png": PIXEL, "text/plain": "words"}
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="epoch 50/50  loss 1\n"),
        nbformat.v4.new_output(
            "display_data", picture, metadata={"image/png": {"alt": ALT}}
        ),
        nbformat.v4.new_output(
            "display_data",
            {**picture, "text/html": "<p>frame"},
            metadata={"explorer": page},
        ),
    ]
    code = nbformat.v4.new_code_cell("figure", outputs=outputs, execution_count=1)
    python = {"language_info": {"name": "python"}}
    cells = [nbformat.v4.new_markdown_cell(PROSE), code]
    return explorer.strip(nbformat.v4.new_notebook(cells=cells, metadata=python))


def rendered():
    """The pages of the stored notebooks and two small ones; the explorer of the second is not there."""
    course.BUILD.mkdir()
    (course.BUILD / "explorer_06.html").write_text(SLIDERS)
    notebooks = {
        "06_small.ipynb": small("explorer_06.html"),
        "07_other.ipynb": small("explorer_07.html"),
    }
    return pages.write(
        notebooks, "## Your results and what to expect\n\nA table."
    ).parent


class Tags(HTMLParser):
    """(tag, attributes) of each element of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="session")
def tags(site):
    """The elements of every page, {name: [(tag, attributes), ...]}."""
    return {
        path.name: Tags(path.read_text("utf-8")).found for path in site.glob("*.html")
    }


def test_every_chapter_has_a_page_and_solutions_have_none(tags):
    stems = {path.stem for path in refresh.chapters()} - {"solutions"}
    assert {f"{stem}.html" for stem in stems} | {
        "index.html",
        "ERRATA.html",
        "TEACHING.html",
    } <= set(tags)
    assert "solutions.html" not in tags


def test_pages_fetch_nothing_from_elsewhere(site, tags):
    for name, found in tags.items():
        for tag, attributes in found:
            if tag in ("link", "script", "img", "iframe", "source"):
                address = attributes.get("src") or attributes.get("href") or ""
                assert not re.match(r"(https?:)?//", address), (
                    f"{name}: {tag} {address}"
                )
            assert "srcset" not in attributes
    for path in site.rglob("*.css"):
        assert not re.search(
            r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text("utf-8")
        ), path.name


def test_every_link_inside_leads_somewhere(site, tags):
    for name, found in tags.items():
        for _, attributes in found:
            for address in (attributes.get("href"), attributes.get("src")):
                if address and not re.match(r"[a-z]+:|#", address):
                    file = unquote(re.split("[#?]", address)[0])
                    assert (site / file).is_file(), f"{name}: {address}"


def test_chapters_have_previous_next_and_contents(tags):
    for name in ("02_autoencoder.html", "04_reconstruct_interpolate_sample.html"):
        contents = {
            attributes.get("href") for tag, attributes in tags[name] if tag == "a"
        }
        assert {"03_vae.html", "ERRATA.html"} <= contents
        assert {"prev", "next"} <= {
            attributes.get("rel") for tag, attributes in tags[name] if tag == "link"
        }


def test_formulas_are_mathml(site, tags):
    page = (site / "06_small.html").read_text("utf-8")
    formulas = re.findall(r"<math.*?</math>", page, re.S)
    assert (
        len(formulas) == 2
        and "<mtable" in formulas[1]
        and "<mtext>one</mtext>" in formulas[1]
    )
    assert "begin{" not in page and "$" not in re.sub(
        r"<script.*?</script>", "", page, flags=re.S
    )
    assert sum(tag == "math" for tag, _ in tags["03_vae.html"]) > 40


def test_figures_and_tables_are_there(tags):
    found = tags["06_small.html"]
    assert ALT in [attributes.get("alt") for tag, attributes in found if tag == "img"]
    assert "table" in [tag for tag, _ in found]


def test_links_to_other_chapters_and_files(site):
    page = (site / "06_small.html").read_text("utf-8")
    assert (
        'href="03_vae.html"' in page
        and 'href="https://colab.research.google.com/x"' in page
    )
    assert f'href="{refresh.repository()}/blob/main/vae_helpers.py"' in page


def test_explorer_is_a_file_beside_the_page(site, tags):
    frames = [
        attributes for tag, attributes in tags["06_small.html"] if tag == "iframe"
    ]
    assert [frame["src"] for frame in frames] == [
        "explorer_06.html"
    ] and "srcdoc" not in frames[0]
    assert (site / "explorer_06.html").read_text() == SLIDERS
    assert "Run this notebook" not in (site / "06_small.html").read_text("utf-8"), (
        "there is nothing left to run"
    )


def test_explorer_that_is_not_there_leaves_its_picture(site, tags):
    assert not any(tag == "iframe" for tag, _ in tags["07_other.html"])
    assert "Run this notebook" in (site / "07_other.html").read_text("utf-8")
    pictures = [
        attributes
        for tag, attributes in tags["07_other.html"]
        if tag == "img" and PIXEL in attributes["src"]
    ]
    assert len(pictures) == 2


def test_first_page_says_what_was_run_here(site):
    page = (site / "index.html").read_text("utf-8")
    assert (
        "Run on this machine: 06_small, 07_other." in page
        and "Your results and what to expect" in page
    )


def test_faults_are_told_and_the_pages_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(pages, "stored", dict)
    monkeypatch.setattr(pages, "BESIDE", ())
    prose = nbformat.v4.new_markdown_cell("# A chapter\n\n$\\nonsense$")
    with pytest.raises(
        ValueError, match=r"have a fault.*cannot be rendered: \\nonsense"
    ):
        pages.write({"08_fault.ipynb": nbformat.v4.new_notebook(cells=[prose])}, "")
    assert (course.BUILD / "pages" / "08_fault.html").is_file()


def test_old_pages_stay_until_the_new_are_in_their_place(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(pages, "stored", dict)
    monkeypatch.setattr(pages, "BESIDE", ())
    notebooks = {
        "08_small.ipynb": nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell("# A chapter")]
        )
    }
    place, rename = course.BUILD / "pages", Path.rename
    place.mkdir(parents=True)
    (place / "old.html").write_text("old")

    def fails(path, target):
        if target == place and not (path / "old.html").exists():
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(KeyboardInterrupt):
        pages.write(notebooks, "")
    assert [path.name for path in place.iterdir()] == ["old.html"] and list(
        course.BUILD.iterdir()
    ) == [place]
    monkeypatch.undo()
    monkeypatch.setattr(course, "BUILD", place.parent)
    monkeypatch.setattr(pages, "stored", dict)
    monkeypatch.setattr(pages, "BESIDE", ())
    pages.write(notebooks, "")
    assert (place / "08_small.html").is_file() and not (place / "old.html").exists()


def test_a_damaged_notebook_has_no_page_but_a_sentence(monkeypatch, tmp_path):
    damaged = tmp_path / "08_damaged.ipynb"
    damaged.write_text('{"cells": [')
    monkeypatch.setattr(refresh, "notebooks", lambda: [damaged])
    with pytest.raises(
        ValueError,
        match=r"08_damaged\.ipynb is not a whole notebook: restore it with git\.$",
    ):
        pages.stored()
