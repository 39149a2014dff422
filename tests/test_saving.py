"""Models survive being saved, also in a process that knows nothing of this one."""

import contextlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import keras
import numpy as np
import pytest

import course
import vae_helpers as vh
from course import checkpoints, explorer


def in_a_fresh_process(code, folder):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(course.ROOT),
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr


def test_functional_models_load_in_a_fresh_process_without_our_code(
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
    in_a_fresh_process(code, tmp_path)


@pytest.mark.slow
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
    from tools import refresh

    scope = {**vars(vh)}
    exec(refresh.source_of(["Sampling"]) + "\n\n\n" + refresh.source_of(["VAE"]), scope)
    vae = scope["VAE"](vh.build_encoder(), vh.build_decoder())
    vae(images)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert type(loaded) is scope["VAE"]
    vh.save(tmp_path, encoder=vae.encoder)
    assert np.allclose(
        vh.load(tmp_path / "encoder.keras")(images)[0], vae.encoder(images)[0]
    )


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
        vh.save(
            tmp_path, vae_encoder=vh.build_encoder(), vae_decoder=vh.build_decoder()
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_in_the_way_of_one_model_leaves_the_others_as_they_were(tmp_path, vae):
    vh.save(tmp_path, vae_encoder=vae.encoder)
    before = (tmp_path / "vae_encoder.keras").read_bytes()
    (tmp_path / "vae_decoder.keras").mkdir()
    with pytest.raises(OSError, match="vae_decoder.keras is a folder"):
        vh.save(tmp_path, vae_encoder=vh.build_encoder(), vae_decoder=vae.decoder)
    assert (tmp_path / "vae_encoder.keras").read_bytes() == before and len(
        list(tmp_path.iterdir())
    ) == 2


@pytest.mark.parametrize("step", range(4))
def test_a_killed_save_leaves_no_new_encoder_beside_an_old_decoder(
    step, monkeypatch, tmp_path, vae, capsys
):
    """Killed before one is removed, before the first is renamed, before the second, and after it."""
    old = {"vae_encoder": vae.encoder, "vae_decoder": vae.decoder}
    new = {"vae_encoder": vh.build_encoder(), "vae_decoder": vh.build_decoder()}
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vh.save(tmp_path / "models", **old)
    calls = []

    def until_killed(act):
        def call(*paths):
            if len(calls) == step:
                raise SystemExit  # nor is anything cleaned up
            calls.append(paths)
            act(*paths)

        return call

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(os, "unlink", until_killed(os.unlink))
        patched.setattr(os, "replace", until_killed(os.replace))
        vh.save(tmp_path / "models", **new)
    found = {
        name: model.get_weights()[0] for name, model in zip(old, vh.load_trained(*old))
    }
    said = "your own" if step in (0, 3) else "the reference"
    assert said in capsys.readouterr().out
    for models in [old] * (step == 0) + [new] * (step == 3):
        assert all(
            np.array_equal(found[name], models[name].get_weights()[0]) for name in found
        )


@contextlib.contextmanager
def small_disk(folder, size):
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if mount.returncode:
        pytest.skip(f"no small disk can be made here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of 3 MB."""
    with small_disk(tmp_path, "3m") as folder:
        yield folder


@pytest.fixture
def read_only(tmp_path):
    """A copy of the course with results, on a disk that cannot be written, not even by root."""
    with small_disk(tmp_path, "50m") as course:
        for name in ("vae_helpers.py", "pyproject.toml", "README.md"):
            shutil.copy(course.ROOT / name, course)
        unneeded = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(
            course.ROOT / "notebooks", course / "notebooks", ignore=unneeded
        )
        (course / "build").mkdir()
        (course / "build" / "results.json").write_text("{}")
        (course / "build" / "explorer.html").write_text("old")
        subprocess.run(["mount", "-o", "remount,ro", course], check=True)
        yield course


def test_a_full_disk_leaves_the_old_files_whole(full_disk):
    def write(letter):
        write_text(full_disk / "text.json", letter * 900_000)

    image = keras.Input((784,))
    model = keras.Model(image, keras.layers.Dense(100)(image))
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    write("a")
    vh.save(full_disk, model=model)  # 0.3 MB
    checkpoints.write(full_disk / "state.npz", model, done=1)  # 0.9 MB
    (full_disk / "filler").write_bytes(bytes(3_000_000 - 900_000 - 300_000 - 900_000))
    before = {path.name: path.read_bytes() for path in full_disk.iterdir()}
    model.set_weights([np.ones_like(weights) for weights in model.get_weights()])
    for again in (
        lambda: write("b"),
        lambda: checkpoints.write(full_disk / "state.npz", model, done=2),
        lambda: vh.save(
            full_disk, model=model, second=model, third=model, fourth=model
        ),
    ):
        with pytest.raises(
            OSError, match="could not be written .*: make room there"
        ) as refused:
            again()
        assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in full_disk.iterdir()} == before


@pytest.mark.parametrize("command", ["run.py", "pages.py", "refresh.py another-owner"])
def test_a_read_only_course_is_said_in_one_sentence(read_only, command):
    if command == "pages.py":
        pytest.importorskip("sphinx")  # which a lane of other versions has not
    before = {
        path: path.read_bytes() for path in read_only.rglob("*.*") if path.is_file()
    }
    environment = {**os.environ, "VAE_COURSE_QUICK": "1", "FASHION_MNIST_DIR": str(read_only / "notebooks" / "data"),
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    script, *owner = command.split()
    run = subprocess.run([sys.executable, f"notebooks/{script}", *owner], cwd=read_only, capture_output=True, text=True,
                         env=environment)  # fmt: skip
    sentence = r"\S+ could not be (read or )?written \(Read-only file system\): m.*\."
    assert run.returncode == 1 and re.fullmatch(sentence, run.stderr.strip()), (
        run.stderr
    )
    assert {
        path: path.read_bytes() for path in read_only.rglob("*.*") if path.is_file()
    } == before


def test_reading_goes_on_where_nothing_can_be_written(
    read_only, monkeypatch, tmp_path_factory, images, capsys, vae
):
    build = read_only / "build"
    monkeypatch.setattr(course, "BUILD", build)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("elsewhere")))
    complete = vh.Data(*[None] * 6, is_full_run=True)
    vh.expect("pixel entropy, test (nats)", 189.8, complete)
    vh.save_if_full_run(complete, vae_encoder=vae.encoder)
    page = explorer.write(
        build / "explorer.html",
        vae.encoder,
        vae.decoder,
        images,
        np.arange(len(images)) % 10,
    )
    said = capsys.readouterr().out
    for name in ("results.json", "vae_encoder.keras", "explorer.html"):
        assert (
            f"{name} could not be written (Read-only file system): make room there, or make it writable."
            in said
        )
    assert str(page) in said and explorer.read(page)["kl"]
    assert (build / "explorer.html").read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys, monkeypatch):
    """A file stands where the folder should be: that stops even root, as a folder without write permission does not."""
    place = tmp_path / "build"
    place.write_text("old")
    with pytest.raises(
        OSError,
        match="x.json could not be written .*: make room there, or make it writable",
    ):
        write_text(place / "x.json", "new")
    monkeypatch.setattr(course, "BUILD", place)
    vh.expect(
        "pixel entropy, test (nats)", 189.8, vh.Data(*[None] * 6, is_full_run=True)
    )
    assert "results.json could not be written" in capsys.readouterr().out
    assert place.read_text() == "old"


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
    keras.Sequential([keras.Input((784,)), keras.layers.Lambda(lambda x: 2 * x)]).save(
        path
    )


def with_a_lambda_layer_and_our_weights(path):
    model = vh.build_autoencoder()
    keras.Model(model.input, keras.layers.Lambda(lambda x: 2 * x)(model.output)).save(
        path
    )


def with_a_layer_of_the_reader_s(path):
    model = vh.build_autoencoder()
    keras.Model(model.input, Unknown()(model.output)).save(path)
    keras.saving.get_custom_objects().pop("Custom>Unknown", None)


def leaky(x):
    return keras.ops.leaky_relu(x, 0.3)


def with_an_activation_of_the_reader_s(path):
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


FAULTS = [truncated, of_an_unknown_class, with_a_lambda_layer, with_a_lambda_layer_and_our_weights,
          with_a_layer_of_the_reader_s, with_an_activation_of_the_reader_s, a_pickle, a_zip_of_something_else,
          empty]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_file_that_is_no_model_is_refused_in_one_sentence(tmp_path, fault):
    path = tmp_path / "autoencoder.keras"
    fault(path)
    with pytest.raises(
        ValueError, match="autoencoder.keras is not a whole Keras model .*save it again"
    ) as raised:
        vh.load(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200 + len(
        str(tmp_path)
    )


def test_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.keras is missing: run"):
        vh.load(tmp_path / "nothing.keras")


def test_model_that_may_not_be_read_is_not_called_damaged(vae, nobody_special):
    if os.name == "nt":
        pytest.skip("Windows knows no such mode")
    with (
        tempfile.TemporaryDirectory() as place
    ):  # pytest's own folders are closed to others
        vh.save(place, vae_encoder=vae.encoder)
        os.chmod(place, 0o755)
        os.chmod(f"{place}/vae_encoder.keras", 0)
        with (
            nobody_special,
            pytest.raises(
                PermissionError,
                match="vae_encoder.keras cannot be read .*: make it readable",
            ),
        ):
            vh.load(f"{place}/vae_encoder.keras")


def test_model_that_has_diverged_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    autoencoder = vh.build_autoencoder()
    autoencoder.layers[-1].set_weights([np.full((128, 784), np.nan), np.zeros(784)])
    vh.save(tmp_path / "models", autoencoder=autoencoder)
    with pytest.raises(
        ValueError,
        match="autoencoder.keras has weights that are nan or infinite: train it anew",
    ):
        vh.load_trained("autoencoder")


@pytest.mark.parametrize(
    "make",
    [lambda: vh.build_encoder(3), lambda: vh.build_autoencoder()],
    ids=["latent", "other"],
)
def test_model_of_another_shape_is_not_taken_for_the_course_s(
    monkeypatch, tmp_path, make
):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vh.save(tmp_path / "models", vae_encoder=make(), vae_decoder=vh.build_decoder())
    with pytest.raises(
        ValueError, match="vae_encoder.keras does not map .*784.*10.*: train it anew"
    ) as raised:
        vh.load_trained("vae_encoder", "vae_decoder")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200 + len(
        str(tmp_path)
    )


def test_whole_vae_is_not_taken_for_its_encoder(monkeypatch, tmp_path, images, vae):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    vae(images)
    (tmp_path / "models").mkdir()
    vae.save(tmp_path / "models" / "vae_encoder.keras")
    with pytest.raises(ValueError, match="vae_encoder.keras does not map"):
        vh.load_trained("vae_encoder")


def test_nothing_in_the_course_unpickles():
    """Files of weights and of data are read by what cannot run code."""
    sources = [
        course.ROOT / "vae_helpers.py",
        *(course.ROOT / "notebooks").rglob("*.py"),
        *course.REFERENCE.parent.glob("*.ipynb"),
    ]
    assert len(sources) > 8
    words = (
        "pickle",
        "joblib",
        "safe_mode=False",
        "enable_unsafe_deserialization",
        "torch.load",
        "eval(",
    )
    for path in sources:
        text = path.read_text(encoding="utf-8").replace('"safe_mode" not in', "")
        assert not [
            word for word in words if re.search(rf"(?<![\w.]){re.escape(word)}", text)
        ], path


def test_files_do_not_name_options_that_were_not_set(tmp_path, vae):
    """Older versions of Keras refuse a layer with an option that they do not know, even where it is None."""
    vh.save(tmp_path, vae_encoder=vae.encoder)
    for path in [tmp_path / "vae_encoder.keras", *course.REFERENCE.glob("*.keras")]:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json").decode()
        assert (
            '"Dense"' in config and ": null" not in config and "ragged" not in config
        ), path.name


def test_file_of_a_newer_keras_is_read_by_its_weights(images, tmp_path, vae):
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


def test_reference_models_are_whole_and_small():
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
    vh.save(tmp_path / "models", vae_encoder=vae.encoder)  # half a VAE is none
    vh.load_trained("vae_encoder", "vae_decoder")
    assert "the reference" in capsys.readouterr().out
    vh.save(tmp_path / "models", vae_decoder=vae.decoder)
    encoder, _ = vh.load_trained("vae_encoder", "vae_decoder")
    assert "your own" in capsys.readouterr().out
    assert np.array_equal(encoder.get_weights()[0], vae.encoder.get_weights()[0])


def test_only_a_complete_run_is_kept(monkeypatch, tmp_path, capsys, vae):
    monkeypatch.setattr(course, "BUILD", tmp_path)
    data = vh.Data(*[None] * 6, is_full_run=False)
    vh.save_if_full_run(data, vae_encoder=vae.encoder)
    assert "not kept" in capsys.readouterr().out and not list(tmp_path.iterdir())
    vh.save_if_full_run(data._replace(is_full_run=True), vae_encoder=vae.encoder)
    assert (tmp_path / "models" / "vae_encoder.keras").is_file()
