"""The course with other versions of its dependencies. Run by the Makefile's test-NAME, in that environment.

usage: python -m tools.environments --packages NAME   what pip has to install for the environment
       python -m tools.environments NAME              every chapter in quick mode from a fresh clone, then unit tests
       python -m tools.environments --save FOLDER     the reference models, saved with this environment's Keras, and their outputs
       python -m tools.environments --load FOLDER...  load with Keras alone what other environments saved, and compare the outputs

`colab` runs each chapter as Colab does: alone in a folder, with nothing to find but what its first cell clones.
`jax` has no TensorFlow, and so no chapters: unit tests of models and losses only.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Colab's own of autumn 2026, as far as the course uses them; the rest as requirements.txt has it.
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.2",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
    "ipywidgets": "7.7.1",
}
JAX = ["jax", "keras", "numpy", "matplotlib", "scipy", "pytest"]
# What does not look at stored outputs.
TESTS = ["tests/test_losses.py", "tests/test_models.py"]
WITH_TENSORFLOW = [
    "tests/test_saving.py",
    "tests/test_fit.py::test_fit_gives_the_history_of_keras_fit_in_float64",
]
SAME = [
    "read_only",
    "by_heart",
    "vae-True",
]  # but these, which take long, hardly depend on versions
WITH_JAX = ["tests/test_devices.py"]


def packages(name):
    """The packages of a name, as pip takes them."""
    text = re.sub(r" *#.*", "", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    ranges = {re.match(r"[\w-]+", line)[0]: line for line in text.split()}
    if name == "jax":
        return [ranges.get(name, name) for name in JAX]
    if name == "colab":
        ranges |= {name: f"{name}=={version}" for name, version in COLAB.items()}
    if name == "lowest":
        ranges = {
            name: re.sub(r">=([\d.]+).*", r"==\1", line)
            for name, line in ranges.items()
        }
    return list(ranges.values())


def git(*arguments):
    """Git with a name of its own, on whatever machine."""
    identity = [
        "-c",
        "user.name=environment",
        "-c",
        "user.email=environment@example.org",
    ]
    subprocess.run(["git", *identity, *arguments], cwd=ROOT, check=True)


def run_chapter(path, name, served, scratch):
    """One sentence about what is wrong with a chapter run in a folder of its own, or None."""
    import nbformat
    from nbclient import NotebookClient

    from tools import refresh

    environment = {
        **os.environ, "VAE_COURSE_QUICK": "1", "FASHION_MNIST_DIR": str(course.SAMPLE),
        "OMP_NUM_THREADS": "1",  # chapters at the same time would get in each other's way
    }  # fmt: skip
    folder = scratch / path.stem
    if name == "colab":
        folder.mkdir()
        startup = scratch / f"{path.stem} ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "colab.py").write_text(
            "import google.colab"
        )  # Colab's kernel has it loaded
        (startup / "google" / "colab").mkdir(parents=True)
        (startup / "google" / "colab" / "__init__.py").touch()
        environment |= {
            "IPYTHONDIR": str(startup.parents[1]), "PYTHONPATH": str(startup),
            "COLAB_RELEASE_TAG": "release-colab", "KERAS_BACKEND": "tensorflow", "TF2_BEHAVIOR": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{served}.insteadOf",
            "GIT_CONFIG_VALUE_0": refresh.repository(),
        }  # fmt: skip
    else:
        git("clone", "--quiet", served, folder)
        folder = folder / "notebooks"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / path.name)
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources=place,
        extra_arguments=["--log-level=40"],
    )
    try:
        client.execute(env=environment)
    except Exception as error:
        return f"{path.name}: {error}"
    code = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    ]
    said = "".join(
        output.text
        for cell in code
        for output in cell.outputs
        if output.get("name") == "stderr"
    )
    if said:
        return f"{path.name} wrote to stderr: {said}"
    if any(cell.execution_count is None for cell in code):
        return f"{path.name} was not run to its end."
    if name == "colab" and sorted(os.listdir(folder)) != sorted(
        [path.name, refresh.repository().rsplit("/")[-1]]
    ):
        return f"{path.name} left {os.listdir(folder)}."


def run_chapters(name):
    """All chapters, two at a time, from a repository that holds the files as they are now."""
    from tools import refresh

    with tempfile.TemporaryDirectory() as scratch:
        served = f"{scratch}/served"
        git("init", "--quiet", served)
        for command in (
            ["add", "--all"],
            ["commit", "--quiet", "--message", "as it is now"],
        ):
            git(f"--git-dir={served}/.git", f"--work-tree={ROOT}", *command)
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(
                lambda path: run_chapter(path, name, served, Path(scratch)),
                refresh.chapters(),
            )
            failures = [failure for failure in found if failure]
    if failures:
        sys.exit("\n".join(failures))
    print(f"{name}: {len(refresh.chapters())} chapters ran without a word on stderr")


def save(folder):
    """Save the reference models with this Keras, and what they answer to 60 images."""
    import keras
    import numpy as np

    import course
    import vae_helpers as vh
    from course.data import load_sample

    x = load_sample()[2][:60]
    models = {
        name: keras.saving.load_model(course.REFERENCE / f"{name}.keras")
        for name in vh.MODELS
    }
    vh.save(folder, **models)
    z_mean = np.asarray(models["vae_encoder"](x)[0])
    answers = [
        np.asarray(models["autoencoder"](x)),
        z_mean,
        np.asarray(models["vae_decoder"](z_mean)),
    ]
    np.savez(
        Path(folder) / "answers.npz",
        x=x,
        z_mean=z_mean,
        **dict(zip(vh.MODELS, answers)),
    )


def load(folders):
    """Load with Keras alone what each environment saved; its outputs must be the same within rounding."""
    import keras
    import numpy as np

    for folder in map(Path, folders):
        there, largest = np.load(folder / "answers.npz"), 0
        for name in ("autoencoder", "vae_encoder", "vae_decoder"):
            model = keras.saving.load_model(folder / f"{name}.keras")
            answer = model(there["z_mean" if name == "vae_decoder" else "x"])
            answer = np.asarray(answer[0] if name == "vae_encoder" else answer)
            largest = max(largest, np.abs(answer - there[name]).max())
        print(
            f"Keras {keras.__version__} ({keras.backend.backend()}) loads {folder.name}: differs by {largest:.1e}"
        )
        assert largest < 1e-4, "the same model must give the same outputs"


def main(what, *others):
    if what == "--packages":
        print(*packages(*others), sep="\n")
    elif what == "--save":
        save(*others)
    elif what == "--load":
        load(others)
    else:
        if what != "jax":
            run_chapters(what)
        # nbval's options of pyproject.toml are not for the JAX name, which lacks it.
        tests = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-o",
            "addopts=",
            "-k",
            f"not {' and not '.join(SAME)}",
            *TESTS,
        ]
        tests += WITH_JAX if what == "jax" else WITH_TENSORFLOW
        sys.exit(subprocess.run(tests, cwd=ROOT).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
