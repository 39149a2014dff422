"""Run the chapters in order into build/, with progress, and render the course as pages.

usage: python -m tools.run [--all] [--check] [--store] [NOTEBOOK ...]

  --all     all chapters, the exercises and their solutions; default: the first four
  --check   exit with an error unless every expected result is there and in its range
  --store   also renew the stored outputs, the reference models and README's picture

After a run that failed or was interrupted, the same command starts with the chapter that
was not finished. Chapters before it are not run again, unless they, the modules, the
versions or the data have changed.

Writes build/NAME.ipynb and, if Sphinx is installed, build/pages/.
"""

import argparse
import asyncio
import contextlib
import copy
import hashlib
import io
import json
import os
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

import course
import vae_helpers as vh
from course import flow
from course.data import find_files, quick_mode
from course.files import atomic_write, write_text
from course.results import expected_ranges, format_range
from tools import pages, refresh

FIRST = 4  # chapters that `make run` runs
CELL_TIMEOUT = 3600  # seconds
TRAINED = ["autoencoder", "vae_encoder", "vae_decoder"]  # by chapters 02 and 03
RESUME = "Run the same command again to start with the chapter that was not finished."
OUTSIDE = "outside the expected range"


class Progress:
    """One line on the terminal, rewritten; in a log file, a line for each notebook."""

    def __init__(self):
        self.start = time.perf_counter()

    def __call__(self, text, end=False):
        minutes, seconds = divmod(int(time.perf_counter() - self.start), 60)
        line = f"[{minutes:2}:{seconds:02}] {text}"
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            end_of_line = "\n" if end else ""
            print(f"\r{line[:width]:<{width}}", end=end_of_line, flush=True)
        elif end:
            print(line, flush=True)


class Client(NotebookClient):
    """Executes a notebook; reports the running cell and the epochs of its training."""

    def __init__(self, notebook, path, progress):
        super().__init__(
            notebook,
            timeout=CELL_TIMEOUT,  # or a dead kernel would look like a long training
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
            coalesce_streams=True,
            extra_arguments=["--log-level=40"],
            shutdown_kernel="immediate",
        )
        self.name, self.place, self.progress = path.stem, "at the start", progress
        self.on_cell_start = self.show_place

    def show_place(self, cell, cell_index, **_):
        self.place = f"cell {cell_index + 1}/{len(self.nb.cells)}"
        self.progress(f"{self.name}  {self.place}")

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        # This Python's own kernel, whatever else is installed under its name.
        manager.kernel_spec_manager.kernel_dirs = []
        return manager

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("data", {}).get("text/plain", "")
        if text.startswith("epoch "):
            self.progress(f"{self.name}  {self.place}  {text}")
        return super().process_message(msg, cell, cell_index)


def execute(notebook, path, progress):
    """Execute a notebook, in place; None, or a sentence: where and why it failed."""
    client = Client(notebook, path, progress)
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        return f"{path.name}, {client.place}: {error.ename}: {error.evalue}"
    except AssertionError:  # so nbclient ends after Ctrl-C
        return f"{path.name}, {client.place}: interrupted"
    except (CellTimeoutError, DeadKernelError, asyncio.CancelledError) as error:
        first_line = str(error).partition("\n")[0]
        return f"{path.name}, {client.place}: {type(error).__name__}: {first_line}"
    finally:
        refresh.copy_alternative_texts(notebook)
        write_notebook(notebook, course.BUILD / path.name)
    progress(f"{path.stem}  done in {time.perf_counter() - start:.0f} s", end=True)
    return None


def write_notebook(notebook, path):
    """Write a notebook without what differs from machine to machine."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    language = {"name": "python", "pygments_lexer": "ipython3"}  # for the cells' "!"
    notebook.metadata = {"kernelspec": kernel, "language_info": language}
    write_text(path, nbformat.writes(notebook) + "\n")


class Finished:
    """The chapters that an unfinished run has finished, in build/finished.json.

    Each is listed with a fingerprint of all that its outputs depend on: the cells of
    this chapter and of those before it, the modules, the versions and the data.
    """

    def __init__(self, kind):
        self.path = course.BUILD / "finished.json"
        self.listed = {}
        with contextlib.suppress(OSError, ValueError):
            self.listed = json.loads(self.path.read_text(encoding="utf-8"))
        names = ("tensorflow", "keras", "numpy", "scikit-learn", "matplotlib")
        self.hash = hashlib.sha256(f"{sys.version} {kind} {quick_mode()}".encode())
        self.hash.update(" ".join(map(version, names)).encode())
        modules = sorted(course.ROOT.glob("course/**/*.py"))
        for path in [course.ROOT / "vae_helpers.py", *modules, course.EXPERIMENTS]:
            self.hash.update(path.read_bytes())

    def load(self, path, notebook):
        """The executed notebook of a chapter, if it is still good; call it in order."""
        for cell in notebook.cells:
            if cell.cell_type == "code":
                self.hash.update(cell.source.encode() + b"\0")
        executed = course.BUILD / path.name
        if self.listed.get(path.name) == self.hash.hexdigest() and executed.is_file():
            return refresh.read_notebook(executed)
        return None

    def add(self, path):
        """List the chapter that `load` was last called for."""
        self.listed[path.name] = self.hash.hexdigest()
        write_text(self.path, json.dumps(self.listed))

    def clear(self):
        """Forget all: the next run runs all chapters."""
        self.path.unlink(missing_ok=True)


def table(notebooks):
    """The rows (name, yours, expected, verdict) of what executed notebooks compute.

    A notebook computes a result if its code names it, in quotes, or if it printed a
    line that begins with the whole name. A result that was not printed has "-".
    """
    cells = [cell for notebook in notebooks for cell in notebook.cells]
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    rows = []
    for name, (low, high) in expected_ranges().items():
        printed = refresh.stored_result(notebooks, name)
        if printed:
            rows.append((name, *printed))
        elif f'"{name}"' in code:
            rows.append((name, "-", format_range(low, high), "not compared"))
    return rows


def overview():
    """README's picture: originals, reconstructions and new images of both models."""
    import numpy as np

    vh.use_style()
    with contextlib.redirect_stdout(io.StringIO()):
        data = vh.load_data()
    autoencoder, encoder, decoder = (
        vh.load(course.REFERENCE / f"{name}.keras") for name in TRAINED
    )
    x = data.x_test[vh.one_of_each(data.y_test)]
    rng = np.random.default_rng(3)  # chapter 04's
    z, z_18 = (rng.normal(size=(10, d)).astype("float32") for d in (10, 18))
    rows = {
        "original": x,
        "autoencoder": autoencoder(x),
        "VAE": decoder(encoder(x)[0]),
        "new: autoencoder": vh.split_autoencoder(autoencoder)[1](z_18),
        "new: VAE": decoder(z),
    }
    with atomic_write(course.ROOT / "docs" / "pictures" / "overview.png") as [name]:
        vh.image_grid(rows).savefig(name, format="png", metadata={"Software": None})


def store(notebooks):
    """Make this run's notebooks and models the stored ones."""
    models = {
        name: vh.load(course.BUILD / "models" / f"{name}.keras") for name in TRAINED
    }
    vh.save(course.REFERENCE, **models)
    flow.renew_reference(vh.load_data())  # its codes are the autoencoder's
    for path, notebook in notebooks.items():
        write_notebook(refresh.strip_explorer(copy.deepcopy(notebook)), path)
    overview()
    refresh.main()  # the tables of results show this run's
    print("Stored: notebooks, solutions, course/assets/models, docs/pictures")


def run_all(paths, kind):
    """Run notebooks in order, {path: executed notebook}; exit where one fails."""
    finished, progress, done = Finished(kind), Progress(), {}
    for path in paths:
        notebook = refresh.refreshed_notebook(path)  # taught cells are the module's
        done[path] = finished.load(path, notebook)
        if done[path]:
            progress(f"{path.stem}  finished by the run before", end=True)
            continue
        done[path] = notebook
        if failure := execute(notebook, path, progress):
            where = f"The notebook up to there: build/{path.name}"
            sys.exit(f"\nFAILED: {failure}\n{where}\n{RESUME}")
        finished.add(path)
    finished.clear()
    return done


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in ("--all", "--check", "--store"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    everything = [path for path in refresh.notebooks() if path.is_file()]
    first = refresh.chapters()[:FIRST]
    paths = options.notebooks or (everything if options.all else first)
    if folder := os.environ.get("FASHION_MNIST_DIR"):  # notebooks run elsewhere
        os.environ["FASHION_MNIST_DIR"] = str(Path(folder).expanduser().resolve())
    kind = find_files()[0]
    is_full_run = kind == "full" and not quick_mode()
    if options.store and not (is_full_run and options.all and not options.notebooks):
        sys.exit("--store needs --all, no names, the full data and no quick mode.")

    done = run_all(paths, kind)
    rows = table(done.values())
    print(f"\n{'result':<42}{'yours':>9}   expected")
    for name, yours, expected, verdict in rows:
        print(f"{name:<42}{yours:>9}   {expected:<20} {verdict}")
    if not is_full_run:
        print("\nThis was not a full run, so nothing is compared.")
    failed = [row for row in rows if row[-1] != "ok"]
    if any(row[-1] == OUTSIDE for row in rows):
        print(
            "\nA result outside its range points to a changed model or other data: "
            "restore the chapter with git and run it again."
        )
    if options.store and not (options.check and failed):
        store(done)
    if pages.installed():
        lines = ["result | yours | expected | ", "---|---|---|---"]
        lines = [f"| {line} |" for line in [*lines, *map(" | ".join, rows)]]
        section = "\n".join(["## Your results and what to expect", "", *lines])
        print(f"\nRead on: {pages.write(done, section)}")
    else:
        print(f"\nRead on: {course.BUILD}/*.ipynb. {pages.MISSING}")
    if options.check and failed:
        sys.exit("Some results are missing or outside their ranges: see the table.")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter of a path
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(f"\nInterrupted. {RESUME}")
