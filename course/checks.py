"""What `fit` refuses before it trains: data and models that train to nonsense."""

import operator

from course import backend  # noqa: F401  isort: skip  (before Keras)

import keras
import numpy as np

from course.checkpoints import noise_states


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
    _check_pair(model, x, y, "x", "y")
    if is_array(validation_data):
        raise ValueError("validation_data must be a pair of arrays, (x, y).")
    if isinstance(validation_data, (tuple, list)) and validation_data:
        x_val, y_val = (*validation_data, None)[:2]
        if len(validation_data) > 3 or (is_array(y) and y_val is None):
            raise ValueError(
                "validation_data must be a pair of arrays, (x, y), "
                "or (x, y, sample_weight)."
            )
        _check_pair(model, x_val, y_val, "x of validation_data", "y of validation_data")
    if is_vae(model) and is_array(x):
        _check_vae(model, x, y)


def _check_pair(model, x, y, x_name, y_name):
    if not is_array(x):
        return
    takes, gives = _shape(model, "input"), _shape(model, "output")
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"{x_name} must be finite numbers, of one image or more.")
    if takes and _without_ones(takes) != _without_ones(np.shape(x)[1:]):
        raise ValueError(
            f"{x_name} must have the shape (n, {_text(takes)}) that the model takes, "
            f"not {np.shape(x)}."
        )
    loss = _loss_name(model)
    if y is None and (is_vae(model) or loss):
        raise ValueError(f"{y_name} is missing: give the targets, fit(x, y).")
    if y is None or not hasattr(y, "shape"):
        return
    if not is_array(y) or len(y) != len(x) or not np.isfinite(y).all():
        raise ValueError(f"{y_name} must be finite numbers, as many rows as x has.")
    low, high = np.min(y), np.max(y)
    if "sparse" in loss:
        if low < 0 or (gives and high >= gives[-1]):
            last = f" to {gives[-1] - 1}" if gives else ""
            raise ValueError(f"{y_name} must be classes from 0{last}.")
        return
    if is_vae(model) or "crossentropy" in loss:
        if not -1e-6 <= low <= high <= 1 + 1e-6:  # allow rounding errors
            raise ValueError(
                f"{y_name} must be from 0 to 1, where a cross-entropy has a meaning: "
                "divide pixels from 0 to 255 by 255."
            )
    if gives and loss and _without_ones(gives) != _without_ones(np.shape(y)[1:]):
        raise ValueError(
            f"{y_name} must have the shape (n, {_text(gives)}) of the model's output, "
            f"not {np.shape(y)}."
        )


def _check_vae(model, x, y):
    """Refuse a VAE whose parts do not fit, or whose decoder leaves [0, 1]."""
    seeds = noise_states(model)
    try:
        x_hat = np.asarray(model(x[:32], training=False))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:99]
        raise ValueError(
            "The VAE cannot be called on x: its encoder must return z_mean and "
            f"z_log_var, codes of the length that its decoder takes ({reason})."
        ) from None
    finally:
        for variable, value in seeds:
            variable.assign(value)
    if not -1e-3 <= x_hat.min() <= x_hat.max() <= 1 + 1e-3:
        raise ValueError(
            "The decoder's output must lie in [0, 1], and goes from "
            f"{x_hat.min():.3g} to {x_hat.max():.3g}: end it with activation='sigmoid'."
        )
    if is_array(y) and x_hat.shape[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"y must have the shape (n, {_text(x_hat.shape[1:])}) of the decoder's "
            f"output, not {np.shape(y)}."
        )


def integer(name, value, lowest=1):
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if number < lowest:
        raise ValueError(f"{name} must be an integer of {lowest} or more, not {value}.")
    return number


def _shape(model, end):
    """The shape of a model's only input or output without the batch, or None."""
    try:
        shape = getattr(model, f"{end}_shape", None)
    except ValueError:  # not built yet
        return None
    known = isinstance(shape, tuple) and all(isinstance(n, int) for n in shape[1:])
    return shape[1:] if known and len(shape) > 1 else None


def _without_ones(shape):
    return [n for n in shape if n != 1]


def _text(shape):
    return ", ".join(map(str, shape))


def _loss_name(model):
    """The name of Keras' own loss, as a function's; "" for others, or several."""
    try:
        loss = keras.losses.get(model.loss)
    except (ValueError, TypeError):
        return ""
    function = getattr(loss, "fn", loss)  # a loss object wraps a function
    if not getattr(function, "__module__", "").startswith("keras."):
        return ""
    name = getattr(function, "__name__", "")
    return "" if name in ("ctc", "circle") else name  # their targets have other shapes
