"""Import Keras on the TensorFlow backend, without the messages that TensorFlow prints.

Import this module before Keras: it settles which backend Keras runs on. It is the
reason why modules of the course that need Keras import this one first.
"""

import contextlib
import os

# Colab and some readers have another backend set.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextlib.contextmanager
def _stderr_closed():
    """Send what the process writes to stderr nowhere, for as long as the context lasts.

    TensorFlow prints there (no GPU, oneDNN, ...) before any of its settings can stop it,
    and notebooks would store the messages. TF_CPP_MIN_LOG_LEVEL=0 shows them.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with _stderr_closed():
    try:
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with contextlib.suppress(Exception):  # no XLA: `fit` will say so
                tf.function(lambda: tf.zeros(1) + 1, jit_compile=True)()
    except (ImportError, ValueError) as error:
        reason = f"Keras cannot run on {os.environ['KERAS_BACKEND']} here ({error})"
        raise ImportError(
            f"{reason}: set KERAS_BACKEND=tensorflow and start Python again."
        ) from None

keras.config.set_floatx("float32")  # whatever else keras.json says
if keras.backend.backend() != "tensorflow":
    print(
        f"Keras runs on {keras.backend.backend()}. The chapters need TensorFlow: "
        "set KERAS_BACKEND=tensorflow and restart the kernel."
    )
