"""What stands behind the chapters. A reader needs none of it to follow the course."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"  # what the reader's own runs leave behind
ASSETS = ROOT / "course" / "assets"
SAMPLE = ASSETS / "sample"  # a part of Fashion-MNIST
REFERENCE = ASSETS / "models"  # trained by the course's own full run
EXPERIMENTS = ASSETS / "experiments.json"  # all trained seeds, and the expected ranges

if os.path.expanduser("~") == "~":  # no home: Keras would make a folder of that name
    os.environ.setdefault("KERAS_HOME", os.path.join(tempfile.gettempdir(), "keras"))
