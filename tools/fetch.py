"""Get Fashion-MNIST before a run, if it is not here yet.

usage: python -m tools.fetch

Looks where the course looks: Debian's package, Keras' cache, a download. If none has
the full data, this is Debian or Ubuntu, and the user is root, the system package
dataset-fashion-mnist is installed with apt-get. Otherwise the course uses its sample.
"""

import contextlib
import os
import shutil
import subprocess
import sys

from course.data import DEBIAN, find_files, quick_mode, read_folder

INSTALL = (
    ["apt-get", "-qq", "update"],
    "apt-get -qq install -y --no-install-recommends dataset-fashion-mnist".split(),
)


def may_install():
    """Whether this is root on a system that has apt-get."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and shutil.which("apt-get") is not None


def main():
    """Look for the full data; install them where that is possible and needed."""
    if os.environ.get("FASHION_MNIST_DIR") or quick_mode():
        return
    with contextlib.suppress(OSError, ValueError):
        read_folder(DEBIAN)
        return
    print("Looking for Fashion-MNIST: if it is missing, it is downloaded.", flush=True)
    with contextlib.redirect_stdout(None):  # the run itself reports what it finds
        kind, _ = find_files()
    if kind == "sample" and may_install():
        print(
            "Only the sample is here. Installing the system package "
            "dataset-fashion-mnist with apt-get, for the full data.",
            flush=True,
        )
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in INSTALL:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    command, stdout=subprocess.DEVNULL, env=environment, timeout=300
                )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nInterrupted.")
