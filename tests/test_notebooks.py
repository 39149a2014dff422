"""The stored notebooks are fit to be read: each rule is a function, and each is shown to be able to fail."""

import copy
import functools
import gzip
import html
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import course.data
import vae_helpers as vh
from course.results import format_result
from tools import environments, refresh

NOTEBOOKS = refresh.notebooks()
CHAPTERS = refresh.chapters()
CHECKED = "# NBVAL_CHECK_OUTPUT"
# What a machine would leave of itself in an output: /home/me, /root, /Users/me, C:\Users\me, /tmp/x ...
MACHINE_PATH = re.compile(
    r"(?<![\w.])(?:file://)?/(?:home|root|Users|Volumes|tmp|work\w*|private|var|opt|content|data|mnt|srv|usr/l\w+)\b"
    r"|(?i:\b[a-z]:\\)|~/"
)
# (Debian's /usr/share/datasets is part of the course, and not in the list.)


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


def figures(notebook):
    return [
        output for output in outputs(notebook) if "image/png" in output.get("data", {})
    ]


def was_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), f"execution counts are {counts}"


def has_no_stderr(notebook):
    said = [
        output.text for output in outputs(notebook) if output.get("name") == "stderr"
    ]
    assert not said, f"stderr: {said}"


def has_no_errors(notebook):
    errors = [
        output.ename for output in outputs(notebook) if output.output_type == "error"
    ]
    assert not errors, f"errors: {errors}"


def has_one_title(notebook):
    prose = "\n".join(
        cell.source for cell in notebook.cells if cell.cell_type == "markdown"
    )
    titles = re.findall(r"^# .*", prose, flags=re.M)
    assert len(titles) == 1, f"titles: {titles}"


def has_alternative_text(notebook):
    assert figures(notebook), "no figure at all"
    for figure in figures(notebook):
        assert len(figure.metadata.get("image/png", {}).get("alt", "")) >= 40, (
            "a figure without alternative text"
        )


def shows_each_figure_once(notebook):
    pictures = [figure.data["image/png"] for figure in figures(notebook)]
    assert len(set(pictures)) == len(pictures), "the same figure twice"


def has_outputs_in_checked_cells(notebook):
    checked = [cell for cell in code_cells(notebook) if CHECKED in cell.source]
    assert len(checked) >= 1, "no checked cell"
    for cell in checked:
        assert any(text_of(output).strip() for output in cell.outputs), (
            f"checked, but nothing stored: {cell.source}"
        )


def has_only_true_identities(notebook):
    for cell in code_cells(notebook):
        if CHECKED in cell.source:
            assert not any("False" in text_of(output) for output in cell.outputs), (
                cell.source
            )


def names_no_machine(notebook):
    for output in outputs(notebook):
        data = {
            kind: value
            for kind, value in output.get("data", {}).items()
            if kind != "image/png"
        }
        for text in strings({**output, "data": data}):
            assert not MACHINE_PATH.search(text), f"a path of a machine: {text[:300]}"
    for cell in notebook.cells:
        assert not MACHINE_PATH.search(cell.source), (
            f"a path of a machine: {cell.source[:300]}"
        )


def is_from_a_full_run(notebook):
    said = "\n".join(map(text_of, outputs(notebook)))
    assert (
        "55,000 training, 5,000 validation, 10,000 test images" in said
        and "quick" not in said
    )
    assert "SAMPLE" not in said and "not compared" not in said and "OUTSIDE" not in said


def asks_before_it_answers(notebook):
    """A question to predict stands in prose, straight before the code whose output answers it."""
    asked = [
        i
        for i, cell in enumerate(notebook.cells)
        if "**Predict, then look.**" in cell.source
    ]
    assert asked, "no question to the reader"
    assert all(notebook.cells[i + 1].cell_type == "code" for i in asked), (
        "a question that no code follows"
    )


RULES = [was_run_in_order, has_no_stderr, has_no_errors, has_one_title, has_alternative_text, shows_each_figure_once,
         has_outputs_in_checked_cells, has_only_true_identities, names_no_machine, is_from_a_full_run,
         asks_before_it_answers]  # fmt: skip
# What only chapters promise. Of exercises and solutions, tests/test_exercises.py asks other things.
OF_CHAPTERS = [has_outputs_in_checked_cells, asks_before_it_answers]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_notebook(rule, path):
    if path in CHAPTERS or rule not in OF_CHAPTERS:
        rule(read(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small(path):
    assert path.stat().st_size < 2_000_000


def first(notebook, condition):
    return next(cell for cell in code_cells(notebook) if condition(cell))


def not_run(notebook):
    code_cells(notebook)[2].execution_count = 99


def a_warning(notebook):
    code_cells(notebook)[0].outputs.append(
        nbformat.v4.new_output("stream", name="stderr", text="Warning: ...")
    )


def a_traceback(notebook):
    code_cells(notebook)[0].outputs.append(
        nbformat.v4.new_output("error", ename="KeyError", evalue="1", traceback=[])
    )


def a_second_title(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Another title"))


def a_figure_without_words(notebook):
    del figures(notebook)[-1].metadata["image/png"]["alt"]


def a_figure_twice(notebook):
    cell = first(
        notebook,
        lambda cell: any(
            "image/png" in output.get("data", {}) for output in cell.outputs
        ),
    )
    cell.outputs.extend(copy.deepcopy(cell.outputs))


def a_stripped_checked_cell(notebook):
    first(notebook, lambda cell: CHECKED in cell.source).outputs = []


def a_false_identity(notebook):
    cell = first(notebook, lambda cell: CHECKED in cell.source)
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="agree: False")
    ]


def a_home_folder(notebook):
    output = nbformat.v4.new_output(
        "stream", name="stdout", text="saved in /home/someone/vae"
    )
    code_cells(notebook)[0].outputs.append(output)


def a_quick_run(notebook):
    output = nbformat.v4.new_output(
        "stream", name="stdout", text="expected 0.01 to 0.02   not compared"
    )
    code_cells(notebook)[0].outputs.append(output)


def no_questions(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("Predict, then look.", "")


BREAKS = [not_run, a_warning, a_traceback, a_second_title, a_figure_without_words, a_figure_twice,
          a_stripped_checked_cell, a_false_identity, a_home_folder, a_quick_run, no_questions]  # fmt: skip


@pytest.mark.parametrize(
    "rule, damage", list(zip(RULES, BREAKS)), ids=lambda function: function.__name__
)
def test_each_rule_can_fail(rule, damage):
    notebook = copy.deepcopy(read(NOTEBOOKS[1]))
    damage(notebook)
    with pytest.raises(AssertionError):
        rule(notebook)


@pytest.mark.parametrize(
    "text",
    [
        "/home/me/x",
        "file:///root/x",
        "C:\\\\Users\\\\me",
        "/workspace/x",
        "in /tmp",
        "~/.keras",
    ],
)
def test_path_rule_knows_a_path(text):
    assert MACHINE_PATH.search(text)


def test_text_files_name_no_machine():
    """All that git knows, but for pictures and models, notebooks (a rule of their own) and this file's examples."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=course.ROOT, capture_output=True, text=True, check=True
    ).stdout
    binary = (".png", ".gif", ".gz", ".keras", ".ipynb", ".html")
    paths = [
        course.ROOT / name
        for name in tracked.splitlines()
        if not name.endswith((*binary, Path(__file__).name))
    ]
    assert len(paths) > 30
    for path in paths:
        if path.is_file():  # and not deleted just now
            found = re.search(
                r"/(home|root|Users|tmp|work|opt)/", path.read_text(encoding="utf-8")
            )
            assert not found, f"{path.name}: {found and found[0]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_taught_cells_and_addresses_are_the_helpers_own(path):
    for cell in read(path).cells:
        assert cell.source == refresh.refreshed(cell.source, refresh.repository()), (
            "run: make notebooks"
        )


def test_taught_cells_differ_when_the_helper_changes():
    cell = refresh.source_of(["Sampling"])
    assert cell.splitlines()[1].startswith("@"), "decorators belong to the source"
    assert refresh.refreshed(cell.replace("0.5", "1.0"), refresh.repository()) == cell
    with pytest.raises(
        ValueError,
        match="vae_helpers.py has no function or class no_such_name: correct '# from vae_",
    ):
        refresh.source_of(["no_such_name"])


NO_NOTEBOOKS = {
    "cut short": '{"cells": [',
    "empty": "",
    "a list": "[]",
    "null": "null",
    "nothing in it": "{}",
    "cells lost": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "a foreign cell": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "x"}]}',
    "of the future": '{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}',
    "not text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", NO_NOTEBOOKS.values(), ids=NO_NOTEBOOKS)
def test_what_is_no_notebook_is_named(content, tmp_path, capsys):
    path = tmp_path / "01_data.ipynb"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError,
        match=r"01_data\.ipynb is not a whole notebook: restore it with git\.$",
    ):
        refresh.read(path)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def course(tmp_path):
    """A copy of what refresh.py reads and writes."""
    (tmp_path / "notebooks").mkdir()
    names = [
        "pyproject.toml",
        "README.md",
        "vae_helpers.py",
        "notebooks/experiments.json",
    ]
    for name in [
        *names,
        *(f"notebooks/{name}.py" for name in ("files", "refresh", "scores")),
    ]:
        shutil.copy(course.ROOT / name, tmp_path / name)
    for path in NOTEBOOKS:
        shutil.copy(path, tmp_path / "notebooks")
    return tmp_path


def refresh_there(course, words, limit=""):
    """What refresh.py says in that course, and the files that it changed. Without the script's folder on the path."""
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    command = f"{limit}exec '{sys.executable}' -P -B notebooks/refresh.py {words}"
    ended = subprocess.run(
        ["sh", "-c", command], cwd=course, capture_output=True, text=True
    )
    after = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    assert set(before) == set(after)
    return ended.stderr.strip(), [
        path.name for path in before if before[path] != after[path]
    ]


@pytest.mark.slow
def test_the_address_is_changed_everywhere(course):
    said, changed = refresh_there(course, "another-owner")
    assert not said and {
        "pyproject.toml",
        "README.md",
        *(path.name for path in NOTEBOOKS),
    } == set(changed)
    assert refresh_there(course, "") == ("", []), (
        "and then there is nothing left to change"
    )


def test_on_a_full_disk_no_file_is_cut_short(course):
    said, changed = refresh_there(
        course, "another-owner", "ulimit -f 16; "
    )  # no file over 8 KB
    assert re.fullmatch(
        r"\S+ could not be written \(File too large\): make room there, or make it writable\.",
        said,
    )
    assert set(changed) <= {"pyproject.toml"}, "which is small enough"


@pytest.mark.parametrize(
    "name",
    ["pyproject.toml", "notebooks/experiments.json", "notebooks/solutions.ipynb"],
)
def test_nothing_is_refreshed_beside_a_damaged_file(name, course):
    (course / name).write_bytes((course / name).read_bytes()[:200])
    said, changed = refresh_there(course, "another-owner")
    assert re.fullmatch(
        rf"\S+{Path(name).name} is (damaged|not a whole notebook): restore it with git\.",
        said,
    )
    assert not changed


def test_a_taught_cell_of_nothing_is_named_with_its_notebook(course):
    path = course / "notebooks" / "solutions.ipynb"
    notebook = refresh.read(path)
    notebook.cells.append(nbformat.v4.new_code_cell("# from vae_helpers.py: nope"))
    nbformat.write(notebook, path)
    said, changed = refresh_there(course, "another-owner")
    assert re.fullmatch(
        r"\S+solutions\.ipynb: vae_helpers\.py has no function or class nope: correct .* in the cell\.",
        said,
    )
    assert not changed


def test_the_sample_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    from notebooks.data import make_sample

    import course

    labels = bytes(8) + bytes(i % 10 for i in range(60_000))
    full = {
        name: labels if "labels" in name else bytes(16 + 60_000 * 784)
        for name in course.data.SHA256["full"]
    }
    monkeypatch.setattr(course.data, "read_folder", lambda folder: ("full", full))
    monkeypatch.setattr(make_sample, "__file__", str(tmp_path / "make_sample.py"))
    make_sample.main("a folder")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == set(full)
    kinds = iter([b"new", b"new", b"new"])
    monkeypatch.setattr(
        gzip, "compress", lambda *_, **__: next(kinds, None)
    )  # None cannot be written
    with pytest.raises(TypeError):
        make_sample.main("a folder")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_first_cell_is_the_same_in_every_notebook():
    assert len({code_cells(read(path))[0].source for path in NOTEBOOKS}) == 1


def test_every_notebook_has_its_own_badge():
    for path in NOTEBOOKS:
        address = refresh.repository().removeprefix("https://github.com/")
        badge = f"https://colab.research.google.com/github/{address}/blob/main/notebooks/{path.name}"
        assert badge in read(path).cells[0].source
        assert path.stem == "solutions" or badge in (
            course.ROOT / "README.md"
        ).read_text(encoding="utf-8")


def test_first_cell_says_what_to_do_where_there_is_no_helper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    with pytest.raises(ModuleNotFoundError, match="open this notebook inside a clone"):
        exec(code_cells(read(NOTEBOOKS[0]))[0].source, {})


@pytest.mark.parametrize(
    "path",
    [path for path in NOTEBOOKS if path.stem != "solutions"],
    ids=lambda path: path.stem,
)
def test_rendered_page_carries_the_alternative_text(path, site):
    page = (site / f"{path.stem}.html").read_text("utf-8")
    tags = [tag for tag in re.findall(r"<img [^>]*>", page) if "data:image/png" in tag]
    alternatives = [re.search(r'\balt="([^"]*)"', tag) for tag in tags]
    expected = [figure.metadata["image/png"]["alt"] for figure in figures(read(path))]
    assert [html.unescape(alternative[1]) for alternative in alternatives] == expected


def test_bands_are_what_the_seeds_give():
    from tools import experiments

    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))
    assert experiments.bands(stored["runs"]) == stored["bands"]
    for name, (seeds, _) in experiments.PLAN.items():
        assert {run["seed"] for run in stored["runs"] if run["name"] == name} == set(
            seeds
        ), name
        assert vh.SEED not in seeds and (
            name not in experiments.COMPARED or len(seeds) >= 5
        ), name


def test_stored_notebooks_show_every_expected_result():
    said = "\n".join(
        text_of(output) for path in NOTEBOOKS for output in outputs(read(path))
    )
    for name, (low, high) in json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))[
        "bands"
    ].items():
        assert re.search(rf"^{re.escape(name)} .* ok$", said, flags=re.M), name
        band = refresh.stored_result([read(path) for path in NOTEBOOKS], name)[1]
        assert band == f"{format_result(low)} to {format_result(high)}", name


def test_readme_shows_the_stored_results():
    text = (course.ROOT / "README.md").read_text(encoding="utf-8")
    notebooks = [read(path) for path in NOTEBOOKS]
    assert refresh.refreshed_readme(text, notebooks, refresh.repository()) == text, (
        "run: make notebooks"
    )
    assert "not run" not in refresh.results_table(notebooks)


def requirements():
    """What requirements.txt and the dependency groups ask for."""
    lines = [
        line.split("#")[0]
        for line in (course.ROOT / "requirements.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    groups = tomllib.loads(
        (course.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )["dependency-groups"]
    course = [Requirement(line) for line in lines if line.strip()]
    return course, [
        Requirement(line)
        for group in groups.values()
        for line in group
        if isinstance(line, str)
    ]


def test_requirements_admit_colab():
    course, _ = requirements()
    assert {requirement.name for requirement in course} == {
        "tensorflow", "keras", "numpy", "matplotlib", "scikit-learn", "jupyter", "nbval"
    }  # fmt: skip
    for requirement in course:
        assert (
            requirement.name not in environments.COLAB
            or environments.COLAB[requirement.name] in requirement.specifier
        )


def test_constraints_are_exact_public_versions_within_the_ranges():
    lines = (
        (course.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    )
    found = [
        re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line) for line in lines
    ]
    assert all(found), [line for line, match in zip(lines, found) if not match]
    versions = {canonicalize_name(match[1]): match[2] for match in found}
    for requirement in [part for group in requirements() for part in group]:
        name = canonicalize_name(requirement.name)
        assert name in versions and versions[name] in requirement.specifier, (
            f"{requirement}: run: make constraints"
        )


def test_lanes_install_what_they_say():
    lowest, colab = environments.packages("lowest"), environments.packages("colab")
    assert len(lowest) == len(requirements()[0]) and all(
        "==" in line for line in lowest
    )
    assert set(colab) > {
        f"{name}=={version}" for name, version in environments.COLAB.items()
    } - {"ipywidgets==7.7.1"}
    assert all(Requirement(line).specifier for line in environments.packages("newest"))
