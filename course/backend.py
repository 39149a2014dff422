"""Import Keras on the TensorFlow backend, without the messages that TensorFlow prints.

Import this module before Keras: it settles which backend Keras runs on. It is the
reason why modules of the course that need Keras import this one first.
"""

import contextlib
import os

# Colab and some readers have another backend set.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextlib.contextmanager
def _discarded_stderr():
    """Discard what the process writes to stderr, for as long as the context lasts.

    TensorFlow prints there (no GPU, oneDNN, ...) before any of its settings can stop
    it, and notebooks would store the messages. TF_CPP_MIN_LOG_LEVEL=0 shows them.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        yield
        return
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as null_device:
            os.dup2(null_device.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def has_xla():
    """Whether TensorFlow compiles by XLA on this device; a tiny function tells."""
    try:
        _one_by_xla(tf.zeros(1))
    except tf.errors.OpError:
        return False
    return True


with _discarded_stderr():
    try:
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            _one_by_xla = tf.function(lambda zero: zero + 1, jit_compile=True)
            has_xla()  # here, because it prints when called for the first time
    except (ImportError, ValueError) as error:
        name, first_line = os.environ["KERAS_BACKEND"], str(error).partition("\n")[0]
        raise ImportError(
            f"Keras cannot run on {name} here ({first_line}): install what "
            "requirements.txt lists, set KERAS_BACKEND=tensorflow, start Python again."
        ) from error

# The course's results were computed with Keras' defaults.
for setting, value in {
    "floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"
}.items():  # fmt: skip
    found = getattr(keras.config, setting)()
    if found != value:
        getattr(keras.config, f"set_{setting}")(value)
        print(f"Keras' {setting} was {found}; the course sets it to {value}.")
if keras.backend.backend() != "tensorflow":
    print(
        f"Keras runs on {keras.backend.backend()}. The chapters need TensorFlow: "
        "set KERAS_BACKEND=tensorflow and restart the kernel."
    )
