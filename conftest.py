"""Under pytest, everything runs in quick mode, on the sample, without a network.

`pytest --nbval notebooks/01_data.ipynb`, named by a reader on the command line, runs as
the reader's shell says: in full, on the full data.
"""

import contextlib
import importlib.metadata
import os
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "course" / "assets" / "sample"

if "--nbval" not in sys.argv:
    # Set whatever the reader's shell sets: a test must neither train in full nor change
    # the results of a full run.
    os.environ["VAE_COURSE_QUICK"] = "1"
    os.environ["FASHION_MNIST_DIR"] = str(SAMPLE)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes would compete

# Much of the time goes into compiling models that then train for a second. Without
# optimisation, XLA compiles a small one in a third to a half of the time. Full runs
# compile as readers' do.
if "--nbval" not in sys.argv and "XLA_FLAGS" not in os.environ:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        flags = "--xla_backend_optimization_level=0"
        # TensorFlow ends at a flag that it does not know, as other versions might.
        if importlib.metadata.version("tensorflow").startswith("2.21."):
            flags += " --xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] = flags


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """With TWICE=1, run each code cell of a chapter twice in a row, as a reader may.

    Not those that train several models: their tag is "train-several".
    """
    result = yield
    if os.environ.get("TWICE") and item.nodeid.startswith("notebooks/0"):
        if "train-several" not in item.cell.metadata.get("tags", []):
            item.runtest()
    return result
