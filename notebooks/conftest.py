"""Under pytest the chapters run in quick mode, on the embedded sample: no network, no training worth the name."""

import os
from pathlib import Path

os.environ.setdefault("VAE_COURSE_QUICK", "1")
os.environ.setdefault("FASHION_MNIST_DIR", str(Path(__file__).parent / "data"))
