"""What lies where. Who imports whom is import-linter's and ruff's (pyproject.toml)."""

import ast
import json
import re
import shutil
import subprocess

import pytest

import course
from tools import refresh


def test_the_helper_imports_only_the_package_and_libraries():
    source = (course.ROOT / "vae_helpers.py").read_text(encoding="utf-8")
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    assert "course" in names
    beside = {path.stem for path in course.ROOT.glob("*/")} | {"noxfile", "conftest"}
    assert names & beside == {"course"}


def test_only_first_cells_of_notebooks_change_the_path():
    for path in refresh.notebooks():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        assert "sys.path" in code[0], path.name
        assert not any("sys.path" in source for source in code[1:]), path.name


def test_notebooks_holds_chapters_and_exercises_only():
    names = [path.name for path in (course.ROOT / "notebooks").iterdir()]
    names = [name for name in names if not name.startswith(".")]
    chapter = r"0[1-9]_\w+\.ipynb|exercises\.ipynb"
    assert [name for name in names if not re.fullmatch(chapter, name)] == []


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_lists_every_target_that_is_no_file():
    command = ["make", "--no-print-directory"]
    ended = subprocess.run(
        command, cwd=course.ROOT, capture_output=True, text=True, check=True
    )
    lines = [re.fullmatch(r"make (\S+) +(\S.*)", x) for x in ended.stdout.splitlines()]
    assert all(lines), ended.stdout
    makefile = (course.ROOT / "Makefile").read_text(encoding="utf-8")
    phony = " ".join(re.findall(r"^\.PHONY:(.*)", makefile, flags=re.M)).split()
    assert sorted(line[1] for line in lines) == sorted(phony)
    assert [line[1] for line in lines[:3]] == ["run", "test", "lab"]


def test_commands_of_the_makefile_are_modules_that_say_so():
    makefile = (course.ROOT / "Makefile").read_text(encoding="utf-8")
    names = set(re.findall(r"-m tools\.(\w+)", makefile))
    assert {"run", "fetch", "pages"} <= names
    for name in names:
        text = (course.ROOT / "tools" / f"{name}.py").read_text(encoding="utf-8")
        assert f"python -m tools.{name}" in text, name
