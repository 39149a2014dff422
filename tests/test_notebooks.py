"""The stored notebooks are fit to be read, and chapter 03 to be played with.

That every code cell of a chapter runs twice in a row is tested by `make test TWICE=1`.
"""

import functools
import json
import re

import nbformat
import pytest
from nbclient import NotebookClient

import course
import vae_helpers as vh
from course.results import expected_ranges, format_range
from tools import experiments, refresh

NOTEBOOKS = refresh.notebooks()
CHAPTERS = refresh.chapters()
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
CHECKED = "nbval-check-output"  # a tag: nbval compares the output
# A trace of a machine: /home/me, /root, /Users/me, C:\\Users\\me, /tmp/x ...
# (Debian's /usr/share/datasets is part of the course, and not in the list.)
MACHINE_PATH = re.compile(
    r"(?<![\w.])(?:file://)?/(?:home|root|Users|Volumes|tmp|work\w*|private|var|opt"
    r"|content|data|mnt|srv|usr/l\w+)\b|(?i:\b[a-z]:\\)|~/"
)


@functools.cache
def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [c for c in read(path).cells if c.cell_type == "code" and c.source.strip()]


def text_of(cell):
    """All that a code cell printed or returned as text."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def strings(value):
    """Every string anywhere in nested lists and dictionaries, but no image."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            if key != "image/png":
                yield from strings(part)


@each_notebook
def test_notebook_was_run_in_order_without_warnings_or_errors(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    for output in [output for cell in code_cells(path) for output in cell.outputs]:
        assert output.output_type != "error", output.ename
        assert output.get("name") != "stderr", output.text


@each_notebook
def test_notebook_shows_a_full_run(path):
    text = "\n".join(map(text_of, code_cells(path)))
    assert "55,000 training, 5,000 validation, 10,000 test images" in text
    for words in ("quick", "SAMPLE", "not compared", "outside the expected range"):
        assert words not in text, words


@each_notebook
def test_notebook_has_one_title_and_is_small(path):
    prose = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    titles = re.findall(r"^# .*", "\n".join(prose), flags=re.M)
    assert len(titles) == 1, f"titles: {titles}"
    assert path.stat().st_size < 6_000_000


@each_notebook
def test_each_figure_has_alternative_text(path):
    """In the metadata of its cell, and in those of the stored image."""
    for cell in code_cells(path):
        images = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        assert not images or len(alt) >= 40, f"no alternative text: {cell.source}"
        for image in images:
            assert image.metadata["image/png"]["alt"]


@each_notebook
def test_code_fits_the_page(path):
    for cell in code_cells(path):
        for line in cell.source.splitlines():
            assert len(line) <= 88, line


@each_notebook
def test_checked_cells_show_what_they_are_checked_for(path):
    checked = [c for c in code_cells(path) if CHECKED in c.metadata.get("tags", [])]
    for cell in checked:
        assert text_of(cell).strip(), f"nothing is stored: {cell.source}"
        assert "False" not in text_of(cell), cell.source


@each_notebook
def test_notebook_names_no_machine(path):
    for text in strings(
        [[cell.source, cell.get("outputs")] for cell in read(path).cells]
    ):
        match = MACHINE_PATH.search(text)
        assert not match, text[max(0, match.start() - 80) : match.end() + 80]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_question_stands_before_the_cell_that_answers_it(path):
    cells = read(path).cells
    questions = [
        i for i, c in enumerate(cells) if "**Predict, then look.**" in c.source
    ]
    assert questions, "no question to the reader"
    assert all(cells[i + 1].cell_type == "code" for i in questions)


PAGES = [course.ROOT / "README.md", *sorted(course.ROOT.glob("docs/*.md")), *NOTEBOOKS]


def anchors(path):
    """The anchors of a notebook's or a page's headings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in read(path).cells if c.cell_type != "code")
    return {
        re.sub(r"[^\w\s-]", "", title.strip().lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)", text, flags=re.M)
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_relative_links_lead_to_files_and_headings(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in read(path).cells if c.cell_type != "code")
    for target in re.findall(r"\]\((?![a-z]+:)([^)\s]+)", text):
        name, _, anchor = target.partition("#")
        other = path.parent / name if name else path
        assert other.exists(), target
        assert not anchor or other.suffix == ".py" or anchor.lower() in anchors(other)


# ---------------------------------------------------------------- chapter 03, changed


def executed_again(notebook, folder):
    """Run a notebook's code cells in order, and then again from the middle."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = code + [dict(c) for c in code[len(code) // 2 :]]
    for i, cell in enumerate(notebook.cells):
        notebook.cells[i] = nbformat.v4.new_code_cell(cell["source"])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()


@pytest.mark.slow
def test_chapter_03_runs_with_two_dimensions_and_again_from_its_middle():
    """One line is changed; an error in any cell fails."""
    [path] = [path for path in CHAPTERS if path.name.startswith("03")]
    notebook, line = nbformat.read(path, as_version=4), r"^latent_dim = 10\b"
    [cell] = [c for c in notebook.cells if re.search(line, c.source, flags=re.M)]
    cell.source = re.sub(line, "latent_dim = 2", cell.source, flags=re.M)
    executed_again(notebook, path.parent)


# ---------------------------------------------------------------- kept in step


@each_notebook
def test_a_notebook_is_as_refresh_would_write_it(path):
    """Taught cells hold the helper's source; links lead to the neighbours."""
    renewed = refresh.refreshed_notebook(path)
    for old, new in zip(read(path).cells, renewed.cells):
        assert old == new, "run: python -m tools.refresh"
    assert read(path) == renewed


def test_a_taught_cell_without_source_is_named():
    cell = refresh.source_of(["Sampling"])
    assert cell.splitlines()[1].startswith("@"), "decorators belong to the source"
    assert refresh.refreshed(cell.replace("0.5", "1.0")) == cell
    message = "vae_helpers.py has no function or class no_such_name: correct the line"
    with pytest.raises(ValueError, match=message):
        refresh.source_of(["no_such_name"])


# ---------------------------------------------------------------- results


def test_ranges_follow_from_the_stored_runs():
    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))
    assert experiments.bands(stored["runs"]) == stored["bands"]
    for name, (seeds, _) in experiments.PLAN.items():
        trained = {run["seed"] for run in stored["runs"] if run["name"] == name}
        assert trained == set(seeds) and vh.SEED not in seeds, name
        assert name not in experiments.COMPARED or len(seeds) >= 5, name


@pytest.mark.parametrize("run", ["beta 0.1", "beta 0.5", "beta 2", "beta 4"])
def test_a_wrong_weight_of_kl_falls_outside_a_band(run):
    """A model that is wrong must be told; all seeds of the right one are inside."""
    runs = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    ranges = expected_ranges()

    def outside(record):
        limits = {name: ranges.get(f"VAE, {name}") for name in record["results"]}
        return [
            name
            for name, limit in limits.items()
            if limit and not limit[0] <= record["results"][name] <= limit[1]
        ]

    wrong = [record for record in runs if record["name"] == run]
    assert wrong and all("test KL (nats)" in outside(record) for record in wrong)
    assert not any(outside(record) for record in runs if record["name"] == "vae")


def test_stored_notebooks_show_every_expected_result():
    notebooks = [read(path) for path in NOTEBOOKS]
    for name, (low, high) in expected_ranges().items():
        _, shown, verdict = refresh.stored_result(notebooks, name)
        assert (shown, verdict) == (format_range(low, high), "ok"), name


@pytest.mark.parametrize(
    "name, names", [("README.md", refresh.README_RESULTS), ("docs/results.md", None)]
)
def test_tables_show_the_stored_results(name, names):
    text = (course.ROOT / name).read_text(encoding="utf-8")
    notebooks = {path: read(path) for path in NOTEBOOKS}
    page = refresh.refreshed_page(text, notebooks, names)
    assert page == text, "run: make notebooks"
    rows = re.findall(r"^\| .* \| \S+ to \S+ \|$", text, flags=re.M)
    assert len(rows) == len(names or expected_ranges()) and "not run" not in text
