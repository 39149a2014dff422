"""Say in one sentence if this Python cannot run the course, before anything is installed.

usage: python -m tools.check_python

Old Pythons must be able to run this file, so it uses nothing new. What is checked is
whether TensorFlow publishes a wheel that the course can use; pip would name a package,
not the reason.
"""

import platform
import sys

LOWEST, HIGHEST = (3, 11), (3, 13)


def fault():
    """Why TensorFlow has no wheel for this Python, or None."""
    system, machine = platform.system(), platform.machine().lower()
    if not LOWEST <= sys.version_info[:2] <= HIGHEST:
        return "Python " + ".".join(map(str, sys.version_info[:2]))
    if sys.maxsize < 2**32:
        return "Python of 32 bits"
    if system == "Darwin" and machine != "arm64":
        return "macOS on Intel (or an Intel Python)"
    if system == "Windows" and machine == "arm64":
        return "Windows on ARM"
    if system == "Linux" and platform.libc_ver()[0] != "glibc":
        return "Linux without glibc"
    return None


if __name__ == "__main__":
    if fault():
        sys.exit(
            "There is no TensorFlow for " + fault() + ": install Python 3.11, 3.12 or "
            "3.13 (64 bits) for Linux with glibc, macOS on Apple silicon or Windows on "
            "x86-64, and use it (`make PYTHON=python3.12 run`)."
        )
