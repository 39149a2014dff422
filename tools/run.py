"""Run the chapters in order into build/, with progress, and render the course as pages.

usage: python -m tools.run [--all] [--check] [--store] [NOTEBOOK ...]

  --all     chapters 05 and 06 too (about fifteen minutes more), the exercises, their
            solutions
  --check   exit with an error unless every expected result is there and in its range
  --store   also renew the stored outputs, the reference models and README's picture

A run that was stopped, for whatever reason, resumes from the last completed epoch: run
the same command again. Until a run is complete, build/resume holds the checkpoints of
its trainings; delete it to restart training.

Writes build/NAME.ipynb, build/results.json and, if Sphinx is installed, build/pages/.
"""

import argparse
import asyncio
import contextlib
import copy
import io
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

RESUME = "Run the same command again to resume from the last completed epoch."
INTERRUPTED = f"\nInterrupted. {RESUME}"
CELL_TIMEOUT = 3600  # seconds
TRAINED = ["autoencoder", "vae_encoder", "vae_decoder"]  # by chapters 02 and 03

try:  # these imports take seconds
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    import course
    import vae_helpers as vh
    from course import checkpoints
    from course.data import find_files, quick_mode
    from course.files import atomic_write, write_errors, write_text
    from course.results import (
        expected_ranges,
        format_range,
        format_result,
        read_results,
    )
    from tools import pages, refresh
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)
except ImportError as error:
    is_missing = isinstance(error, ModuleNotFoundError)
    hint = " (To install: python -m pip install -r requirements.txt)" * is_missing
    sys.exit(f"{error}{hint}")


class Progress:
    """One line on the terminal, rewritten; in a log file, a line every few seconds."""

    def __init__(self):
        self.start, self.last = time.perf_counter(), 0.0

    def __call__(self, text, end=False):
        clock = time.perf_counter() - self.start
        line = f"[{int(clock) // 60:2}:{int(clock) % 60:02}] {text}"
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            end_of_line = "\n" if end else ""
            print(f"\r{line[:width]:<{width}}", end=end_of_line, flush=True)
        elif end or clock - self.last > 5:
            self.last = clock
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
        self.place, self.progress, self.interrupted = "", progress, False

        def cell_start(cell, cell_index, **_):
            self.place = f"{path.stem}  cell {cell_index + 1}/{len(notebook.cells)}"
            progress(self.place)

        self.on_cell_start = cell_start

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        # This Python's own kernel, whatever else is installed under its name.
        manager.kernel_spec_manager.kernel_dirs = []
        return manager

    async def async_start_new_kernel(self, **kwargs):
        task = asyncio.current_task()

        def interrupt():
            if not self.interrupted:
                task.cancel()  # nbclient then ends the kernel; a second call would not
            self.interrupted = True

        # On Windows, Ctrl-C raises KeyboardInterrupt instead.
        with contextlib.suppress(NotImplementedError):
            for stop in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(stop, interrupt)
        await super().async_start_new_kernel(**kwargs)

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("data", {}).get("text/plain", "")
        if text.startswith("epoch "):
            self.progress(f"{self.place}  {text}")
        return super().process_message(msg, cell, cell_index)


def execute(path, progress, kind):
    """The executed notebook, and None or a sentence: where and why it failed."""
    # Taught cells show and run what vae_helpers.py holds now.
    notebook = refresh.refreshed_notebook(path)
    environment = dict(os.environ)
    if not quick_mode():  # a quick run leaves the checkpoints of a full run alone
        folder = checkpoint_folder(path, notebook, kind)
        environment["VAE_COURSE_RESUME"] = str(folder)
        if folder.is_dir():
            print(
                "Resuming where the last run stopped; "
                "delete build/resume to restart training.",
                flush=True,
            )
    client = Client(notebook, path, progress)
    start = time.perf_counter()
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
        return notebook, f"{path.name}, {_failed_cell(client)}: {reason}"
    # A time-out, a dead kernel, Ctrl-C.
    except (Exception, asyncio.CancelledError) as error:
        if client.interrupted:
            raise KeyboardInterrupt from None
        first_line = str(error).partition("\n")[0].rstrip(".")
        reason = f"{type(error).__name__}: {first_line}"
        return notebook, f"{path.name}, {_failed_cell(client)}: {reason}. {RESUME}"
    seconds = time.perf_counter() - start
    progress(f"{path.stem}  done in {seconds:.0f} s", end=True)
    return notebook, None


def checkpoint_folder(path, notebook, kind):
    """The folder for the checkpoints of a notebook's trainings on this kind of data.

    Its name changes with the code and with the versions that run it.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    modules = sorted([course.ROOT / "vae_helpers.py", *course.ROOT.glob("course/*.py")])
    fingerprint = checkpoints.code_fingerprint(*modules, data="\0".join(cells).encode())
    return course.BUILD / "resume" / kind / path.stem / fingerprint


def _failed_cell(client):
    return client.place.rsplit("  ")[-1] or "at the start"


def write_notebook(notebook, path):
    """Write a notebook without what differs from machine to machine."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    write_text(path, nbformat.writes(notebook) + "\n")


def lock(path):
    """A file that stays locked while it is open.

    Two runs at once would overwrite each other's results and checkpoints.
    """
    with write_errors(path):
        file = path.open("wb")
    with contextlib.suppress(ImportError):  # Windows has no fcntl
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("Another run is active in this folder: wait until it has ended.")
    return file


def computed_ranges(notebooks):
    """The expected ranges of what these notebooks compute: {name: (low, high, kind)}.

    A notebook computes a result if its cells name it, in quotes, or if its outputs
    have a line that begins with the whole name.
    """
    sources = [cell.source for notebook in notebooks for cell in notebook.cells]
    code, printed = "\n".join(sources), refresh.printed_text(notebooks)

    def is_computed(name):
        line = rf"^{re.escape(name)} +\S+ +expected "
        return f'"{name}"' in code or re.search(line, printed, flags=re.M)

    return {name: row for name, row in expected_ranges().items() if is_computed(name)}


def table(results, notebooks):
    """The lines "yours / expected" for the results that these notebooks compute."""
    lines = [f"{'result':<42}{'yours':>9}   expected"]
    for name, (low, high, _) in computed_ranges(notebooks).items():
        result = results.get(name)
        value = format_result(result["value"]) if result else "-"
        verdict = "not compared"
        if result:
            verdict = "ok" if result["ok"] else "outside the expected range"
        lines.append(f"{name:<42}{value:>9}   {format_range(low, high):<20} {verdict}")
    return lines


def find_data():
    """The kind of data that there is, "full" or "sample"."""
    if folder := os.environ.get("FASHION_MNIST_DIR"):  # notebooks run elsewhere
        os.environ["FASHION_MNIST_DIR"] = str(Path(folder).expanduser().resolve())
    return find_files()[0]


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
    figure = vh.image_grid(list(rows.values()), list(rows))
    with atomic_write(course.ROOT / "docs" / "pictures" / "overview.png") as [name]:
        figure.savefig(name, format="png", metadata={"Software": None})


def store(notebooks):
    """Make this run's notebooks and models the stored ones."""
    models = {
        name: vh.load(course.BUILD / "models" / f"{name}.keras") for name in TRAINED
    }
    vh.save(course.REFERENCE, **models)
    for path, notebook in notebooks.items():
        write_notebook(refresh.strip_explorer(copy.deepcopy(notebook)), path)
    overview()
    refresh.main()  # the tables of results show this run's
    print("Stored: notebooks, solutions, course/assets/models, docs/pictures")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    # What students are given has no solutions.
    everything = [path for path in refresh.notebooks() if path.is_file()]
    first_four = [path for path in refresh.chapters() if path.name < "05"]
    paths = options.notebooks or (everything if options.all else first_four)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        sys.exit(f"There is no notebook {', '.join(missing)}.")
    if options.store and (options.notebooks or not options.all):
        sys.exit(
            "--store stores all chapters together: use it with --all and no names."
        )

    # Damaged files are found here, before anything runs.
    renewed = computed_ranges([refresh.refreshed_notebook(path) for path in paths])
    kind = find_data()
    is_full_run = kind == "full" and not quick_mode()
    if options.store and not is_full_run:
        sys.exit("--store needs a full run: the full data, and no VAE_COURSE_QUICK.")
    lock_file = lock(course.BUILD / "run.lock")  # noqa: F841 (held until this returns)
    # Written now, so that a folder that cannot be written is found at once.
    results_path = course.BUILD / "results.json"
    results = read_results(results_path)
    if is_full_run:
        results = {name: row for name, row in results.items() if name not in renewed}
    write_text(results_path, json.dumps(results))
    progress, done = Progress(), {}
    for path in paths:
        notebook, failure = execute(path, progress, kind)
        write_notebook(notebook, course.BUILD / path.name)
        if failure:
            sys.exit(
                f"\nFAILED: {failure}\n"
                f"The notebook up to the failed cell: build/{path.name}"
            )
        done[path] = notebook

    results = read_results(results_path) if is_full_run else {}
    lines = table(results, done.values())
    if not quick_mode():
        for path in paths:  # the next run trains again
            folder = course.BUILD / "resume" / kind / path.stem
            shutil.rmtree(folder, ignore_errors=True)
    print("\n" + "\n".join(lines))
    if not is_full_run:
        print("\nThis was not a full run, so nothing is compared.")
    outside = [line for line in lines if line.endswith("outside the expected range")]
    failed = [*outside, *(line for line in lines if line.endswith("not compared"))]
    if outside:
        print(
            "\nA result outside its range points to a changed model or other data: "
            "restore the chapter with git and run it again."
        )
    if options.store and not (options.check and failed):
        store(done)
    if pages.installed():
        rows = ["result | yours | expected | ", "---|---|---|---"]
        rows += [re.sub(" {2,}", " | ", line) for line in lines[1:]]
        rows = [f"| {row} |" for row in rows]
        section = "\n".join(["## Your results and what to expect", "", *rows])
        print(f"\nRead on: {pages.write(done, section)}")
    else:
        print(f"\nRead on: {course.BUILD}/*.ipynb. {pages.MISSING}")
    if options.check and failed:
        sys.exit(
            "Some results are missing or outside their ranges: see the table above."
        )


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter of a path
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
