"""Where the data come from, and what happens when they are not what they should be."""

import gzip
import http.server
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import course.data
import vae_helpers as vh

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """No folder asked for, no quick mode, no Debian package, an empty Keras cache, no network."""
    for name in ("FASHION_MNIST_DIR", "VAE_COURSE_QUICK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(course.data, "DEBIAN", tmp_path / "no-such-package")
    monkeypatch.setattr(
        course.data, "DOWNLOAD", "http://127.0.0.1:9/"
    )  # the discard port: refused at once
    monkeypatch.setattr(course.data, "TIMEOUT", 1)


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample that a test may damage."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in course.data.SHA256["sample"]:
        shutil.copyfile(course.SAMPLE / name, copy / name)
    return copy


def test_sample_is_split_and_stratified():
    data = vh.load_data()
    assert (
        data.x_train.shape == (5500, 784)
        and data.x_val.shape == (500, 784)
        and data.x_test.shape == (1000, 784)
    )
    assert all(
        x.dtype == np.float32 and x.min() == 0 and x.max() == 1
        for x in (data.x_train, data.x_val, data.x_test)
    )
    assert [set(np.bincount(y)) for y in (data.y_train, data.y_val, data.y_test)] == [
        {550},
        {50},
        {100},
    ]
    assert not data.is_full_run


def test_sample_comes_with_a_notice(capsys):
    vh.load_data()
    assert "THIS IS A SAMPLE" in capsys.readouterr().out


def test_sample_splits_lie_inside_the_full_splits(monkeypatch):
    monkeypatch.undo()
    if not course.data.DEBIAN.is_dir():
        pytest.skip("needs the full data: apt-get install dataset-fashion-mnist")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.data.DEBIAN))
    monkeypatch.delenv("VAE_COURSE_QUICK", raising=False)
    full = vh.load_data()
    assert [len(x) for x in (full.x_train, full.x_val, full.x_test)] == [
        55_000,
        5_000,
        10_000,
    ] and full.is_full_run
    monkeypatch.setenv("FASHION_MNIST_DIR", str(course.SAMPLE))
    sample = vh.load_data()
    for part in ("x_train", "x_val", "x_test"):
        known = {row.tobytes() for row in getattr(full, part)}
        assert all(row.tobytes() in known for row in getattr(sample, part)), part


def test_quick_mode_changes_only_epochs_and_training_images(monkeypatch):
    plain = vh.load_data()
    assert vh.limit_epochs(50) == 50
    monkeypatch.setenv("VAE_COURSE_QUICK", "1")
    quick = vh.load_data()
    assert vh.limit_epochs(50) == vh.QUICK_EPOCHS and vh.limit_epochs(1) == 1
    assert len(quick.x_train) == len(quick.y_train) == vh.QUICK_IMAGES
    assert np.array_equal(quick.x_train, plain.x_train[: vh.QUICK_IMAGES])
    assert all(np.array_equal(a, b) for a, b in zip(quick[2:6], plain[2:6]))


def is_one_sentence(error):
    """That says what to do, after a colon."""
    text = str(error)
    return (
        len(text) < 200 + text.count(os.sep) * 40
        and "\n" not in text
        and ": " in text
        and text.endswith(".")
    )


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def one_byte_altered(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1))


def a_web_page(path):
    path.write_bytes(b"<html>Please log in to the network</html>")


def a_packed_web_page(path):
    path.write_bytes(gzip.compress(b"<html>Please log in to the network</html>"))


def empty(path):
    path.write_bytes(b"")


def labels_for_images(path):
    shutil.copyfile(path.with_name(LABELS), path)


def the_test_file(path):
    shutil.copyfile(path.with_name(IMAGES.replace("train", "t10k")), path)


DAMAGES = [
    truncated,
    one_byte_altered,
    a_web_page,
    a_packed_web_page,
    empty,
    labels_for_images,
    the_test_file,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_in_the_folder_asked_for_is_an_error_that_names_it(
    monkeypatch, folder, damage
):
    damage(folder / IMAGES)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    with pytest.raises(
        ValueError, match=f"{IMAGES} is damaged.*get it again"
    ) as raised:
        vh.load_data()
    assert is_one_sentence(raised.value)


def a_missing_file(folder):
    (folder / IMAGES).unlink()


def a_folder_in_its_place(folder):
    (folder / IMAGES).unlink()
    (folder / IMAGES).mkdir()


def a_file_that_may_not_be_read(folder):
    (folder / IMAGES).chmod(0)


@pytest.mark.parametrize(
    "fault", [a_missing_file, a_folder_in_its_place, a_file_that_may_not_be_read]
)
def test_file_that_cannot_be_read_in_the_folder_asked_for_is_an_error_that_names_it(
    monkeypatch, nobody_special, fault
):
    if os.name == "nt" and fault is a_file_that_may_not_be_read:
        pytest.skip("Windows knows no such mode")
    with (
        tempfile.TemporaryDirectory() as place
    ):  # pytest's own folders are closed to others
        folder = Path(place, "copy")
        shutil.copytree(course.SAMPLE, folder)
        for path in (Path(place), folder):
            path.chmod(0o755)
        fault(folder)
        monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
        with (
            nobody_special,
            pytest.raises(
                OSError, match=f"{IMAGES} cannot be read .*put .* there"
            ) as raised,
        ):
            vh.load_data()
    assert is_one_sentence(raised.value)


@pytest.mark.parametrize("name", ["none", "file", "file/below"])
def test_what_is_not_a_folder_is_named(monkeypatch, tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / name))
    said = f"FASHION_MNIST_DIR is .*{re.escape(str(Path(name)))}, which is not a folder"
    with pytest.raises(FileNotFoundError, match=said) as raised:
        vh.load_data()
    assert is_one_sentence(raised.value)


def test_mixed_folder_is_refused(monkeypatch, folder):
    digests = dict(course.data.SHA256["full"])
    digests[IMAGES] = course.data.SHA256["sample"][IMAGES]
    sample = {**course.data.SHA256["sample"], IMAGES: "0" * 64}
    monkeypatch.setattr(course.data, "SHA256", {"full": digests, "sample": sample})
    with pytest.raises(ValueError, match="mixes"):
        course.data.read_folder(folder)


def test_recompressed_files_are_accepted(monkeypatch, folder):
    content = gzip.decompress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(gzip.compress(content, 1, mtime=12345))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    assert len(vh.load_data().x_train) == 5500


def test_damaged_system_file_is_named_and_the_next_source_used(
    monkeypatch, folder, capsys
):
    one_byte_altered(folder / IMAGES)
    monkeypatch.setattr(course.data, "DEBIAN", folder)
    data = vh.load_data()
    said = capsys.readouterr().out
    assert (
        str(folder / IMAGES) in said
        and "THIS IS A SAMPLE" in said
        and len(data.x_train) == 5500
    )


def test_keras_cache_is_used_and_nothing_downloaded(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "keras" / "datasets" / "fashion-mnist")
    (kind, _), said = course.data.find_files(), capsys.readouterr().out
    assert kind == "sample" and "download" not in said


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "keras" / "datasets" / "fashion-mnist"


@pytest.fixture
def server(monkeypatch):
    """A server of the sample, told by its `way` how to answer; `asked` lists what for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path[1:])
            content = (course.SAMPLE / self.path[1:]).read_bytes()
            if server.way == "web page":
                content = b"<html>Please log in to the network</html>"
            if server.way == "other file":
                content = (course.SAMPLE / LABELS).read_bytes()
            if server.way == "mute":
                return server.over.wait()
            self.send_response(404 if server.way == "not found" else 200)
            if server.way != "no length":
                self.send_header("Content-Length", len(content))
            self.end_headers()
            if server.way in ("half", "stalled", "no length"):
                content = content[: len(content) // 2]
            self.wfile.write(content)
            if server.way == "stalled":
                server.over.wait()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.way, server.asked, server.over = "whole", [], threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(
            course.data, "DOWNLOAD", f"http://127.0.0.1:{server.server_port}/"
        )
        yield server
        server.over.set()
        server.shutdown()


def test_download_fills_keras_cache(server, cache, capsys):
    assert course.data.read_folder(cache, course.data.read_or_download)[0] == "sample"
    assert (
        sorted(path.name for path in cache.iterdir())
        == sorted(server.asked)
        == sorted(course.data.SHA256["sample"])
    )
    assert "downloading it" in capsys.readouterr().out
    course.data.read_folder(cache, course.data.read_or_download)
    assert len(server.asked) == 4, "nothing is downloaded twice"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_in_keras_cache_is_downloaded_again(
    server, folder, cache, damage, capsys
):
    shutil.copytree(folder, cache)
    damage(cache / IMAGES)
    course.data.read_folder(cache, course.data.read_or_download)
    assert (
        server.asked == [IMAGES] and f"{IMAGES} is damaged" in capsys.readouterr().out
    )
    assert (cache / IMAGES).read_bytes() == (folder / IMAGES).read_bytes() and len(
        list(cache.iterdir())
    ) == 4


@pytest.mark.parametrize(
    "way",
    ["half", "no length", "stalled", "mute", "web page", "other file", "not found"],
)
def test_bad_download_leaves_the_cache_as_it_was_and_the_sample_is_used(
    server, folder, cache, way, capsys
):
    shutil.copytree(folder, cache)
    one_byte_altered(cache / IMAGES)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    server.way, start = way, time.monotonic()
    course.data.find_files()
    assert time.monotonic() - start < 60, "it ends, and does not hang"
    said = capsys.readouterr().out.splitlines()
    assert (
        "THIS IS A SAMPLE" in said[3]
        and f"{IMAGES} could not be downloaded (" in said[1]
    )
    assert is_one_sentence(said[1]) and len(server.asked) == 1
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_refused_network_falls_back_to_the_sample(capsys, tmp_path):
    vh.load_data()
    assert (
        "could not be downloaded" in capsys.readouterr().out
        and not (tmp_path / "keras").exists()
    )


def test_download_that_cannot_be_kept_is_used_all_the_same(
    server, monkeypatch, cache, capsys
):
    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    kind, content = course.data.read_or_download(cache / IMAGES)
    assert (
        kind == "sample"
        and len(content) == 16 + 6000 * 784
        and not list(cache.iterdir())
    )
    said = capsys.readouterr().out.splitlines()[1]
    assert "could not be kept (No space left on device)" in said and is_one_sentence(
        said
    )


def test_no_other_module_named_notebooks_gets_in_the_way(tmp_path):
    (tmp_path / "notebooks.py").touch()
    code = f"import sys; sys.path[:0] = [{str(course.ROOT)!r}]; import notebooks.files"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    elsewhere = tmp_path / "elsewhere" / "notebooks" / "__init__.py"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.touch()
    code = f"import sys; sys.path[:0] = [{str(course.ROOT)!r}, {str(tmp_path / 'elsewhere')!r}]; import notebooks.files"
    subprocess.run([sys.executable, "-c", code], cwd=course.ROOT / "tests", check=True)


# ---------------------------------------------------------------- any damage whatever

SMALL = "t10k-labels-idx1-ubyte.gz"
CONTENT = gzip.decompress((course.SAMPLE / SMALL).read_bytes())


@st.composite
def mangled(draw):
    """The content of a small data file, or its .gz, cut, stretched, altered, or with another header."""
    packed = draw(st.booleans())
    data = bytearray(gzip.compress(CONTENT, 1) if packed else CONTENT)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "cut", "insert", "header", "twice"])):
            case "flip":
                data[place : place + 1] = bytes(
                    b ^ (1 << draw(st.integers(0, 7))) for b in data[place : place + 1]
                )
            case "cut":
                del data[place:]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=20))
            case "header":
                data[:8] = struct.pack(
                    ">ii",
                    *draw(
                        st.tuples(
                            st.sampled_from([2049, 2051, -1]), st.integers(0, 2**31 - 1)
                        )
                    ),
                )
            case "twice":
                data += bytes(data)
    return bytes(data) if packed else gzip.compress(bytes(data), 1)


@settings(deadline=None, max_examples=100, database=None)
@given(mangled())
def test_no_mangled_file_is_accepted(tmp_path_factory, packed):
    path = tmp_path_factory.getbasetemp() / SMALL
    path.write_bytes(packed)
    try:
        kind, content = course.data.read_file(path)
    except ValueError as error:
        assert is_one_sentence(error) and str(path) in str(error)
    else:  # it was altered where it does not matter, such as the date in gzip's header
        assert (kind, content) == ("sample", CONTENT)
