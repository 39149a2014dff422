"""`make run` and the comparison with expected results."""

import json
import sys

import nbformat
import pytest

import pages
import run
import vae_helpers as vh


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Results and bands of the test's own."""
    monkeypatch.setattr(vh, "BUILD", tmp_path / "build")
    monkeypatch.setattr(vh, "EXPERIMENTS", tmp_path / "experiments.json")
    bands = {"error": [0.01, 0.02], "units": [2, 6]}
    vh.EXPERIMENTS.write_text(json.dumps({"bands": bands}))
    return tmp_path / "build"


COMPLETE = vh.Data(*[None] * 6, complete=True)


def test_results_are_compared_and_kept(build, capsys):
    vh.expect("error", 0.0123, COMPLETE)
    vh.expect("units", 7, COMPLETE)
    said = capsys.readouterr().out.splitlines()
    assert "0.01230   expected 0.01000 to 0.02000   ok" in said[0]
    assert "7   expected 2 to 6   OUTSIDE" in said[1]
    kept = json.loads((build / "results.json").read_text())
    assert kept["error"] == {"value": 0.0123, "low": 0.01, "high": 0.02, "ok": True} and not kept["units"]["ok"]


def test_nan_is_outside(build, capsys):
    vh.expect("error", float("nan"), COMPLETE)
    assert "OUTSIDE" in capsys.readouterr().out


def test_short_runs_are_not_compared(build, capsys):
    vh.expect("error", 5.0, COMPLETE._replace(complete=False))
    said = capsys.readouterr().out
    assert "expected 0.01000 to 0.02000" in said and "not compared" in said and "OUTSIDE" not in said
    assert not build.exists()


def test_table_shows_what_is_missing(build):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell('vh.expect("error", 0.5, data)\nvh.expect("units", 3, data)')]
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
    monkeypatch.setenv("FASHION_MNIST_DIR", str(vh.SAMPLE))
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    with pytest.raises(SystemExit) as left:
        run.main()
    assert "FAILED: 07_broken.ipynb, cell 2/3: RuntimeError: the reason" in left.value.code
    assert (build / path.name).is_file() and not (build / "pages").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_run_ends_with_where_to_read_on(installed, build, monkeypatch, tmp_path, capsys):
    path, written = tmp_path / "07_empty.ipynb", []
    nbformat.write(nbformat.v4.new_notebook(), path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(vh.SAMPLE))
    monkeypatch.setattr(sys, "argv", ["run.py", str(path)])
    monkeypatch.setattr(pages, "installed", lambda: installed)
    monkeypatch.setattr(pages, "write", lambda *given: written.append(given) or "the first page")
    run.main()
    said = capsys.readouterr().out
    assert (build / path.name).is_file()
    if installed:
        assert "Read on: the first page" in said and list(written[0][0]) == [path.name]
    else:
        assert "pages are left out, because Sphinx is not installed" in said and not written


def test_epochs_reach_the_terminal(tmp_path):
    notebook = nbformat.v4.new_notebook()
    source = "from IPython.display import display\ndisplay({'text/plain': 'epoch 3/50  loss 1'}, raw=True)"
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    path = tmp_path / "training.ipynb"
    nbformat.write(notebook, path)
    said = []
    _, failure = run.execute(path, lambda text, end=False: said.append(text))
    assert failure is None and "training  cell 1/1  epoch 3/50  loss 1" in said
