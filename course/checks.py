"""What `fit` refuses before it trains: data and models that train to nonsense."""

import operator

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course.checkpoints import noise_states, restore, snapshot


def is_array(x):
    """Whether x is an array or a dense tensor of numbers, with one axis or more."""
    if keras.ops.is_tensor(x) and hasattr(x, "numpy"):
        x = x.numpy()
    return isinstance(x, np.ndarray) and x.dtype.kind in "fiub" and x.ndim > 0


def is_vae(model):
    """Whether a model has the parts of `vae_helpers.VAE`."""
    return all(hasattr(model, part) for part in ("encoder", "decoder", "kl_weight"))


def check_data(model, x, y, validation_data):
    """Refuse data that XLA or Keras would accept silently, and train to nonsense.

    Looks at arrays only. Nothing is consumed: generators and data sets go unchecked.

    Raises:
        ValueError: see `fit`.
    """
    _check_pair(model, x, y, "")
    if is_array(validation_data):
        raise ValueError("validation_data must be a pair of arrays, (x, y).")
    if isinstance(validation_data, (tuple, list)):
        x_val, y_val = (*validation_data, None, None)[:2]
        _check_pair(model, x_val, y_val, " of validation_data")


def _check_pair(model, x, y, where):
    if not is_array(x):
        return
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x{where} must be finite numbers, of one image or more.")
    takes, rows = _shape(model, "input"), np.shape(x)[1:]
    if takes and _without_ones(takes) != _without_ones(rows):
        raise ValueError(f"x{where} must have rows of the shape {takes}, not {rows}.")
    loss = "binary_crossentropy" if is_vae(model) else _loss_name(model)
    if y is None and loss:
        raise ValueError(f"y{where} is missing: give the targets, fit(x, y).")
    if not is_array(y):
        return
    if len(y) != len(x) or not np.isfinite(y).all():
        raise ValueError(f"y{where} must be finite numbers, as many rows as x has.")
    gives, rows = _shape(model, "output"), np.shape(y)[1:]
    low, high = np.min(y), np.max(y)
    if "sparse" in loss:
        last = gives[-1] - 1 if gives else np.inf
        if not 0 <= low <= high <= last:
            raise ValueError(f"y{where} must be classes from 0 to {last}.")
        return
    if "crossentropy" in loss and not -1e-6 <= low <= high <= 1 + 1e-6:  # rounding
        raise ValueError(
            f"y{where} must be from 0 to 1, where a cross-entropy has a meaning: "
            "divide pixels from 0 to 255 by 255."
        )
    if is_vae(model):
        gives = _decoded_shape(model, x, where)
    if gives and loss and _without_ones(gives) != _without_ones(rows):
        raise ValueError(f"y{where} must have rows of the shape {gives}, not {rows}.")


def _decoded_shape(model, x, where):
    """The shape of a VAE's output without the batch; refuses one that leaves [0, 1]."""
    noise = snapshot(noise_states(model))
    try:
        x_hat = np.asarray(model(x[:32], training=False))
    except Exception as error:
        raise ValueError(
            f"The VAE cannot be called on x{where}: its encoder must return z_mean and "
            "z_log_var, codes of the length that its decoder takes "
            f"({first_line(error)})."
        ) from None
    finally:
        restore(noise)
    low, high = x_hat.min(), x_hat.max()
    if not -1e-3 <= low <= high <= 1 + 1e-3:
        raise ValueError(
            "The decoder's output must lie in [0, 1], and goes from "
            f"{low:.3g} to {high:.3g}: end it with activation='sigmoid'."
        )
    return x_hat.shape[1:]


def integer(name, value, lowest=1):
    """An argument as an integer.

    Raises:
        ValueError: it is none, or below `lowest`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if number < lowest:
        raise ValueError(f"{name} must be an integer of {lowest} or more, not {value}.")
    return number


def first_line(error):
    """The first line of an error's message, at most 99 characters of it."""
    return str(error).strip().partition("\n")[0][:99]


def _shape(model, end):
    """The shape of a model's only input or output without the batch, or None."""
    try:
        shape = getattr(model, f"{end}_shape", None)
    except ValueError:  # not built yet
        return None
    is_known = isinstance(shape, tuple) and all(type(n) is int for n in shape[1:])
    return shape[1:] if is_known else None


def _without_ones(shape):
    return [n for n in shape if n != 1]


def _loss_name(model):
    """The name of Keras' own loss, as a function's; "" for others, or several."""
    loss = model.loss
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)  # a loss object wraps a function
    name = getattr(function, "__name__", "")
    is_keras = str(getattr(function, "__module__", "")).startswith("keras.")
    # The targets of ctc and circle have other shapes.
    return name if is_keras and name not in ("ctc", "circle") else ""
