"""Write files whole or not at all. Needs neither Keras nor TensorFlow."""

import contextlib
import os


@contextlib.contextmanager
def write_errors(path):
    """Make the folder of `path`. If anything inside then fails, name the file.

    Raises:
        OSError: with one sentence that says which file, why, and what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{path} could not be written ({reason}): "
            "free some disk space, or check the permissions of the folder."
        ) from error


@contextlib.contextmanager
def atomic_write(*paths):
    """Temporary paths to write to, a list. When the context ends, they become `paths`.

    No file is ever half-written, and no new file stands beside an old one: a process
    that is killed while it replaces several files leaves one of them missing.

    Raises:
        OSError: they could not be written. Then nothing has changed
            (on Windows, if no other program has one of them open).
    """
    names = [path.with_name(f".{os.getpid()}.{path.name}") for path in paths]
    try:
        with write_errors(paths[0]):
            yield names
            for path in paths[1:]:
                path.unlink(missing_ok=True)
            for name, path in zip(names, paths):
                name.replace(path)
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                name.unlink()


def write_text(path, text):
    """Write a UTF-8 text file, whole or not at all, with line ends as on Linux."""
    with atomic_write(path) as [name]:
        name.write_text(text, encoding="utf-8", newline="\n")
