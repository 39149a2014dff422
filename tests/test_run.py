"""`make run` and the comparison with expected results."""

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
from matplotlib.figure import Figure

import course
import vae_helpers as vh
from course.data import load_sample
from course.training import training_state
from tools import experiments, pages, run


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Results and bands of the test's own."""
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(course, "EXPERIMENTS", tmp_path / "experiments.json")
    bands = {"error": [0.01, 0.02], "units": [2, 6]}
    course.EXPERIMENTS.write_text(json.dumps({"bands": bands}))
    return tmp_path / "build"


COMPLETE = vh.Data(*[None] * 6, is_full_run=True)


def test_results_are_compared_and_kept(build, capsys):
    vh.expect("error", 0.0123, COMPLETE)
    vh.expect("units", 7, COMPLETE)
    said = capsys.readouterr().out.splitlines()
    assert "0.01230   expected 0.01000 to 0.02000   ok" in said[0]
    assert "7   expected 2 to 6   OUTSIDE" in said[1]
    kept = json.loads((build / "results.json").read_text())
    assert (
        kept["error"] == {"value": 0.0123, "low": 0.01, "high": 0.02, "ok": True}
        and not kept["units"]["ok"]
    )


def test_nan_is_outside(build, capsys):
    vh.expect("error", float("nan"), COMPLETE)
    assert "OUTSIDE" in capsys.readouterr().out


def test_short_runs_are_not_compared(build, capsys):
    vh.expect("error", 5.0, COMPLETE._replace(is_full_run=False))
    said = capsys.readouterr().out
    assert (
        "expected 0.01000 to 0.02000" in said
        and "not compared" in said
        and "OUTSIDE" not in said
    )
    assert not build.exists()


def test_table_shows_what_is_missing(build):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(
            'vh.expect("error", 0.5, data)\nvh.expect("units", 3, data)'
        )
    ]
    lines = run.table({"error": {"value": 0.5, "ok": False}}, [notebook])
    assert lines[1].endswith("OUTSIDE") and lines[2].endswith("not compared")
    notebook.cells.pop()
    assert len(run.table({}, [notebook])) == 1, "only what the notebooks compute"


def test_failing_chapter_is_named_with_cell_and_error(build, monkeypatch, tmp_path):
    notebook = nbformat.v4.new_notebook()
    sources = ["1 + 1", "raise RuntimeError('the reason')", "print('never')"]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = tmp_path / "07_broken.ipynb"
    nbformat.write(notebook, path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    with pytest.raises(SystemExit) as left:
        run.main()
    assert (
        "FAILED: 07_broken.ipynb, cell 2/3: RuntimeError: the reason" in left.value.code
    )
    assert (build / path.name).is_file() and not (build / "pages").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_run_ends_with_where_to_read_on(
    installed, build, monkeypatch, tmp_path, capsys
):
    path, written = tmp_path / "07_empty.ipynb", []
    nbformat.write(nbformat.v4.new_notebook(), path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    monkeypatch.setattr(pages, "installed", lambda: installed)
    monkeypatch.setattr(
        pages, "write", lambda *given: written.append(given) or "the first page"
    )
    run.main()
    said = capsys.readouterr().out
    assert (build / path.name).is_file()
    if installed:
        assert "Read on: the first page" in said and list(written[0][0]) == [path.name]
    else:
        assert (
            "pages are left out, because Sphinx is not installed" in said
            and not written
        )


def run_small(monkeypatch, path, *cells, quick=""):
    """Run a notebook of these cells on the sample, without pages; returns what its last cell printed."""
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
        ),
        path,
    )
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    monkeypatch.setenv("VAE_COURSE_QUICK", quick)
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    monkeypatch.setattr(pages, "installed", lambda: False)
    run.main()
    return (
        nbformat.read(course.BUILD / path.name, as_version=4).cells[-1].outputs[-1].text
    )


ASKS = "import os\nprint(os.environ.get('VAE_COURSE_RESUME'))"  # where to keep states


def test_a_quick_run_leaves_an_interrupted_full_run_alone(
    build, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "training.ipynb"
    states = Path(run_small(monkeypatch, path, ASKS).strip())
    states.mkdir(parents=True)
    monkeypatch.delenv("VAE_COURSE_RESUME", raising=False)
    assert run_small(monkeypatch, path, ASKS, quick="1") == "None\n" and states.is_dir()
    assert "Going on" not in capsys.readouterr().out


def test_a_run_on_the_sample_leaves_an_interrupted_full_run_alone(
    build, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "training.ipynb"
    states = Path(run_small(monkeypatch, path, ASKS).strip())
    assert states.parts[-3:-1] == ("sample", "training")
    full = course.BUILD / "resume" / "full" / Path(*states.parts[-2:])
    full.mkdir(parents=True)
    run_small(monkeypatch, path, ASKS)
    assert (
        "Going on" not in capsys.readouterr().out
        and full.is_dir()
        and not states.parent.exists()
    )


def test_a_run_goes_on_only_from_states_of_the_same_code(
    build, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "training.ipynb"
    states = Path(run_small(monkeypatch, path, ASKS).strip())
    states.with_name("of-older-code").mkdir(parents=True)
    run_small(monkeypatch, path, ASKS)
    assert "Going on" not in capsys.readouterr().out and not states.parent.exists()
    states.mkdir(parents=True)
    run_small(monkeypatch, path, ASKS)
    assert (
        "Going on where the last run stopped; delete build/resume to begin anew."
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("quick", ["", "1"])
def test_a_run_that_is_not_complete_keeps_the_results_and_shows_none(
    quick, build, monkeypatch, tmp_path, capsys
):
    build.mkdir()
    kept = json.dumps(
        {"error": {"value": 0.0123, "low": 0.01, "high": 0.02, "ok": True}}
    )
    (build / "results.json").write_text(kept)
    run_small(
        monkeypatch, tmp_path / "training.ipynb", "print('error   0.5')", quick=quick
    )
    assert (build / "results.json").read_text() == kept
    assert re.search("^error +- .* not compared$", capsys.readouterr().out, flags=re.M)


def test_damaged_results_are_begun_anew(build, monkeypatch, tmp_path):
    build.mkdir()
    for damaged in (
        '{"error": {"val',
        "[]",
        "",
        '{"error": 1}',
        '{"error": {"value": 1}}',
    ):
        (build / "results.json").write_text(damaged)
        assert run.kept_results(build / "results.json") == {}
    run_small(monkeypatch, tmp_path / "training.ipynb", "print(1)")
    assert (build / "results.json").read_text() == "{}"


def test_a_full_run_renews_the_results_of_its_own_notebooks_only(
    build, monkeypatch, tmp_path
):
    monkeypatch.setattr(run, "find_data", lambda: "full")
    for name in ("error", "units"):
        vh.expect(name, 5, COMPLETE)
    run_small(monkeypatch, tmp_path / "training.ipynb", "print('error ')")
    assert list(json.loads((build / "results.json").read_text())) == ["units"]


@pytest.mark.skipif(os.name == "nt", reason="without fcntl nothing is locked")
def test_two_runs_at_once_do_not_mix(build, monkeypatch, tmp_path):
    with (
        run.locked(build / "run.lock"),
        pytest.raises(SystemExit, match="^Another run is at work.*: wait"),
    ):
        run_small(monkeypatch, tmp_path / "training.ipynb", "print(1)")
    assert not (build / "results.json").exists()
    assert run_small(monkeypatch, tmp_path / "training.ipynb", "print(1)") == "1\n"


def test_the_kernel_is_that_of_this_python(build, monkeypatch, tmp_path):
    """Whatever `python3` is elsewhere: Jupyter looks in the reader's folders too."""
    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(
        json.dumps({"argv": ["false"], "display_name": "?", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    found = run_small(
        monkeypatch, tmp_path / "training.ipynb", "import sys\nprint(sys.executable)"
    )
    assert found.strip() == sys.executable


@pytest.mark.parametrize("fault", ["the kernel dies", "an hour has passed"])
def test_what_ended_a_notebook_is_said_with_what_to_do(
    fault, build, monkeypatch, tmp_path
):
    monkeypatch.setattr(run, "HOUR", 2)
    cell = (
        "import os\nos._exit(1)"
        if fault == "the kernel dies"
        else "import time\n\n\ntime.sleep(60)"
    )
    with pytest.raises(SystemExit) as left:
        run_small(monkeypatch, tmp_path / "training.ipynb", cell)
    first, last = left.value.code.strip().splitlines()
    assert first.startswith("FAILED: training.ipynb, cell 1/1: ") and first.endswith(
        run.AGAIN
    ), first
    assert last.startswith("The notebook as far as it went: ")


def test_damaged_bands_are_named_before_anything_runs(build, monkeypatch, tmp_path):
    for damaged in ('{"bands": {', "[]", "{}"):
        course.EXPERIMENTS.write_text(damaged)
        with pytest.raises(
            ValueError, match=r"experiments\.json is damaged: restore it with git\.$"
        ):
            run_small(monkeypatch, tmp_path / "training.ipynb", "print(1)")
    assert not build.exists()


def test_the_picture_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    run.overview()
    picture = tmp_path / "pictures" / "overview.png"
    whole = picture.read_bytes()

    def half(figure, name, **_):
        Path(name).write_bytes(whole[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(
        OSError,
        match=r"overview\.png could not be written \(No space left on device\): make room",
    ):
        run.overview()
    assert picture.read_bytes() == whole and list(picture.parent.iterdir()) == [picture]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["run.py", "pages.py", "experiments.py"])
def test_another_backend_that_is_not_there_is_named(script, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, str(course.ROOT / "notebooks" / script)]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 1 and "\n" not in ended.stderr.strip()
    assert (
        ended.stderr.startswith("Keras cannot run on jax here (")
        and "set KERAS_BACKEND=tensorflow." in ended.stderr
    )


@pytest.mark.slow
def test_numbers_of_another_length_in_keras_settings_change_nothing(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
    code = "import vae_helpers as vh; print(vh.build_encoder()(vh.np.zeros((1, 784)))[0].dtype)"
    environment = {
        **os.environ,
        "KERAS_HOME": str(tmp_path),
        "PYTHONPATH": str(course.ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert "float32" in ended.stdout, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", ["run.py", "pages.py"])
def test_what_is_wrong_is_said_in_one_sentence(script, tmp_path):
    """With Python's safe path too, which leaves out the folder of the script."""
    path = tmp_path / "damaged.ipynb"
    path.write_text('{"cells": [')
    sentence = f"{path} is not a whole notebook: restore it with git."
    if script == "pages.py":
        sentence = "FASHION_MNIST_DIR is none, which is not a folder: name one that is, or unset it."
    command = [sys.executable, str(course.ROOT / "notebooks" / script), str(path)]
    environment = {**os.environ, "FASHION_MNIST_DIR": "none", "PYTHONSAFEPATH": "1"}
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert (ended.returncode, ended.stderr.strip()) == (1, sentence)


def test_epochs_reach_the_terminal(tmp_path):
    notebook = nbformat.v4.new_notebook()
    source = "from IPython.display import display\ndisplay({'text/plain': 'epoch 3/50  loss 1'}, raw=True)"
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    path = tmp_path / "training.ipynb"
    nbformat.write(notebook, path)
    said = []
    _, failure = run.execute(path, lambda text, end=False: said.append(text), "sample")
    assert failure is None and "training  cell 1/1  epoch 3/50  loss 1" in said


TRAINING = """
import sys
sys.path[:0] = ["..", "../tests"]
import vae_helpers as vh
import course
import test_resume
vae = test_resume.tiny()
history = test_resume.train(vae, [test_resume.slow_schedule(vae)], epochs=40, verbose=1)
print([value.hex() for value in history["loss"]])
"""


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="sees by the memory maps that TensorFlow is being imported",
)
@pytest.mark.parametrize(
    "script", [run, pages, experiments], ids=lambda script: script.__name__
)
def test_a_run_stopped_while_it_imports_says_so(script, tmp_path):
    command = [sys.executable, script.__file__]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not any(
        "tensorflow" in part.path for part in psutil.Process(process.pid).memory_maps()
    ):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == script.INTERRUPTED + "\n"


@pytest.mark.parametrize("words", ["vae", "vae one", "nonsense 1", "vae 99", "vae 1 2"])
def test_again_says_what_it_takes_before_it_does_anything(words, monkeypatch):
    monkeypatch.setattr(vh, "load_data", lambda: pytest.fail("the data were read"))
    monkeypatch.setattr(sys, "argv", ["experiments.py", "--again", *words.split()])
    with pytest.raises(
        SystemExit,
        match='--again takes nothing, or one of these .*: "autoencoder" 1 to 8, "vae" 1 to',
    ):
        experiments.main()


def test_again_finds_every_run():
    assert all(experiments.asked([name, "1"]) == (name, 1) for name in experiments.PLAN)
    assert experiments.asked([])[0] in experiments.PLAN


def test_a_damaged_record_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments, "RUNS", tmp_path)
    path = experiments.kept("vae", 1, ".record.json")
    path.write_text('{"seconds": 1')
    with pytest.raises(
        ValueError,
        match=r"vae-seed1\.record\.json is damaged: delete it, and say the same again\.$",
    ):
        experiments.measured("vae", 1, COMPLETE, None)


@pytest.mark.slow
def test_an_experiment_is_taken_up_with_its_curves(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(experiments, "RUNS", tmp_path)
    monkeypatch.setattr(experiments.scores, "EPOCHS", 2)
    data = COMPLETE._replace(
        x_train=load_sample()[0][:200], x_val=load_sample()[2][:100]
    )
    model, record = experiments.trained("autoencoder", 1, data)
    assert (
        "autoencoder, seed 1" in capsys.readouterr().out
        and len(record["val_loss"]) == 2
    )
    again, same_record = experiments.trained("autoencoder", 1, data)
    assert capsys.readouterr().out == "" and same_record == record
    for one, other in zip(training_state(model), training_state(again)):
        assert np.array_equal(one.numpy(), other.numpy()), one.path
    experiments.kept("autoencoder", 1, ".npz").write_bytes(b"PK")
    with pytest.raises(
        ValueError, match="autoencoder-seed1.npz is damaged .*: delete it"
    ):
        experiments.trained("autoencoder", 1, data)


@pytest.mark.slow
def test_make_run_stopped_goes_on_and_ends_as_if_undisturbed(tmp_path):
    """In a folder whose name has spaces and letters beyond ASCII."""
    course = tmp_path / "Ä b c"
    for pattern in (
        "*.py",
        "notebooks/*.py",
        "notebooks/*.json",
        "notebooks/data/*",
        "tests/*.py",
        "pyproject.toml",
    ):
        for path in course.ROOT.glob(pattern):
            copy = course / path.relative_to(course.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    no_pages = 'MISSING = "No pages."\n\n\ndef installed():\n    return False\n'
    (course / "notebooks" / "pages.py").write_text(
        no_pages
    )  # they would be of the whole course
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A training")]
    )
    notebook.cells.append(nbformat.v4.new_code_cell(TRAINING))
    nbformat.write(notebook, course / "notebooks" / "training.ipynb")
    command = [sys.executable, "notebooks/run.py", "notebooks/training.ipynb"]
    environment = {
        **os.environ,
        "FASHION_MNIST_DIR": "notebooks/data",
        "VAE_COURSE_QUICK": "",
    }
    said, signals = [], [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
    for how in [*signals, None]:
        process = subprocess.Popen(command, cwd=course, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env=environment)  # fmt: skip
        states = {
            path: path.stat().st_mtime_ns
            for path in course.glob("build/resume/*/*/*/*.npz")
        }
        while how and process.poll() is None:
            time.sleep(0.1)
            now = {
                path: path.stat().st_mtime_ns
                for path in course.glob("build/resume/*/*/*/[!.]*.npz")
            }
            if now != states:  # an epoch was finished
                kernels = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(how)
                if how == signal.SIGINT:  # an impatient reader
                    time.sleep(0.05)
                    process.send_signal(how)
                how = None
                gone, alive = psutil.wait_procs(kernels, timeout=60)
                assert gone and not alive, "the kernel outlives the run"
        said.append(process.communicate(timeout=200)[0])
    sentence = "Interrupted. Say the same again to go on from the last finished epoch."
    asked = (signal.SIGINT, signal.SIGTERM)
    assert [how in asked for how in [*signals, None]] == [
        sentence in text for text in said
    ], said
    assert ["Going on where the last run stopped" in text for text in said] == [
        False
    ] + [True] * len(signals), said
    assert "Traceback" not in "".join(said) and "Read on" in said[-1], said
    assert not list(course.glob("build/resume/*/*")), "the next run begins anew"
    printed = (
        nbformat.read(course / "build" / "training.ipynb", as_version=4)
        .cells[1]
        .outputs[-1]
        .text
    )
    vae = test_resume.tiny()
    history = test_resume.train(vae, [test_resume.slow_schedule(vae)], epochs=40)
    assert printed.strip() == str([value.hex() for value in history["loss"]])
