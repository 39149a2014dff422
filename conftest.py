"""Under pytest everything runs in quick mode, on the embedded sample, without a network."""

import os
from pathlib import Path

# Whatever the reader has set: a test must neither train in full nor touch the results of a full run.
os.environ["VAE_COURSE_QUICK"] = "1"
os.environ["FASHION_MNIST_DIR"] = str(
    Path(__file__).parent / "course" / "assets" / "sample"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes at a time would compete
