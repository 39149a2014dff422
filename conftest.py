"""Under pytest, everything runs in quick mode, on the sample, without a network."""

import os
from pathlib import Path

SAMPLE = Path(__file__).parent / "course" / "assets" / "sample"

# Set whatever the reader's shell sets: a test must neither train in full nor change the
# results of a full run.
os.environ["VAE_COURSE_QUICK"] = "1"
os.environ["FASHION_MNIST_DIR"] = str(SAMPLE)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes at a time would compete
