"""The checks of exercises.ipynb, a module for each chapter.

`exercises.NAME(answer)` prints "right: ..." and what has been shown, "not yet: ...", or
"not answered yet". A check runs the answer on inputs of its own and compares the result
with the right one and with what common mistakes give. How the answer is written does
not matter: NumPy, keras.ops or TensorFlow; arrays, lists or single numbers; (n,) or
(n, 1). Where a bug has to be found, the first verdict gives no hint.
"""

# ruff: noqa: F401, I001

from course.exercises.common import VERDICTS, load_reference, summary  # before Keras
from course.exercises.chapter_01 import grey_card, other_data
from course.exercises.chapter_02 import parameters, prune
from course.exercises.chapter_03 import (
    kl_by_hand, which_beta, loss, log_sigma, sampling_layer, validation, training_flag,
    clinic, conditional, train_patients,
)  # fmt: skip
from course.exercises.chapter_04 import inside_ball, new_garments, pairs
from course.exercises.chapter_05 import detector, bound, refine, anomaly_score, likeness
from course.exercises.chapter_06 import rows, fool, few_labels
from course.exercises.chapter_06 import mystery_rows, samples, scores
from course.exercises.chapter_07 import velocity, straight_paths, on_request
