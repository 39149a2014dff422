"""Claims of vae_helpers.fit: Keras' numbers, callbacks and errors, whatever the model."""

import warnings

import keras
import numpy as np
import pytest

import vae_helpers as vh
from course import backend, training

RANDOM = np.random.default_rng(0)
SMALL = RANDOM.uniform(size=(40, 20)).astype("float32") ** 3  # images of 20 pixels
PIXELS = (SMALL * 255).round()  # from 0 to 255
KERAS = "Training with Keras' own fit: "


@pytest.fixture(autouse=True)
def all_epochs(monkeypatch):
    monkeypatch.delenv("VAE_COURSE_QUICK")


class FixedNoise(keras.layers.Layer):
    """The same codes wherever it runs: XLA has random numbers of its own."""

    seed = None

    def call(self, inputs):
        z_mean, z_log_var = inputs
        noise = np.sin(np.arange(z_mean.shape[-1])).astype(keras.config.floatx())
        return z_mean + keras.ops.exp(0.5 * z_log_var) * noise


def dense(*before, units=20, loss="mse", **options):
    """A compiled network of one layer for `SMALL`, after the layers `before`."""
    keras.utils.set_random_seed(2)
    layer = keras.layers.Dense(units, activation="sigmoid")
    model = keras.Sequential([keras.Input((20,)), *before, layer])
    model.compile(keras.optimizers.SGD(1e-2), loss, **options)
    return model


def small_vae(
    *before, activation="sigmoid", kind=vh.VAE, fixed=False, rate=1e-2, **heads
):
    """A compiled VAE for `SMALL`, with two latent dimensions."""
    keras.utils.set_random_seed(2)
    image = x = keras.Input((20,))
    for layer in before:
        x = layer(x)
    means, log_vars = (keras.layers.Dense(2, **heads)(x) for _ in range(2))
    decoder = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(20, activation=activation)]
    )
    model = kind(keras.Model(image, [means, log_vars]), decoder, seed=3)
    if fixed:
        model.sampling.call = FixedNoise().call
    model.compile(keras.optimizers.SGD(rate), metrics=["mse"])
    return model


def fit(model, x=SMALL, y="x", epochs=2, **options):
    """The history of `vh.fit`, quietly, in batches of 16: 16 + 16 + 8."""
    y = x if isinstance(y, str) else y
    options = {"batch_size": 16, "verbose": 0, **options}
    return vh.fit(model, x, y, epochs=epochs, **options).history


def assert_as_keras(build, x=SMALL, y="x", rtol=1e-5, **options):
    """`vh.fit` and Keras' own fit give one history and the same weights."""
    y = x if isinstance(y, str) else y
    options = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0, **options}
    ours, keras_own = build(), build()
    one = vh.fit(ours, x, y, **options).history
    two = keras_own.fit(x, y, **options).history
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=rtol, err_msg=name)
    for a, b in zip(ours.get_weights(), keras_own.get_weights()):
        np.testing.assert_allclose(a, b, rtol=10 * rtol, atol=rtol)


# ---------------------------------------------------------------- the numbers of Keras


def course_model(kind):
    keras.utils.set_random_seed(5)
    if kind == "autoencoder":
        model = vh.build_autoencoder()
        model.compile(optimizer="adam", loss="mse")
        return model
    model = vh.VAE(vh.build_encoder(), vh.build_decoder(), seed=3)
    model.sampling.call = FixedNoise().call
    model.compile("adam", metrics=["mse"])
    return model


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_the_courses_models_train_as_by_keras_fit_in_float64(kind, float64, images):
    options = dict(rtol=1e-8, validation_data=(images[:35], images[:35]))
    assert_as_keras(lambda: course_model(kind), images, **options)


@pytest.mark.parametrize("number", [1, 15, 16, 17])
def test_one_image_more_or_fewer_than_a_batch_trains(number):
    assert_as_keras(dense, SMALL[:number])


def unbuilt():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(20, activation="sigmoid")])
    model.compile("adam", loss="mse")
    return model


LARGE = (SMALL * 29).astype("int32")


def embedding():
    start = keras.initializers.RandomUniform(seed=1)
    return dense(keras.layers.Embedding(30, 4, start), keras.layers.Flatten())


@pytest.mark.parametrize(
    "build, x",
    [
        (unbuilt, SMALL),
        (embedding, LARGE),
        (lambda: dense(keras.layers.Rescaling(1 / 255)), PIXELS.astype("uint8")),
        (lambda: small_vae(keras.layers.BatchNormalization(), fixed=True), SMALL),
        (lambda: small_vae(fixed=True, activity_regularizer="l2"), SMALL),
        (lambda: small_vae(fixed=True, kernel_regularizer="l2"), SMALL),
    ],
)
def test_what_keras_trains_fit_trains(build, x, capsys):
    options = dict(validation_data=(x, SMALL), validation_batch_size=7)
    assert_as_keras(build, x, SMALL, **options)
    assert capsys.readouterr().out == ""


def test_the_same_seed_gives_the_same_weights_to_the_bit():
    def weights():
        vae = small_vae()
        fit(vae)
        return vae.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(), weights()))


class Placed(keras.Model):
    """Sums its images, and weights them by the place of their batch in the epoch."""

    def __init__(self):
        super().__init__()
        self.place = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.total = keras.metrics.Sum(name="total")
        self.placed = keras.metrics.Sum(name="placed")
        self.layer = keras.layers.Dense(1)

    def call(self, x):
        return self.layer(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        self.place.assign_add(1.0)
        self.total.update_state(x)
        self.placed.update_state(self.place * keras.ops.sum(x))
        return 0.0 * keras.ops.sum(y_pred)


def test_epochs_shuffle_differently_and_every_image_is_used_once():
    keras.utils.set_random_seed(0)
    model = Placed()
    model.compile(optimizer="sgd")
    numbers = np.arange(50, dtype="float32")[:, None]
    history = fit(model, numbers, batch_size=8)
    assert history["total"] == [numbers.sum()] * 2
    assert len(set(history["placed"])) == 2
    assert history["placed"][0] != sum((i // 8 + 1) * i for i in range(50))


class OwnStep(keras.Model):
    """A model whose step sums what it receives over axis 1, with own `metrics`."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.sums = keras.metrics.Mean(name="sums")

    metrics = property(lambda self: [self.sums])

    def call(self, x):
        return x

    def train_step(self, data):
        sums = keras.ops.sum(data, axis=1)
        self.sums.update_state(self.factor * keras.ops.mean(sums))
        return {"sums": self.sums.result()}


def test_a_step_gets_what_keras_gives_it(capsys):
    """x alone where there are no targets; dtypes and shapes of `model.fit`."""
    for x in (SMALL, SMALL.astype("float64"), LARGE, SMALL.reshape(40, 5, 4)):
        model, keras_own = OwnStep(), OwnStep()
        for one in (model, keras_own):
            one.compile("sgd")
        ours = fit(model, x, None, epochs=1)
        theirs = keras_own.fit(x, batch_size=16, shuffle=False, verbose=0).history
        assert ours["sums"] == pytest.approx(theirs["sums"], rel=0.2)
        assert ours["sums"] != [pytest.approx(0)]
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- the VAE in fit


def test_layers_in_a_vae_are_told_that_it_trains():
    for train in (fit, lambda vae: vae.fit(SMALL, SMALL, verbose=0)):
        vae = small_vae(keras.layers.BatchNormalization())
        train(vae)
        [moving_mean, _] = vae.encoder.layers[1].non_trainable_variables
        assert np.abs(moving_mean.numpy()).max() > 1e-3


def test_every_number_is_a_kl_weight_that_a_callback_may_change():
    for number in (0, True, 0.0, np.float32(0.5), np.float64(2), 3):
        vae = vh.VAE(None, None, kl_weight=number)
        assert vae.kl_weight.dtype == "float32"
        assert float(vae.kl_weight) == float(number)
    vae = small_vae(kind=lambda *parts, **more: vh.VAE(*parts, 0, **more))
    change = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: vae.kl_weight.assign(0.3 * epoch)
    )
    logs = fit(vae, epochs=3, callbacks=[change], validation_data=(SMALL, SMALL))
    for part in ("", "val_"):
        terms = np.subtract(logs[f"{part}loss"], logs[f"{part}reconstruction"])
        weights = terms / logs[f"{part}kl"]
        assert weights == pytest.approx([0, 0.3, 0.6], abs=1e-3)


class Gaussian(vh.VAE):
    """A VAE of images in [-1, 1]; a negative log-density may be below 0."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        nll = keras.ops.mean(keras.ops.sum((y - y_pred) ** 2 / 0.02 - 2, axis=-1))
        self.reconstruction_tracker.update_state(nll)
        return nll + sum(self.losses)


class LooksLikeAVAE(keras.Sequential):
    encoder = decoder = kl_weight = None


def test_guards_act_where_the_courses_cross_entropy_acts_and_nowhere_else(capsys):
    signed = 2 * SMALL - 1
    other = LooksLikeAVAE([keras.Input((20,)), keras.layers.Dense(20, "tanh")])
    other.compile("sgd", loss="mse")
    for model in (other, small_vae(kind=Gaussian, activation="tanh", rate=1e-6)):
        assert len(fit(model, signed, epochs=3)["loss"]) == 3
    assert capsys.readouterr().out == ""
    for y in (PIXELS, signed, PIXELS.astype("uint8")):
        for options in ({}, dict(validation_split=0.1)):
            with pytest.raises(ValueError, match=r"^y must be from 0 to 1.*divide pix"):
                fit(small_vae(), SMALL, y, **options)
    with pytest.raises(ValueError, match=r"^y of validation_data must be from 0 to 1"):
        fit(small_vae(), validation_data=(SMALL, PIXELS))
    with pytest.raises(ValueError, match=r"decoder's output must lie in \[0, 1\].*sig"):
        fit(small_vae(activation="tanh"))


def test_checking_a_vae_draws_no_noise():
    vae = small_vae()
    state = vae.sampling.seed_generator.state.numpy()
    with pytest.raises(ValueError, match="must both be images"):
        fit(vae, SMALL, SMALL[:, 1:], epochs=0)
    assert np.array_equal(state, vae.sampling.seed_generator.state.numpy())


def test_targets_outside_the_range_in_a_data_set_end_the_training(capsys):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((PIXELS, PIXELS)).batch(8)
    vae = small_vae(rate=1e-7)
    vae.decoder.layers[-1].bias.assign(np.full(20, 1.0))
    fit(vae, data, y=None, batch_size=None, epochs=5)
    assert "targets are outside [0, 1]. Divide pixels by 255" in capsys.readouterr().out


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "options, name",
    [
        (dict(validation_data=(SMALL, SMALL[:5])), "y of validation_data"),
        (dict(y=SMALL[:5]), "y"),
        (dict(y=np.full_like(SMALL, np.nan)), "y"),
        (dict(x=np.where(SMALL > 0.5, np.inf, SMALL), y=SMALL), "x"),
        (dict(x=SMALL[:0], y=SMALL[:0]), "x"),
    ],
)
def test_wrong_data_are_refused_in_a_sentence_that_names_them(options, name):
    with pytest.raises(ValueError, match=rf"^{name} must be|^{name} must have"):
        fit(dense(), **options)


def test_a_model_that_is_not_compiled_or_shared_is_refused():
    import tensorflow as tf

    with pytest.raises(ValueError, match="Compile the model first"):
        fit(vh.build_autoencoder())
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        model = dense()
    with pytest.raises(ValueError, match="fit trains on one device"):
        fit(model)


class Typo(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        return keras.ops.mean(y_pred - y_true)  # noqa: F821


def test_a_readers_own_error_is_shown_as_keras_shows_it(capsys):
    """Not blamed on XLA, nor on the data."""
    typo = Typo([keras.Input((20,)), keras.layers.Dense(20)])
    typo.compile("sgd")
    labels = np.arange(40) % 3
    one_hot = dense(units=3, loss="categorical_crossentropy")
    for model, y, kind, words in [
        (typo, SMALL, NameError, "name 'y_true' is not defined"),
        (one_hot, labels, ValueError, "shape"),
    ]:
        for train in (vh.fit, type(model).fit):
            with pytest.raises(kind, match=words):
                train(model, SMALL, y, epochs=1, verbose=0)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- left to Keras


class OnBatches(keras.callbacks.Callback):
    batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


def test_what_one_program_cannot_do_is_left_to_keras_with_one_line(capsys):
    import tensorflow as tf

    data_set = tf.data.Dataset.from_tensor_slices((SMALL, SMALL)).batch(8)
    with_weights = (SMALL, SMALL, np.ones(40, "float32"))
    of_rows = keras.layers.Reshape((20, 1)), keras.layers.Conv1D(3, 2)
    callback = OnBatches()
    for model, options, why in [
        (dense(), dict(validation_split=0.1), "it was given validation_split"),
        (dense(), dict(sample_weight=np.ones(40)), "it was given sample_weight"),
        (dense(run_eagerly=True), {}, "functions run eagerly"),
        (dense(), dict(x=data_set, y=None, batch_size=None), "x and y are not both"),
        (dense(), dict(validation_data=with_weights), "validation_data is not a pair"),
        (dense(), dict(callbacks=callback), "OnBatches acts on batches"),
        (dense(*of_rows, keras.layers.Flatten()), {}, "slower at convolutions"),
        (dense(Unseeded()), {}, "XLA ignores the seed of RandomStandardNormal"),
    ]:
        assert len(fit(model, **options)["loss"]) == 2
        printed = capsys.readouterr().out
        assert printed.startswith(KERAS + why[:9]) or why in printed
        assert printed.count("\n") == 1 and why in printed
    assert callback.batches == 6


class Unseeded(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return x + tf.random.normal((20,), seed=1)


def test_a_device_without_xla_is_left_to_keras(monkeypatch, capsys):
    monkeypatch.setattr(backend, "has_xla", lambda: False)
    fit(dense())
    assert capsys.readouterr().out == f"{KERAS}XLA does not work on this device.\n"


def test_keras_own_callbacks_are_looked_at_by_what_they_do(capsys, tmp_path):
    path, checkpoint = tmp_path / "m.weights.h5", keras.callbacks.ModelCheckpoint
    for callback, way in [
        (checkpoint(path, save_weights_only=True, save_freq=2), KERAS),
        (checkpoint(path, save_weights_only=True), ""),
        (keras.callbacks.TerminateOnNaN(), ""),
        (keras.callbacks.EarlyStopping("loss"), ""),
    ]:
        fit(dense(), callbacks=[callback])
        assert capsys.readouterr().out[: len(KERAS)] == way


# ---------------------------------------------------------------- callbacks


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
    fit(dense(), callbacks=[ours], **options)
    dense().fit(SMALL, SMALL, callbacks=[keras_own], verbose=0, **options)
    assert ours.hooks == keras_own.hooks
    assert ours.params["steps"] == 3 and ours.params["epochs"] == 4


def test_a_callback_may_evaluate_and_predict_on_other_data():
    other = SMALL[:10] * 0.5

    class Evaluates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            error = self.model.predict(other, verbose=0) - other
            loss = self.model.evaluate(other, other, verbose=0)
            assert loss == pytest.approx(np.square(error).mean(), rel=1e-5)

    validation = (SMALL, SMALL)
    history = fit(dense(), callbacks=Evaluates(), validation_data=validation)
    assert history == fit(dense(), validation_data=validation)


def test_callbacks_that_act_at_epochs_work(tmp_path):
    model, rates = dense(), []
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: rates.append(float(model.optimizer.learning_rate))
        ),
        [keras.callbacks.CSVLogger(tmp_path / "log.csv")],
        keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=2),
    ]
    fit(model, epochs=9, callbacks=callbacks, validation_data=(SMALL, SMALL))
    assert rates == pytest.approx([1e-2 / 2**k for k in (1, 2, 3)])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


def test_keras_backup_resumes_an_interrupted_training(tmp_path):
    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(*callbacks):
        model, diary = dense(), Diary()
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        fit(model, epochs=4, callbacks=[backup, diary, *callbacks])
        return model, diary.hooks.count("on_epoch_end")

    undisturbed = dense()
    fit(undisturbed, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        run(Killed())
    resumed, epochs = run()
    assert epochs == 2
    for a, b in zip(undisturbed.get_weights(), resumed.get_weights()):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("options", [{}, dict(shuffle=True, validation_split=0.1)])
def test_divergence_ends_a_training_with_one_sentence(options, capsys):
    model = dense()
    model.layers[-1].activation = keras.activations.linear
    model.compile(keras.optimizers.SGD(1e38), loss="mse")
    assert len(fit(model, epochs=20, **options)["loss"]) < 20
    printed = capsys.readouterr().out
    assert printed.count("Training stopped in epoch") == 1
    assert "Try a smaller learning rate" in printed


def test_progress_shows_epoch_losses_and_time_left(capsys):
    fit(dense(), validation_data=(SMALL, SMALL), verbose=1)
    printed = capsys.readouterr().out
    assert "epoch 1, compiling first" in printed and "epoch 1/2  loss 0." in printed
    assert "val_loss 0." in printed and " left" in printed and "took" in printed
    fit(dense(), epochs=0, verbose=1)
    assert capsys.readouterr().out == ""


def test_quick_mode_limits_the_epochs(monkeypatch):
    monkeypatch.setenv("VAE_COURSE_QUICK", "1")
    assert len(fit(dense(), epochs=50)["loss"]) == 2


# ---------------------------------------------------------------- precision


def test_half_precision_trains_with_a_loss_in_float32():
    losses = []
    for name in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(name)
        try:
            vae = small_vae()
            losses.append(fit(vae, epochs=20, validation_data=(SMALL, SMALL)))
            assert vae.compute_loss(SMALL, SMALL, vae(SMALL)).dtype == "float32"
        finally:
            keras.config.set_dtype_policy("float32")
    single, half = (loss["val_loss"][-1] for loss in losses)
    assert half == pytest.approx(single, rel=0.05)


# ---------------------------------------------------------------- programs


@pytest.fixture
def compilations(monkeypatch):
    """The programs that were traced: "train_step" or "test_step", in order."""
    trace, kinds = training._epoch, []

    def counted(step, *rest):
        kinds.append(step.__name__)
        return trace(step, *rest)

    monkeypatch.setattr(training, "_epoch", counted)
    return kinds


def test_a_second_call_compiles_nothing_and_nothing_old_runs(compilations):
    vae, validation = small_vae(), (SMALL, SMALL)
    fit(vae, epochs=1, validation_data=validation)
    before = len(compilations)
    for _ in range(2):
        vae.optimizer.learning_rate = 1e-3
        fit(vae, epochs=1, validation_data=validation)
    assert len(compilations) == before
    fit(vae, SMALL[:30], epochs=1)
    assert len(compilations) > before, "other shapes"
    vae.encoder.layers[-1].trainable = False
    weights = vae.encoder.layers[-1].get_weights()
    vae.compile("sgd")
    fit(vae, epochs=1)
    assert np.array_equal(weights[0], vae.encoder.layers[-1].get_weights()[0])
    model = keras.Sequential([keras.layers.Dense(20)])  # built by its first fit
    model.compile("sgd", loss="mse")
    fit(model, epochs=1)
    model.trainable = False
    before = model.get_weights()[0]
    with pytest.warns(UserWarning, match="any trainable weights"):
        fit(model, epochs=1)
    assert np.array_equal(before, model.get_weights()[0]), "no compile is needed"
    model = OwnStep()
    model.compile("sgd")
    first = fit(model, y=None, epochs=1, shuffle=False)["sums"]
    model.factor = 10.0
    model.compile(model.optimizer)
    second = fit(model, y=None, epochs=1, shuffle=False)["sums"]
    assert second[0] == pytest.approx(10 * first[0], rel=1e-4)


def test_a_call_that_failed_leaves_no_trace():
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])
    model.compile("sgd", loss="mse", metrics=["mae"])
    x, y = np.ones((40, 12), "float32"), np.ones((40, 2), "float32")
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        training.fit(model, x, np.ones((40, 3), "float32"), verbose=0)
    assert training.fit(model, x, y, verbose=0).history["mae"]
    assert training.fit(model, x, y.astype("int64"), verbose=0).history["mae"]


def test_compiling_in_a_callback_leaves_keras_own_function():
    model = dense()
    again = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch or model.compile("sgd", loss="mse")
    )
    fit(model, callbacks=again)
    before = int(model.optimizer.iterations)
    model.train_on_batch(SMALL[:8], SMALL[:8])
    assert int(model.optimizer.iterations) == before + 1


def test_keras_functions_are_put_back(tmp_path):
    model = dense()
    model.fit(SMALL, SMALL, verbose=0)
    model.evaluate(SMALL, SMALL, verbose=0)
    before = model.train_function, model.test_function
    fit(model, validation_data=(SMALL, SMALL))
    assert (model.train_function, model.test_function) == before
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").compiled
    fails = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(model, callbacks=fails, validation_data=(SMALL, SMALL))
    assert (model.train_function, model.test_function) == before


def test_nothing_is_written_to_stderr(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(small_vae(), validation_data=(SMALL, SMALL))
    assert capfd.readouterr().err == ""
