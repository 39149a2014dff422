"""Models survive being saved, also in a process that knows nothing of this one."""

import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import vae_helpers as vh


def in_a_fresh_process(code, folder):
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(vh.ROOT)}
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr


def test_functional_models_load_in_a_fresh_process_without_our_code(images, vae, tmp_path):
    autoencoder = vh.build_autoencoder()
    vh.save(tmp_path, autoencoder=autoencoder, vae_encoder=vae.encoder, vae_decoder=vae.decoder)
    z_mean = np.asarray(vae.encoder(images)[0])
    np.savez(tmp_path / "here.npz", x=images, a=autoencoder(images), z_mean=z_mean, x_hat=vae.decoder(z_mean))
    code = """
import keras, numpy as np
here = np.load("here.npz")
load = lambda name: keras.saving.load_model(name + ".keras")
assert np.allclose(load("autoencoder")(here["x"]), here["a"], atol=1e-5)
assert np.allclose(load("vae_encoder")(here["x"])[0], here["z_mean"], atol=1e-5)
assert np.allclose(load("vae_decoder")(here["z_mean"]), here["x_hat"], atol=1e-5)
"""
    in_a_fresh_process(code, tmp_path)


def test_whole_vae_loads_in_a_fresh_process_and_trains_on(images, tmp_path):
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
    in_a_fresh_process(code, tmp_path)


def test_loading_works_after_a_reader_redefined_the_classes(images, tmp_path):
    """As running a taught cell does: the same names are registered anew."""
    import refresh

    scope = {**vars(vh)}
    exec(refresh.source_of(["Sampling"]) + "\n\n\n" + refresh.source_of(["VAE"]), scope)
    vae = scope["VAE"](vh.build_encoder(), vh.build_decoder())
    vae(images)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert type(loaded) is scope["VAE"]
    vh.save(tmp_path, encoder=vae.encoder)
    assert np.allclose(vh.load(tmp_path / "encoder.keras")(images)[0], vae.encoder(images)[0])


def test_saved_models_carry_no_optimiser(images, tmp_path):
    model = vh.build_autoencoder()
    model.compile(optimizer="adam", loss="mse")
    model.fit(images, images, verbose=0)
    vh.save(tmp_path, autoencoder=model)
    size = (tmp_path / "autoencoder.keras").stat().st_size
    assert size < 1.2 * 4 * model.count_params() + 50_000
    assert not vh.load(tmp_path / "autoencoder.keras").compiled


def test_saving_is_all_or_nothing(monkeypatch, tmp_path, vae):
    vh.save(tmp_path, vae_encoder=vae.encoder, vae_decoder=vae.decoder)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = keras.Model.save

    def full_disk(self, path):
        if "decoder" in path.name:
            raise OSError(28, "No space left on device")
        save(self, path)

    monkeypatch.setattr(keras.Model, "save", full_disk)
    with pytest.raises(OSError, match="No space left on device.*make room"):
        vh.save(tmp_path, vae_encoder=vh.build_encoder(), vae_decoder=vh.build_decoder())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_and_truncated_models_are_named(tmp_path, vae):
    with pytest.raises(FileNotFoundError, match="nothing.keras is missing"):
        vh.load(tmp_path / "nothing.keras")
    vh.save(tmp_path, vae_decoder=vae.decoder)
    path = tmp_path / "vae_decoder.keras"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="vae_decoder.keras is not a whole Keras model"):
        vh.load(path)


def test_files_do_not_name_options_that_were_not_set(tmp_path, vae):
    """Older versions of Keras refuse a layer with an option that they do not know, even where it is None."""
    vh.save(tmp_path, vae_encoder=vae.encoder)
    for path in [tmp_path / "vae_encoder.keras", *vh.REFERENCE.glob("*.keras")]:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json").decode()
        assert '"Dense"' in config and ": null" not in config and "ragged" not in config, path.name


def test_file_of_a_newer_keras_is_read_by_its_weights(images, tmp_path, vae):
    vh.save(tmp_path, vae_encoder=vae.encoder)
    path = tmp_path / "vae_encoder.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"use_bias"', b'"an_option_of_tomorrow": 1, "use_bias"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(Exception, match="an_option_of_tomorrow"):
        keras.saving.load_model(path)
    assert np.allclose(vh.load(path)(images)[0], vae.encoder(images)[0])


def test_reference_models_are_whole_and_small():
    for name, parameters in zip(vh.MODELS, (223_586, 568_724, 568_208)):
        path = vh.REFERENCE / f"{name}.keras"
        assert vh.load(path).count_params() == parameters
        assert path.stat().st_size < 4.5 * parameters + 50_000


def test_readers_own_models_come_before_the_reference(monkeypatch, tmp_path, capsys, vae):
    monkeypatch.setattr(vh, "BUILD", tmp_path)
    vh.load_trained("vae_encoder", "vae_decoder")
    assert "the reference" in capsys.readouterr().out
    vh.save(tmp_path / "models", vae_encoder=vae.encoder)  # half a VAE is none
    vh.load_trained("vae_encoder", "vae_decoder")
    assert "the reference" in capsys.readouterr().out
    vh.save(tmp_path / "models", vae_decoder=vae.decoder)
    encoder, _ = vh.load_trained("vae_encoder", "vae_decoder")
    assert "your own" in capsys.readouterr().out
    assert np.array_equal(encoder.get_weights()[0], vae.encoder.get_weights()[0])


def test_only_a_complete_run_is_kept(monkeypatch, tmp_path, capsys, vae):
    monkeypatch.setattr(vh, "BUILD", tmp_path)
    data = vh.Data(*[None] * 6, complete=False)
    vh.keep(data, vae_encoder=vae.encoder)
    assert "not kept" in capsys.readouterr().out and not list(tmp_path.iterdir())
    vh.keep(data._replace(complete=True), vae_encoder=vae.encoder)
    assert (tmp_path / "models" / "vae_encoder.keras").is_file()
