"""Under pytest the chapters run in quick mode, on the embedded sample: no network, no training worth the name."""

import os
from pathlib import Path

# Whatever the reader has set: a test must neither train in full nor touch the results of a full run.
os.environ["VAE_COURSE_QUICK"] = "1"
os.environ["FASHION_MNIST_DIR"] = str(Path(__file__).parent / "data")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two chapters at a time would get in each other's way
