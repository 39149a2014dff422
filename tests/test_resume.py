"""A training that is killed, interrupted, or turns to NaN: what is left of it, and how it goes on."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from course.checkpoints import training_state

import course
import vae_helpers as vh
from course import checkpoints
from course.film import LatentFilm

X = np.random.default_rng(0).uniform(size=(100, 784)).astype("float32")  # one batch
EPOCHS = 8


def tiny(kl_weight=1.0, rate=1e-3):
    """A VAE of four layers."""
    keras.utils.set_random_seed(1)
    image, z = keras.Input((784,)), keras.Input((2,))
    encoder = keras.Model(
        image, [keras.layers.Dense(2)(image), keras.layers.Dense(2)(image)]
    )
    decoder = keras.Model(z, keras.layers.Dense(784, activation="sigmoid")(z))
    vae = vh.VAE(encoder, decoder, kl_weight, name="tiny")
    vae.compile(optimizer=keras.optimizers.Adam(rate), loss="mse", metrics=["mse"])
    return vae


def train(vae, callbacks=(), epochs=EPOCHS, verbose=0):
    validation = (X[:70], X[:70])
    return vh.fit(
        vae,
        X,
        X,
        epochs=epochs,
        validation_data=validation,
        callbacks=callbacks,
        verbose=verbose,
    ).history


def values(vae):
    return [variable.numpy() for variable in training_state(vae)]


def same(a, b):
    return len(a) == len(b) and all(
        np.array_equal(one, other) for one, other in zip(a, b)
    )


@pytest.fixture
def resume(monkeypatch, tmp_path):
    """The runner asks for states; `resume()` stands for a new kernel."""
    monkeypatch.setenv("VAE_COURSE_RESUME", str(tmp_path / "resume"))
    checkpoints._count.clear()
    return checkpoints._count.clear


def slow_schedule(vae):
    """A schedule of the KL weight that also makes epochs last."""

    def begin(epoch, logs=None):
        time.sleep(0.05)
        vae.kl_weight.assign(epoch / EPOCHS)

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin)


def worker(result, epochs, dies_writing):
    """Runs in a process of its own; leaves the state that it writes as number `dies_writing` half-written."""
    vae, savez, written = tiny(), np.savez, []

    def half(name, *arrays, **others):
        savez(name, *arrays, **others)
        written.append(name)
        if len(written) == dies_writing:
            os.truncate(name, name.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    np.savez = half
    history = train(vae, [slow_schedule(vae)], epochs, verbose=1)
    savez(result, *values(vae), history=json.dumps(history))


def run(folder, epochs, kill_after=None, delay=0.0, dies_writing=0):
    """Run `worker`, killed `delay` seconds after it said `kill_after`: its first epoch, last whole one, exit code."""
    code = f"import test_resume; test_resume.worker({str(folder / 'result.npz')!r}, {epochs}, {dies_writing})"
    path = os.pathsep.join([str(course.ROOT / "tests"), str(course.ROOT)])
    environment = {
        **os.environ,
        "VAE_COURSE_RESUME": str(folder / "resume"),
        "PYTHONPATH": path,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    patience = threading.Timer(200, process.kill)
    patience.start()
    said = ""
    while (letter := process.stdout.read(1)) != "":
        said += letter
        if kill_after and said.endswith(kill_after):
            threading.Timer(delay, process.kill).start()
            kill_after = None
    patience.cancel()
    first = int(re.search(r"epoch (\d+), compiling", said)[1])
    return (
        first,
        max(map(int, re.findall(r"epoch (\d+)/", said)), default=first - 1),
        process.wait(),
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_training_killed_again_and_again_ends_as_if_undisturbed(tmp_path):
    kills, epochs = 10, 60
    draw, reached = random.Random(4), 0
    for kill in range(kills + 1):
        how = {}  # the last one is left alone
        if kill < kills:
            moment = dict(
                kill_after=draw.choice(["compiling", "/"]), delay=draw.uniform(0, 0.4)
            )
            how = dict(dies_writing=draw.randint(2, 4)) if kill % 2 == 0 else moment
        first, last, end = run(tmp_path, epochs, **how)
        assert first in (reached + 1, reached + 2), (
            "an epoch that was reported is never lost"
        )
        assert end == (-signal.SIGKILL if how else 0)
        reached = last
    vae = tiny()
    history = train(vae, [slow_schedule(vae)], epochs)
    with np.load(tmp_path / "result.npz") as result:
        assert json.loads(str(result["history"])) == history
        assert same(values(vae), [result[f"arr_{i}"] for i in range(len(values(vae)))])


class Crash(Exception):
    pass


def crash_at(epoch):
    def begin(now, logs=None):
        if now == epoch:
            raise Crash

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin)


def first_epoch(capsys):
    return int(re.search(r"epoch (\d+)", capsys.readouterr().out)[1])


def test_only_the_same_training_is_taken_up(resume, capsys):
    for kl_weight, expected in [(1.0, 1), (2.0, 1), (1.0, 4), (2.0, 4)]:
        resume()
        with pytest.raises(Crash):
            train(tiny(kl_weight), [crash_at(3)], verbose=1)
        assert first_epoch(capsys) == expected


def test_another_loss_or_optimiser_is_another_training():
    def name(kind=keras.optimizers.Adam, loss="mse", data=X, **options):
        vae = tiny()
        vae.compile(kind(**options), loss=loss)
        return checkpoints.training_name(vae, [data], 8, 128)

    cosine = keras.optimizers.schedules.CosineDecay
    names = [
        name(), name(keras.optimizers.Nadam), name(beta_1=0.8), name(clipnorm=1.0), name(loss="mae"), name(data=X[1:]),
        name(loss=keras.losses.mean_absolute_error), name(loss=keras.losses.MeanAbsoluteError()),
        name(learning_rate=2e-3), name(learning_rate=cosine(1e-3, 100)), name(learning_rate=cosine(1e-3, 200)),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert name() == names[0] and name(learning_rate=cosine(1e-3, 200)) == names[-1]


@pytest.mark.slow
def test_trainings_that_begin_alike_in_one_kernel_are_told_apart(resume):
    """They may differ in what no file name can tell, such as a callback."""
    a, b = tiny(), tiny()
    train(a), train(b, [slow_schedule(b)])
    assert not same(values(a), values(b))


@pytest.mark.slow
def test_a_finished_training_is_taken_up_whole(resume, capsys):
    first = tiny()
    history = train(first)
    resume()
    again = tiny()
    assert train(again, [crash_at(0)], verbose=1) == history and same(
        values(first), values(again)
    )
    assert (
        again.history.epoch == list(range(EPOCHS))
        and f"epoch {EPOCHS}/{EPOCHS}  loss" in capsys.readouterr().out
    )
    train(again, verbose=1)
    assert first_epoch(capsys) == 1, "what is trained further is another training"


@pytest.mark.slow
def test_what_a_callback_collects_has_no_holes(resume):
    """So a training that a callback watches is not taken up."""
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    with pytest.raises(Crash):
        train(tiny(), [watch, crash_at(3)])
    resume()
    seen.clear()
    train(tiny(), [watch])
    assert seen == list(range(EPOCHS))


def test_a_callback_with_a_state_is_stored_and_restored(resume, capsys):
    whole, film = LatentFilm(X[:3]), LatentFilm(X[:3])
    history = train(tiny(), [whole])
    resume()
    with pytest.raises(Crash):
        train(tiny(), [film, crash_at(3)], epochs=EPOCHS + 1)
    resume()
    film = LatentFilm(X[:3])
    longer = train(tiny(), [film], epochs=EPOCHS + 1, verbose=1)
    assert first_epoch(capsys) == 4
    assert len(film.codes) == 1 + EPOCHS + 1  # one before training
    assert np.array_equal(film.codes[:-1], whole.codes)
    assert longer["loss"][:EPOCHS] == history["loss"]


def test_the_history_of_a_resumed_training_names_the_epochs_that_were_trained(resume):
    options = dict(epochs=6, initial_epoch=2, verbose=0)
    with pytest.raises(Crash):
        vh.fit(tiny(), X, X, callbacks=[crash_at(4)], **options)
    resume()
    assert vh.fit(tiny(), X, X, **options).epoch == [2, 3, 4, 5]


def test_nobody_resumes_without_asking(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("VAE_COURSE_RESUME", raising=False)
    for _ in range(2):
        with pytest.raises(Crash):
            train(tiny(), [crash_at(3)], verbose=1)
        assert first_epoch(capsys) == 1


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "of a kind that zipfile does not implement"])
def test_a_damaged_state_is_named(resume, tmp_path, damage):
    train(tiny())
    [path] = (tmp_path / "resume").iterdir()
    whole = bytearray(path.read_bytes())
    if damage == "cut":
        del whole[500:]
    else:
        whole[whole.index(b"PK\x01\x02") + 8] |= (
            0x40  # the first entry of the index: strong encryption
        )
    path.write_bytes(whole)
    resume()
    with pytest.raises(ValueError, match="is damaged .*: delete it"):
        train(tiny())


def test_nan_ends_the_training_with_the_weights_from_before_it(capsys):
    def explode(epoch, logs=None):
        if epoch == 3:
            vae.kl_weight.assign(np.nan)

    whole = tiny()
    train(whole, [stop_after(3, whole)])
    vae = tiny()
    history = train(vae, [keras.callbacks.LambdaCallback(on_epoch_begin=explode)])
    said = capsys.readouterr().out
    assert (
        said.count(
            "Training stopped: epoch 4 gave NaN or infinity. Try a smaller learning rate."
        )
        == 1
    )
    assert len(history["loss"]) == 3 and same(values(vae), values(whole))


def test_nan_ends_a_training_by_keras_own_fit_too(capsys):
    vae = tiny()
    vae.kl_weight.assign(np.inf)
    before = vae.encoder.get_weights()
    options = dict(epochs=3, verbose=0, validation_split=0.1)
    history = vh.fit(vae, X, X, **options).history
    assert "Training stopped: epoch 1 gave NaN" in capsys.readouterr().out
    assert history == {} and same(before, vae.encoder.get_weights())


def stop_after(epochs, model):
    def end(epoch, logs=None):
        model.stop_training = epoch + 1 == epochs

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def test_an_interrupted_training_leaves_the_last_whole_epoch():
    def interrupt(epoch, logs=None):
        if epoch == 2:
            vae.kl_weight.assign(7.0)  # half-way into an epoch
            raise KeyboardInterrupt

    whole = tiny()
    train(whole, [stop_after(2, whole)])
    vae = tiny()
    with pytest.raises(KeyboardInterrupt):
        train(vae, [keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)])
    assert same(values(vae), values(whole)) and len(vae.history.history["loss"]) == 2


@pytest.mark.slow
def test_many_models_in_one_kernel_give_no_warning(caplog):
    import tensorflow as tf

    tf.get_logger().propagate = True
    try:
        for _ in range(6):
            vh.fit(tiny(), X[:8], X[:8], epochs=1, verbose=0)
    finally:
        tf.get_logger().propagate = False
    assert "retracing" not in caplog.text
