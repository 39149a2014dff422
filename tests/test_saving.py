"""Files are written whole or not at all; saved models can be loaded anywhere."""

import contextlib
import importlib.metadata
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest

import course
import vae_helpers as vh
from course import checkpoints, explorer
from course.files import atomic_write, write_text
from tools import refresh, run

FULL_RUN = vh.Data(*[None] * 6, is_full_run=True)


def contents(folder):
    """{name: bytes} of the files in a folder; None for a folder in it."""
    paths = Path(folder).iterdir()
    return {path.name: path.read_bytes() if path.is_file() else None for path in paths}


# ---------------------------------------------------------------- atomic_write


def write_pair(folder, content):
    """Write two files that belong together."""
    paths = [folder / "first", folder / "second"]
    with atomic_write(*paths) as names:
        for name in names:
            name.write_bytes(content)


def test_files_are_replaced_together_and_leave_nothing_else(tmp_path):
    folder = tmp_path / "new" / "folder"
    for content in (b"old", b"new"):
        write_pair(folder, content)
        assert contents(folder) == {"first": content, "second": content}


def test_text_is_utf_8_with_the_same_line_ends_everywhere(tmp_path):
    write_text(tmp_path / "text", "µ\nσ\n")
    assert contents(tmp_path) == {"text": b"\xc2\xb5\n\xcf\x83\n"}


def test_failure_while_writing_leaves_the_old_files_and_nothing_else(tmp_path):
    write_pair(tmp_path, b"old")
    with pytest.raises(TypeError):
        write_pair(tmp_path, "no bytes")
    assert contents(tmp_path) == {"first": b"old", "second": b"old"}


# What remains if the process is killed before its first, second, ... change.
KILLED = (
    {"first": b"old", "second": b"old"},
    {"first": b"old"},
    {"first": b"new"},
    {"first": b"new", "second": b"new"},
)


@pytest.mark.parametrize("step", range(4))
def test_killed_process_leaves_no_new_file_beside_an_old_one(
    step, monkeypatch, tmp_path
):
    write_pair(tmp_path, b"old")
    calls = []

    def until_killed(function):
        def call(*paths):
            if len(calls) == step:
                raise SystemExit  # at every later call too: nothing is cleaned up
            calls.append(paths)
            function(*paths)

        return call

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(os, "unlink", until_killed(os.unlink))
        patch.setattr(os, "replace", until_killed(os.replace))
        write_pair(tmp_path, b"new")
    files = contents(tmp_path)
    assert {k: v for k, v in files.items() if not k.startswith(".")} == KILLED[step]
    write_pair(tmp_path, b"next")
    assert files.keys() | {"first", "second"} >= contents(tmp_path).keys()
    assert contents(tmp_path)["first"] == contents(tmp_path)["second"] == b"next"


def test_folder_in_the_way_of_one_file_leaves_the_others_as_they_were(tmp_path):
    write_pair(tmp_path, b"old")
    (tmp_path / "second").unlink()
    (tmp_path / "second").mkdir()
    message = r"could not be written \(second is a folder\): free some disk space"
    with pytest.raises(OSError, match=message):
        write_pair(tmp_path, b"new")
    assert contents(tmp_path) == {"first": b"old", "second": None}


@contextlib.contextmanager
def small_disk(folder, size):
    if not shutil.which("mount"):
        pytest.skip("this system has no mount")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    yield
    subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def below_a_file(folder, unprivileged):
    """The folder that should be made is a file: that stops even root."""
    (folder / "folder").write_bytes(b"old")
    yield


@contextlib.contextmanager
def without_permission(folder, unprivileged):
    if os.name == "nt":
        pytest.skip("Windows has no such folder mode")
    (folder / "folder").mkdir(mode=0o555)
    folder.chmod(0o755)
    with unprivileged:
        yield


@contextlib.contextmanager
def read_only_disk(folder, unprivileged):
    with small_disk(folder, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield


@pytest.mark.parametrize("place", [below_a_file, without_permission, read_only_disk])
def test_place_that_cannot_be_written_is_named(place, unprivileged):
    message = r"text could not be written \(.+\): free some disk space, or check the"
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        path = Path(folder, "folder", "text")
        with place(Path(folder), unprivileged):
            with pytest.raises(OSError, match=message) as raised:
                write_text(path, "new")
            assert "\n" not in str(raised.value) and str(path) in str(raised.value)
            assert not path.exists()


# ---------------------------------------------------------------- its writers


@pytest.fixture
def tiny_model():
    """A compiled model with its optimiser's state; a .keras file of it has 0.3 MB."""
    image = keras.Input((784,))
    model = keras.Model(image, keras.layers.Dense(100)(image))
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_full_disk_leaves_every_old_file_whole(tmp_path, tiny_model):
    """On a real disk: HDF5, zip and NumPy each fail in a way of their own."""
    writers = (
        lambda: write_text(tmp_path / "text.json", letter * 900_000),
        lambda: checkpoints.write(tmp_path / "state.npz", tiny_model),  # 0.9 MB
        lambda: vh.save(tmp_path, **dict.fromkeys(models, tiny_model)),
    )
    with small_disk(tmp_path, "3m"):
        letter, models = "a", ["first"]
        for write in writers:
            write()
        filler = 3_000_000 - sum(map(len, contents(tmp_path).values()))
        (tmp_path / "filler").write_bytes(bytes(filler))
        before = contents(tmp_path)
        letter, models = "b", ["first", "second", "third", "fourth"]
        ones = [np.ones_like(weights) for weights in tiny_model.get_weights()]
        tiny_model.set_weights(ones)
        for write in writers:
            with pytest.raises(OSError, match="could not be written .*: fr") as raised:
                write()
            assert "\n" not in str(raised.value)
        assert contents(tmp_path) == before


def models(folder, vae, images):
    vh.save(folder, vae_encoder=vae.encoder)
    return "vae_encoder.keras"


def text(folder, vae, images):
    write_text(folder / "text.json", "{}")
    return "text.json"


def checkpoint(folder, vae, images):
    vae.compile(optimizer="sgd")
    checkpoints.write(folder / "state.npz", vae)
    return "state.npz"


def executed_notebook(folder, vae, images):
    run.write_notebook(nbformat.v4.new_notebook(), folder / "executed.ipynb")
    return "executed.ipynb"


def result(folder, vae, images):
    vh.expect("pixel entropy, test (nats)", 189.8, FULL_RUN)
    return "results.json"


def models_of_a_full_run(folder, vae, images):
    vh.save_if_full_run(FULL_RUN, vae_encoder=vae.encoder)
    return "models/vae_encoder.keras"


def explorer_page(folder, vae, images):
    labels = np.arange(len(images)) % 10
    path = folder / "page.html"
    page = explorer.write(path, vae.encoder, vae.decoder, images, labels)
    assert page == path or explorer.read(page)["models"], "a page is there all the same"
    return "page.html"


REPORTING = (result, models_of_a_full_run, explorer_page)  # they print why they failed


@pytest.mark.parametrize(
    "write", [models, text, checkpoint, executed_notebook, *REPORTING]
)
def test_writer_replaces_its_file_in_one_step(
    write, monkeypatch, tmp_path, tmp_path_factory, vae, images, capsys
):
    """tools.refresh, pages, make_sample and the README's picture: tested with these."""
    monkeypatch.setattr(course, "BUILD", tmp_path)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    path = tmp_path / write(tmp_path, vae, images)
    path.write_bytes(b"old")
    replace = os.replace

    def refuse(source, target):
        if tmp_path in Path(target).parents:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    capsys.readouterr()
    if write in REPORTING:
        write(tmp_path, vae, images)
        message = capsys.readouterr().out
    else:
        with pytest.raises(OSError) as raised:
            write(tmp_path, vae, images)
        message = str(raised.value)
    reason = "could not be written (No space left on device)"
    assert f"{path} {reason}: free some disk space, or check" in message
    assert contents(path.parent) == {path.name: b"old"}


def test_run_that_cannot_write_stops_before_it_trains(monkeypatch, tmp_path):
    (tmp_path / "build").write_bytes(b"old")
    notebook = tmp_path / "empty.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), notebook)
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(sys, "argv", ["run", str(notebook)])
    monkeypatch.setattr(run, "execute", None)
    with pytest.raises(OSError, match="build.* could not be written .*: free some"):
        run.main()
    assert contents(tmp_path).keys() == {"build", "empty.ipynb"}


# ---------------------------------------------------------------- save and load


def run_in_a_new_process(code, folder):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(course.ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr


def test_functional_models_load_in_a_new_process_without_the_course(
    images, vae, tmp_path
):
    autoencoder = vh.build_autoencoder()
    vh.save(
        tmp_path,
        autoencoder=autoencoder,
        vae_encoder=vae.encoder,
        vae_decoder=vae.decoder,
    )
    z_mean = np.asarray(vae.encoder(images)[0])
    np.savez(
        tmp_path / "here.npz",
        x=images,
        a=autoencoder(images),
        z_mean=z_mean,
        x_hat=vae.decoder(z_mean),
    )
    code = """
import keras, numpy as np
here = np.load("here.npz")
load = lambda name: keras.saving.load_model(name + ".keras")
assert np.allclose(load("autoencoder")(here["x"]), here["a"], atol=1e-5)
assert np.allclose(load("vae_encoder")(here["x"])[0], here["z_mean"], atol=1e-5)
assert np.allclose(load("vae_decoder")(here["z_mean"]), here["x_hat"], atol=1e-5)
"""
    run_in_a_new_process(code, tmp_path)


@pytest.mark.slow
def test_whole_vae_loads_in_a_new_process_and_trains_on(images, tmp_path):
    vae = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=2.0)
    vae.compile(optimizer="adam", loss="mse", metrics=["mse"])
    vae.fit(images, images, verbose=0)
    vae.save(tmp_path / "vae.keras")
    np.savez(tmp_path / "here.npz", x=images, z_mean=vae.encoder(images)[0])
    code = """
import vae_helpers, keras, numpy as np
here = np.load("here.npz")
vae = keras.saving.load_model("vae.keras")
assert np.allclose(vae.encoder(here["x"])[0], here["z_mean"], atol=1e-5)
assert float(vae.kl_weight.numpy()) == 2.0
vae.fit(here["x"], here["x"], verbose=0)
"""
    run_in_a_new_process(code, tmp_path)


def test_models_load_after_a_reader_redefined_the_classes(images, tmp_path):
    """A taught cell that is run registers the same names once more."""
    scope, sources = {**vars(vh)}, [refresh.source_of(["Sampling"])]
    exec("\n\n\n".join([*sources, refresh.source_of(["VAE"])]), scope)
    vae = scope["VAE"](vh.build_encoder(), vh.build_decoder())
    vae(images)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert type(loaded) is scope["VAE"]
    vh.save(tmp_path, encoder=vae.encoder)
    encoder = vh.load(tmp_path / "encoder.keras")
    assert np.allclose(encoder(images)[0], vae.encoder(images)[0])


def test_vae_made_from_its_configuration_has_the_same_noise(vae):
    assert vae.get_config()["seed"] is None, "without a seed, each has its own noise"
    vae = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=2.0, seed=7)
    config = json.loads(json.dumps(vae.get_config()))
    copy = vh.VAE.from_config(config)
    assert float(keras.ops.convert_to_numpy(copy.kl_weight)) == 2.0
    inputs = [np.zeros((4, 10), "float32")] * 2
    for _ in range(2):
        assert np.array_equal(vae.sampling(inputs), copy.sampling(inputs))


class Undescribed(keras.layers.Layer):
    def call(self, inputs):
        return inputs

    def get_config(self):
        raise NotImplementedError("no configuration")


def test_vae_that_cannot_be_described_leaves_the_saved_file_whole(tmp_path):
    encoder = vh.build_encoder()
    z_mean, z_log_var = encoder.outputs
    outputs = [Undescribed()(z_mean), z_log_var]
    vae = vh.VAE(keras.Model(encoder.input, outputs), vh.build_decoder())
    (tmp_path / "v.keras").write_bytes(b"old")
    with pytest.raises(NotImplementedError, match="no configuration"):
        vae.save(tmp_path / "v.keras")
    assert contents(tmp_path) == {"v.keras": b"old"}


def test_saved_models_have_no_optimiser(tmp_path):
    path, model = tmp_path / "autoencoder.keras", vh.build_autoencoder()
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    size_of_weights = 4 * model.count_params()
    model.save(path)
    assert path.stat().st_size > 3 * size_of_weights, "Keras saves the optimiser too"
    vh.save(tmp_path, autoencoder=model)
    assert path.stat().st_size < 1.2 * size_of_weights + 50_000
    assert not vh.load(path).compiled


def test_subclassed_model_is_not_saved(tmp_path, vae):
    with pytest.raises(ValueError, match="vae is not a functional model: save its"):
        vh.save(tmp_path, encoder=vae.encoder, vae=vae)
    assert not contents(tmp_path)


@keras.saving.register_keras_serializable()
class Unknown(keras.layers.Layer):
    __module__ = "nowhere"  # from where an old Keras cannot import it either

    def call(self, inputs):
        return inputs


def truncated(path):
    vh.save(path.parent, **{path.stem: vh.build_decoder()})
    path.write_bytes(path.read_bytes()[:5000])


def of_an_unknown_class(path):
    keras.Sequential([keras.Input((784,)), Unknown()]).save(path)
    keras.saving.get_custom_objects().pop("Custom>Unknown", None)


def with_a_lambda_layer(path):
    double = keras.layers.Lambda(lambda x: 2 * x)
    keras.Sequential([keras.Input((784,)), double]).save(path)


def with_a_lambda_layer_and_our_weights(path):
    model, double = vh.build_autoencoder(), keras.layers.Lambda(lambda x: 2 * x)
    keras.Model(model.input, double(model.output)).save(path)


def with_a_layer_of_the_reader(path):
    model = vh.build_autoencoder()
    keras.Model(model.input, Unknown()(model.output)).save(path)
    keras.saving.get_custom_objects().pop("Custom>Unknown", None)


def leaky(x):
    return keras.ops.leaky_relu(x, 0.3)


def with_an_activation_of_the_reader(path):
    """Its weights fit the course's model, which would give other images."""
    model = vh.build_autoencoder()
    model.layers[1].activation = leaky
    model.save(path)


def a_pickle(path):
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def a_zip_of_something_else(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def empty(path):
    path.touch()


NOT_MODELS = [
    truncated,
    of_an_unknown_class,
    with_a_lambda_layer,
    with_a_lambda_layer_and_our_weights,
    with_a_layer_of_the_reader,
    with_an_activation_of_the_reader,
    a_pickle,
    a_zip_of_something_else,
    empty,
]


def is_short(raised, folder):
    text = str(raised.value)
    return "\n" not in text and len(text) < 200 + len(str(folder))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("make", NOT_MODELS)
def test_file_that_is_no_model_is_refused_in_one_sentence(tmp_path, make):
    path = tmp_path / "autoencoder.keras"
    make(path)
    message = "autoencoder.keras is not a complete Keras model .*: delete it and save"
    with pytest.raises(ValueError, match=message) as raised:
        vh.load(path)
    assert is_short(raised, tmp_path)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.keras is missing: run"):
        vh.load(tmp_path / "nothing.keras")


def test_model_without_permission_to_read_is_not_called_damaged(vae, unprivileged):
    if os.name == "nt":
        pytest.skip("Windows has no such file mode")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        path = Path(folder, "vae_encoder.keras")
        vh.save(folder, vae_encoder=vae.encoder)
        Path(folder).chmod(0o755)
        path.chmod(0)
        message = "vae_encoder.keras cannot be read .*: check the file's permissions"
        with unprivileged, pytest.raises(PermissionError, match=message):
            vh.load(path)


def test_model_with_weights_that_are_not_finite_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    autoencoder = vh.build_autoencoder()
    autoencoder.layers[-1].set_weights([np.full((128, 784), np.nan), np.zeros(784)])
    vh.save(tmp_path / "models", autoencoder=autoencoder)
    message = "autoencoder.keras contains NaN or infinite weights: train the model"
    with pytest.raises(ValueError, match=message):
        vh.load_trained("autoencoder")


@pytest.mark.parametrize(
    "build",
    [lambda: vh.build_encoder(3), lambda: vh.build_autoencoder()],
    ids=["other latent_dim", "other model"],
)
def test_model_of_another_shape_is_refused(monkeypatch, tmp_path, build):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vh.save(tmp_path / "models", vae_encoder=build(), vae_decoder=vh.build_decoder())
    message = "vae_encoder.keras does not map .*784.*10.*: train the model again"
    with pytest.raises(ValueError, match=message) as raised:
        vh.load_trained("vae_encoder", "vae_decoder")
    assert is_short(raised, tmp_path)


def test_whole_vae_in_place_of_its_encoder_is_refused(
    monkeypatch, tmp_path, images, vae
):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vae(images)
    (tmp_path / "models").mkdir()
    vae.save(tmp_path / "models" / "vae_encoder.keras")
    with pytest.raises(ValueError, match="vae_encoder.keras does not map"):
        vh.load_trained("vae_encoder")


def test_course_unpickles_nothing():
    """Weights and data are read in ways that cannot run code."""
    patterns = ("vae_helpers.py", "course/*.py", "tools/*.py", "*/*.ipynb")
    sources = [path for pattern in patterns for path in course.ROOT.glob(pattern)]
    assert len(sources) > 20
    names = (
        "pickle",
        "joblib",
        "safe_mode=False",
        "enable_unsafe_deserialization",
        "torch.load",
        "eval(",
    )
    for path in sources:
        text = path.read_text(encoding="utf-8").replace('"safe_mode" not in', "")
        for name in names:
            assert not re.search(rf"(?<![\w.]){re.escape(name)}", text), path


def test_files_name_no_options_that_are_not_set(tmp_path, vae):
    """Older versions of Keras refuse options that they do not know, even if None."""
    vh.save(tmp_path, vae_encoder=vae.encoder)
    for path in [tmp_path / "vae_encoder.keras", *course.REFERENCE.glob("*.keras")]:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json").decode()
        assert '"Dense"' in config, path.name
        assert ": null" not in config and "ragged" not in config, path.name


def test_file_of_a_newer_keras_is_loaded_by_its_weights(images, tmp_path, vae):
    vh.save(tmp_path, vae_encoder=vae.encoder)
    path = tmp_path / "vae_encoder.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(
        b'"use_bias"', b'"an_option_of_tomorrow": 1, "use_bias"'
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(Exception, match="an_option_of_tomorrow"):
        keras.saving.load_model(path)
    assert np.allclose(vh.load(path)(images)[0], vae.encoder(images)[0])


def test_reference_models_are_complete_and_small():
    for name, parameters in zip(vh.MODELS, (223_586, 568_724, 568_208)):
        path = course.REFERENCE / f"{name}.keras"
        assert vh.load(path).count_params() == parameters
        assert path.stat().st_size < 4.5 * parameters + 50_000


def test_readers_own_models_come_before_the_reference(
    monkeypatch, tmp_path, capsys, vae
):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vh.load_trained("vae_encoder", "vae_decoder")
    assert "the reference" in capsys.readouterr().out
    vh.save(tmp_path / "models", vae_encoder=vae.encoder)  # half of a VAE is not used
    vh.load_trained("vae_encoder", "vae_decoder")
    assert "the reference" in capsys.readouterr().out
    vh.save(tmp_path / "models", vae_decoder=vae.decoder)
    encoder, _ = vh.load_trained("vae_encoder", "vae_decoder")
    assert "your own" in capsys.readouterr().out
    assert np.array_equal(encoder.get_weights()[0], vae.encoder.get_weights()[0])


def test_models_are_saved_after_a_full_run_only(monkeypatch, tmp_path, capsys, vae):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    short_run = FULL_RUN._replace(is_full_run=False)
    vh.save_if_full_run(short_run, vae_encoder=vae.encoder)
    assert "not saved" in capsys.readouterr().out and not contents(tmp_path)
    vh.save_if_full_run(FULL_RUN, vae_encoder=vae.encoder)
    assert "saved in build/models" in capsys.readouterr().out
    assert (tmp_path / "models" / "vae_encoder.keras").is_file()


# ---------------------------------------------------------------- versions


def test_fingerprint_asks_the_modules_for_their_versions(monkeypatch):
    """TensorFlow is also installed under other names, such as tensorflow-cpu."""
    tensorflow = pytest.importorskip("tensorflow")

    def not_found(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", not_found)
    before = checkpoints.code_fingerprint(checkpoints.__file__)
    assert re.fullmatch("[0-9a-f]{16}", before)
    monkeypatch.setattr(tensorflow, "__version__", "another")
    assert checkpoints.code_fingerprint(checkpoints.__file__) != before
