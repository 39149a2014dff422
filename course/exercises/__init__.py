"""The checks of exercises.ipynb, a module for each chapter.

`exercises.NAME(answer)` prints "right: ..." and what has been shown, "not yet: ...", or
"not answered yet". A check runs the answer on inputs of its own and compares the result
with the right one and with what common mistakes give. How the answer is written does
not matter: NumPy, keras.ops or TensorFlow; arrays, lists or single numbers; (n,) or
(n, 1). Where a bug has to be found, the first verdict gives no hint.
"""

from course.exercises.common import VERDICTS, load_reference, summary  # noqa: F401

from course.exercises.chapter_01 import *  # noqa: F403  isort: skip
from course.exercises.chapter_02 import *  # noqa: F403  isort: skip
from course.exercises.chapter_03 import *  # noqa: F403  isort: skip
from course.exercises.chapter_04 import *  # noqa: F403  isort: skip
from course.exercises.chapter_05 import *  # noqa: F403  isort: skip
from course.exercises.chapter_06 import *  # noqa: F403  isort: skip
from course.exercises.chapter_07 import *  # noqa: F403  isort: skip
