"""Claims of vae_helpers.fit: Keras' numbers, callbacks and errors, whatever the model."""

import warnings

import keras
import numpy as np
import pytest
import test_resume
from course.checkpoints import training_state

import vae_helpers as vh
from course import training

X = np.random.default_rng(0).uniform(size=(300, 784)).astype("float32") ** 3
X_VAL = X[:70]
SMALL = np.ascontiguousarray(X[:40, :20])  # images of 20 pixels, for small models
PIXELS = (SMALL * 255).round()  # from 0 to 255
OWN_FIT = "Training with Keras' own fit: "


@pytest.fixture
def float64():
    for kind in ("float64", "float32"):
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(kind)
        if kind == "float64":
            yield


class FixedNoise(keras.layers.Layer):
    """Draws the same codes wherever it runs: XLA has random numbers of its own."""

    def call(self, inputs):
        z_mean, z_log_var = inputs
        noise = np.sin(np.arange(z_mean.shape[-1])).astype(keras.config.floatx())
        return z_mean + keras.ops.exp(0.5 * z_log_var) * noise


class WithFixedNoise(vh.VAE):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sampling = FixedNoise()


def model_of(kind, **compile_options):
    keras.utils.set_random_seed(5)
    if kind == "autoencoder":
        model = vh.build_autoencoder()
        model.compile(optimizer="adam", loss="mse", **compile_options)
    else:
        model = vh.VAE(vh.build_encoder(), vh.build_decoder(), seed=3)
        if kind == "vae, noise fixed":
            model.sampling = FixedNoise()
        model.compile("adam", loss="mse", metrics=["mse"], **compile_options)
    return model


def dense(units=20, **options):
    """A network of one layer for `SMALL`, not compiled."""
    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((20,)), keras.layers.Dense(units, **options)])


def compiled_dense(loss="mse", **options):
    model = dense(activation="sigmoid")
    model.compile(keras.optimizers.SGD(1e-2), loss=loss, **options)  # compiles sooner
    return model


def small_encoder(*before, inputs=20, **options):
    """An encoder of one layer for each head, after the layers `before`."""
    keras.utils.set_random_seed(2)
    image = x = keras.Input((inputs,))
    for layer in before:
        x = layer(x)
    heads = [keras.layers.Dense(2, **options)(x) for _ in range(2)]
    return keras.Model(image, heads)


def small_vae(
    encoder=None, activation="sigmoid", kind=vh.VAE, optimizer=None, **options
):
    """A compiled VAE for `SMALL` with two latent dimensions."""
    keras.utils.set_random_seed(2)
    encoder = encoder or small_encoder()
    decoder = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(20, activation=activation)]
    )
    model = kind(encoder, decoder, seed=3)
    model.compile(optimizer or keras.optimizers.SGD(1e-2), loss="mse", **options)
    return model


def fit(model, x=SMALL, y="x", epochs=2, **options):
    """The history of `vh.fit`, quietly, in batches of 16: 16 + 16 + 8."""
    options = {"batch_size": 16, "verbose": 0, **options}
    return vh.fit(
        model, x, x if isinstance(y, str) else y, epochs=epochs, **options
    ).history


def both(build, x=SMALL, y="x", **options):
    """The histories of `vh.fit` and of Keras' own fit, in the same order of images."""
    y = x if isinstance(y, str) else y
    options = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return vh.fit(build(), x, y, **options).history, build().fit(
        x, y, **options
    ).history


def agree(ours, keras_own, rtol=1e-5):
    assert list(ours) == list(keras_own)
    for name in ours:
        np.testing.assert_allclose(ours[name], keras_own[name], rtol=rtol, err_msg=name)


# ---------------------------------------------------------------- the numbers of Keras


@pytest.mark.parametrize(
    "kind, jit",
    [
        ("autoencoder", False),
        ("vae, noise fixed", False),
        pytest.param("vae", True, marks=pytest.mark.slow),
    ],
)
def test_fit_gives_the_history_of_keras_fit_in_float64(kind, jit, float64):
    options = dict(epochs=3, batch_size=128, validation_data=(X_VAL, X_VAL))
    agree(*both(lambda: model_of(kind, jit_compile=jit), X, **options), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, jit", [("autoencoder", False), ("vae, noise fixed", False), ("vae", True)]
)
def test_fit_gives_the_history_of_keras_fit_in_float32_over_ten_steps(kind, jit):
    options = dict(epochs=3, batch_size=128, validation_data=(X_VAL, X_VAL))
    # Rounding errors, 6e-8 at first, grow from step to step.
    agree(*both(lambda: model_of(kind, jit_compile=jit), X[:292], **options), rtol=2e-4)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow) for kind in ("autoencoder", "vae")]
    + ["small vae"],
)
def test_the_same_seed_gives_the_same_weights_to_the_bit(kind):
    def weights():
        small = kind == "small vae"
        model, x = (small_vae(), SMALL) if small else (model_of(kind), X)
        vh.fit(model, x, x, epochs=2, verbose=0)
        return model.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(), weights()))


def test_epochs_shuffle_differently_and_every_image_is_used_once():
    class Sum(keras.Model):
        """A model whose loss weights the images by their place in the epoch."""

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

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
            self.place.assign_add(1.0)
            self.total.update_state(x)
            self.placed.update_state(self.place * keras.ops.sum(x))
            return 0.0 * keras.ops.sum(y_pred)

    keras.utils.set_random_seed(0)
    model = Sum()
    model.compile(optimizer="sgd")
    numbers = np.arange(50, dtype="float32")[:, None]
    history = fit(model, numbers, batch_size=8)
    assert history["total"] == [numbers.sum()] * 2
    assert len(set(history["placed"])) == 2
    assert history["placed"][0] != sum((i // 8 + 1) * i for i in range(50))


def test_a_model_with_targets_trains_without_validation():
    model = dense(3, activation="softmax")
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    labels = (SMALL.mean(axis=1) * 1e4).astype("int64") % 3
    history = vh.fit(model, SMALL, labels, epochs=3, verbose=0)
    assert isinstance(history, keras.callbacks.History)
    assert sorted(history.history) == ["accuracy", "loss"]
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.slow
def test_a_model_of_rows_of_any_length_trains():
    model = keras.Sequential(
        [keras.Input((None, 28)), keras.layers.Conv1D(3, 2), keras.layers.Dense(28)]
    )
    model.compile(optimizer="adam", loss="mse")
    rows = X[:50].reshape(50, 28, 28)
    assert np.isfinite(fit(model, rows, rows[:, 1:])["loss"]).all()


@pytest.mark.parametrize("number", [1, 15, 16, 17])
def test_one_image_more_or_fewer_than_a_batch_trains(number):
    agree(*both(compiled_dense, SMALL[:number]))


# ---------------------------------------------------------------- Keras' methods


def batch_normalised():
    return small_vae(small_encoder(keras.layers.BatchNormalization()))


def test_layers_in_a_vae_are_told_that_it_trains():
    for train in (fit, lambda vae: vae.fit(SMALL, SMALL, verbose=0)):
        vae = batch_normalised()
        train(vae)
        [moving_mean, _] = vae.encoder.layers[1].non_trainable_variables
        assert np.abs(moving_mean.numpy()).max() > 1e-3
    dropped = small_vae(small_encoder(keras.layers.Dropout(0.9, seed=1)))
    one, two = (np.asarray(dropped(SMALL, training=True)) for _ in range(2))
    assert not np.allclose(one, two)


@pytest.mark.parametrize("kind", ["kernel", "activity"])
def test_penalties_of_regularisers_are_part_of_the_loss(kind):
    def build():
        factor = {"kernel": 10, "activity": 0.01}[kind]
        options = {f"{kind}_regularizer": keras.regularizers.L2(factor)}
        return small_vae(small_encoder(**options), kind=WithFixedNoise)

    vae = build()
    x_hat = vae(SMALL)
    penalty = sum(map(float, vae.losses))
    elbo_terms = vh.bernoulli_nll(SMALL, x_hat) + vae._kl
    assert penalty > 1e-4
    assert float(vae.compute_loss(SMALL, SMALL, x_hat)) == pytest.approx(
        float(np.mean(elbo_terms)) + penalty, rel=1e-5
    )
    agree(*both(build, epochs=6))
    if kind == "kernel":
        before = np.square(build().encoder.get_weights()[0]).sum()
        fit(vae, epochs=6)
        assert np.square(vae.encoder.get_weights()[0]).sum() < before


def test_sample_weights_weight_images():
    x = SMALL[:8]
    vae = small_vae()
    vae.sampling = FixedNoise()
    each = np.array([vae.evaluate(x[[i]], x[[i]], verbose=0)[0] for i in range(8)])
    weights = np.linspace(0, 2, 8, dtype="float32")
    loss = vae.evaluate(x, x, sample_weight=weights, verbose=0)[0]
    assert loss == pytest.approx(np.mean(weights * each), rel=1e-5)


# ---------------------------------------------------------------- attributes


def test_an_assigned_kl_weight_reaches_the_compiled_step():
    class Schedule(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.kl_weight = 0.3 * epoch

    for train in (fit, lambda vae, **more: vae.fit(SMALL, SMALL, verbose=0, **more)):
        vae = small_vae()
        train(vae, epochs=3, callbacks=[Schedule()])
        logs = {name: values for name, values in vae.history.history.items()}
        found = np.subtract(logs["loss"], logs["reconstruction"]) / logs["kl"]
        assert found == pytest.approx([0, 0.3, 0.6], abs=1e-3)


# ---------------------------------------------------------------- callbacks


class OnBatches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


class Inherits(OnBatches):
    pass


def with_hook(name):
    """A callback with a hook of its own in the instance; `batches` counts its calls."""
    callback = keras.callbacks.Callback()
    callback.batches = 0

    def hook(batch, logs=None):
        callback.batches += 1

    setattr(callback, name, hook)
    return callback


@pytest.mark.parametrize(
    "build",
    [
        OnBatches,
        Inherits,
        *(
            lambda name=name: with_hook(name)
            for name in ("on_batch_end", "on_train_batch_begin", "on_test_batch_end")
        ),
    ],
)
def test_hooks_of_batches_are_called_by_keras_own_fit(build, capsys):
    callback = build()
    fit(compiled_dense(), callbacks=callback, validation_data=(SMALL, SMALL))
    assert callback.batches == 6
    assert capsys.readouterr().out.count(OWN_FIT) == 1


def test_lambda_callbacks_and_keras_own_are_looked_at_by_what_they_do(capsys, tmp_path):
    path = tmp_path / "m.weights.h5"
    checkpoint, on = keras.callbacks.ModelCheckpoint, keras.callbacks.LambdaCallback
    for callback, way in [
        (on(on_train_batch_end=lambda batch, logs: None), OWN_FIT),
        (checkpoint(path, save_weights_only=True, save_freq=2), OWN_FIT),
        (keras.callbacks.TerminateOnNaN(), OWN_FIT),
        (checkpoint(path, save_weights_only=True), ""),
        (keras.callbacks.BackupAndRestore(tmp_path / "backup"), ""),
        (on(on_epoch_end=lambda epoch, logs: None), ""),
        (keras.callbacks.EarlyStopping("loss"), ""),
    ]:
        fit(compiled_dense(), callbacks=[callback])
        assert capsys.readouterr().out[: len(OWN_FIT)] == way


class Diary(keras.callbacks.Callback):
    """Writes down each hook that is called, but those of batches."""

    def __init__(self):
        super().__init__()
        self.hooks = []
        for name in dir(self):
            if name.startswith("on_") and "batch" not in name:
                setattr(self, name, lambda *given, name=name: self.hooks.append(name))


def test_every_hook_is_called_as_keras_calls_it():
    ours, keras_own = Diary(), Diary()
    options = dict(validation_data=(SMALL, SMALL), validation_freq=2, epochs=4)
    fit(compiled_dense(), callbacks=[ours], **options)
    compiled_dense().fit(SMALL, SMALL, callbacks=[keras_own], verbose=0, **options)
    assert ours.hooks == keras_own.hooks
    assert ours.hooks.count("on_test_begin") == ours.hooks.count("on_test_end") == 2


def test_a_callback_may_evaluate_predict_and_train_on_other_data():
    other = SMALL[:10] * 0.5

    class Evaluates(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.losses, self.expected = [], []

        def on_epoch_end(self, epoch, logs=None):
            self.losses.append(self.model.evaluate(other, other, verbose=0))
            error = self.model.predict(other, verbose=0) - other
            self.expected.append(np.square(error).mean())

        on_train_begin = on_epoch_end

    callback = Evaluates()
    history = fit(compiled_dense(), callbacks=callback, validation_data=(SMALL, SMALL))
    assert callback.losses == pytest.approx(callback.expected, rel=1e-5)
    assert history == fit(compiled_dense(), validation_data=(SMALL, SMALL))


def test_callbacks_know_the_number_of_steps():
    callback = keras.callbacks.Callback()
    fit(compiled_dense(), callbacks=callback, epochs=3)
    assert callback.params["steps"] == 3 and callback.params["epochs"] == 3


def test_callbacks_that_act_at_epochs_work(tmp_path):
    model = small_vae()
    rates, weights = [], []
    on_epochs = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.kl_weight.assign(0.25 * epoch),
        on_epoch_end=lambda epoch, logs: (
            rates.append(float(model.optimizer.learning_rate)),
            weights.append((logs["loss"] - logs["reconstruction"]) / logs["kl"]),
        ),
    )
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}.weights.h5", save_weights_only=True
        ),
        [keras.callbacks.CSVLogger(tmp_path / "log.csv"), on_epochs],
        keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1),
    ]
    options = dict(validation_data=(SMALL, SMALL), callbacks=callbacks)
    assert len(fit(model, epochs=9, **options)["loss"]) == 2, "EarlyStopping"
    callbacks.pop()
    fit(model, epochs=3, **options)
    assert rates == pytest.approx([1e-2 / 2**k for k in (1, 2, 3, 4, 5)])
    assert weights == pytest.approx([0, 0.25, 0, 0.25, 0.5], abs=1e-3)
    assert (tmp_path / "3.weights.h5").is_file()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_backup_and_restore_ends_where_an_undisturbed_run_does(tmp_path):
    def run(epochs, callbacks):
        model = test_resume.tiny()
        model(keras.Input((784,)))
        options = dict(validation_data=(X_VAL, X_VAL), callbacks=callbacks, verbose=0)
        vh.fit(model, X, X, epochs=epochs, **options)
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
    fit(compiled_dense(), validation_data=(SMALL, SMALL), verbose=1)
    printed = capsys.readouterr().out
    assert "epoch 1/2  loss 0." in printed
    assert "val_loss 0." in printed and " left" in printed and "took" in printed


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_half_precision_trains_with_a_loss_in_float32(policy):
    def trained(name):
        keras.config.set_dtype_policy(name)
        try:
            vae = small_vae(optimizer=keras.optimizers.Adam(1e-2))
            history = fit(vae, epochs=20, validation_data=(SMALL, SMALL))
            x_hat = vae(SMALL)
            return history, vae.compute_loss(SMALL, SMALL, x_hat).dtype
        finally:
            keras.config.set_dtype_policy("float32")

    (single, _), (half, dtype) = trained("float32"), trained(policy)
    assert dtype == "float32" and np.isfinite(half["loss"]).all()
    assert half["val_loss"][-1] == pytest.approx(single["val_loss"][-1], rel=0.05)


def test_float64_computes_the_loss_in_float64():
    keras.config.set_dtype_policy("float64")
    try:
        vae = small_vae()
        x_hat = vae(SMALL)
        assert vae.compute_loss(SMALL, SMALL, x_hat).dtype == "float64"
        assert np.isfinite(fit(vae)["loss"]).all()
    finally:
        keras.config.set_dtype_policy("float32")


# ---------------------------------------------------------------- other machines

FAULTS = [("NotFoundError", "train_step"), ("InternalError", "test_step")]
MORE_FAULTS = [
    pytest.param(fault, failing, marks=pytest.mark.slow)
    for fault in ("UnknownError", "FailedPreconditionError", "UnimplementedError")
    for failing in ("train_step", "test_step")
]


@pytest.mark.parametrize("fault, failing", FAULTS + MORE_FAULTS)
def test_a_device_without_xla_trains_with_keras_own_fit(
    fault, failing, monkeypatch, capsys
):
    import tensorflow as tf

    compile_program, diary = training._compile, Diary()

    def stand_in(step, *rest):
        program = compile_program(step, *rest)
        if step.__name__ != failing:
            return program

        def fails(*_):
            raise getattr(tf.errors, fault)(None, None, "no XLA here\nand more")

        return fails

    def build():
        return small_vae(kind=WithFixedNoise)

    options = dict(validation_data=(SMALL, SMALL), shuffle=False)
    monkeypatch.setattr(training, "_compile", stand_in)
    assert (model := build()).jit_compile is False
    model.jit_compile = True  # as Keras chooses on a GPU
    history = fit(model, callbacks=[diary], **options)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and f"({fault}: no XLA here)" in printed
    assert model.jit_compile is False
    keras_own = build().fit(SMALL, SMALL, epochs=2, batch_size=16, verbose=0, **options)
    agree(history, keras_own.history)
    assert diary.hooks.count("on_train_begin") == diary.hooks.count("on_train_end") == 1
    assert diary.hooks.count("on_epoch_begin") == diary.hooks.count("on_epoch_end") == 2


@keras.saving.register_keras_serializable()
class Strings(keras.layers.Layer):
    """XLA has no strings."""

    def call(self, x):
        import tensorflow as tf

        return x + tf.strings.to_number(tf.strings.as_string(tf.reduce_sum(x) * 0))


def test_a_model_that_xla_cannot_compile_trains_with_keras_own_fit(capsys):
    model = keras.Sequential([keras.Input((20,)), Strings(), keras.layers.Dense(20)])
    model.compile(optimizer="adam", loss="mse", jit_compile=False)
    assert len(fit(model)["loss"]) == 2
    assert capsys.readouterr().out.count("XLA cannot train this model here") == 1


def test_a_distribution_strategy_is_left_to_keras(capsys):
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        model = compiled_dense()
    fit(model)
    assert "the work is shared between devices" in capsys.readouterr().out


# ---------------------------------------------------------------- programs


@pytest.fixture
def compilations(monkeypatch):
    """The steps that were compiled, in order."""
    compile_program, steps = training._compile, []

    def counted(step, *rest):
        steps.append(step.__name__)
        return compile_program(step, *rest)

    monkeypatch.setattr(training, "_compile", counted)
    return steps


def test_a_second_call_does_not_compile(compilations):
    vae = small_vae()
    options = dict(epochs=1)
    fit(vae, validation_data=(SMALL, SMALL), **options)
    assert compilations == ["train_step", "test_step"]
    vae.kl_weight = 0.5
    vae.optimizer.learning_rate = 1e-3
    logs = fit(vae, validation_data=(SMALL, SMALL), **options)
    found = (logs["loss"][0] - logs["reconstruction"][0]) / logs["kl"][0]
    assert found == pytest.approx(0.5, rel=1e-3) and len(compilations) == 2
    fit(vae, SMALL[:30], **options)
    assert len(compilations) == 3, "other shapes"
    vae.encoder.layers[-1].trainable = False
    before = vae.encoder.layers[-1].get_weights()
    fit(vae, **options)
    assert len(compilations) == 4, "other trainable weights"
    assert np.array_equal(before[0], vae.encoder.layers[-1].get_weights()[0])
    vae.compile("sgd", loss="mse")
    fit(vae, **options)
    assert len(compilations) == 5, "compiled again by Keras"


def test_programs_do_not_keep_the_data_nor_travel_with_the_model(tmp_path):
    import gc
    import weakref

    class Array(np.ndarray):
        """Can be watched."""

    x = SMALL.view(Array)
    watched = weakref.ref(x)
    model = compiled_dense()
    fit(model, x)
    del x
    gc.collect()
    assert watched() is None
    model.save(tmp_path / "model.keras")
    assert "programs" not in str(model.get_config())
    assert keras.saving.load_model(tmp_path / "model.keras").compiled


# ---------------------------------------------------------------- what Keras' loop keeps


def test_functions_of_before_are_put_back():
    model = compiled_dense()
    model.fit(SMALL, SMALL, verbose=0)
    model.evaluate(SMALL, SMALL, verbose=0)
    before = model.train_function, model.test_function
    fit(model, validation_data=(SMALL, SMALL))
    assert (model.train_function, model.test_function) == before
    with pytest.raises(ZeroDivisionError):
        fit(model, callbacks=with_failing_hook(), validation_data=(SMALL, SMALL))
    assert (model.train_function, model.test_function) == before


def with_failing_hook():
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / 0)


def test_nothing_is_written_to_stderr(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(small_vae(), validation_data=(SMALL, SMALL))
    assert capfd.readouterr().err == ""


def test_validation_batches_may_have_another_size():
    ours, keras_own = both(
        compiled_dense, validation_data=(SMALL, SMALL), validation_batch_size=7
    )
    agree(ours, keras_own)


def test_targets_outside_the_range_in_a_data_set_end_the_training(capsys):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((PIXELS, PIXELS)).batch(8)
    vae = small_vae(optimizer=keras.optimizers.Adam(1e-2))
    history = fit(vae, data, y=None, batch_size=None, epochs=60)
    assert "means targets outside [0, 1]" in capsys.readouterr().out
    assert min(history.get("reconstruction", [0])) >= 0


def test_all_variables_are_part_of_the_state():
    vae = batch_normalised()
    fit(vae, epochs=1)
    names = [variable.path for variable in training_state(vae)]
    for part in (
        "kl_weight",
        "seed_generator_state",
        "moving_mean",
        "iteration",
        "kernel",
    ):
        assert any(part in name for name in names), part
