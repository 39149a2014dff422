"""Claims of vae_helpers.fit: the numbers of model.fit, whatever the model; callbacks; the hand-over to Keras."""

import keras
import numpy as np
import pytest
import test_resume

import vae_helpers as vh

X = np.random.default_rng(0).uniform(size=(300, 784)).astype("float32") ** 3
X_VAL = X[:70]


@pytest.fixture
def float64():
    for kind in ("float64", "float32"):
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(kind)
        if kind == "float64":
            yield


class FixedNoise(keras.layers.Layer):
    """Draws the same codes wherever it runs: XLA's random numbers differ from TensorFlow's own."""

    def call(self, inputs):
        z_mean, z_log_var = inputs
        return z_mean + keras.ops.exp(0.5 * z_log_var) * np.sin(np.arange(10)).astype(
            keras.config.floatx()
        )


def model_of(kind, **compile_options):
    keras.utils.set_random_seed(5)
    if kind == "autoencoder":
        model = vh.build_autoencoder()
        model.compile(optimizer="adam", loss="mse", **compile_options)
    else:
        model = vh.VAE(vh.build_encoder(), vh.build_decoder(), seed=3)
        if kind == "vae, noise fixed":
            model.sampling = FixedNoise()
        model.compile(optimizer="adam", loss="mse", metrics=["mse"], **compile_options)
    return model


def histories(kind, x, epochs, **compile_options):
    """The histories of both ways, in the same order of images."""
    options = dict(
        epochs=epochs,
        batch_size=128,
        validation_data=(X_VAL, X_VAL),
        shuffle=False,
        verbose=0,
    )
    ours = vh.fit(model_of(kind), x, x, **options).history
    keras_own = model_of(kind, **compile_options).fit(x, x, **options).history
    assert list(ours) == list(keras_own)
    return ours, keras_own


@pytest.mark.parametrize(
    "kind, jit", [("autoencoder", False), ("vae, noise fixed", False), ("vae", True)]
)
def test_fit_gives_the_history_of_keras_fit_in_float64(kind, jit, float64):
    ours, keras_own = histories(
        kind, X, epochs=3, jit_compile=jit
    )  # 300 = 128 + 128 + 44
    for name in ours:
        np.testing.assert_allclose(ours[name], keras_own[name], rtol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    "kind, jit",
    [
        ("autoencoder", False),
        ("vae, noise fixed", False),
        pytest.param("vae", True, marks=pytest.mark.slow),
    ],
)
def test_fit_gives_the_history_of_keras_fit_in_float32_over_ten_steps(kind, jit):
    ours, keras_own = histories(kind, X[:292], epochs=3, jit_compile=jit)  # 9 steps
    for name in ours:
        # Rounding, 6e-8 at first, grows from step to step.
        np.testing.assert_allclose(ours[name], keras_own[name], rtol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "kind", [pytest.param("autoencoder", marks=pytest.mark.slow), "vae"]
)
def test_the_same_seed_gives_the_same_weights_to_the_bit(kind):
    def weights():
        model = model_of(kind)
        vh.fit(model, X, X, epochs=2, verbose=0)
        return model.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(), weights()))


def test_epochs_shuffle_differently_and_every_image_is_used_once():
    class Sum(keras.Model):
        """A model whose loss weighs the images by their place in the epoch."""

        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(
                1, use_bias=False, kernel_initializer="ones"
            )
            self.place = self.add_weight(shape=(), initializer="zeros", trainable=False)
            self.total = keras.metrics.Sum(name="total")
            self.placed = keras.metrics.Sum(name="placed")

        def call(self, x):
            return self.layer(x)

        def compute_loss(
            self, x=None, y=None, y_pred=None, sample_weight=None, training=True
        ):
            self.place.assign_add(1.0)
            self.total.update_state(x)
            self.placed.update_state(self.place * keras.ops.sum(x))
            return 0.0 * keras.ops.sum(y_pred)

    keras.utils.set_random_seed(0)
    model = Sum()
    model.compile(optimizer="sgd")
    numbers = np.arange(50, dtype="float32")[:, None]
    history = vh.fit(model, numbers, numbers, epochs=2, batch_size=8, verbose=0).history
    assert history["total"] == [numbers.sum()] * 2
    assert len(set(history["placed"])) == 2
    assert history["placed"][0] != sum((i // 8 + 1) * i for i in range(50))


def test_a_model_with_targets_and_without_validation():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile(
        optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    labels = (X.mean(axis=1) * 1e4).astype("int64") % 3
    history = vh.fit(model, X, labels, epochs=3, verbose=0)
    assert isinstance(history, keras.callbacks.History)
    assert sorted(history.history) == ["accuracy", "loss"]
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.slow
def test_a_model_of_rows_of_any_length():
    model = keras.Sequential(
        [keras.Input((None, 28)), keras.layers.Conv1D(3, 2), keras.layers.Dense(28)]
    )
    model.compile(optimizer="adam", loss="mse")
    rows = X[:50].reshape(50, 28, 28)
    assert np.isfinite(
        vh.fit(model, rows, rows[:, 1:], epochs=1, verbose=0).history["loss"][0]
    )


@pytest.mark.slow
def test_one_image_more_or_fewer_than_a_batch():
    for number in (1, 127, 128, 129):
        model = model_of("autoencoder")
        history = vh.fit(model, X[:number], X[:number], epochs=1, verbose=0).history
        assert np.isfinite(history["loss"][0])


def test_callbacks_that_act_at_epochs_work(tmp_path):
    model = model_of("vae")
    rates, weights = [], []
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}.weights.h5", save_weights_only=True
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.EarlyStopping("val_loss", patience=0, mode="max"),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: model.kl_weight.assign(0.25 * epoch),
            on_epoch_end=lambda epoch, logs: (
                rates.append(float(model.optimizer.learning_rate)),
                weights.append((logs["loss"] - logs["reconstruction"]) / logs["kl"]),
            ),
        ),
    ]
    history = vh.fit(
        model,
        X,
        X,
        epochs=9,
        validation_data=(X_VAL, X_VAL),
        callbacks=callbacks,
        verbose=0,
    )
    assert (
        len(history.history["loss"]) == 2
    )  # EarlyStopping: the loss ought to rise, and does not
    callbacks.pop(3)
    vh.fit(
        model,
        X,
        X,
        epochs=3,
        validation_data=(X_VAL, X_VAL),
        callbacks=callbacks,
        verbose=0,
    )
    assert rates == pytest.approx([1e-3 / 2**k for k in (1, 2, 3, 4, 5)])
    assert weights == pytest.approx(
        [0, 0.25, 0, 0.25, 0.5], abs=1e-3
    )  # the KL schedule reaches the compiled step
    assert (tmp_path / "3.weights.h5").is_file() and len(
        (tmp_path / "log.csv").read_text().splitlines()
    ) == 4


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path):
    def run(epochs, callbacks):
        model = test_resume.tiny()
        model(keras.Input((784,)))
        vh.fit(
            model,
            X,
            X,
            epochs=epochs,
            validation_data=(X_VAL, X_VAL),
            callbacks=callbacks,
            verbose=0,
        )
        return model.get_weights()

    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    undisturbed = run(4, [])
    with pytest.raises(KeyboardInterrupt):
        run(4, [backup(), Killed()])
    resumed = run(4, backup())  # one callback, or a list of them
    assert all(np.array_equal(a, b) for a, b in zip(undisturbed, resumed))


def test_progress_shows_epoch_losses_and_time_left(capsys):
    vh.fit(model_of("autoencoder"), X, X, epochs=2, validation_data=(X_VAL, X_VAL))
    printed = capsys.readouterr().out
    assert (
        "epoch 1/2  loss 0." in printed
        and "val_loss 0." in printed
        and " left" in printed
    )


class EveryBatch(keras.callbacks.Callback):
    seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1


def test_what_does_not_fit_is_handed_over_and_said_once(capsys, tmp_path):
    every = EveryBatch()
    every_second = keras.callbacks.ModelCheckpoint(
        tmp_path / "m.weights.h5", save_weights_only=True, save_freq=2
    )
    handed_over = [
        ({}, dict(callbacks=[every])),
        ({}, dict(callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)])),
        ({}, dict(callbacks=[every_second])),
        ({}, dict(validation_split=0.1)),
        (dict(run_eagerly=True), {}),
    ]  # fmt: skip
    for compile_options, options in handed_over:
        history = vh.fit(
            model_of("autoencoder", **compile_options),
            X,
            X,
            epochs=1,
            verbose=0,
            **options,
        ).history
        printed = capsys.readouterr().out
        assert (
            printed.count("Training with Keras' own fit") == 1
            and len(history["loss"]) == 1
        )
    assert every.seen == 3


def test_a_distribution_strategy_is_handed_over(capsys):
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        model = model_of("autoencoder")
    vh.fit(model, X, X, epochs=1, verbose=0)
    assert "shares the work between devices" in capsys.readouterr().out


@keras.saving.register_keras_serializable()
class Strings(keras.layers.Layer):
    """XLA has no strings."""

    def call(self, x):
        import tensorflow as tf

        return x + tf.strings.to_number(tf.strings.as_string(tf.reduce_sum(x) * 0))


def test_a_model_that_xla_cannot_compile_is_handed_over(capsys):
    model = keras.Sequential([keras.Input((784,)), Strings(), keras.layers.Dense(784)])
    model.compile(optimizer="adam", loss="mse", jit_compile=False)
    history = vh.fit(model, X, X, epochs=2, verbose=0).history
    assert (
        capsys.readouterr().out.count("XLA cannot compile this model") == 1
        and len(history["loss"]) == 2
    )


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match="Compile the model first"):
        vh.fit(vh.build_autoencoder(), X, X, epochs=1)
