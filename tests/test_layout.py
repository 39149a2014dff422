"""The layout of the repository: which module imports which, and what lies where."""

import ast
import json
import re
import shutil
import subprocess

import pytest

import course
from tools import refresh

MAY_IMPORT_THE_HELPER = {"course.evaluation", "course.exercises", "course.map.page"}
MAY_CHANGE_THE_PATH = {"tools.bench"}  # other Pythons run it, by its path


def modules_of_the_course():
    """{name: source} of every module but the tests."""
    paths = [course.ROOT / "vae_helpers.py"]
    paths += [*course.ROOT.glob("course/**/*.py"), *course.ROOT.glob("tools/**/*.py")]
    return {name_of(path): path.read_text(encoding="utf-8") for path in paths}


def name_of(path):
    """The one name by which a module is imported."""
    name = ".".join(path.relative_to(course.ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_names(name, source):
    """Everything that a module imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Packages have one level here: `from . import x`, `from package import x`.
            package = [name.partition(".")[0]] if node.level else []
            start = ".".join([*package, *filter(None, [node.module])])
            names.update([start, *(f"{start}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                names.add(getattr(node.args[0], "value", ""))
    return names


def imports(sources):
    """{module: the modules among `sources` that it imports}."""
    return {
        name: imported_names(name, source) & set(sources)
        for name, source in sources.items()
    }


def the_helper_imports_only_the_package(sources):
    others = imports(sources)["vae_helpers"]
    return ["vae_helpers"] * any(name.partition(".")[0] != "course" for name in others)


def only_three_modules_of_the_package_import_the_helper(sources):
    return [
        name
        for name, others in imports(sources).items()
        if "vae_helpers" in others
        and name.partition(".")[0] == "course"
        and name not in MAY_IMPORT_THE_HELPER
    ]


def nothing_that_students_use_imports_tools(sources):
    return [
        name
        for name, source in sources.items()
        if name.partition(".")[0] != "tools"
        and any(re.match(r"tools\b", other) for other in imported_names(name, source))
    ]


def no_modules_import_each_other(sources):
    """The modules that import themselves, directly or through others."""
    edges = imports(sources)

    def reached(name):
        names, new = set(), set(edges[name])
        while new:
            names |= new
            new = {other for one in new for other in edges[one]} - names
        return names

    return [name for name in edges if name in reached(name)]


def every_module_has_one_name(sources):
    """The modules that change sys.path, or import a module of a package without it."""
    return [
        name
        for name, source in sources.items()
        if (changes_the_path(source) and name not in MAY_CHANGE_THE_PATH)
        or imports_without_package(name, sources)
    ]


def imports_without_package(name, sources):
    bare = {other.partition(".")[2] for other in sources} - {""}
    names = imported_names(name, sources[name])
    return {other.partition(".")[0] for other in names} & bare


def changes_the_path(source):
    tree = ast.walk(ast.parse(source))
    return any(
        isinstance(node, ast.Attribute)
        and (getattr(node.value, "id", ""), node.attr) == ("sys", "path")
        or isinstance(node, ast.ImportFrom)
        and node.module == "sys"
        and "path" in [alias.name for alias in node.names]
        for node in tree
    )


GOOD = {
    "vae_helpers": "from course import saving\nfrom course.data import load",
    "course": "ROOT = 1",
    "course.data": "import course",
    "course.saving": "def save():\n    from course import data",
    "course.evaluation": "import vae_helpers as vh\nfrom course import ROOT, data",
    "tools": "",
    "tools.refresh": "from course import ROOT",
    "tools.run": "import sys\nimport vae_helpers\nfrom tools import refresh",
    "tools.bench": "import sys\nsys.path.insert(0, 'x')",
}
BROKEN = [
    (the_helper_imports_only_the_package, "vae_helpers", "from tools import refresh"),
    (the_helper_imports_only_the_package, "vae_helpers", "import tools.refresh as r"),
    (
        only_three_modules_of_the_package_import_the_helper,
        "course.data",
        "def load():\n    import vae_helpers",
    ),
    (
        only_three_modules_of_the_package_import_the_helper,
        "course.saving",
        "from vae_helpers import VAE",
    ),
    (nothing_that_students_use_imports_tools, "course.data", "import tools.refresh"),
    (
        nothing_that_students_use_imports_tools,
        "course.evaluation",
        "def f():\n    from tools import run",
    ),
    (
        nothing_that_students_use_imports_tools,
        "vae_helpers",
        "import importlib\nimportlib.import_module('tools.run')",
    ),
    (no_modules_import_each_other, "course.data", "from course import saving"),
    (no_modules_import_each_other, "course.data", "from . import saving"),
    (no_modules_import_each_other, "course.data", "from .saving import save"),
    (
        no_modules_import_each_other,
        "course.saving",
        "def save():\n    from course.evaluation import score",
    ),
    (no_modules_import_each_other, "tools.refresh", "def f():\n    import tools.run"),
    (every_module_has_one_name, "tools.run", "import refresh"),
    (every_module_has_one_name, "course.evaluation", "from data import load"),
    (every_module_has_one_name, "tools.run", "import sys\nsys.path[:0] = ['x']"),
    (every_module_has_one_name, "tools.run", "from sys import path\npath.append('x')"),
]
RULES = list(dict.fromkeys(rule for rule, *_ in BROKEN))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_import_rule(rule):
    assert rule(modules_of_the_course()) == []


@pytest.mark.parametrize("rule, module, source", BROKEN)
def test_import_rule_fails_when_it_is_broken(rule, module, source):
    assert rule(GOOD) == []
    assert module in rule({**GOOD, module: source})


def vague_about_text(source):
    """The lines that open, read or write text and leave encoding or newline open.

    On Windows, both have other defaults. Binary modes need neither.
    """
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg for keyword in node.keywords}
        texts = [x.value for x in node.args if isinstance(getattr(x, "value", 0), str)]
        is_binary = any(re.fullmatch("[rwax+]*b[rwax+]*", text) for text in texts)
        if called == "read_text" and node.args:  # our own, or encoding by position
            continue
        needed = {
            "read_text": {"encoding"},
            "write_text": {"encoding", "newline"} if len(node.args) == 1 else set(),
            "open": {"encoding"} if not is_binary else set(),
        }.get(called, set())
        module = getattr(getattr(node.func, "value", None), "id", "")
        if needed - given and module not in ("os", "Image"):
            lines.append(node.lineno)
    return lines


def test_text_is_read_and_written_with_encoding_and_newline():
    for name, source in modules_of_the_course().items():
        assert not vague_about_text(source), name


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "path.open('w')",
        "path.read_text()",
        "path.write_text(text)",
        "path.write_text(text, encoding='utf-8')",
    ],
)
def test_what_is_vague_about_text_is_found(line):
    assert vague_about_text(line) == [1]


def test_tests_import_modules_by_their_one_name():
    sources = modules_of_the_course()
    for path in (course.ROOT / "tests").glob("*.py"):
        sources[path.stem] = path.read_text(encoding="utf-8")
        assert not imports_without_package(path.stem, sources), path.name


def test_only_first_cells_of_notebooks_change_the_path():
    for path in refresh.notebooks():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        assert "sys.path" in code[0], path.name
        assert not any("sys.path" in source for source in code[1:]), path.name


def strays(names):
    """What does not belong in notebooks/."""
    chapter = r"0[1-9]_\w+\.ipynb|exercises\.ipynb"
    return [
        name
        for name in names
        if not (name.startswith(".") or re.fullmatch(chapter, name))
    ]


def test_notebooks_holds_chapters_and_exercises_only():
    assert strays(path.name for path in (course.ROOT / "notebooks").iterdir()) == []
    for name in ("run.py", "solutions.ipynb", "data", "05_notes.md"):
        assert strays(["01_data.ipynb", "exercises.ipynb", name]) == [name]


def test_the_helper_is_short():
    text = (course.ROOT / "vae_helpers.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_help_lists_every_target_that_is_no_file():
    command = ["make", "--no-print-directory", "help"]
    ended = subprocess.run(
        command, cwd=course.ROOT, capture_output=True, text=True, check=True
    )
    lines = [re.fullmatch(r"make (\S+) +(\S.*)", x) for x in ended.stdout.splitlines()]
    assert all(lines), ended.stdout
    makefile = (course.ROOT / "Makefile").read_text(encoding="utf-8")
    phony = " ".join(re.findall(r"^\.PHONY:(.*)", makefile, flags=re.M)).split()
    assert sorted(line[1] for line in lines) == sorted(phony)
    assert [line[1] for line in lines[:3]] == ["run", "test", "lab"]


def test_commands_of_the_makefile_are_modules_that_exist():
    makefile = (course.ROOT / "Makefile").read_text(encoding="utf-8")
    names = set(re.findall(r"-m (tools\.\w+)", makefile))
    assert {"tools.run", "tools.fetch", "tools.pages", "tools.address"} <= names
    assert names <= set(modules_of_the_course())
    for name in names:
        assert f"python -m {name}" in modules_of_the_course()[name], name
