"""Fashion-MNIST: where it is found, and what happens when a file is not right."""

import gzip
import http.server
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import course
import course.data
import vae_helpers as vh

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
WEB_PAGE = b"<html>Please log in to the network</html>"


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No environment variables, no Debian package, an empty cache, no network."""
    for name in ("FASHION_MNIST_DIR", "VAE_COURSE_QUICK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(course.data, "DEBIAN", tmp_path / "no-such-package")
    # The discard port refuses every connection at once.
    monkeypatch.setattr(course.data, "DOWNLOAD", "http://127.0.0.1:9/")
    monkeypatch.setattr(course.data, "TIMEOUT", 1)


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample that a test may damage."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in course.data.SHA256["sample"]:
        shutil.copyfile(course.SAMPLE / name, copy / name)
    return copy


# ---------------------------------------------------------------- splits


def test_sample_is_said_split_and_stratified(capsys):
    data = vh.load_data()
    assert "THIS IS A SAMPLE" in capsys.readouterr().out
    images = (data.x_train, data.x_val, data.x_test)
    assert [x.shape for x in images] == [(5500, 784), (500, 784), (1000, 784)]
    assert all(x.dtype == np.float32 and x.min() == 0 and x.max() == 1 for x in images)
    labels = (data.y_train, data.y_val, data.y_test)
    assert [set(np.bincount(y)) for y in labels] == [{550}, {50}, {100}]
    assert not data.is_full_run


def test_quick_mode_changes_only_epochs_and_training_images(monkeypatch):
    plain = vh.load_data()
    assert vh.limit_epochs(50) == 50
    monkeypatch.setenv("VAE_COURSE_QUICK", "1")
    quick, n = vh.load_data(), course.data.QUICK_IMAGES
    assert vh.limit_epochs(50) == course.data.QUICK_EPOCHS
    assert vh.limit_epochs(1) == 1
    assert len(quick.x_train) == len(quick.y_train) == n < len(plain.x_train)
    assert np.array_equal(quick.x_train, plain.x_train[:n])
    assert np.array_equal(quick.y_train, plain.y_train[:n])
    assert all(np.array_equal(a, b) for a, b in zip(quick[2:6], plain[2:6]))


# ---------------------------------------------------------------- FASHION_MNIST_DIR


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def one_bit_altered(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1))


def labels_for_images(path):
    shutil.copyfile(path.with_name(LABELS), path)


each_damage = pytest.mark.parametrize(
    "damage", [truncated, one_bit_altered, labels_for_images]
)


@each_damage
def test_damaged_file_in_the_requested_folder_is_named(monkeypatch, folder, damage):
    damage(folder / IMAGES)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    with pytest.raises(ValueError, match=f"{IMAGES} is damaged.*: delete it and get"):
        vh.load_data()


def test_missing_file_in_the_requested_folder_is_named(monkeypatch, folder):
    (folder / IMAGES).unlink()
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    with pytest.raises(FileNotFoundError, match=IMAGES):
        vh.load_data()


def test_files_of_the_full_data_and_of_the_sample_are_not_mixed(folder):
    def read(path):
        return "full" if path.name == IMAGES else "sample", b""

    with pytest.raises(ValueError, match="mixes files"):
        course.data.read_folder(folder, read)


def test_recompressed_file_is_accepted(monkeypatch, folder):
    content = gzip.decompress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(gzip.compress(content, 1, mtime=12345))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    assert len(vh.load_data().x_train) == 5500


# ---------------------------------------------------------------- cache and download


def test_damaged_system_file_is_named_and_the_next_source_used(
    monkeypatch, folder, capsys
):
    one_bit_altered(folder / IMAGES)
    monkeypatch.setattr(course.data, "DEBIAN", folder)
    data, output = vh.load_data(), capsys.readouterr().out
    assert str(folder / IMAGES) in output and "THIS IS A SAMPLE" in output
    assert len(data.x_train) == 5500


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "keras" / "datasets" / "fashion-mnist"


@pytest.fixture
def server(monkeypatch):
    """A server of the sample; `fault` is how it fails, `requested` lists file names."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name, fault = self.path[1:], server.fault
            server.requested.append(name)
            content = (course.SAMPLE / name).read_bytes()
            if fault == "web page":
                content = WEB_PAGE
            if fault == "no answer":
                return server.stop.wait()
            self.send_response(200)
            self.send_header("Content-Length", len(content))
            self.end_headers()
            self.wfile.write(content[: len(content) // (2 if fault == "half" else 1)])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.fault, server.requested, server.stop = None, [], threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(course.data, "DOWNLOAD", address)
        yield server
        server.stop.set()
        server.shutdown()


def test_download_fills_the_cache_of_keras(server, cache, capsys):
    assert course.data.read_folder(cache, course.data.read_or_download)[0] == "sample"
    names = sorted(course.data.SHA256["sample"])
    assert sorted(path.name for path in cache.iterdir()) == names
    assert sorted(server.requested) == names
    assert "downloading it" in capsys.readouterr().out
    course.data.read_folder(cache, course.data.read_or_download)
    assert len(server.requested) == 4, "nothing is downloaded twice"


@each_damage
def test_damaged_file_in_the_cache_of_keras_is_downloaded_again(
    server, folder, cache, damage, capsys
):
    shutil.copytree(folder, cache)
    damage(cache / IMAGES)
    course.data.read_folder(cache, course.data.read_or_download)
    assert server.requested == [IMAGES]
    assert f"{IMAGES} is missing or damaged: dow" in capsys.readouterr().out
    assert (cache / IMAGES).read_bytes() == (folder / IMAGES).read_bytes()
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("fault", ["half", "no answer", "web page"])
def test_failed_download_leaves_the_cache_as_it_was_and_the_sample_is_used(
    server, folder, cache, fault, capsys
):
    shutil.copytree(folder, cache)
    one_bit_altered(cache / IMAGES)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    server.fault = fault
    kind, _ = course.data.find_files()
    lines = capsys.readouterr().out.splitlines()
    assert kind == "sample" and "THIS IS A SAMPLE" in lines[3]
    assert f"{IMAGES} could not be downloaded (" in lines[1]
    assert len(server.requested) == 1
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_download_that_cannot_be_saved_is_used_all_the_same(
    server, monkeypatch, cache, capsys
):
    def write_on_a_full_disk(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_on_a_full_disk)
    kind, content = course.data.read_or_download(cache / IMAGES)
    assert kind == "sample" and len(content) == 16 + 6000 * 784
    assert not list(cache.iterdir())
    assert "be written (No space left on device)" in capsys.readouterr().out
