"""What vae_helpers.fit takes and refuses: arguments, targets, models of any kind."""

import itertools

import keras
import numpy as np
import pytest
from test_fit import (
    OWN_FIT,
    PIXELS,
    SMALL,
    WithFixedNoise,
    X,
    agree,
    both,
    compiled_dense,
    dense,
    fit,
    small_encoder,
    small_vae,
)

import vae_helpers as vh

# ---------------------------------------------------------------- arguments


def batches(taken, endless=True):
    for _ in itertools.count() if endless else range(3):
        taken.append(1)
        yield SMALL[:4], SMALL[:4]


def test_generators_are_left_to_keras_and_not_consumed_before(capsys):
    taken = []
    history = fit(compiled_dense(), validation_data=batches(taken), validation_steps=2)
    assert len(history["val_loss"]) == 2 and len(taken) < 20
    assert capsys.readouterr().out.startswith(OWN_FIT)
    taken.clear()
    training_data = dict(y=None, batch_size=None, steps_per_epoch=3)
    assert len(fit(compiled_dense(), batches(taken), **training_data)["loss"]) == 2
    assert len(taken) < 20


def test_near_right_arguments_are_taken_as_keras_takes_them(capsys):
    import tensorflow as tf

    x = tf.constant(SMALL)
    expected = fit(compiled_dense(), validation_data=(SMALL, SMALL))
    for options in (
        dict(validation_data=[SMALL, SMALL]),
        dict(validation_data=(x, x)),
        dict(batch_size=np.int64(16), epochs=np.int32(2)),
        dict(callbacks=keras.callbacks.CallbackList([keras.callbacks.Callback()])),
    ):
        options = {"validation_data": (SMALL, SMALL), **options}
        assert fit(compiled_dense(), **options) == expected
    assert fit(compiled_dense(), x, x, validation_data=(SMALL, SMALL)) == expected
    assert capsys.readouterr().out == ""
    weighted = (SMALL, SMALL, np.ones(40, "float32"))
    history = fit(compiled_dense(), validation_data=weighted)
    assert capsys.readouterr().out.startswith(OWN_FIT)
    assert history["val_loss"] != history["loss"]


@pytest.mark.parametrize(
    "options, name",
    [
        (dict(validation_data=SMALL), "validation_data"),
        (dict(validation_data=(SMALL,)), "y of validation_data"),
        (dict(validation_data=(SMALL, None)), "y of validation_data"),
        (dict(validation_data=(SMALL, SMALL[:5])), "y of validation_data"),
        (dict(validation_data=(SMALL[:, 1:], SMALL)), "x of validation_data"),
        (dict(batch_size=0), "batch_size"),
        (dict(batch_size=16.0), "batch_size"),
        (dict(epochs="two"), "epochs"),
        (dict(y=None), "y"),
        (dict(y=SMALL[:, :5]), "y"),
        (dict(y=SMALL[:5]), "y"),
        (dict(y=np.full_like(SMALL, np.nan)), "y"),
        (dict(x=np.where(SMALL > 0.5, np.inf, SMALL), y=SMALL), "x"),
        (dict(x=SMALL[:0], y=SMALL[:0]), "x"),
        (dict(x=SMALL[:, :7], y=SMALL), "x"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence_that_names_them(options, name):
    with pytest.raises(ValueError, match=rf"^{name} (must|is missing)") as refused:
        fit(compiled_dense(), **options)
    assert "\n" not in str(refused.value)


def test_what_one_program_cannot_do_is_left_to_keras_with_one_line(capsys):
    import tensorflow as tf

    weights = np.ones(40, "float32")
    for compile_options, options in [
        ({}, dict(validation_split=0.1)),
        ({}, dict(sample_weight=weights)),
        ({}, dict(steps_per_epoch=2)),
        (dict(run_eagerly=True), {}),
    ]:
        fit(compiled_dense(**compile_options), **options)
        assert capsys.readouterr().out.count(OWN_FIT) == 1
    tf.config.run_functions_eagerly(True)
    try:
        fit(compiled_dense())
    finally:
        tf.config.run_functions_eagerly(False)
    assert capsys.readouterr().out.count("functions run eagerly") == 1
    dataset = tf.data.Dataset.from_tensor_slices((SMALL, SMALL)).batch(8)
    assert len(fit(compiled_dense(), dataset, y=None, batch_size=None)["loss"]) == 2
    assert capsys.readouterr().out.count("x and y are not both arrays") == 1


def test_a_limit_on_steps_is_left_to_keras(capsys, monkeypatch):
    monkeypatch.setattr(keras.config, "max_steps_per_epoch", lambda: 1)
    fit(compiled_dense())
    assert "steps of an epoch are limited" in capsys.readouterr().out


def test_a_model_with_a_function_of_its_own_for_steps_keeps_it(capsys):
    class Own(keras.Sequential):
        def make_train_function(self, force=False):
            super().make_train_function(force)

    model = Own([keras.Input((20,)), keras.layers.Dense(20)])
    model.compile("sgd", loss="mse")
    fit(model, epochs=1)
    assert "Own has its own make_train_function" in capsys.readouterr().out


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    "options", [{}, dict(validation_split=0.1), dict(shuffle=False)]
)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_vae_refuses_pixels_from_0_to_255_before_either_way(options, dtype):
    with pytest.raises(ValueError, match=r"^y must be from 0 to 1.*divide pixels"):
        fit(small_vae(), PIXELS.astype(dtype), **options)


@pytest.mark.parametrize(
    "loss",
    [
        "binary_crossentropy",
        "BinaryCrossentropy",
        keras.losses.binary_crossentropy,
        keras.losses.BinaryCrossentropy(),
        keras.losses.BinaryFocalCrossentropy(),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    ],
)
def test_a_cross_entropy_refuses_such_targets_whatever_its_form(loss):
    for options in ({}, dict(validation_split=0.1)):
        with pytest.raises(ValueError, match=r"^y must be from 0 to 1"):
            fit(compiled_dense(loss), SMALL, PIXELS, **options)
    with pytest.raises(ValueError, match=r"^y of validation_data must be from 0 to 1"):
        fit(compiled_dense(loss), validation_data=(SMALL, PIXELS))


@pytest.mark.parametrize(
    "loss",
    ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()],
)
def test_a_class_that_the_model_does_not_have_is_refused(loss):
    model = dense(3, activation="softmax")
    model.compile("adam", loss=loss)
    for classes in (np.arange(40), np.arange(40) % 3 - 1):
        with pytest.raises(ValueError, match="^y must be classes from 0 to 2"):
            fit(model, SMALL, classes)


def test_what_is_no_target_may_have_any_range():
    assert np.isfinite(fit(compiled_dense("mse"), PIXELS)["loss"]).all()
    vae = small_vae(small_encoder(keras.layers.Rescaling(1 / 255)))
    assert np.isfinite(fit(vae, PIXELS, SMALL)["loss"]).all()


# ---------------------------------------------------------------- other models


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """An encoder without a shape until it is called."""

    def __init__(self):
        keras.utils.set_random_seed(2)
        super().__init__()
        self.z_mean, self.z_log_var = keras.layers.Dense(2), keras.layers.Dense(2)

    def call(self, x):
        return self.z_mean(x), self.z_log_var(x)


def test_a_subclassed_encoder_trains(capsys):
    agree(*both(lambda: small_vae(Subclassed(), kind=WithFixedNoise)))
    assert capsys.readouterr().out == ""


def unbuilt():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(20, activation="sigmoid")])
    model.compile("adam", loss="mse")
    return model


def embedding():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Embedding(30, 4), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((20,)), *layers, keras.layers.Dense(20)])
    model.compile("adam", loss="mse")
    return model


def rescaling():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Dense(20)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    model.compile("adam", loss="mse")
    return model


@pytest.mark.parametrize(
    "build, x",
    [
        (unbuilt, SMALL),
        (embedding, (SMALL * 29).astype("int32")),
        (rescaling, PIXELS.astype("uint8")),
    ],
)
def test_what_keras_trains_fit_trains(build, x, capsys):
    agree(*both(build, x, SMALL, validation_data=(x, SMALL)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("activation", [None, "tanh"])
def test_a_decoder_that_leaves_0_to_1_is_named(activation):
    with pytest.raises(
        ValueError, match=r"decoder's output must lie in \[0, 1\].*sigm"
    ):
        fit(small_vae(activation=activation))


def test_parts_of_a_vae_that_do_not_fit_are_named():
    image = keras.Input((20,))
    one_output = keras.Model(image, keras.layers.Dense(2)(image))
    five = [keras.layers.Dense(5)(image) for _ in range(2)]
    for encoder in (one_output, keras.Model(image, five)):
        with pytest.raises(ValueError, match="^The VAE cannot be called on x: its enc"):
            fit(small_vae(encoder))
    with pytest.raises(ValueError, match="^The VAE cannot be called on x"):
        fit(small_vae(), SMALL.reshape(40, 5, 4), SMALL)


def test_checking_a_vae_draws_no_noise():
    vae, other = small_vae(), small_vae()
    with pytest.raises(ValueError, match="y must"):
        vh.fit(vae, SMALL, SMALL[:, 1:], verbose=0)
    histories = []
    for model in (vae, other):
        keras.utils.set_random_seed(9)  # of the order of images
        histories.append(fit(model))
    assert histories[0] == histories[1]


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match="Compile the model first"):
        vh.fit(vh.build_autoencoder(), X, X, epochs=1)
