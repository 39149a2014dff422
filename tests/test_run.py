"""`make run` and `make data`, and the comparison with expected results."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
import test_resume
from course.checkpoints import training_state
from matplotlib.figure import Figure

import course
import vae_helpers as vh
from course.data import load_sample
from course.results import expected_ranges, read_results
from tools import experiments, fetch, pages, refresh, run

FULL_RUN = vh.Data(*[None] * 6, is_full_run=True)


@pytest.fixture
def build(monkeypatch, tmp_path):
    """The test's own build folder and expected ranges."""
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(course, "EXPERIMENTS", tmp_path / "experiments.json")
    ranges = {
        "tolerances": {"error": [0.01, 0.02]},
        "bands": {"units": [2, 6], "better units": [3, 7]},
    }
    course.EXPERIMENTS.write_text(json.dumps(ranges))
    return tmp_path / "build"


def notebook_of(*cells):
    """A notebook of code cells, as nbformat objects."""
    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    return nbformat.v4.new_notebook(cells=cells)


# ---------------------------------------------------------------- results


def test_results_are_compared_and_saved_with_the_kind_of_their_range(build, capsys):
    vh.expect("error", 0.0123, FULL_RUN)
    vh.expect("units", 7, FULL_RUN)
    first, second = capsys.readouterr().out.splitlines()
    assert "0.01230   expected 0.01000 to 0.02000   ok" in first
    assert "7   expected 2 to 6   outside the expected range" in second
    saved = json.loads((build / "results.json").read_text())
    error = {"value": 0.0123, "kind": "tolerance", "low": 0.01, "high": 0.02}
    units = {"value": 7, "kind": "band", "low": 2, "high": 6}
    assert saved == {"error": {**error, "ok": True}, "units": {**units, "ok": False}}


def test_tolerances_are_those_of_results_that_no_seed_changes():
    """Chapter 01's, ± 0.1%; each other result has a band over seeds."""
    kinds = {"tolerance": [], "band": []}
    for name, (low, high, kind) in expected_ranges().items():
        kinds[kind].append(name)
        if kind == "tolerance":
            assert (high - low) / (high + low) == pytest.approx(1e-3, rel=1e-3), name
    assert kinds["tolerance"] == list(tolerances_of_chapter_01())
    models = ("autoencoder, ", "VAE, ", "2-d VAE, ", "plain AE, ", "better VAE, ")
    assert kinds["band"] and all(name.startswith(models) for name in kinds["band"])


def tolerances_of_chapter_01():
    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))
    return experiments.tolerances(stored["runs"])


def test_nan_is_outside_every_range(build, capsys):
    vh.expect("error", float("nan"), FULL_RUN)
    assert "outside the expected range" in capsys.readouterr().out


def test_results_of_short_runs_are_not_compared(build, capsys):
    vh.expect("error", 5.0, FULL_RUN._replace(is_full_run=False))
    line = capsys.readouterr().out
    assert "expected 0.01000 to 0.02000   not compared" in line and "out" not in line
    assert not build.exists()


def test_table_shows_missing_results(build):
    cell = 'vh.expect("error", 0.5, data)\nvh.expect("units", 3, data)'
    lines = run.table({"error": {"value": 0.5, "ok": False}}, [notebook_of(cell)])
    assert len(lines) == 3
    assert lines[1].endswith("outside the expected range")
    assert lines[2].endswith("not compared")
    assert len(run.table({}, [notebook_of()])) == 1, "only what the notebooks compute"


@pytest.mark.parametrize(
    "cell, printed, names",
    [
        ('vh.expect("units", 3, data)', "", ["units"]),
        ('vh.expect("better units", 3, data)', "", ["better units"]),
        ("", "units     3   expected 2 to 6   ok\n", ["units"]),
        ("", "better units   3   expected 3 to 7   ok\n", ["better units"]),
        ("", "units of all models: better units, error\n", []),
        ("print('units')  # of the error", "units\n", []),
    ],
)
def test_a_notebook_computes_the_results_that_it_names_in_whole(
    cell, printed, names, build
):
    notebook = notebook_of(cell)
    output = nbformat.v4.new_output("stream", name="stdout", text=printed)
    notebook.cells[0].outputs.append(output)
    assert list(run.computed_ranges([notebook])) == names


def test_chapter_05_computes_no_result_of_chapter_03():
    third, fifth = (
        [nbformat.read(path, as_version=4)]
        for path in refresh.chapters()
        if path.name[:2] in ("03", "05")
    )
    of_third, of_fifth = run.computed_ranges(third), run.computed_ranges(fifth)
    assert "VAE, test -ELBO (nats)" in of_third
    assert "better VAE, test -ELBO (nats)" in of_fifth
    assert not set(of_third) & set(of_fifth)
    for name in of_fifth:
        assert refresh.stored_result(fifth, name), f"{name} is never printed"


def test_damaged_results_are_started_again(build, monkeypatch, tmp_path):
    build.mkdir()
    results = build / "results.json"
    incomplete = '{"error": {"value": 1}}'
    for damaged in ('{"error": {"val', "[]", "", '{"error": 1}', incomplete):
        results.write_text(damaged)
        assert read_results(results) == {}
    run_small(monkeypatch, tmp_path / "training.ipynb", "print(1)")
    assert results.read_text() == "{}"


def test_a_full_run_renews_the_results_of_its_own_notebooks_only(
    build, monkeypatch, tmp_path
):
    monkeypatch.setattr(run, "find_data", lambda: "full")
    for name in ("error", "units", "better units"):
        vh.expect(name, 5, FULL_RUN)
    run_small(monkeypatch, tmp_path / "training.ipynb", 'print("better units")')
    assert list(json.loads((build / "results.json").read_text())) == ["error", "units"]


@pytest.mark.parametrize("quick", ["", "1"])
def test_an_incomplete_run_leaves_saved_results_alone_and_shows_none(
    quick, build, monkeypatch, tmp_path, capsys
):
    vh.expect("error", 0.0123, FULL_RUN)
    saved = read_results(build / "results.json")
    capsys.readouterr()
    run_small(monkeypatch, tmp_path / "training.ipynb", 'print("error")', quick=quick)
    assert read_results(build / "results.json") == saved != {}
    assert re.search("^error +- .* not compared$", capsys.readouterr().out, flags=re.M)


def test_damaged_ranges_are_named_before_anything_runs(build, monkeypatch, tmp_path):
    for damaged in ('{"bands": {', "[]", "{}", '{"bands": {}}'):
        course.EXPERIMENTS.write_text(damaged)
        message = r"experiments\.json is damaged: restore it with git\.$"
        with pytest.raises(ValueError, match=message):
            run_small(monkeypatch, tmp_path / "training.ipynb", "print(1)")
    assert not build.exists()


# ---------------------------------------------------------------- the runner


def run_small(monkeypatch, path, *cells, quick=""):
    """Run a notebook of these cells on the sample; no pages. Its last printed text."""
    nbformat.write(notebook_of(*cells), path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    monkeypatch.setenv("VAE_COURSE_QUICK", quick)
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    monkeypatch.setattr(pages, "installed", lambda: False)
    run.main()
    executed = nbformat.read(course.BUILD / path.name, as_version=4)
    return executed.cells[-1].outputs[-1].text


def test_a_failing_chapter_is_named_with_cell_and_error(build, monkeypatch, tmp_path):
    path = tmp_path / "07_broken.ipynb"
    cells = ["1 + 1", "raise RuntimeError('the reason')", "print('never')"]
    with pytest.raises(SystemExit) as stopped:
        run_small(monkeypatch, path, *cells)
    first, last = stopped.value.code.strip().splitlines()
    assert first == "FAILED: 07_broken.ipynb, cell 2/3: RuntimeError: the reason"
    assert last == "The notebook up to the failed cell: build/07_broken.ipynb"
    assert (build / path.name).is_file() and not (build / "pages").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_a_run_ends_with_the_address_of_its_pages(
    installed, build, monkeypatch, tmp_path, capsys
):
    path, written = tmp_path / "07_empty.ipynb", []

    def write(*arguments):
        written.append(arguments)
        return "the first page"

    nbformat.write(nbformat.v4.new_notebook(), path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    monkeypatch.setattr(pages, "installed", lambda: installed)
    monkeypatch.setattr(pages, "write", write)
    run.main()
    printed = capsys.readouterr().out
    assert (build / path.name).is_file()
    if installed:
        assert "Read on: the first page" in printed and list(written[0][0]) == [path]
    else:
        assert not written and "because Sphinx is not installed" in printed


# Prints the folder for checkpoints that the runner names.
PRINT_FOLDER = "import os\nprint(os.environ.get('VAE_COURSE_RESUME'))"
RESUMING = "Resuming where the last run stopped; delete build/resume to restart"


def checkpoint_folder(monkeypatch, path):
    """The folder in which a run of `PRINT_FOLDER` on the sample has its checkpoints."""
    return Path(run_small(monkeypatch, path, PRINT_FOLDER).strip())


def test_a_quick_run_leaves_the_checkpoints_of_a_full_run_alone(
    build, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "training.ipynb"
    folder = checkpoint_folder(monkeypatch, path)
    folder.mkdir(parents=True)
    monkeypatch.delenv("VAE_COURSE_RESUME", raising=False)
    assert run_small(monkeypatch, path, PRINT_FOLDER, quick="1") == "None\n"
    assert folder.is_dir() and "Resuming" not in capsys.readouterr().out


def test_a_run_on_the_sample_leaves_the_checkpoints_of_a_full_run_alone(
    build, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "training.ipynb"
    folder = checkpoint_folder(monkeypatch, path)
    assert folder.parts[-3:-1] == ("sample", "training")
    full = course.BUILD / "resume" / "full" / Path(*folder.parts[-2:])
    full.mkdir(parents=True)
    run_small(monkeypatch, path, PRINT_FOLDER)
    assert "Resuming" not in capsys.readouterr().out
    assert full.is_dir() and not folder.parent.exists()


def test_a_run_resumes_only_from_checkpoints_of_the_same_code(
    build, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "training.ipynb"
    folder = checkpoint_folder(monkeypatch, path)
    folder.with_name("of-older-code").mkdir(parents=True)
    run_small(monkeypatch, path, PRINT_FOLDER)
    assert "Resuming" not in capsys.readouterr().out and not folder.parent.exists()
    folder.mkdir(parents=True)
    run_small(monkeypatch, path, PRINT_FOLDER)
    assert RESUMING in capsys.readouterr().out


def test_checkpoints_belong_to_the_modules_and_cells_of_a_training(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(course, "ROOT", tmp_path)
    (tmp_path / "course").mkdir()
    (tmp_path / "vae_helpers.py").write_text("LOSS = 1")
    (tmp_path / "course" / "training.py").write_text("LOSS = 1")

    def folder(cell="fit()", kind="full", name="03_vae.ipynb"):
        return run.checkpoint_folder(Path(name), notebook_of(cell), kind)

    folders = [folder(), folder(cell="fit(2)"), folder(kind="sample")]
    folders.append(folder(name="05_how.ipynb"))
    assert folder() == folders[0]
    for name in ("vae_helpers.py", "course/training.py"):
        (tmp_path / name).write_text("LOSS = 2")
        folders.append(folder())
    assert len(set(folders)) == len(folders)


@pytest.mark.skipif(os.name == "nt", reason="without fcntl nothing is locked")
def test_two_runs_at_once_do_not_mix(build, monkeypatch, tmp_path):
    path = tmp_path / "training.ipynb"
    with (
        run.lock(build / "run.lock"),
        pytest.raises(SystemExit, match="^Another run is active in this folder: wait"),
    ):
        run_small(monkeypatch, path, "print(1)")
    assert not (build / "results.json").exists()
    assert run_small(monkeypatch, path, "print(1)") == "1\n"


def test_the_kernel_is_that_of_this_python(build, monkeypatch, tmp_path):
    """Whatever `python3` is elsewhere: Jupyter looks in the reader's folders too."""
    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "?", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    cell = "import sys\nprint(sys.executable)"
    printed = run_small(monkeypatch, tmp_path / "training.ipynb", cell)
    assert printed.strip() == sys.executable


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
        run_small(monkeypatch, tmp_path / "training.ipynb", cell)
    first, last = stopped.value.code.strip().splitlines()
    assert first.startswith("FAILED: training.ipynb, cell 1/1: "), first
    assert first.endswith(f". {run.RESUME}"), first
    assert last.startswith("The notebook up to the failed cell: ")


def test_epochs_reach_the_terminal(tmp_path):
    text = "epoch 3/50  loss 1"
    cell = "from IPython.display import display\n"
    cell += f"display({{'text/plain': '{text}'}}, raw=True)"
    path, lines = tmp_path / "training.ipynb", []
    nbformat.write(notebook_of(cell), path)
    _, failure = run.execute(path, lambda line, end=False: lines.append(line), "sample")
    assert failure is None and f"training  cell 1/1  {text}" in lines


def test_the_picture_of_the_readme_is_written_whole_or_not_at_all(
    monkeypatch, tmp_path
):
    picture = tmp_path / "docs" / "pictures" / "overview.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"the old picture")
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    savefig, written = Figure.savefig, []

    def save_half(figure, path, **settings):
        savefig(figure, path, **settings)
        written.append(Path(path).read_bytes())
        os.truncate(path, 100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", save_half)
    message = r"overview\.png could not be written \(No space left on device\): free"
    with pytest.raises(OSError, match=message):
        run.overview()
    assert written[0].startswith(b"\x89PNG") and len(written[0]) > 10_000
    assert picture.read_bytes() == b"the old picture"
    assert list(picture.parent.iterdir()) == [picture]


def module(name, *arguments, **settings):
    """`python -m tools.NAME` in the repository's root: its exit status and output."""
    environment = {**os.environ, **settings}
    command = [sys.executable, "-m", f"tools.{name}", *arguments]
    return subprocess.run(
        command, cwd=course.ROOT, capture_output=True, text=True, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "pages", "experiments"])
def test_a_missing_backend_is_named(name):
    ended = module(name, KERAS_BACKEND="jax")
    assert ended.returncode == 1 and "\n" not in ended.stderr.strip()
    assert ended.stderr.startswith("Keras cannot run on jax here (")
    assert "set KERAS_BACKEND=tensorflow" in ended.stderr


@pytest.mark.slow
def test_another_float_type_in_the_settings_of_keras_changes_nothing(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
    code = "import vae_helpers as vh\n"
    code += "print(vh.build_encoder()(vh.np.zeros((1, 784)))[0].dtype)"
    settings = {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(course.ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    assert "float32" in ended.stdout, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "pages"])
def test_a_fault_is_reported_in_one_sentence(name, tmp_path):
    path = tmp_path / "damaged.ipynb"
    path.write_text('{"cells": [')
    sentence = f"{path} is not a complete notebook: restore it with git."
    if name == "pages":
        sentence = "FASHION_MNIST_DIR is none, which is not a folder: "
        sentence += "set it to an existing folder, or unset it."
    ended = module(name, str(path), FASHION_MNIST_DIR="none")
    assert (ended.returncode, ended.stderr.strip()) == (1, sentence)


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="sees by the memory maps that TensorFlow is being imported",
)
@pytest.mark.parametrize(
    "script",
    [run, *(pytest.param(m, marks=pytest.mark.slow) for m in (pages, experiments))],
    ids=lambda module: module.__name__,
)
def test_a_program_that_is_stopped_while_it_imports_reports_it(script):
    process = subprocess.Popen(
        [sys.executable, "-m", script.__name__],
        cwd=course.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    maps = psutil.Process(process.pid).memory_maps
    while not any("tensorflow" in part.path for part in maps()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == script.INTERRUPTED + "\n"


# ---------------------------------------------------------------- the data


@pytest.fixture
def system(monkeypatch, tmp_path):
    """A Debian where the user is root and finds only the sample; the commands run."""

    class System:
        commands, user, kind, tool = [], 0, "sample", "/usr/bin/apt-get"

    state = System()
    state.commands = []

    def record(command, **settings):
        state.commands.append(command)
        if "install" in command:
            raise subprocess.TimeoutExpired(command, settings["timeout"])

    monkeypatch.delenv("FASHION_MNIST_DIR")
    monkeypatch.delenv("VAE_COURSE_QUICK")
    monkeypatch.setattr(fetch, "DEBIAN", tmp_path)
    monkeypatch.setattr(fetch, "find_files", lambda: (state.kind, {}))
    monkeypatch.setattr(os, "geteuid", lambda: state.user, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: state.tool)
    monkeypatch.setattr(subprocess, "run", record)
    return state


def test_data_are_installed_by_root_where_only_the_sample_is_found(system, capsys):
    fetch.main()
    assert [command[0] for command in system.commands] == ["apt-get", "apt-get"]
    assert "update" in system.commands[0]
    assert system.commands[1][-1] == "dataset-fashion-mnist"
    printed = capsys.readouterr().out
    assert "Installing the system package dataset-fashion-mnist with apt-get" in printed


@pytest.mark.parametrize(
    "reason", ["not root", "no apt-get", "full data", "package", "folder", "quick mode"]
)
def test_nothing_is_installed_otherwise(reason, system, monkeypatch, capsys):
    if reason == "not root":
        system.user = 1000
    if reason == "no apt-get":
        system.tool = None
    if reason == "full data":
        system.kind = "full"
    if reason == "package":
        monkeypatch.setattr(fetch, "DEBIAN", course.SAMPLE)
    if reason == "folder":
        monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    if reason == "quick mode":
        monkeypatch.setenv("VAE_COURSE_QUICK", "1")
    fetch.main()
    assert system.commands == [] and "Installing" not in capsys.readouterr().out


def test_the_runner_installs_nothing():
    names = [path for path in course.ROOT.glob("*/*.py") if path.parent.name != "tests"]
    installers = [
        path.name
        for path in [course.ROOT / "vae_helpers.py", *names]
        if re.search(r"apt-get.*(install|update)", path.read_text(encoding="utf-8"))
    ]
    # course/data.py tells a reader what to install, and fetch.py does it.
    assert sorted(installers) == ["data.py", "fetch.py"]
    for name in ("run.py", "pages.py"):
        text = (course.ROOT / "tools" / name).read_text(encoding="utf-8")
        assert not re.search(r"\bapt\b|subprocess|os\.system", text), name


# ---------------------------------------------------------------- the experiments


@pytest.mark.parametrize("words", ["vae", "vae one", "nonsense 1", "vae 99", "vae 1 2"])
def test_reproduce_lists_its_arguments_before_it_loads_anything(words, monkeypatch):
    monkeypatch.setattr(vh, "load_data", lambda: pytest.fail("the data were loaded"))
    arguments = ["experiments.py", "--reproduce", *words.split()]
    monkeypatch.setattr(sys, "argv", arguments)
    message = '--reproduce takes no arguments, or .*: "autoencoder" 1 to 8, "vae" 1 to'
    with pytest.raises(SystemExit, match=message):
        experiments.main()


def test_reproduce_accepts_every_run():
    for name in experiments.PLAN:
        assert experiments.choose_run([name, "1"]) == (name, 1)
    assert experiments.choose_run([])[0] in experiments.PLAN


def test_a_damaged_record_of_a_run_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments, "RUNS", tmp_path)
    path = experiments.path_of_run("vae", 1, ".record.json")
    path.write_text('{"seconds": 1')
    message = r"vae-seed1\.record\.json is damaged: delete it and run the same command"
    with pytest.raises(ValueError, match=message):
        experiments.load_or_measure("vae", 1, FULL_RUN, None)


@pytest.mark.slow
def test_an_experiment_is_loaded_with_its_curves(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(experiments, "RUNS", tmp_path)
    monkeypatch.setattr(experiments.evaluation, "EPOCHS", 2)
    x_train, _, x_val, _ = load_sample()
    data = FULL_RUN._replace(x_train=x_train[:200], x_val=x_val[:100])
    model, record = experiments.load_or_train("autoencoder", 1, data)
    assert "autoencoder, seed 1" in capsys.readouterr().out
    assert len(record["val_loss"]) == 2
    loaded, same_record = experiments.load_or_train("autoencoder", 1, data)
    assert capsys.readouterr().out == "" and same_record == record
    for one, other in zip(training_state(model), training_state(loaded)):
        assert np.array_equal(one.numpy(), other.numpy()), one.path
    experiments.path_of_run("autoencoder", 1, ".npz").write_bytes(b"PK")
    message = "autoencoder-seed1.npz is damaged .*: delete it"
    with pytest.raises(ValueError, match=message):
        experiments.load_or_train("autoencoder", 1, data)


# ---------------------------------------------------------------- a run that is stopped

TRAINING = """
import sys
sys.path[:0] = ["..", "../tests"]
import vae_helpers as vh
import test_resume
vae = test_resume.tiny()
history = test_resume.train(vae, [test_resume.slow_schedule(vae)], epochs=40, verbose=1)
print([value.hex() for value in history["loss"]])
"""
COPIED = ("*.py", "pyproject.toml", "course/**/*", "tools/*.py", "tests/*.py")
NO_PAGES = 'MISSING = "No pages."\n\n\ndef installed():\n    return False\n'


def copy_of_the_course(folder):
    """What a run needs of the course, and a notebook that trains. Without pages."""
    for pattern in COPIED:
        for path in filter(Path.is_file, course.ROOT.glob(pattern)):
            if "__pycache__" not in path.parts:
                copy = folder / path.relative_to(course.ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    (folder / "tools" / "pages.py").write_text(NO_PAGES)
    (folder / "notebooks").mkdir()
    nbformat.write(notebook_of(TRAINING), folder / "notebooks" / "training.ipynb")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_make_run_stopped_resumes_and_ends_as_if_undisturbed(tmp_path):
    """In a folder whose name has spaces and letters beyond ASCII."""
    folder = tmp_path / "Ä b c"
    copy_of_the_course(folder)
    settings = {"FASHION_MNIST_DIR": "course/assets/sample", "VAE_COURSE_QUICK": ""}
    outputs, signals = [], [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]

    def checkpoints(pattern="[!.]*.npz"):
        paths = folder.glob(f"build/resume/*/*/*/{pattern}")
        return {path: path.stat().st_mtime_ns for path in paths}

    for how in [*signals, None]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.run", "notebooks/training.ipynb"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **settings},
        )
        before = checkpoints()
        while how and process.poll() is None:
            time.sleep(0.1)
            if checkpoints() != before:  # an epoch has ended
                kernels = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(how)
                if how == signal.SIGINT:  # an impatient reader
                    time.sleep(0.05)
                    process.send_signal(how)
                how = None
                gone, alive = psutil.wait_procs(kernels, timeout=60)
                assert gone and not alive, "the kernel outlives the run"
        outputs.append(process.communicate(timeout=200)[0])
    interrupted = [run.INTERRUPTED in text for text in outputs]
    assert interrupted == [False, True, True, False], outputs
    resumed = [RESUMING in text for text in outputs]
    assert resumed == [False, True, True, True], outputs
    assert "Traceback" not in "".join(outputs) and "Read on" in outputs[-1], outputs
    assert not list(folder.glob("build/resume/*/*")), "the next run starts again"
    executed = nbformat.read(folder / "build" / "training.ipynb", as_version=4)
    vae = test_resume.tiny()
    history = test_resume.train(vae, [test_resume.slow_schedule(vae)], epochs=40)
    losses = [value.hex() for value in history["loss"]]
    assert executed.cells[0].outputs[-1].text.strip() == str(losses)
