"""Make the embedded sample of Fashion-MNIST from the full files.

usage: python -m tools.make_sample FOLDER
           for example /usr/share/datasets/fashion-mnist

Writes four .gz files to course/assets/sample, with 600 training and 100 test images of
each class, and prints the SHA-256 of their content for `course.data.SHA256`. Of the
training images of a class, the first 550 come from the training images of the full data
(the first 55,000) and the last 50 from its validation images: models that were trained
on the full data have not seen the sample's validation images either.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

from course import SAMPLE
from course.data import read_folder
from course.files import atomic_write


def stratified(labels, first, last, per_class, rng):
    """Indices from first to last - 1 of `per_class` images of each class, shuffled."""
    classes = [np.flatnonzero(labels[first:last] == c) for c in range(10)]
    chosen = [first + rng.choice(part, per_class, replace=False) for part in classes]
    return rng.permutation(np.concatenate(chosen))


def main(folder):
    kind, files = read_folder(Path(folder))
    if kind != "full":
        sys.exit(f"{folder} holds only the sample: name a folder with the full data.")
    rng, contents = np.random.default_rng(0), {}
    for split in ("train", "t10k"):
        names = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        images = np.frombuffer(files[names[0]], np.uint8, offset=16).reshape(-1, 784)
        labels = np.frombuffer(files[names[1]], np.uint8, offset=8)
        if split == "train":
            parts = (0, 55_000, 550), (55_000, 60_000, 50)
            index = np.concatenate([stratified(labels, *part, rng) for part in parts])
        else:
            index = stratified(labels, 0, 10_000, 100, rng)
        size = len(index).to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        contents[names[0]] = (
            bytes([0, 0, 8, 3]) + size + side + side + images[index].tobytes()
        )
        contents[names[1]] = bytes([0, 0, 8, 1]) + size + labels[index].tobytes()
    with atomic_write(*(SAMPLE / name for name in contents)) as unfinished:
        for path, content in zip(unfinished, contents.values()):
            path.write_bytes(gzip.compress(content, 9, mtime=0))
    for name, content in contents.items():
        print(f'"{name}": "{hashlib.sha256(content).hexdigest()}",')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except (OSError, ValueError) as error:
        sys.exit(str(error))
