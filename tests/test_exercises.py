"""The exercises, their solutions and their checks.

For each check: the solution is right, the planted bug or a wrong answer is not, and
another right answer is. What the hints say is not asserted.
"""

import re

import keras
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from scipy.ndimage import gaussian_filter
from scipy.special import logsumexp

import course
import vae_helpers as vh
from course import exercises, flow
from course.exercises import common
from tools import refresh

EXERCISES, SOLUTIONS = (
    nbformat.read(course.ROOT / path, as_version=4)
    for path in ("notebooks/exercises.ipynb", "docs/solutions.ipynb")
)
MARKING = (course.ROOT / "docs" / "marking.md").read_text(encoding="utf-8")
MODULES = {
    "vh": vh, "keras": keras, "np": np, "layers": layers, "ops": ops, "plt": plt,
    "flow": flow, "exercises": exercises,
}  # fmt: skip


def has_tag(cell, tag):
    return tag in cell.metadata.get("tags", [])


def check_cells(notebook):
    """{name of a check: (its answer cell, the arguments of the check)}."""
    cells, found = notebook.cells, {}
    for answer, cell in zip(cells, cells[1:]):
        match = re.fullmatch(r"exercises\.(\w+)\((.+)\)", cell.source)
        if match and has_tag(answer, "answer"):
            found[match[1]] = answer.source, match[2]
    return found


def answers(notebook, name):
    """What a notebook's cells give to the check `name`: a list of arguments."""
    source, arguments = check_cells(notebook)[name]
    scope = dict(MODULES)
    exec(source, scope)
    return list(eval(f"({arguments},)", scope))


def verdict(name, arguments, capsys):
    """The second verdict of a check, so that a bug gets its hint."""
    for _ in range(2):
        capsys.readouterr()
        getattr(exercises, name)(*arguments)
        text = capsys.readouterr().out.strip()
        if text.startswith("right"):
            break
    return text


NAMES = [name.split()[1] for name in common.VERDICTS]
BUGS = {
    "loss", "log_sigma", "sampling_layer", "validation", "training_flag",
    "new_garments", "pairs", "bound", "straight_paths",
}  # fmt: skip

# ---------------------------------------------------------------- other right answers


def minimal_data():
    """Soft random images: any data set that is not Fashion-MNIST will do."""
    images = np.random.default_rng(0).random((3, 600, 784), dtype="float32")
    return [np.sqrt(part) for part in images]


def pruned_by_functions(encoder, decoder, x):
    """Products that pick and put back the units, in place of new kernels."""
    alive = np.flatnonzero(np.asarray(encoder(x)).max(axis=0))
    pick = np.eye(18, dtype="float32")[:, alive]  # (18, units)
    return lambda x: encoder(x) @ pick, lambda z: decoder(z @ pick.T)


def loss_in_tensorflow(x, x_hat, z_mean, z_log_var):
    nll = tf.reduce_sum(keras.losses.binary_crossentropy(x, x_hat)) * 784
    kl = tf.reduce_sum(vh.kl_to_prior(z_mean, z_log_var))
    return (nll + kl) / len(x)


def log_sigma_by_helper(z_mean, z_log_sigma, noise):
    z_log_var = 2 * z_log_sigma
    kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=1)
    return z_mean + ops.exp(0.5 * z_log_var) * noise, kl


class DrawsByHand(vh.VAE):
    def call(self, x, training=None):
        z_mean, z_log_var = self.encoder(x)
        self.add_loss(ops.sum(vh.kl_to_prior(z_mean, z_log_var)) / ops.shape(x)[0])
        noise = keras.random.normal(ops.shape(z_mean))
        return self.decoder(z_mean + ops.exp(z_log_var / 2) * noise)


class TooMuchNoise(DrawsByHand):
    def call(self, x, training=None):
        images = super().call(x, training)
        return images * keras.random.uniform(ops.shape(images))


def conditional_with_embedding():
    """The label goes through a dense layer, and the code has four numbers."""

    class Conditional(vh.VAE):
        def call(self, inputs, training=None):
            z_mean, z_log_var = self.encoder(inputs)
            kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
            self.add_loss(ops.mean(kl))
            return self.decoder([self.sampling([z_mean, z_log_var]), inputs[1]])

    image, label, z = (keras.Input((size,)) for size in (784, 10, 4))
    h = layers.Concatenate()([image, layers.Dense(16, use_bias=False)(label)])
    encoder = keras.Model([image, label], [layers.Dense(4)(h), layers.Dense(4)(h)])
    h = layers.Concatenate()([z, layers.Dense(16, use_bias=False)(label)])
    decoder = keras.Model([z, label], layers.Dense(784, "sigmoid")(h))
    return Conditional(encoder, decoder)


def garments_in_keras(encoder, decoder, images, n):
    return decoder(keras.random.normal((n, 10), seed=1))


def pairs_in_a_loop(labels, n):
    rng, ends = np.random.default_rng(5), []
    while len(ends) < n:
        i, j = rng.integers(0, len(labels), 2)
        if labels[i] != labels[j]:
            ends.append((i, j))
    return ends


def cloud():
    """Clouds of another size and another seed than the solution's, sharper ones."""
    noise = np.random.default_rng(1).normal(size=(1500, 28, 28))
    images = gaussian_filter(noise, (0, 5, 5)).reshape(-1, 784)
    images -= images.min(axis=1, keepdims=True)
    images *= 0.25 / images.max(axis=1, keepdims=True)
    images = images[images.mean(axis=1) > 0.1].astype("float32")
    score = exercises.anomaly_score(*exercises.load_reference(), images)
    score[exercises.likeness(images) > 0.6] = np.inf
    return images[score.argmin()]


def refined_by_hand(decoder, x, z_mean, z_log_var):
    """The gradient of the means alone, with one optimiser for all images."""
    z = tf.Variable(z_mean)
    width, optimizer = np.exp(0.5 * z_log_var), keras.optimizers.Adam(0.02)
    for _ in range(200):
        with tf.GradientTape() as tape:
            noise = tf.random.normal((4, *z.shape), seed=1)
            codes = tf.reshape(z + width * noise, (-1, 10))
            nll = vh.bernoulli_nll(np.tile(x, (4, 1)), decoder(codes))
            loss = tf.reduce_sum(nll) / 4 + tf.reduce_sum(z**2) / 2
        optimizer.apply([tape.gradient(loss, z)], [z])
    return z.numpy(), z_log_var


def sharpened(images):
    return np.clip(0.5 + 1.5 * (images - 0.5), 0, 1)


def picky(net, decoder, label, count):
    """A weaker guidance and fewer steps than in the solution."""
    return decoder(flow.sample(net, label, count, steps=10, guidance=0.8, seed=3))


KL_TERMS = [0.5 * 4, 0.5 * (0.25 - 1 - np.log(0.25))]
OTHERS = {
    "grey_card": [500, [543.43]],
    "other_data": [minimal_data],
    "parameters": ["many", 785 * 100 + 101 * 10 + 11 * 100 + 101 * 784],
    "prune": [pruned_by_functions],
    "kl_by_hand": [3, np.sum(KL_TERMS)],
    "which_beta": [(2.048, 784, 0.05)],
    "loss": [loss_in_tensorflow],
    "log_sigma": [log_sigma_by_helper],
    "sampling_layer": [vh.Sampling()],
    "validation": [DrawsByHand],
    "training_flag": [vh.VAE],
    "clinic": [{"D": 2, "C": 5, "B": 1, "A": 3}],
    "conditional": [conditional_with_embedding],
    "inside_ball": [0.5, 0.00018],
    "new_garments": [garments_in_keras],
    "pairs": [pairs_in_a_loop],
    "detector": cloud,
    "bound": [lambda w: np.log(len(w)) - logsumexp(w, axis=0)],
    "refine": [refined_by_hand],
    "rows": [dict(zip("DCBA", ["N(0, I)", "real garments", "mixture of 50",
                               "reconstructions"]))],
    "fool": [sharpened],
    "few_labels": [lambda encoder, decoder, x: np.sqrt(x)],
    "velocity": ["to one of them", (3, 0)],
    "straight_paths": [
        lambda codes, rng: (
            codes - (1 - (t := rng.random((len(codes), 1))))
            * (v := codes - rng.normal(size=codes.shape)), t, v)
    ],
    "on_request": [picky],
}  # fmt: skip


# ---------------------------------------------------------------- wrong answers


class NumpyNoise(layers.Layer):
    """Draws new noise in each call, but once only in a compiled program."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def call(self, inputs):
        noise = self.rng.normal(size=inputs[0].shape).astype("float32")
        return inputs[0] + ops.exp(0.5 * inputs[1]) * noise


def label_for_the_decoder_only():
    model = conditional_with_embedding()
    image, label = keras.Input((784,)), keras.Input((10,))
    heads = [layers.Dense(4)(image), layers.Dense(4)(image)]
    model.encoder = keras.Model([image, label], heads)
    return model


def width_of_the_images(encoder, decoder, images, n):
    noise = np.random.default_rng(0).normal(size=(n, 10))
    return decoder(np.exp(0.5 * np.asarray(encoder(images[:n])[1])) * noise)


WRONG = {
    "grey_card": [[500, 0], [500, np.log(2)]],
    "other_data": [
        [lambda: np.split(common.load_images()[0][:1800], 3)],
        [lambda: [minimal_data()[0]] * 3],
        [lambda: [255 * part for part in minimal_data()]],
    ],
    "parameters": [[1, 158_800]],
    "prune": [[lambda encoder, decoder, x: (encoder, decoder)]],
    "kl_by_hand": [[1, np.sum(KL_TERMS) / 2]],
    "which_beta": [[[2.048, 1, 0.05]], [[500 / 1024, 784, 0.05]]],
    "sampling_layer": [[NumpyNoise]],
    "validation": [[TooMuchNoise]],
    "clinic": [[{"A": 3, "B": 1, "C": 5, "D": 6}], ["collapse"]],
    "conditional": [[label_for_the_decoder_only]],
    "inside_ball": [[0.5, 0], [0.5, 0.02]],
    "new_garments": [[width_of_the_images]],
    "detector": [[np.zeros(784)], [np.full(784, 0.5)], [np.tile([0, 1], 392)]],
    "refine": [[lambda decoder, x, m, v: (m, v)]],
    "rows": [[dict.fromkeys("ABCD", "N(0, I)")]],
    "fool": [
        [lambda x: x],
        [lambda x: (np.random.default_rng(0).random(x.shape) < x) * 1.0],
    ],
    "few_labels": [[lambda encoder, decoder, x: encoder(x)[0]]],
    "velocity": [["up", [1.5, 0]]],
    "on_request": [[lambda net, decoder, label, n: decoder(flow.sample(net, label, n))]],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_right(name, capsys):
    assert verdict(name, answers(SOLUTIONS, name), capsys).startswith("right: ")


@pytest.mark.parametrize("name", NAMES)
def test_another_right_answer_is_right(name, capsys):
    other = OTHERS[name]
    other = [other()] if callable(other) else other
    assert verdict(name, other, capsys).startswith("right: ")


@pytest.mark.parametrize("name", sorted(BUGS))
def test_the_planted_bug_gets_a_hint_at_the_second_time_only(name, capsys):
    common.VERDICTS.update({key: "" for key in common.VERDICTS})
    planted = answers(EXERCISES, name)
    getattr(exercises, name)(*planted)
    assert capsys.readouterr().out.strip() == common.FIRST_VERDICT
    hint = verdict(name, planted, capsys)
    assert hint.startswith("not yet: ") and hint != common.FIRST_VERDICT
    assert "raised an error" not in hint


@pytest.mark.parametrize(
    "name, wrong", [(name, wrong) for name in WRONG for wrong in WRONG[name]]
)
def test_a_wrong_answer_is_not_right(name, wrong, capsys):
    text = verdict(name, wrong, capsys)
    assert text.startswith("not yet: ") and "raised an error" not in text


@pytest.mark.parametrize("name", sorted(set(NAMES) - BUGS))
def test_an_unanswered_exercise_is_no_mistake(name, capsys):
    assert name in WRONG
    assert verdict(name, answers(EXERCISES, name), capsys) == "not answered yet"


def test_a_message_names_the_line_that_raised_the_error(capsys):
    scope = {}
    source = "def f(w):\n    x = w\n    return x / nothing\n"
    exec(compile(source, "ipykernel_1/1.py", "exec"), scope)
    message = verdict("bound", [scope["f"]], capsys)
    assert "in line 3 of its cell (NameError" in message


def test_diagnose_tells_the_first_mistake_that_fits():
    common.diagnose([1.0, 2.0], np.array([[1.0], [2.0]]))
    for value, hint in ((4, "doubled"), ([2, 2], "one number"), (3, "large")):
        with pytest.raises(common.NotRight, match=hint):
            common.diagnose(value, 2, {"doubled": 4, "also": 4})


# ---------------------------------------------------------------- the clinic


@pytest.mark.slow
def test_the_patients_have_their_symptoms():
    """Trained as in the notebook, but on the sample and for fewer steps."""
    x, y = common.load_images()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VAE_COURSE_QUICK")
        models = exercises.train_patients(x, y, epochs=60)
    kl, spread, grey = {}, {}, {}
    for name, model in models.items():
        z_mean, z_log_var = model.encoder.predict(x[:500], verbose=0)
        decoded = model.decoder.predict(z_mean, verbose=0)
        kl[name] = np.sum(vh.kl_to_prior(z_mean, z_log_var), axis=1).mean()
        spread[name] = decoded.std(axis=0).mean()
        grey[name] = np.mean((decoded > 0.1) & (decoded < 0.9))
    assert kl["D"] < 0.5 and spread["D"] < 0.05
    assert kl["B"] > 1.5 * kl["healthy"]
    assert grey["A"] < 0.3 * grey["healthy"]


# ---------------------------------------------------------------- the two notebooks


def shared_cells(notebook):
    """All cells but the title, the navigation, the answers and the explanations."""
    own = ("navigation", "answer", "explanation")
    title, *cells = (
        cell.source
        for cell in notebook.cells
        if not any(has_tag(cell, tag) for tag in own)
    )
    return cells


def test_exercises_and_solutions_are_the_same_exercises():
    assert shared_cells(EXERCISES) == shared_cells(SOLUTIONS)
    assert list(check_cells(EXERCISES)) == list(check_cells(SOLUTIONS)) == NAMES
    assert not any(has_tag(cell, "explanation") for cell in EXERCISES.cells)


def test_stored_verdicts_are_right_in_the_solutions_alone():
    for notebook in (EXERCISES, SOLUTIONS):
        for cell in notebook.cells:
            if match := re.fullmatch(r"exercises\.(\w+)\(.+\)", cell.source):
                start = common.FIRST_VERDICT if match[1] in BUGS else "not answered yet"
                start = "right: " if notebook is SOLUTIONS else start
                assert cell.outputs[0].text.startswith(start), match[1]
                assert has_tag(cell, "nbval-check-output")


def headings():
    """(number, name, kind, minutes, on the short path) of every exercise."""
    pattern = r"### (\d\.\d+) · (.+)\n\n\*(\d+) minutes\. (.+)\.\*( ★ Short path\.)?\n"
    cells = [c.source for c in EXERCISES.cells if c.source.startswith("### ")]
    parts = [re.match(pattern, source).groups() for source in cells]
    return [
        (number, name, kind.lower(), int(minutes), bool(star))
        for number, name, minutes, kind, star in parts
    ]


def test_exercises_are_numbered_by_chapter_as_their_checks_are():
    numbers = [heading[0] for heading in headings()]
    assert numbers == [name.split()[0] for name in common.VERDICTS]
    chapters = {path.name[1] for path in refresh.chapters()}
    assert {number[0] for number in numbers} == chapters


def test_the_tables_list_the_exercises():
    table = next(c.source for c in EXERCISES.cells if c.source.startswith("## All"))
    pattern = r"^\| (\d\.\d+) \| (.+?)( ★)? \| (.+?) \| (\d+) \|"
    for text in (table, MARKING):
        rows = re.findall(pattern, text, re.M)
        listed = [(n, name, kind, int(m), bool(s)) for n, name, s, kind, m in rows]
        assert listed == headings()
    kinds = [heading[2] for heading in headings()]
    assert kinds.count("find the bug") == len(BUGS)


def test_the_short_path_is_eight_exercises_in_two_hours():
    short = [heading[3] for heading in headings() if heading[4]]
    assert len(short) == 8 and sum(short) == 120


def test_the_marking_guide_adds_up():
    row = r"^\| \d\.\d+ \|.* \| \d+ \| (\d+) \| .{15,} \| .+ \|$"
    points = list(map(int, re.findall(row, MARKING, re.M)))
    assert len(points) == len(NAMES)
    assert f"{len(NAMES)} exercises, {sum(points)} points" in MARKING
