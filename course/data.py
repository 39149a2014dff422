"""Fashion-MNIST: find, verify, download, split. Needs neither Keras nor TensorFlow."""

import contextlib
import gzip
import hashlib
import os
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from course import SAMPLE
from course.files import atomic_write

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

QUICK_IMAGES, QUICK_EPOCHS = 2_000, 2

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
DOWNLOAD = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # Keras' own
TIMEOUT = 8  # seconds without an answer, after which a download is given up

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# SHA-256 of their decompressed bytes: the .gz files themselves differ between sources.
FULL = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
OF_SAMPLE = (
    "1824d9b84e5fea249274ad03cbea32ce55f5c021b6ec9da5c1b709f313ff13d5",
    "14b48046144ec2190ffe7969f350d420fe3397edfccf76352b23f6d8dfa9dcf1",
    "1952a789bbd6f416164ae8e95b230316e8109a9b0a763eb7815cdbd91bce128d",
    "1a987b9f29d1c4588da08f9ac9b8fe9786ba7cf3bd184176d0afa7c7186820bf",
)
SHA256 = {"full": dict(zip(FILES, FULL)), "sample": dict(zip(FILES, OF_SAMPLE))}

SAMPLE_NOTICE = """\
**********************************************************************
*  THIS IS A SAMPLE: 6,000 + 1,000 images of the 60,000 + 10,000.    *
*  Everything runs, but the results will be worse than the course's. *
*  For the full data, connect to the internet and run this again; or *
*  on Debian or Ubuntu: apt-get install dataset-fashion-mnist; or    *
*  put the four .gz files in a folder and name it in                 *
*  FASHION_MNIST_DIR.                                                *
**********************************************************************"""


class Data(NamedTuple):
    """Images as float32 (n, 784) in [0, 1], labels as int64 (n,) from 0 to 9."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    is_full_run: bool  # all 70,000 images and no quick mode: results are comparable


def quick_mode():
    """Whether VAE_COURSE_QUICK asks for fewer epochs and training images."""
    off = ("", "0", "false", "no", "off")
    return os.environ.get("VAE_COURSE_QUICK", "").strip().lower() not in off


def limit_epochs(number):
    """`number` of epochs; at most 2 in quick mode."""
    return min(number, QUICK_EPOCHS) if quick_mode() else number


def load_data():
    """Fashion-MNIST, split into training, validation and test images.

    Looks in the folder FASHION_MNIST_DIR if that is set, and nowhere else. Otherwise in
    Debian's package, Keras' cache, Keras' download, and last the sample in
    course/assets/sample. A file is used only if the SHA-256 of its content is right.

    Returns:
        `Data`, with 55,000 / 5,000 / 10,000 images (sample: 5,500 / 500 / 1,000).

    Raises:
        OSError, ValueError: FASHION_MNIST_DIR, or the sample, lacks a file or contains
            a wrong one. The message names the file and says what to do.
    """
    kind, contents = find_files()
    images, y, x_test, y_test = parse_idx(contents)
    first = len(images) * 11 // 12  # the last twelfth is for validation
    x_val, y_val = images[first:], y[first:]
    n_train = QUICK_IMAGES if quick_mode() else first
    sizes = f"{n_train:,} training, {len(x_val):,} validation, {len(x_test):,} test"
    print(f"Fashion-MNIST: {sizes} images{' (quick mode)' * quick_mode()}")
    is_full_run = kind == "full" and not quick_mode()
    x_train, y_train = images[:n_train], y[:n_train]
    return Data(x_train, y_train, x_val, y_val, x_test, y_test, is_full_run)


def load_sample():
    """The sample's arrays: 6,000 images and labels to train, 1,000 of each to test."""
    return parse_idx(read_folder(SAMPLE, read_file)[1])


def one_of_each(labels):
    """Index of the first image of each class in `labels` (n,): (10,)."""
    return np.array([np.flatnonzero(labels == c)[0] for c in range(10)])


# ---------------------------------------------------------------- find and verify


def find_files():
    """The first complete set of files: "full" or "sample", {name: decompressed bytes}.

    See `load_data` for the places and the errors.
    """
    keras_home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    cache = Path(keras_home, "datasets", "fashion-mnist")
    places = [(DEBIAN, read_file), (cache, read_or_download), (SAMPLE, read_file)]
    if folder := os.environ.get("FASHION_MNIST_DIR"):
        places = [(Path(folder).expanduser(), read_file)]
    for place in places:
        try:
            kind, contents = read_folder(*place)
            break
        except (OSError, ValueError) as error:
            if place is places[-1]:
                raise
            # A damaged file is reported, a missing one is not.
            if not isinstance(error, FileNotFoundError):
                print(error)
    if kind == "sample":
        print(SAMPLE_NOTICE)
    return kind, contents


def read_folder(folder, read):
    """The four files of a folder: "full" or "sample", {name: decompressed bytes}.

    `read` is what reads one file: `read_file` or `read_or_download`.

    Raises:
        OSError, ValueError: a file is missing or wrong, or the kinds are mixed.
    """
    files = {name: read(folder / name) for name in FILES}
    kinds = {kind for kind, _ in files.values()}
    if len(kinds) > 1:
        raise ValueError(
            f"{folder} mixes files of the full data and of the sample: keep one kind."
        )
    return kinds.pop(), {name: content for name, (_, content) in files.items()}


def read_file(path):
    """Read and verify one file: "full" or "sample", decompressed bytes.

    Raises:
        OSError, ValueError: it cannot be read, or its content is not known.
    """
    if verified := _verify(path.name, path.read_bytes()):
        return verified
    raise ValueError(
        f"{path} is damaged, or not Fashion-MNIST's file of that name: "
        "delete it and get it again."
    )


def _verify(name, compressed):
    """Decompress a .gz file and identify it, as `read_file` does; None if unknown."""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        content = gzip.decompress(compressed)
        digest = hashlib.sha256(content).hexdigest()
        for kind, digests in SHA256.items():
            if digests[name] == digest:
                return kind, content
    return None


def read_or_download(path):
    """`read_file` in Keras' cache; a missing or damaged file is downloaded.

    A download replaces a file only after it has been verified.
    """
    try:
        return read_file(path)
    except (FileNotFoundError, ValueError):
        print(f"{path} is missing or damaged: downloading it.")
    try:
        with urllib.request.urlopen(DOWNLOAD + path.name, timeout=TIMEOUT) as response:
            compressed = response.read()
        verified = _verify(path.name, compressed)
        if not verified:
            raise ValueError("the answer is not that file")
    except Exception as error:  # urllib, http and ssl each raise their own
        raise OSError(
            f"{path.name} could not be downloaded ({str(error) or 'no answer'}): "
            "check the internet connection and try again."
        ) from error
    try:
        with atomic_write(path) as [unfinished]:
            unfinished.write_bytes(compressed)
    except OSError as error:  # such as a full disk: the data can be used all the same
        print(error)
    return verified


def parse_idx(contents):
    """Images (n, 784) and labels (n,) as in `Data`, of {name: decompressed bytes}.

    A list, in the order of `contents`. Images follow a header of 16 bytes, labels one
    of 8.
    """
    return [
        np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).astype("float32") / 255
        if "images" in name
        else np.frombuffer(raw, np.uint8, offset=8).astype("int64")
        for name, raw in contents.items()
    ]
