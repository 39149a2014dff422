"""Files are written whole or not at all; saved models can be loaded anywhere."""

import json
import os
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


def test_failure_while_writing_leaves_the_old_files_and_nothing_else(tmp_path):
    write_pair(tmp_path, b"old")
    with pytest.raises(TypeError):
        write_pair(tmp_path, "no bytes")
    assert contents(tmp_path) == {"first": b"old", "second": b"old"}


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


def archive_parts(path):
    """{name: bytes} of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_saved_models_compute_the_same_and_need_neither_course_nor_newest_keras(
    vae, tmp_path
):
    models = dict(zip(vh.MODELS, (vh.build_autoencoder(), vae.encoder, vae.decoder)))
    vh.save(tmp_path, **models)
    for name, model in models.items():
        loaded = vh.load(tmp_path / f"{name}.keras")
        x = np.random.default_rng(0).uniform(size=(9, *model.input_shape[1:]))
        for one, two in zip(*(keras.tree.flatten(m(x)) for m in (model, loaded))):
            np.testing.assert_array_equal(one, two)
        config = archive_parts(tmp_path / f"{name}.keras")["config.json"]
        assert b"vae_course" not in config, "a class of the course"
    for path in [*tmp_path.iterdir(), *course.REFERENCE.glob("*.keras")]:
        config = archive_parts(path)["config.json"].decode()
        assert not any(f'"{option}"' in config for option in saving.NEW_OPTIONS), path


@pytest.mark.slow
def test_whole_vae_loads_in_a_new_process_and_trains_on(images, tmp_path, run_python):
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
    ended = run_python(code, tmp_path)
    assert ended.returncode == 0, ended.stderr


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
    vh.save(tmp_path, autoencoder=model)
    assert path.stat().st_size < 1.2 * size_of_weights + 50_000
    assert not vh.load(path).compiled


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def test_what_cannot_be_loaded_again_is_not_saved(tmp_path, vae):
    vh.save(tmp_path, model=vh.build_encoder(2))
    before = contents(tmp_path)
    image = keras.Input((784,))
    model = keras.Model(image, Unregistered()(keras.layers.Dense(3)(image)))
    with pytest.raises(ValueError, match="model was not saved, because it could"):
        vh.save(tmp_path, model=model)
    for model in (vae, keras.Sequential([keras.layers.Dense(3)])):
        with pytest.raises(ValueError, match="model is not a functional model: save"):
            vh.save(tmp_path, encoder=vae.encoder, model=model)
    assert contents(tmp_path) == before


def test_model_with_weights_that_are_not_finite_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    autoencoder = vh.build_autoencoder()
    autoencoder.layers[-1].set_weights([np.full((128, 784), np.nan), np.zeros(784)])
    vh.save(tmp_path / "models", autoencoder=autoencoder)
    message = "autoencoder.keras contains NaN or infinite weights"
    with pytest.raises(ValueError, match=message):
        vh.load_trained("autoencoder")


def test_model_of_another_shape_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vh.save(tmp_path / "models", vae_encoder=vh.build_encoder(3))
    message = "vae_encoder.keras maps .*, where .*784.*10.* is needed. It may have ano"
    with pytest.raises(ValueError, match=message):
        vh.load_trained("vae_encoder")


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
