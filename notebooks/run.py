"""Run the chapters in order into build/, with progress, and render the course as pages.

usage: python notebooks/run.py [--all] [--check] [--store] [NOTEBOOK ...]

  --all     chapter 05 too, which takes about fifteen minutes more, then exercises and solutions
  --check   exit with an error unless every expected result is there and inside its band
  --store   also refresh the stored outputs, the reference models and README's picture

A run that was stopped, whatever by, goes on from the last epoch that was finished: say the same again.
Until a run is complete, build/resume holds the states of its trainings; delete it to begin anew.

Writes build/NAME.ipynb, build/results.json and, where Sphinx is installed, build/pages/.
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
import subprocess
import sys
import time
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent
AGAIN = "Say the same again to go on from the last finished epoch."
INTERRUPTED = f"\nInterrupted. {AGAIN}"
HOUR = 3600

sys.path[:0] = [str(NOTEBOOKS.parent), str(NOTEBOOKS)]
try:  # it takes seconds
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    import explorer
    import pages
    import refresh
    import vae_helpers as vh
    from notebooks import files, states
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)
except ImportError as error:
    sys.exit(f"{error} (What the course needs: python -m pip install -r requirements.txt)")


class Progress:
    """One line on the terminal, rewritten; in a log file, a line every few seconds."""

    def __init__(self):
        self.start, self.last = time.perf_counter(), 0.0

    def __call__(self, text, end=False):
        clock = time.perf_counter() - self.start
        line = f"[{int(clock) // 60:2}:{int(clock) % 60:02}] {text}"
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="\n" if end else "", flush=True)
        elif end or clock - self.last > 5:
            self.last = clock
            print(line, flush=True)


class Client(NotebookClient):
    """Executes a notebook and tells which cell runs, and the epochs that the cell reports."""

    def __init__(self, notebook, name, progress):
        # A kernel that died must not look like a long training: hence the time-out.
        super().__init__(notebook, timeout=HOUR, kernel_name="python3", record_timing=False,
                         resources={"metadata": {"path": str(NOTEBOOKS)}}, coalesce_streams=True,
                         extra_arguments=["--log-level=40"], shutdown_kernel="immediate")  # fmt: skip
        self.place, self.progress, self.interrupted = "", progress, False

        def cell_start(cell, cell_index, **_):
            self.place = f"{name}  cell {cell_index + 1}/{len(notebook.cells)}"
            progress(self.place)

        self.on_cell_start = cell_start

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager.kernel_dirs = []  # this Python's own kernel, whatever else is installed as python3
        return manager

    async def async_start_new_kernel(self, **kwargs):
        task = asyncio.current_task()

        def interrupt():
            if not self.interrupted:
                task.cancel()  # nbclient then ends the kernel; a second time it would leave it alone
            self.interrupted = True

        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
            for stop in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(stop, interrupt)
        await super().async_start_new_kernel(**kwargs)

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("data", {}).get("text/plain", "")
        if text.startswith("epoch "):
            self.progress(f"{self.place}  {text}")
        return super().process_message(msg, cell, cell_index)


def execute(path, progress, kind):
    """The executed notebook and, if it failed, one sentence that says where and why."""
    notebook = refresh.refreshed_notebook(path, refresh.repository())  # shown and run is what vae_helpers.py holds now
    environment, folder = dict(os.environ), states_of(path, notebook, kind)
    if not vh.quick():  # a quick run leaves the states of an interrupted full run alone
        environment["VAE_COURSE_RESUME"] = str(folder)
        if folder.is_dir():
            print("Going on where the last run stopped; delete build/resume to begin anew.", flush=True)
    client = Client(notebook, path.stem, progress)
    start = time.perf_counter()
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        return notebook, f"{path.name}, {_failed_cell(client)}: {error.ename}: {error.evalue}"
    except (Exception, asyncio.CancelledError) as error:  # a time-out, a kernel that died, Ctrl-C
        if client.interrupted:
            raise KeyboardInterrupt from None
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(".")
        return notebook, f"{path.name}, {_failed_cell(client)}: {what}. {AGAIN}"
    progress(f"{path.stem}  done in {time.perf_counter() - start:.0f} s", end=True)
    return notebook, None


def states_of(path, notebook, kind):
    """The folder for the states of a notebook's trainings on this kind of data; another for other code or versions."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    modules = sorted([*vh.ROOT.glob("*.py"), *NOTEBOOKS.glob("*.py")])
    return vh.BUILD / "resume" / kind / path.stem / states.made_by(*modules, data=code.encode())


def _failed_cell(client):
    return client.place.rsplit("  ")[-1] or "at the start"


def write(notebook, path):
    """Write a notebook without what differs from machine to machine."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}  # fmt: skip
    files.write_text(path, nbformat.writes(notebook) + "\n")


def kept_results(path):
    """What build/results.json holds; nothing if there is none, or a damaged one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        results = json.loads(path.read_text(encoding="utf-8"))
        if all({"value", "ok"} <= result.keys() for result in results.values()):
            return results
    return {}


def locked(path):
    """A file that stays locked while it is open: two runs at once would take each other's results and states."""
    with files.writing(path):
        lock = path.open("w")
    with contextlib.suppress(ImportError):  # Windows has no fcntl
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("Another run is at work in this folder: wait until it has ended.")
    return lock


def compared(notebooks):
    """The bands of what these notebooks compute, {name: (low, high)}."""
    cells = [cell for notebook in notebooks for cell in notebook.cells]
    said = "\n".join([cell.source for cell in cells] + [o.get("text", "") for c in cells for o in c.get("outputs", [])])
    bands = refresh.committed("bands", vh.EXPERIMENTS)
    return {name: band for name, band in bands.items() if f'"{name}"' in said or f"{name} " in said}


def table(results, notebooks):
    """The lines "yours / expected" of a dictionary like build/results.json, for what these notebooks compute."""
    lines = [f"{'result':<42}{'yours':>9}   expected"]
    for name, (low, high) in compared(notebooks).items():
        found = results.get(name)
        yours = vh.short(found["value"]) if found else "-"
        verdict = "not compared" if not found else "ok" if found["ok"] else "OUTSIDE"
        lines.append(f"{name:<42}{yours:>9}   {f'{vh.short(low)} to {vh.short(high)}':<20} {verdict}")
    return lines


def find_data():
    """The kind of data there is, "full" or "sample"; Debian's package is installed if that is possible and needed."""
    if os.environ.get("FASHION_MNIST_DIR"):  # the notebooks run in another folder
        os.environ["FASHION_MNIST_DIR"] = str(Path(os.environ["FASHION_MNIST_DIR"]).expanduser().resolve())
    kind, _ = files.find()
    if kind == "sample" and not vh.quick() and not os.environ.get("FASHION_MNIST_DIR") and _may_install():
        print("Installing the system package dataset-fashion-mnist with apt-get, to have the full data.", flush=True)
        for command in (["update"], ["install", "-y", "--no-install-recommends", "dataset-fashion-mnist"]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["apt-get", "-qq", *command], stdout=subprocess.DEVNULL, env=environment, timeout=300)
        kind, _ = files.find()
    return kind


def _may_install():
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def overview():
    """README's picture: originals, both reconstructions, and new garments of both models."""
    import numpy as np

    vh.use_style()
    with contextlib.redirect_stdout(io.StringIO()):
        data = vh.load_data()
    autoencoder, encoder, decoder = (vh.load(vh.REFERENCE / f"{name}.keras") for name in vh.MODELS)
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
    with files.whole_files(NOTEBOOKS / "pictures" / "overview.png") as [name]:
        figure.savefig(name, format="png", metadata={"Software": None})


def store(notebooks):
    """Make this run's notebooks and models the stored ones."""
    vh.save(vh.REFERENCE, **{name: vh.load(vh.BUILD / "models" / f"{name}.keras") for name in vh.MODELS})
    for path, notebook in notebooks.items():
        write(explorer.strip(copy.deepcopy(notebook)), path)
    overview()
    refresh.main()  # README's table shows these results
    print("Stored: notebooks/*.ipynb, notebooks/models, notebooks/pictures")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    everything = [path for path in refresh.notebooks() if path.is_file()]  # what is handed out has no solutions
    paths = options.notebooks or (everything if options.all else sorted(NOTEBOOKS.glob("0[1-4]_*.ipynb")))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        sys.exit(f"There is no notebook {', '.join(missing)}.")
    if options.store and (options.notebooks or not options.all):
        sys.exit("--store stores all chapters together: say --all, and leave the names out.")

    # What is damaged is found before anything runs.
    renewed = compared([refresh.refreshed_notebook(path, refresh.repository()) for path in paths])
    kind = find_data()
    complete = kind == "full" and not vh.quick()
    if options.store and not complete:
        sys.exit("--store needs a full run: the full data, and no VAE_COURSE_QUICK.")
    results_path = vh.BUILD / "results.json"  # written now: a folder that cannot be written is found at once
    lock = locked(vh.BUILD / "run.lock")  # noqa: F841 (held until this function ends)
    former = kept_results(results_path)
    files.write_text(results_path, json.dumps({k: v for k, v in former.items() if not (complete and k in renewed)}))
    progress, done = Progress(), {}
    for path in paths:
        notebook, failure = execute(path, progress, kind)
        write(notebook, vh.BUILD / path.name)
        if failure:
            sys.exit(f"\nFAILED: {failure}\nThe notebook as far as it went: build/{path.name}")
        done[path] = notebook

    results = kept_results(results_path) if complete else {}  # those of a full run are not this one's
    lines = table(results, done.values())
    for path in paths if not vh.quick() else []:
        shutil.rmtree(vh.BUILD / "resume" / kind / path.stem, ignore_errors=True)  # the next run trains anew
    print("\n" + "\n".join(lines))
    if not complete:
        print("\nThis was not the full run, so nothing is compared.")
    outside = options.check and any(line.endswith(("OUTSIDE", "not compared")) for line in lines)
    if options.store and not outside:
        store(done)
    if pages.installed():
        rows = ["result | yours | expected | ", "---|---|---|---"]
        rows += [re.sub(" {2,}", " | ", line) for line in lines[1:]]
        said = "\n".join(["## Your results and what to expect", "", *(f"| {row} |" for row in rows)])
        print(f"\nRead on: {pages.write({path.name: notebook for path, notebook in done.items()}, said)}")
    else:
        print(f"\nRead on: {vh.BUILD}/*.ipynb. {pages.MISSING}")
    if outside:
        sys.exit("Some results are missing or outside their bands: see the table above.")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter of the folder's name
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
