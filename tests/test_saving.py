"""Files are written whole or not at all; saved models can be loaded anywhere."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import course
import vae_helpers as vh
from course import saving
from course.files import atomic_write, write_text
from tools import refresh

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


def test_folder_in_the_way_of_one_file_leaves_the_others_as_they_were(tmp_path):
    write_pair(tmp_path, b"old")
    (tmp_path / "second").unlink()
    (tmp_path / "second").mkdir()
    message = r"could not be written \(second is a folder\): free some disk space"
    with pytest.raises(OSError, match=message):
        write_pair(tmp_path, b"new")
    assert contents(tmp_path) == {"first": b"old", "second": None}


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").write_bytes(b"old")  # a file: that stops even root
    message = r"text could not be written \(.+\): free some disk space, or check the"
    with pytest.raises(OSError, match=message):
        write_text(tmp_path / "folder" / "text", "new")


def test_a_full_disk_leaves_the_old_model_whole(monkeypatch, tmp_path, vae):
    vh.save(tmp_path, vae_encoder=vae.encoder)
    before = contents(tmp_path)

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"could not be written \(No space left"):
        vh.save(tmp_path, vae_encoder=vh.build_encoder())
    assert contents(tmp_path) == before


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
    vae = vh.VAE(vh.build_encoder(), vh.build_decoder(), kl_weight=2.0, seed=7)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(vae)))
    copy = keras.saving.deserialize_keras_object(config)
    assert float(keras.ops.convert_to_numpy(copy.kl_weight)) == 2.0
    inputs = [np.zeros((4, 10), "float32")] * 2
    for _ in range(2):
        assert np.array_equal(vae.sampling(inputs), copy.sampling(inputs))


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


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def bidirectional():
    """Each option that is not set means something: None is not the default."""
    layer = keras.layers.LSTM(3)
    return keras.layers.Bidirectional(layer, merge_mode=None)


def test_what_cannot_be_loaded_again_is_not_saved(tmp_path):
    vh.save(tmp_path, model=vh.build_encoder(2))
    before = contents(tmp_path)
    for layer in (Unregistered(), keras.layers.Lambda(lambda x: 2 * x)):
        image = keras.Input((784,))
        model = keras.Model(image, layer(keras.layers.Dense(3)(image)))
        with pytest.raises(ValueError, match="model was not saved, because it could"):
            vh.save(tmp_path, model=model)
    with pytest.raises(ValueError, match="model is not a functional model"):
        vh.save(tmp_path, model=keras.Sequential([keras.layers.Dense(3)]))
    assert contents(tmp_path) == before


def test_options_that_are_none_are_kept(tmp_path):
    rows = keras.Input((5, 4))
    model = keras.Model(rows, bidirectional()(rows))
    vh.save(tmp_path, model=model)
    loaded = vh.load(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    assert all(np.allclose(a, b) for a, b in zip(model(x), loaded(x), strict=True))


def leaky(x):
    return keras.ops.leaky_relu(x, 0.3)


def with_an_activation_of_the_reader(path):
    """Its weights fit the course's model, which would give other images."""
    model = vh.build_autoencoder()
    model.layers[1].activation = leaky
    model.save(path)


def with_a_lambda_layer_and_our_weights(path):
    model, double = vh.build_autoencoder(), keras.layers.Lambda(lambda x: 2 * x)
    keras.Model(model.input, double(model.output)).save(path)


def truncated(path):
    vh.save(path.parent, **{path.stem: vh.build_decoder()})
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "make",
    [truncated, with_an_activation_of_the_reader, with_a_lambda_layer_and_our_weights],
)
def test_what_keras_cannot_load_raises_keras_own_error(tmp_path, make):
    path = tmp_path / "autoencoder.keras"
    make(path)
    errors = []
    for load in (vh.load, lambda file: keras.saving.load_model(file, compile=False)):
        with pytest.raises(Exception) as raised:
            load(path)
        errors.append((raised.type, str(raised.value)))
    assert errors[0] == errors[1] and "delete" not in errors[0][1]


def test_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.keras is missing: run"):
        vh.load(tmp_path / "nothing.keras")


def test_model_with_weights_that_are_not_finite_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    autoencoder = vh.build_autoencoder()
    autoencoder.layers[-1].set_weights([np.full((128, 784), np.nan), np.zeros(784)])
    vh.save(tmp_path / "models", autoencoder=autoencoder)
    message = "autoencoder.keras contains NaN or infinite weights"
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
    message = "vae_encoder.keras maps .*, where .*784.*10.* is needed. It may have ano"
    with pytest.raises(ValueError, match=message):
        vh.load_trained("vae_encoder", "vae_decoder")


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


def test_stored_models_name_no_option_that_older_keras_lacks(tmp_path, vae):
    vh.save(tmp_path, vae_encoder=vae.encoder)
    for path in [*tmp_path.glob("*.keras"), *course.REFERENCE.glob("*.keras")]:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json").decode()
        for option in saving.NEW_OPTIONS:
            assert f'"{option}"' not in config, path.name


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
