"""Where the data come from, and what happens when they are not what they should be."""

import functools
import gzip
import http.server
import shutil
import socket
import threading
import time

import numpy as np
import pytest

import vae_helpers as vh

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """No folder asked for, no quick mode, no Debian package, an empty Keras cache, no network."""
    for name in ("FASHION_MNIST_DIR", "VAE_COURSE_QUICK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(vh, "DEBIAN", tmp_path / "no-such-package")
    monkeypatch.setattr(vh, "DOWNLOAD", "http://127.0.0.1:9/")  # the discard port: refused at once


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample that a test may damage."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in vh.SHA256["sample"]:
        shutil.copyfile(vh.SAMPLE / name, copy / name)
    return copy


def test_sample_is_split_and_stratified():
    data = vh.load_data()
    assert data.x_train.shape == (5500, 784) and data.x_val.shape == (500, 784) and data.x_test.shape == (1000, 784)
    assert all(x.dtype == np.float32 and x.min() == 0 and x.max() == 1 for x in (data.x_train, data.x_val, data.x_test))
    assert [set(np.bincount(y)) for y in (data.y_train, data.y_val, data.y_test)] == [{550}, {50}, {100}]
    assert not data.complete


def test_sample_comes_with_a_notice(capsys):
    vh.load_data()
    assert "THIS IS A SAMPLE" in capsys.readouterr().out


def test_sample_splits_lie_inside_the_full_splits(monkeypatch):
    monkeypatch.undo()
    if not vh.DEBIAN.is_dir():
        pytest.skip("needs the full data: apt-get install dataset-fashion-mnist")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(vh.DEBIAN))
    monkeypatch.delenv("VAE_COURSE_QUICK", raising=False)
    full = vh.load_data()
    assert [len(x) for x in (full.x_train, full.x_val, full.x_test)] == [55_000, 5_000, 10_000] and full.complete
    monkeypatch.setenv("FASHION_MNIST_DIR", str(vh.SAMPLE))
    sample = vh.load_data()
    for part in ("x_train", "x_val", "x_test"):
        known = {row.tobytes() for row in getattr(full, part)}
        assert all(row.tobytes() in known for row in getattr(sample, part)), part


def test_quick_mode_changes_only_epochs_and_training_images(monkeypatch):
    plain = vh.load_data()
    assert vh.epochs(50) == 50
    monkeypatch.setenv("VAE_COURSE_QUICK", "1")
    quick = vh.load_data()
    assert vh.epochs(50) == vh.QUICK_EPOCHS and vh.epochs(1) == 1
    assert len(quick.x_train) == len(quick.y_train) == vh.QUICK_IMAGES
    assert np.array_equal(quick.x_train, plain.x_train[: vh.QUICK_IMAGES])
    assert all(np.array_equal(a, b) for a, b in zip(quick[2:6], plain[2:6]))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def one_byte_altered(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def a_web_page(path):
    path.write_bytes(b"<html>Please log in to the network</html>")


def empty(path):
    path.write_bytes(b"")


def another_file_of_the_set(path):
    shutil.copyfile(path.with_name(LABELS), path)


@pytest.mark.parametrize("damage", [truncated, one_byte_altered, a_web_page, empty, another_file_of_the_set])
def test_damaged_file_in_the_folder_asked_for_is_an_error_that_names_it(monkeypatch, folder, damage):
    damage(folder / IMAGES)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    with pytest.raises(ValueError, match=f"{IMAGES}.*get it again"):
        vh.load_data()


def test_missing_file_in_the_folder_asked_for_is_an_error_that_names_it(monkeypatch, folder):
    (folder / LABELS).unlink()
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    with pytest.raises(FileNotFoundError, match=f"{LABELS} is missing"):
        vh.load_data()


def test_mixed_folder_is_refused(monkeypatch, folder):
    digests = dict(vh.SHA256["full"])
    digests[IMAGES] = vh.SHA256["sample"][IMAGES]
    sample = {**vh.SHA256["sample"], IMAGES: "0" * 64}
    monkeypatch.setattr(vh, "SHA256", {"full": digests, "sample": sample})
    with pytest.raises(ValueError, match="mixes"):
        vh._read_folder(folder)


def test_recompressed_files_are_accepted(monkeypatch, folder):
    content = gzip.decompress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(gzip.compress(content, 1, mtime=12345))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    assert len(vh.load_data().x_train) == 5500


def test_damaged_system_file_is_named_and_the_next_source_used(monkeypatch, folder, capsys):
    one_byte_altered(folder / IMAGES)
    monkeypatch.setattr(vh, "DEBIAN", folder)
    data = vh.load_data()
    said = capsys.readouterr().out
    assert str(folder / IMAGES) in said and "THIS IS A SAMPLE" in said and len(data.x_train) == 5500


def test_keras_cache_is_used_and_nothing_downloaded(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "keras" / "datasets" / "fashion-mnist")
    (kind, _), said = vh.find_files(), capsys.readouterr().out
    assert kind == "sample" and "downloaded" not in said


def test_download_fills_keras_cache(monkeypatch, folder, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(vh, "DOWNLOAD", f"http://127.0.0.1:{server.server_port}/")
        found = vh._keras_folder()
        server.shutdown()
    assert found == tmp_path / "keras" / "datasets" / "fashion-mnist"
    assert vh._read_folder(found)[0] == "sample"


def test_silent_network_costs_seconds():
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never says a word
        start = time.monotonic()
        assert not vh._answers(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=1)
        assert time.monotonic() - start < 3


def test_refused_network_falls_back_to_the_sample(capsys):
    vh.load_data()
    assert "could not be downloaded" in capsys.readouterr().out
