"""Files: those of Fashion-MNIST, found, verified or downloaded; and any file, written whole or not at all.

What `vae_helpers.load_data` and `save` call. No chapter needs it, and it imports neither Keras nor TensorFlow.
"""

import concurrent.futures
import contextlib
import gzip
import hashlib
import os
import tempfile
import threading
import urllib.request
import zlib
from pathlib import Path

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
SAMPLE = Path(__file__).resolve().parent / "data"
DOWNLOAD = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # Keras' own
PATIENCE = 8  # seconds: a download that is silent for so long is given up

# SHA-256 of the decompressed bytes: the .gz files themselves differ between sources.
SHA256 = {
    "full": {
        "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "sample": {
        "train-images-idx3-ubyte.gz": "1824d9b84e5fea249274ad03cbea32ce55f5c021b6ec9da5c1b709f313ff13d5",
        "train-labels-idx1-ubyte.gz": "14b48046144ec2190ffe7969f350d420fe3397edfccf76352b23f6d8dfa9dcf1",
        "t10k-images-idx3-ubyte.gz": "1952a789bbd6f416164ae8e95b230316e8109a9b0a763eb7815cdbd91bce128d",
        "t10k-labels-idx1-ubyte.gz": "1a987b9f29d1c4588da08f9ac9b8fe9786ba7cf3bd184176d0afa7c7186820bf",
    },
}

SAMPLE_NOTICE = """\
**********************************************************************
*  THIS IS A SAMPLE: 6,000 + 1,000 images of the 60,000 + 10,000.    *
*  Everything runs, but results will be worse than the course's.     *
*  For the full data, go online and run this again, or on Debian or  *
*  Ubuntu: apt-get install dataset-fashion-mnist, or put the four    *
*  .gz files in a folder and name it in FASHION_MNIST_DIR.           *
**********************************************************************"""


def find():
    """The first whole set of files, ("full" or "sample", {name: decompressed bytes}); see `vae_helpers.load_data`."""
    asked = os.path.expanduser(os.environ.get("FASHION_MNIST_DIR", ""))
    if asked and not os.path.isdir(asked):
        raise FileNotFoundError(f"FASHION_MNIST_DIR is {asked}, which is not a folder: name one that is, or unset it.")
    cache = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "datasets", "fashion-mnist")
    places = [(DEBIAN, read_file), (cache, read_or_download), (SAMPLE, read_file)]
    if asked:
        places = [(Path(asked), read_file)]
    for place in places:
        try:
            kind, files = read_folder(*place)
            break
        except (OSError, ValueError) as error:
            if place is places[-1]:
                raise
            if not isinstance(error, FileNotFoundError):  # not there is nothing to report; damaged is
                print(error)
    if kind == "sample":
        print(SAMPLE_NOTICE)
    return kind, files


def read_file(path):
    """The content of a data file, decompressed and verified: ("full" or "sample", bytes)."""
    try:
        return _verified(path.name, path.read_bytes())
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise type(error)(f"{reason}: put Fashion-MNIST's file of that name there, readable by you.") from None
    except ValueError as error:
        raise ValueError(f"{path} is {error}: delete it and get it again.") from None


def read_folder(folder, read=read_file):
    """The four files of a folder, decompressed and verified: ("full" or "sample", {name: bytes})."""
    found = {name: read(folder / name) for name in SHA256["full"]}
    kinds = {kind for kind, _ in found.values()}
    if len(kinds) > 1:
        raise ValueError(f"{folder} mixes files of the full data and of the sample: keep only one kind there.")
    return kinds.pop(), {name: content for name, (_, content) in found.items()}


def _verified(name, packed):
    """What `packed`, the bytes of a .gz file, holds: ("full" or "sample", bytes)."""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        content = gzip.decompress(packed)
        digest = hashlib.sha256(content).hexdigest()
        for kind, known in SHA256.items():
            if known[name] == digest:
                return kind, content
    raise ValueError("damaged, or not Fashion-MNIST's file of that name")


def read_or_download(path):
    """`read_file` in Keras' cache: what is missing or damaged there is downloaded, verified, and only then put in."""
    try:
        return read_file(path)
    except (FileNotFoundError, ValueError) as error:
        print(f"{str(error).rsplit(': ', 1)[0]}: downloading it.")
    try:
        packed = _download(DOWNLOAD + path.name)
        found = _verified(path.name, packed)
    except Exception as error:  # urllib, http and ssl each raise their own
        raise OSError(f"{path.name} could not be downloaded ({str(error) or 'no answer'}): go online for it.") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
            Path(unfinished, path.name).write_bytes(packed)
            Path(unfinished, path.name).replace(path)
    except OSError as error:
        print(f"{path} could not be kept ({error.strerror}): make room, or make the folder writable.")
    return found


def _download(url):
    """What is at `url`, as bytes. Opened in a thread, because looking up a name knows no time-out."""
    answer = concurrent.futures.Future()

    def ask():
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=PATIENCE))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    with answer.result(PATIENCE) as response:
        return response.read()


def arrays_of(files):
    """Images (n, 784) and labels (n,) as in `vae_helpers.Data`, of {name: decompressed bytes}: a list in its order."""
    return [
        np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).astype("float32") / 255
        if "images" in name
        else np.frombuffer(raw, np.uint8, offset=8).astype("int64")
        for name, raw in files.items()
    ]


def sample():
    """The arrays of the embedded sample: 6,000 images to train and validate, their labels, 1,000 to test, theirs."""
    return arrays_of(read_folder(SAMPLE)[1])


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def writing(path):
    """Make the folder of `path`; whatever then fails to be written is said in one sentence, as an OSError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} could not be written ({reason}): make room there, or make it writable.") from None


@contextlib.contextmanager
def whole_files(*paths):
    """Names to write to, a list. They become `paths` when all is written; never half a file, and never old with new.

    Raises:
        OSError: they could not be written. Then nothing has changed (on Windows, if no program holds one of them open).
    """
    names = [path.with_name(f".{os.getpid()}.{path.name}") for path in paths]
    try:
        with writing(paths[0]):
            yield names
            for path in paths:
                if path.is_dir():  # found before the first of them is replaced
                    raise IsADirectoryError(None, f"{path.name} is a folder")
            for path in paths[1:]:  # who is killed among these lines finds one missing, which is said
                path.unlink(missing_ok=True)
            for name, path in zip(names, paths):
                name.replace(path)
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                name.unlink()


def write_text(path, text):
    """Write a text file whole or not at all."""
    with whole_files(path) as [name]:
        name.write_text(text, encoding="utf-8")
