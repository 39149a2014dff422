"""Pages for a browser: the map of garments (page.py), a VAE that learns (train.py)."""

import re
from pathlib import Path

from course.files import write_text

PARTS = Path(__file__).parent


def write_page(path, template, **parts):
    """Write a file of this folder with its {{names}} filled in; returns the path.

    A name is that of one of the `parts`, or of another file of this folder.
    """

    def read(name):
        return (PARTS / name).read_text(encoding="utf-8")

    def fill(match):
        name = match[1]
        return parts[name] if name in parts else read(name)

    write_text(Path(path), re.sub(r"{{([\w.]+)}}", fill, read(template)))
    return Path(path)
