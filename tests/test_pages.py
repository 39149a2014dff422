"""The rendered pages: complete, legible without a network, without broken links."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from test_notebooks import read

import course
from tools import pages, refresh

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU"
    "5ErkJggg=="
)
ALT = 'A grey pixel, "alone" & <small>.'
MAP = "<p>A map"
PROSE = r"""# A small chapter

[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)

| | |
|---|---|
| **You will** | see $\hat{x}$ |

$$\begin{aligned} a &= \sum_{k=1}^K \mathbf{x} \\ &= \mathcal{N}(\mu, \text{one}) \end{aligned}$$

Read [chapter 03](03_vae.ipynb), then [the helper](../vae_helpers.py), then
[mistakes](../docs/mistakes.md#the-loss), then [the marking guide](../docs/marking.md).
A term: [ELBO](../docs/glossary.md#elbo).
"""


def small(page):
    """A notebook with a formula, a table, a figure, and an explorer as it is stored."""
    picture = {"image/png": PIXEL, "text/plain": "words"}
    explorer = {**picture, "text/html": "<p>frame"}
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="epoch 50/50  loss 1\n"),
        nbformat.v4.new_output("display_data", picture),
        nbformat.v4.new_output("display_data", explorer, metadata={"explorer": page}),
    ]
    code = nbformat.v4.new_code_cell("figure", outputs=outputs, execution_count=1)
    code.metadata["mystnb"] = {"image": {"alt": ALT}}
    python = {"language_info": {"name": "python"}}
    cells = [nbformat.v4.new_markdown_cell(PROSE), code]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=python)
    refresh.copy_alternative_texts(notebook)
    return refresh.strip_explorer(notebook)


def rendered():
    """The folder of the pages of the stored notebooks and of two small ones.

    The explorer of the second is missing.
    """
    course.BUILD.mkdir()
    (course.BUILD / "explorer_06.html").write_text(MAP)
    notebooks = {
        Path("notebooks/06_small.ipynb"): small("explorer_06.html"),
        Path("notebooks/07_other.ipynb"): small("explorer_07.html"),
    }
    results = "## Your results and what to expect\n\nA table."
    return pages.write(notebooks, results).parent


class Tags(HTMLParser):
    """The elements of a page: `list` holds (tag, attributes) of each."""

    def __init__(self, text):
        super().__init__()
        self.list = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.list.append((tag, dict(attributes)))


@pytest.fixture(scope="session")
def tags(site):
    """The elements of every page, {its path in the site: [(tag, attributes), ...]}."""
    return {
        path.relative_to(site).as_posix(): Tags(path.read_text("utf-8")).list
        for path in site.rglob("*.html")
    }


def figures(notebook):
    """The outputs that are pictures, and not replaced by a map in a frame."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return [o for o in outputs if "image/png" in o.get("data", {})]


def attributes_of(tags, tag):
    return [attributes for name, attributes in tags if name == tag]


def test_every_chapter_has_a_page_and_solutions_have_none(tags):
    notebooks = {path.stem for path in refresh.notebooks()} - {"solutions"}
    expected = {f"notebooks/{stem}.html" for stem in notebooks}
    expected |= {f"docs/{Path(name).stem}.html" for name in pages.BESIDE}
    assert {"index.html", *expected} <= set(tags)
    assert not any("solutions" in name or "marking" in name for name in tags)


def test_pages_load_nothing_from_elsewhere(site, tags):
    for name, elements in tags.items():
        for tag, attributes in elements:
            if tag in ("link", "script", "img", "iframe", "source"):
                address = attributes.get("src") or attributes.get("href") or ""
                assert not re.match(r"(https?:)?//", address), f"{name}: {address}"
            assert "srcset" not in attributes
    for path in site.rglob("*.css"):
        text = path.read_text("utf-8")
        remote = re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", text)
        assert not remote, path.name


def test_every_link_inside_leads_to_a_file(site, tags):
    for name, elements in tags.items():
        for _, attributes in elements:
            for target in (attributes.get("href"), attributes.get("src")):
                if target and not re.match(r"[a-z]+:|#", target):
                    file = unquote(re.split("[#?]", target)[0])
                    assert (site / name).parent.joinpath(file).is_file(), (
                        f"{name}: {target}"
                    )


def test_pages_do_not_lead_to_where_they_may_be_published(site):
    for path in (site / "index.html", site / "notebooks" / "02_autoencoder.html"):
        text = path.read_text("utf-8")
        text = re.sub("<meta[^>]*>", "", text)
        assert "as a web page" not in text and ".github.io" not in text, path.name
    links = re.findall(r'href="(\w+\.html)"><span[^>]*>[^<]*[←→]', text)
    assert links == ["01_data.html", "03_vae.html"]


def test_the_first_cell_is_closed(site, tags):
    page = (site / "notebooks" / "02_autoencoder.html").read_text("utf-8")
    closed = re.search(r"<details.*?</details>", page, flags=re.S)[0]
    assert "Find the course" in re.sub("<[^>]*>", "", closed)


def test_formulas_are_mathml(site, tags):
    page = (site / "notebooks" / "06_small.html").read_text("utf-8")
    first, second = re.findall(r"<math.*?</math>", page, re.S)
    assert "<mtable" in second and "<mtext>one</mtext>" in second
    text = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "begin{" not in page and "$" not in text
    assert len(attributes_of(tags["notebooks/03_vae.html"], "math")) > 40


@pytest.mark.parametrize("path", refresh.notebooks()[:-1], ids=lambda path: path.stem)
def test_a_rendered_page_has_the_alternative_text(path, site):
    page = (site / "notebooks" / f"{path.stem}.html").read_text("utf-8")
    tags = [tag for tag in re.findall(r"<img [^>]*>", page) if "_images/" in tag]
    texts = [html.unescape(re.search(r'\balt="([^"]*)"', tag)[1]) for tag in tags]
    expected = [figure.metadata["image/png"]["alt"] for figure in figures(read(path))]
    assert texts == expected


def test_links_lead_to_pages_and_otherwise_to_the_repository(tags):
    links = {a.get("href") for a in attributes_of(tags["notebooks/06_small.html"], "a")}
    files = f"{refresh.REPOSITORY}/blob/main"
    assert {"https://colab.research.google.com/x", "03_vae.html"} <= links
    assert "../docs/mistakes.html#the-loss" in links
    assert "../docs/glossary.html#elbo" in links
    assert {f"{files}/vae_helpers.py", f"{files}/docs/marking.md"} <= links


def test_an_explorer_is_a_file_beside_the_page(site, tags):
    [frame] = attributes_of(tags["notebooks/06_small.html"], "iframe")
    assert frame["src"] == "explorer_06.html" and "srcdoc" not in frame
    assert (site / "notebooks" / "explorer_06.html").read_text() == MAP


def test_a_missing_explorer_leaves_its_picture(site, tags):
    elements = tags["notebooks/07_other.html"]
    assert not attributes_of(elements, "iframe")
    sources = [image["src"] for image in attributes_of(elements, "img")]
    assert sum("_images/" in source for source in sources) == 2


@pytest.mark.parametrize("name", ["index", "notebooks/01_data", "train"])
def test_a_shared_link_has_a_title_a_sentence_and_a_picture(site, name):
    page = (site / f"{name}.html").read_text("utf-8")
    for part in ("title", "description", "image"):
        found = re.findall(rf'<meta [^>]*property="og:{part}"[^>]*>', page)
        assert len(found) == 1 and re.search(r'content="[^"]{7,}', found[0]), found


def test_first_page_names_the_notebooks_that_were_run(site):
    page = (site / "index.html").read_text("utf-8")
    assert "These were run when the pages were built: 06_small, 07_other." in page
    assert "Your results and what to expect" in page


def test_first_page_shows_the_map_and_a_card_for_each_chapter(site, tags):
    elements = tags["index.html"]
    [frame] = attributes_of(elements, "iframe")
    assert frame["src"] == "notebooks/explorer_06.html" and frame["title"]
    cards = [a for a in attributes_of(elements, "a") if a.get("class") == "card"]
    names = [path.stem for path in refresh.notebooks() if path.stem != "solutions"]
    names += ["06_small", "07_other"]
    assert [card["href"] for card in cards] == [f"notebooks/{n}.html" for n in names]
    page = (site / "index.html").read_text("utf-8")
    texts = re.findall(r'<a class="card".*?</a>', page, re.S)
    for name, text in zip(names, texts):
        picture, number = Tags(text).list[1], name.partition("_")[0]
        assert picture[0] == "img" and picture[1]["alt"], f"{name}: no picture"
        if number in ("01", "02", "03", "04", "05"):
            assert f"<strong>{number} · " in text and len(text.split("<span>")[1]) > 50
        assert "$" not in re.sub("<.*?>", "", text)


def test_first_page_without_a_map_shows_readmes_picture(small_course):
    folder = pages.write(one_chapter("08_small.ipynb", "# A chapter"), "").parent
    elements = Tags((folder / "index.html").read_text("utf-8")).list
    assert not attributes_of(elements, "iframe")
    sources = [image["src"] for image in attributes_of(elements, "img")]
    assert any("overview" in source for source in sources)


def test_results_of_the_first_page_are_folded(site):
    page = (site / "index.html").read_text("utf-8")
    folded = re.search(r"<details>(.*?)</details>", page, re.S)
    assert "A table." in folded[1] and "<summary>" in folded[1]
    assert "Your results and what to expect" in page[: folded.start()]


@pytest.fixture
def small_course(monkeypatch, tmp_path):
    """Pages of nothing but what a test names; the folder of the pages."""
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(pages, "stored", dict)
    monkeypatch.setattr(pages, "BESIDE", ())
    return tmp_path / "build" / "pages"


def one_chapter(name, prose):
    cell = nbformat.v4.new_markdown_cell(prose)
    return {Path(name): nbformat.v4.new_notebook(cells=[cell])}


@pytest.mark.parametrize(
    "prose, fault",
    [
        ("$\\nonsense$", r"cannot be rendered: \\nonsense"),
        ("[a section](#of-nothing)", "of-nothing"),
    ],
)
def test_faults_are_reported_and_the_pages_written(prose, fault, small_course):
    chapter = one_chapter("08_fault.ipynb", f"# A chapter\n\n{prose}")
    with pytest.raises(ValueError, match=f"Sphinx found a fault: .*{fault}"):
        pages.write(chapter, "")
    assert (small_course / "notebooks" / "08_fault.html").is_file()
