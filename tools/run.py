"""Run the chapters in order into build/, with progress, and render the course as pages.

usage: python -m tools.run [--all] [--check] [--store] [NOTEBOOK ...]

  --all     all chapters, the exercises and their solutions; default: the first four
  --check   exit with an error unless every printed result is in its range
  --store   as --all --check, then renew stored outputs, reference models and pictures

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
from course import evaluation, flow
from course.data import find_files, quick_mode
from course.files import atomic_write, write_text
from course.map import page as map_page
from course.results import expected_ranges
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


def fingerprint(kind):
    """A hash of what every chapter's outputs depend on: modules, versions, the data."""
    packages = ("tensorflow", "keras", "numpy", "scikit-learn", "matplotlib")
    versions = [sys.version, *map(version, packages)]
    digest = hashlib.sha256(f"{kind} {quick_mode()} {versions}".encode())
    modules = sorted(course.ROOT.glob("course/**/*.py"))
    for path in [course.ROOT / "vae_helpers.py", *modules, course.EXPERIMENTS]:
        digest.update(path.read_bytes())
    return digest


def table(notebooks):
    """The rows (name, yours, expected, verdict) of what executed notebooks printed."""
    results = {
        name: refresh.stored_result(notebooks, name) for name in expected_ranges()
    }
    return [(name, *result) for name, result in results.items() if result]


def draw_pictures():
    """README's picture, originals and images of both models, and the map's."""
    import numpy as np

    data = vh.load_data()
    two = evaluation.load_vae("vae2d")
    shown = data.x_val[:1000], data.y_val[:1000]
    with atomic_write(course.ASSETS / "map.png") as [name]:
        name.write_bytes(map_page.picture(two.encoder, two.decoder, *shown))
    vh.use_style()
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
    draw_pictures()
    refresh.main()  # the tables of results show this run's
    print("Stored: notebooks, solutions, course/assets/models, docs/pictures")


def run_all(paths, kind):
    """Run notebooks in order, {path: executed notebook}; exit where one fails.

    build/finished.json lists what an unfinished run has finished, each with a
    fingerprint that includes the cells of this notebook and of those before it.
    """
    listed, listing = {}, course.BUILD / "finished.json"
    with contextlib.suppress(OSError, ValueError):
        listed = json.loads(listing.read_text(encoding="utf-8"))
    digest, progress, done = fingerprint(kind), Progress(), {}
    for path in paths:
        done[path] = refresh.refreshed_notebook(path)  # taught cells are the module's
        digest.update("\0".join(cell.source for cell in done[path].cells).encode())
        executed = course.BUILD / path.name
        if listed.get(path.name) == digest.hexdigest() and executed.is_file():
            done[path] = nbformat.read(executed, 4)
            progress(f"{path.stem}  finished by the run before", end=True)
            continue
        if failure := execute(done[path], path, progress):
            where = f"The notebook up to there: build/{path.name}"
            sys.exit(f"\nFAILED: {failure}\n{where}\n{RESUME}")
        listed[path.name] = digest.hexdigest()
        write_text(listing, json.dumps(listed))
    listing.unlink(missing_ok=True)
    return done


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in ("--all", "--check", "--store"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    paths = options.notebooks or refresh.chapters()[:FIRST]
    if options.all or options.store:
        paths = refresh.notebooks()
    if folder := os.environ.get("FASHION_MNIST_DIR"):  # notebooks run elsewhere
        os.environ["FASHION_MNIST_DIR"] = str(Path(folder).expanduser().resolve())
    kind = find_files()[0]
    is_full_run = kind == "full" and not quick_mode()
    if options.store and not is_full_run:
        sys.exit("--store needs the full data: run make data, unset VAE_COURSE_QUICK.")

    done = run_all(paths, kind)
    rows = table(done.values())
    print(f"\n{'result':<42}{'yours':>9}   expected")
    for name, yours, expected, verdict in rows:
        print(f"{name:<42}{yours:>9}   {expected:<20} {verdict}")
    if not is_full_run:
        print("\nThis was not a full run, so nothing is compared.")
    verdicts = {row[-1] for row in rows}
    failed = (options.check or options.store) and verdicts - {"ok"}
    if OUTSIDE in verdicts:
        print(
            "\nA result outside its range points to a changed model or other data: "
            "restore the chapter with git and run it again."
        )
    if options.store and not failed:
        store(done)
    if pages.installed():
        lines = ["result | yours | expected | ", "---|---|---|---"]
        lines = [f"| {line} |" for line in [*lines, *map(" | ".join, rows)]]
        section = "\n".join(["## Your results and what to expect", "", *lines])
        print(f"\nRead on: {pages.write(done, section)}")
    else:
        print(f"\nRead on: {course.BUILD}/*.ipynb. {pages.MISSING}")
    if failed:
        sys.exit(
            "Some results are outside their ranges, or not compared: see the table."
        )


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter of a path
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(f"\nInterrupted. {RESUME}")
