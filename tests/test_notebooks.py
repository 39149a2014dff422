"""The stored notebooks are fit to be read.

Each rule is a function, and each is shown to fail on a notebook that breaks it.
"""

import copy
import functools
import gzip
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import course
import course.data
import vae_helpers as vh
from course.results import expected_ranges, format_range
from tools import experiments, make_sample, refresh

NOTEBOOKS = refresh.notebooks()
CHAPTERS = refresh.chapters()
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
CHECKED = "nbval-check-output"  # a tag: nbval compares the output
# A trace of a machine in an output: /home/me, /root, /Users/me, C:\Users\me, /tmp/x ...
# (Debian's /usr/share/datasets is part of the course, and not in the list.)
MACHINE_PATH = re.compile(
    r"(?<![\w.])(?:file://)?/(?:home|root|Users|Volumes|tmp|work\w*|private|var|opt"
    r"|content|data|mnt|srv|usr/l\w+)\b|(?i:\b[a-z]:\\)|~/"
)


@functools.cache
def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    ]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def text_of(output):
    return output.get("text", "") + output.get("data", {}).get("text/plain", "")


def strings(value):
    """Every string anywhere in nested lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def has_figure(output):
    return "image/png" in output.get("data", {})


def figures(notebook):
    return list(filter(has_figure, outputs(notebook)))


def was_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), f"execution counts are {counts}"


def has_no_stderr(notebook):
    texts = [o.text for o in outputs(notebook) if o.get("name") == "stderr"]
    assert not texts, f"stderr: {texts}"


def has_no_errors(notebook):
    errors = [o.ename for o in outputs(notebook) if o.output_type == "error"]
    assert not errors, f"errors: {errors}"


def has_one_title(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    titles = re.findall(r"^# .*", "\n".join(prose), flags=re.M)
    assert len(titles) == 1, f"titles: {titles}"


def has_alternative_text(notebook):
    assert figures(notebook), "no figure at all"
    for figure in figures(notebook):
        text = figure.metadata.get("image/png", {}).get("alt", "")
        assert len(text) >= 40, "a figure without alternative text"


def shows_each_figure_once(notebook):
    pictures = [figure.data["image/png"] for figure in figures(notebook)]
    assert len(set(pictures)) == len(pictures), "the same figure twice"


def is_checked(cell):
    return CHECKED in cell.metadata.get("tags", [])


def has_outputs_in_checked_cells(notebook):
    checked = list(filter(is_checked, code_cells(notebook)))
    assert checked, "no checked cell"
    for cell in checked:
        text = "".join(map(text_of, cell.outputs))
        assert text.strip(), f"checked, but nothing is stored: {cell.source}"


def has_only_true_identities(notebook):
    for cell in code_cells(notebook):
        if is_checked(cell):
            texts = map(text_of, cell.outputs)
            assert not any("False" in text for text in texts), cell.source


def names_no_machine(notebook):
    for output in outputs(notebook):
        data = {k: v for k, v in output.get("data", {}).items() if k != "image/png"}
        for text in strings({**output, "data": data}):
            assert not MACHINE_PATH.search(text), f"a path of a machine: {text[:300]}"
    for cell in notebook.cells:
        path = MACHINE_PATH.search(cell.source)
        assert not path, f"a path of a machine: {cell.source[:300]}"


def is_from_a_full_run(notebook):
    text = "\n".join(map(text_of, outputs(notebook)))
    assert "55,000 training, 5,000 validation, 10,000 test images" in text
    for words in ("quick", "SAMPLE", "not compared", "outside the expected range"):
        assert words not in text, words


def asks_before_it_answers(notebook):
    """A question stands in prose, directly before the code whose output answers it."""
    questions = [
        i
        for i, cell in enumerate(notebook.cells)
        if "**Predict, then look.**" in cell.source
    ]
    assert questions, "no question to the reader"
    for i in questions:
        assert notebook.cells[i + 1].cell_type == "code", "no code follows a question"


@each_notebook
def test_notebook_is_small(path):
    assert path.stat().st_size < 2_000_000


def first_cell(notebook, condition):
    return next(cell for cell in code_cells(notebook) if condition(cell))


def print_in(cell, text, name="stdout"):
    cell.outputs.append(nbformat.v4.new_output("stream", name=name, text=text))


def skip_a_cell(notebook):
    code_cells(notebook)[2].execution_count = 99


def print_a_warning(notebook):
    print_in(code_cells(notebook)[0], "Warning: ...", "stderr")


def print_a_traceback(notebook):
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="1", traceback=[])
    code_cells(notebook)[0].outputs.append(error)


def add_a_title(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Another title"))


def remove_alternative_text(notebook):
    del figures(notebook)[-1].metadata["image/png"]["alt"]


def repeat_a_figure(notebook):
    cell = first_cell(notebook, lambda cell: any(map(has_figure, cell.outputs)))
    cell.outputs.extend(copy.deepcopy(cell.outputs))


def strip_a_checked_cell(notebook):
    first_cell(notebook, is_checked).outputs = []


def print_a_false_identity(notebook):
    cell = first_cell(notebook, is_checked)
    cell.outputs = []
    print_in(cell, "agree: False")


def print_a_home_folder(notebook):
    print_in(code_cells(notebook)[0], "saved in /home/someone/vae")


def print_a_windows_folder(notebook):
    print_in(code_cells(notebook)[0], "saved in C:\\Users\\me")


def write_a_temporary_folder(notebook):
    code_cells(notebook)[0].source += "\nopen('file:///tmp/x')"


def print_a_quick_result(notebook):
    print_in(code_cells(notebook)[0], "expected 0.01 to 0.02   not compared")


def print_a_wrong_result(notebook):
    text = "expected 0.01 to 0.02   outside the expected range"
    print_in(code_cells(notebook)[0], text)


def remove_questions(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("Predict, then look.", "")


DAMAGES = [
    (was_run_in_order, skip_a_cell),
    (has_no_stderr, print_a_warning),
    (has_no_errors, print_a_traceback),
    (has_one_title, add_a_title),
    (has_alternative_text, remove_alternative_text),
    (shows_each_figure_once, repeat_a_figure),
    (has_outputs_in_checked_cells, strip_a_checked_cell),
    (has_only_true_identities, print_a_false_identity),
    (names_no_machine, print_a_home_folder),
    (names_no_machine, print_a_windows_folder),
    (names_no_machine, write_a_temporary_folder),
    (is_from_a_full_run, print_a_quick_result),
    (is_from_a_full_run, print_a_wrong_result),
    (asks_before_it_answers, remove_questions),
]
RULES = list(dict.fromkeys(rule for rule, _ in DAMAGES))
# What only chapters promise. tests/test_exercises.py has other rules for exercises.
RULES_OF_CHAPTERS = [has_outputs_in_checked_cells, asks_before_it_answers]


@each_notebook
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_notebook(rule, path):
    if path in CHAPTERS or rule not in RULES_OF_CHAPTERS:
        rule(read(path))


@pytest.mark.parametrize(
    "rule, damage", DAMAGES, ids=lambda function: function.__name__
)
def test_each_rule_can_fail(rule, damage):
    notebook = copy.deepcopy(read(CHAPTERS[1]))
    damage(notebook)
    with pytest.raises(AssertionError):
        rule(notebook)


def test_text_files_name_no_machine():
    """All tracked files but binary ones, notebooks, and this file with its examples."""
    tracked = subprocess.run(
        ["git", "ls-files"],
        cwd=course.ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.splitlines()
    left_out = (".png", ".gif", ".gz", ".keras", ".ipynb", ".html", Path(__file__).name)
    paths = [course.ROOT / name for name in tracked if not name.endswith(left_out)]
    assert len(paths) > 30
    for path in filter(Path.is_file, paths):  # some may have been deleted just now
        text = path.read_text(encoding="utf-8")
        match = re.search(r"/(home|root|Users|tmp|work|opt)/", text)
        assert not match, f"{path.name}: {match and match[0]}"


PAGES = [
    course.ROOT / "README.md",
    *sorted(course.ROOT.glob("docs/*.md")),
    *NOTEBOOKS,
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_relative_links_lead_to_files(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in read(path).cells if c.cell_type != "code")
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text):
        assert (path.parent / target).exists(), target


# ---------------------------------------------------------------- taught cells


@each_notebook
def test_a_notebook_is_as_refresh_would_write_it(path):
    renewed = refresh.refreshed_notebook(path)
    for old, new in zip(read(path).cells, renewed.cells):
        assert old == new, "run: python -m tools.refresh"
    assert read(path) == renewed


def test_taught_cells_differ_when_the_helper_changes():
    cell = refresh.source_of(["Sampling"])
    assert cell.splitlines()[1].startswith("@"), "decorators belong to the source"
    changed = cell.replace("0.5", "1.0")
    assert changed != cell
    assert refresh.refreshed(changed) == cell
    message = "vae_helpers.py has no function or class no_such_name: correct the line"
    with pytest.raises(ValueError, match=message):
        refresh.source_of(["no_such_name"])


EMPTY = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}'
NOT_NOTEBOOKS = {
    "cut short": '{"cells": [',
    "empty": "",
    "a list": "[]",
    "null": "null",
    "nothing in it": "{}",
    "without cells": EMPTY + "}",
    "an unknown cell": EMPTY + ', "cells": [{"cell_type": "x"}]}',
    "a later format": EMPTY.replace("4", "9") + ', "cells": []}',
    "not text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", NOT_NOTEBOOKS.values(), ids=NOT_NOTEBOOKS)
def test_a_file_that_is_no_notebook_is_named(content, tmp_path, capsys):
    path = tmp_path / "01_data.ipynb"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError, match=r"01_data\.ipynb is .*: restore it with git\.$"
    ):
        refresh.read_notebook(path)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A copy of what `tools.refresh` reads and writes, its root."""
    patterns = ("*.py", "*.toml", "README.md", "docs/*.md", "course/*.py", "tools/*.py")
    paths = [path for pattern in patterns for path in course.ROOT.glob(pattern)]
    for path in [*paths, course.EXPERIMENTS, *NOTEBOOKS]:
        copy = tmp_path / path.relative_to(course.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    experiments_json = tmp_path / course.EXPERIMENTS.relative_to(course.ROOT)
    monkeypatch.setattr(course, "EXPERIMENTS", experiments_json)
    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed_files(before, folder):
    after = contents(folder)
    assert set(before) == set(after)
    return {path.name for path in before if before[path] != after[path]}


def test_refresh_puts_everything_in_place_and_then_changes_nothing(copied):
    for path in copied.glob("*/*.ipynb"):
        notebook = refresh.read_notebook(path)
        notebook.cells = [c for c in notebook.cells if not refresh.is_navigation(c)]
        first = code_cells(notebook)[0]
        if path.stem == "02_autoencoder":  # as in a new chapter
            notebook.cells.remove(first)
        first.source, first.metadata = "sys.path.insert(0, '..')", {}
        nbformat.write(notebook, path)
    refresh.main()
    for path in NOTEBOOKS:
        copy = copied / path.relative_to(course.ROOT)
        assert [c.source for c in read(path).cells] == [
            c.source.rstrip() for c in refresh.read_notebook(copy).cells
        ]
    before = contents(copied)
    refresh.main()
    assert not changed_files(before, copied)


def unset_first_cells(folder):
    """Give `refresh` something to write in every notebook."""
    for path in folder.glob("*/*.ipynb"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("@title", "title"), "utf-8", newline="\n")


def test_a_taught_cell_without_source_is_named_with_its_notebook(copied):
    path = copied / "docs" / "solutions.ipynb"
    notebook = refresh.read_notebook(path)
    notebook.cells.append(nbformat.v4.new_code_cell("# from vae_helpers.py: nope"))
    nbformat.write(notebook, path)
    unset_first_cells(copied)
    before = contents(copied)
    sentence = r"solutions\.ipynb: vae_helpers\.py has no function or class nope: corr"
    with pytest.raises(ValueError, match=sentence):
        refresh.main()
    assert not changed_files(before, copied)


def test_the_sample_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    labels = bytes(8) + bytes(i % 10 for i in range(60_000))
    images = bytes(16 + 60_000 * 784)
    names = course.data.SHA256["full"]
    full = {name: labels if "labels" in name else images for name in names}
    monkeypatch.setattr(make_sample, "read_folder", lambda folder: ("full", full))
    monkeypatch.setattr(make_sample, "SAMPLE", tmp_path)
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    parts = iter([b"new", b"new", b"new"])  # then None, which cannot be written
    monkeypatch.setattr(gzip, "compress", lambda *_, **__: next(parts, None))
    with pytest.raises(TypeError):
        make_sample.main("a folder")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == dict.fromkeys(names, b"old")


# ---------------------------------------------------------------- links


def links(cell):
    return re.findall(r"\[([^\]]*)\]\(([^)]*)\)", cell.source)


def test_chapters_lead_to_each_other_in_both_directions():
    *order, solutions = NOTEBOOKS
    for cell in (0, -1):
        for before, after in zip(order, order[1:]):
            [forward] = [x for x in links(read(before).cells[cell]) if "→" in x[0]]
            [back] = [x for x in links(read(after).cells[cell]) if "←" in x[0]]
            assert forward[1] == after.name and back[1] == before.name
            assert refresh.short_title(read(after)) in forward[0]
        assert "←" not in read(order[0]).cells[cell].source
        assert "→" not in read(order[-1]).cells[cell].source
        assert "(../notebooks/exercises.ipynb)" in read(solutions).cells[cell].source


@each_notebook
def test_a_notebook_begins_with_its_own_badge_and_page(path):
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    head, foot = read(path).cells[0], read(path).cells[-1]
    assert head.source.startswith(refresh.badge(path))
    if path.stem == "solutions":
        return
    assert refresh.badge(path) in readme
    page = f"{refresh.PAGES}/notebooks/{path.stem}.html"
    assert page in dict(links(foot)).values() and page in head.source


def test_exercises_say_how_a_copy_is_kept():
    exercises = course.ROOT / "notebooks" / "exercises.ipynb"
    assert "Save a copy in Drive" in read(exercises).cells[0].source


# ---------------------------------------------------------------- results


def test_ranges_follow_from_the_stored_runs():
    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))
    assert experiments.bands(stored["runs"]) == stored["bands"]
    assert experiments.tolerances(stored["runs"]) == stored["tolerances"]
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
    text = refresh.printed_text(notebooks)
    for name, (low, high, _) in expected_ranges().items():
        assert re.search(rf"^{re.escape(name)} .* ok$", text, flags=re.M), name
        shown = refresh.stored_result(notebooks, name)[1]
        assert shown == format_range(low, high), name


@pytest.mark.parametrize(
    "name, names", [("README.md", refresh.README_RESULTS), ("docs/results.md", None)]
)
def test_tables_show_the_stored_results(name, names):
    text = (course.ROOT / name).read_text(encoding="utf-8")
    notebooks = {path: read(path) for path in NOTEBOOKS}
    page = refresh.refreshed_page(text, notebooks, names)
    assert page == text, "run: make notebooks"
    rows = re.findall(r"^\| .* \| (tolerance|band) \|$", text, flags=re.M)
    assert len(rows) == len(names or expected_ranges()) and "not run" not in text


# ---------------------------------------------------------------- versions


def requirements():
    """What requirements.txt and the dependency groups ask for, two lists."""
    text = (course.ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [line.split("#")[0] for line in text.splitlines() if "<0" not in line]
    settings = (course.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    groups = tomllib.loads(settings)["dependency-groups"].values()
    return [Requirement(line) for line in lines if line.strip()], [
        Requirement(line) for group in groups for line in group if isinstance(line, str)
    ]


def test_requirements_admit_colab():
    needed, _ = requirements()
    source = (course.ROOT / "noxfile.py").read_text(encoding="utf-8")
    colab = dict(re.findall(r'^    "([\w-]+)": "([\d.]+)"', source, flags=re.M))
    assert {"tensorflow", "keras", "numpy", "matplotlib"} <= set(colab)
    for requirement in needed:
        version = colab.get(requirement.name)
        assert version is None or version in requirement.specifier, requirement.name


def test_constraints_are_exact_public_versions_within_the_ranges():
    text = (course.ROOT / "constraints.txt").read_text(encoding="utf-8")
    versions = {}
    for line in text.splitlines()[1:]:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
        assert match, line
        versions[canonicalize_name(match[1])] = match[2]
    for requirement in [part for group in requirements() for part in group]:
        version = versions.get(canonicalize_name(requirement.name))
        assert version and version in requirement.specifier, (
            f"{requirement}: run: make constraints"
        )
