"""Where `import vae_helpers` cannot work, it fails with one sentence."""

import shutil

import course


def test_unknown_backend_is_named(run_python):
    ended = run_python("import vae_helpers", KERAS_BACKEND="tf")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ImportError: Keras cannot run on tf here (")
    assert last.endswith(" set KERAS_BACKEND=tensorflow, start Python again.")


def test_helper_without_its_package_asks_for_a_clone(run_python, tmp_path):
    shutil.copy(course.ROOT / "vae_helpers.py", tmp_path)
    ended = run_python("import vae_helpers", tmp_path, PYTHONPATH="")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ImportError: vae_helpers.py needs its own folder `course`")
    assert last.endswith(
        " clone the whole repository vae-vs-autoencoder, or copy both."
    )
