"""`make run` and `make data`: a run that can be repeated, and starts where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

import course
from tools import pages, run


@pytest.fixture
def build(monkeypatch, tmp_path):
    """The test's own build folder and expected ranges; no pages; the sample in full."""
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(course, "EXPERIMENTS", tmp_path / "experiments.json")
    ranges = {
        "bands": {"error": [0.01, 0.02], "units": [2, 6], "better units": [3, 7]},
    }
    course.EXPERIMENTS.write_text(json.dumps(ranges), encoding="utf-8")
    monkeypatch.setenv("VAE_COURSE_QUICK", "")
    monkeypatch.setattr(pages, "installed", lambda: False)
    return course.BUILD


def notebook_of(*cells):
    """A notebook of code cells, as nbformat objects."""
    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    return nbformat.v4.new_notebook(cells=cells)


def write(path, *cells):
    nbformat.write(notebook_of(*cells), path)
    return path


def run_notebooks(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, words)])
    run.main()


def printed(build, name):
    """What the last cell of an executed notebook printed."""
    return nbformat.read(build / name, as_version=4).cells[-1].outputs[-1].text


# ---------------------------------------------------------------- results


def printing(line):
    output = nbformat.v4.new_output("stream", name="stdout", text=f"{line}\n")
    notebook = notebook_of("")
    notebook.cells[0].outputs.append(output)
    return notebook


def test_the_table_has_what_the_notebooks_printed_as_results(build):
    outside = "better units", "9", "3 to 7", run.OUTSIDE
    for row in ("units", "3", "2 to 6", "ok"), outside:
        name, yours, expected, verdict = row
        line = f"{name}   {yours}   expected {expected}   {verdict}"
        assert run.table([printing(line)]) == [row]
    assert run.table([printing("units of all: better units")]) == []


@pytest.mark.parametrize("verdict", ["ok", run.OUTSIDE, "not compared"])
def test_check_fails_unless_every_result_is_in_its_range(
    verdict, build, monkeypatch, tmp_path
):
    line = f"units   9   expected 2 to 6   {verdict}"
    path = write(tmp_path / "one.ipynb", f"print('{line}')")
    if verdict == "ok":
        return run_notebooks(monkeypatch, "--check", path)
    with pytest.raises(SystemExit, match="^Some results are outside"):
        run_notebooks(monkeypatch, "--check", path)


# ---------------------------------------------------------------- the runner


def test_a_failing_chapter_is_named_and_the_next_run_starts_with_it(
    build, monkeypatch, tmp_path, capsys
):
    count = "from pathlib import Path\nwith Path('log').open('a') as f: f.write('{}')"
    first = write(tmp_path / "01_a.ipynb", count.format("a"), "print('first')")
    cells = "1 + 1", "raise RuntimeError('the reason')", "print('never')"
    second = write(tmp_path / "02_b.ipynb", *cells)
    with pytest.raises(SystemExit) as stopped:
        run_notebooks(monkeypatch, first, second)
    failed, where, advice = stopped.value.code.strip().splitlines()
    assert failed == "FAILED: 02_b.ipynb, cell 2/3: RuntimeError: the reason"
    assert where == "The notebook up to there: build/02_b.ipynb"
    assert advice == run.RESUME and (build / "02_b.ipynb").is_file()

    write(second, "print('mended')")
    run_notebooks(monkeypatch, first, second)
    assert "01_a  finished by the run before" in capsys.readouterr().out
    assert (tmp_path / "log").read_text(encoding="utf-8") == "a"
    assert printed(build, "02_b.ipynb") == "mended\n"

    run_notebooks(monkeypatch, first, second)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "aa", "a new run"


@pytest.mark.parametrize("change", ["cell", "module", "data", "nothing"])
def test_a_finished_chapter_is_run_again_if_something_changed(
    change, build, monkeypatch, tmp_path
):
    monkeypatch.setattr(course, "ROOT", tmp_path)
    helper = tmp_path / "vae_helpers.py"
    helper.write_text("LOSS = 1", encoding="utf-8")
    paths = [write(tmp_path / name, "1") for name in ("1.ipynb", "2.ipynb", "3.ipynb")]
    executed = []

    def execute(notebook, path, progress):
        run.write_notebook(notebook, build / path.name)
        executed.append(path.stem)
        return "interrupted" if path.stem == "3" else None

    monkeypatch.setattr(run, "execute", execute)
    for kind in ("full", "sample" if change == "data" else "full"):
        with pytest.raises(SystemExit):
            run.run_all(paths, kind)
        if change == "module":
            helper.write_text("LOSS = 2", encoding="utf-8")
        if change == "cell":
            write(paths[0], "2")
    assert executed[3:] == (["3"] if change == "nothing" else ["1", "2", "3"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_an_interrupted_run_says_how_to_go_on_and_leaves_no_kernel(tmp_path):
    path = write(
        tmp_path / "long.ipynb",
        "import os, pathlib, time\npathlib.Path('kernel').write_text(str(os.getpid()))\n"
        "time.sleep(100)",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.run", str(path)],
        cwd=course.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (tmp_path / "kernel").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    kernel = int((tmp_path / "kernel").read_text(encoding="utf-8"))
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    (course.BUILD / path.name).unlink()
    assert "cell 1/1: interrupted" in output and output.strip().endswith(run.RESUME)
    assert "Traceback" not in output
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_the_kernel_is_that_of_this_python(build, monkeypatch, tmp_path):
    """Whatever `python3` is elsewhere: Jupyter looks in the reader's folders too."""
    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "?", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    path = write(tmp_path / "one.ipynb", "import sys\nprint(sys.executable)")
    run_notebooks(monkeypatch, path)
    assert printed(build, "one.ipynb").strip() == sys.executable


@pytest.mark.parametrize(
    "cell",
    ["import os\nos._exit(1)", "import time\ntime.sleep(60)"],
    ids=["the kernel dies", "the time is up"],
)
def test_a_notebook_that_ends_early_is_named_with_what_to_do(
    cell, build, monkeypatch, tmp_path
):
    monkeypatch.setattr(run, "CELL_TIMEOUT", 2)
    with pytest.raises(SystemExit) as stopped:
        run_notebooks(monkeypatch, write(tmp_path / "one.ipynb", cell))
    first, *_, last = stopped.value.code.strip().splitlines()
    assert first.startswith("FAILED: one.ipynb, cell 1/1: ") and last == run.RESUME


def test_epochs_reach_the_terminal_and_alternative_texts_the_images(build, tmp_path):
    cell = """\
from IPython.display import display
display({'text/plain': 'epoch 3/50  loss 1'}, raw=True)
display({'image/png': 'iVBORw0KGgo='}, raw=True)"""
    notebook, lines = notebook_of(cell), []
    notebook.cells[0].metadata["mystnb"] = {"image": {"alt": "a boot"}}
    failure = run.execute(
        notebook, tmp_path / "one.ipynb", lambda line, end=False: lines.append(line)
    )
    assert failure is None and "one  cell 1/1  epoch 3/50  loss 1" in lines
    stored = nbformat.read(build / "one.ipynb", 4).cells[0].outputs
    assert stored[1].metadata == {"image/png": {"alt": "a boot"}}
    assert stored[0].metadata == {}


# ---------------------------------------------------------------- the data


@pytest.mark.skipif(os.name == "nt", reason="Windows has no make")
@pytest.mark.parametrize(
    ("found", "user", "variables", "installs"),
    [
        ("'sample', {}", 0, {}, True),
        ("'sample', {}", 0, {"VAE_COURSE_QUICK": "0"}, True),
        ("'sample', {}", 1000, {}, False),
        ("'sample', {}", "without apt-get", {}, False),
        ("'full', {}", 0, {}, False),
        ("'sample', {}", 0, {"FASHION_MNIST_DIR": "folder"}, False),
        ("'sample', {}", 0, {"VAE_COURSE_QUICK": "1"}, False),
        ("1 / 0", 0, {}, False),
    ],
)
def test_root_on_debian_installs_data_that_are_not_here(
    tmp_path, found, user, variables, installs
):
    """Programs in tmp_path stand for the system's; Python finds what it is told to."""
    find = f"import course.data as d; d.find_files = lambda: ({found})"
    programs = {
        "id": f"echo {user if isinstance(user, int) else 0}",
        "apt-get": f'echo "$@" >> {tmp_path}/installed',
        "python": f'exec {sys.executable} -c "{find}\n$2"',
    }
    if user == "without apt-get":
        del programs["apt-get"]
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    command = [shutil.which("make"), "-o", ".venv/course", f"BIN={tmp_path}", "data"]
    done = subprocess.run(
        command, cwd=course.ROOT, env={"PATH": str(tmp_path), **variables},
        capture_output=True, text=True,
    )  # fmt: skip
    is_broken = found == "1 / 0"
    assert bool(done.returncode) == bool(done.stderr) == is_broken
    log = tmp_path / "installed"
    assert log.is_file() == installs
    if installs:
        update, install = log.read_text().splitlines()
        assert update == "-qq update" and install.endswith(" dataset-fashion-mnist")
        assert "dataset-fashion-mnist with apt-get" in done.stdout
