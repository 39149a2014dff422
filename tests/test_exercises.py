"""The exercises, their solutions and their checks.

Right answers pass however they are written; wrong answers get messages of their own.
"""

import ast
import functools
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from scipy.special import logsumexp
from scipy.stats import norm

import course
import vae_helpers as vh
from course import exercises
from tools import refresh

EXERCISES, SOLUTIONS = (
    nbformat.read(course.ROOT / path, as_version=4)
    for path in ("notebooks/exercises.ipynb", "docs/solutions.ipynb")
)
MARKING = (course.ROOT / "docs" / "marking.md").read_text(encoding="utf-8")


def has_tag(cell, tag):
    return tag in cell.metadata.get("tags", [])


def solution(name, notebook=SOLUTIONS):
    """The function or class `name` of the solutions, from the cell that defines it."""
    cell = next(
        c
        for c in notebook.cells
        if has_tag(c, "answer") and re.search(rf"^(def|class) {name}\b", c.source, re.M)
    )
    scope = {"vh": vh, "keras": keras, "np": np, "layers": layers, "ops": ops, "tf": tf}
    exec(cell.source, scope)
    return scope[name]


def planted(name):
    """The function or class `name` of the exercises, with its bug."""
    return solution(name, EXERCISES)


# ---------------------------------------------------------------- right and wrong answers


def kl_terms(mean, sigma):
    return 0.5 * (np.square(mean) + np.square(sigma) - 1 - np.log(np.square(sigma)))


KL_TERMS = kl_terms(np.array([2, 0]), np.array([1, 0.5]))
GREY = 784 * np.log(2)


def dead_in_a_loop(codes):
    return sum(
        all(float(v) == 0 for v in codes[:, unit]) for unit in range(codes.shape[1])
    )


def arc_by_hand(a, b, t):
    rows = []
    for part in np.atleast_1d(t):
        cosine = float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))
        if cosine > 0.999999:
            rows.append([(1 - part) * p + part * q for p, q in zip(a, b)])
            continue
        angle = np.arccos(cosine)
        rows.append(
            np.sin((1 - part) * angle) / np.sin(angle) * a
            + np.sin(part * angle) / np.sin(angle) * b
        )
    return rows


def arc_in_tensorflow(a, b, t):
    a, b, t = (tf.cast(v, "float64") for v in (a, b, t))
    angle = tf.acos(
        tf.clip_by_value(tf.tensordot(a, b, 1) / (tf.norm(a) * tf.norm(b)), -1, 1)
    )
    if angle < 1e-2:
        return a + t[:, None] * (b - a)
    return (
        tf.sin((1 - t) * angle)[:, None] * a + tf.sin(t * angle)[:, None] * b
    ) / tf.sin(angle)


def arc_unless_cosine_is_one(a, b, t):
    return (
        a + t[:, None] * (b - a)
        if a @ b / np.linalg.norm(a) / np.linalg.norm(b) == 1
        else arc_of_chapter_04(a, b, t)
    )


def arc_of_chapter_04(a, b, t):
    with np.errstate(all="ignore"):
        angle = np.arccos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        return (
            np.sin((1 - t)[:, None] * angle) * a + np.sin(t[:, None] * angle) * b
        ) / np.sin(angle)


def stretched_line(a, b, t):
    line, t = a + t[:, None] * (b - a), t[:, None]
    lengths = (1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b)
    return line / np.linalg.norm(line, axis=1, keepdims=True) * lengths


def traverse_in_a_loop(decoder, dimension, values):
    return [
        np.asarray(decoder(np.eye(10, dtype="float32")[None, dimension] * v))[0]
        for v in values
    ]


def traverse_with_ops(decoder, dimension, values):
    return decoder.predict(
        ops.convert_to_tensor(values)[:, None] * ops.one_hot(dimension, 10), verbose=0
    )


def traverse_all(decoder, dimension, values):
    return decoder(np.repeat(np.asarray(values)[:, None], 10, axis=1).astype("float32"))


def traverse_with_reference(decoder, dimension, values):
    return np.asarray(
        exercises.load_reference()[1](
            values[:, None] * np.eye(10, dtype="float32")[dimension]
        )
    )


def traverse_in_a_row(decoder, dimension, values):
    codes = np.zeros((10, 10), "float32")
    codes[dimension] = values
    return decoder(codes)


def draw_with_cholesky(codes, n):
    root = np.linalg.cholesky(np.cov(codes.T))
    return (
        codes.mean(0) + np.random.default_rng(5).normal(size=(n, len(root))) @ root.T
    ).astype("float32")


def draw_without_root(codes, n):
    return codes.mean(0) + np.random.default_rng(5).normal(size=(n, 4)) @ np.cov(
        codes.T
    )


def draw_with_svd(codes, n):
    centre = codes.mean(axis=0)
    _, s, v = np.linalg.svd(codes - centre, full_matrices=False)
    noise = keras.random.normal((n, len(s)), seed=2)
    return centre + noise * (s / len(codes) ** 0.5) @ v


def nll(x, x_hat):
    return -(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))


def loss_in_keras(x, x_hat, z_mean, z_log_var):
    bce = x.shape[1] * keras.losses.binary_crossentropy(x, x_hat)
    return ops.mean(bce + ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=1))


def loss_by_image(x, x_hat, z_mean, z_log_var):
    return [
        float(nll(a, b).sum() + kl_terms(m, np.exp(s / 2)).sum())
        for a, b, m, s in zip(x, x_hat, z_mean, z_log_var)
    ]


def loss_in_a_loop(x, x_hat, z_mean, z_log_var):
    return [sum(loss_by_image(x, x_hat, z_mean, z_log_var)) / len(x)]


def loss_with(bce, kl, whole=1.0):
    """A loss that takes each term `bce` and `kl` times, in place of once."""

    def loss(x, x_hat, z_mean, z_log_var):
        k = np.sum(kl_terms(z_mean, np.exp(z_log_var / 2)), axis=1)
        return whole * np.mean(bce * nll(x, x_hat).sum(axis=1) + kl * k)

    return loss


def ten_times_the_mean(x, x_hat, z_mean, z_log_var):
    return np.mean(
        nll(x, x_hat).sum(axis=1)
        + 10 * kl_terms(z_mean, np.exp(z_log_var / 2)).mean(axis=1)
    )


def weight_1024(x, x_hat, z_mean, z_log_var):
    return np.mean(
        1024 * nll(x, x_hat).mean(axis=1)
        + kl_terms(z_mean, np.exp(z_log_var / 2)).sum(axis=1)
    )


def summed_over_the_batch(x, x_hat, z_mean, z_log_var):
    return nll(x, x_hat).sum() + kl_terms(z_mean, np.exp(z_log_var / 2)).sum()


class Fresh(layers.Layer):
    def call(self, inputs):
        return inputs[0] + tf.exp(inputs[1] / 2) * tf.random.normal(tf.shape(inputs[0]))


def fresh_function(inputs):
    return inputs[0] + ops.sqrt(ops.exp(inputs[1])) * keras.random.normal(
        ops.shape(inputs[0])
    )


def numbered_noise(inputs):
    return inputs[0] + ops.exp(0.5 * inputs[1]) * keras.random.normal(
        ops.shape(inputs[0]), seed=1
    )


def noise_of_a_batch(inputs):
    return inputs[0] + ops.exp(0.5 * inputs[1]) * keras.random.normal((1, 10))


def noise_of_a_code(inputs):
    return inputs[0] + ops.exp(0.5 * inputs[1]) * keras.random.normal(
        (ops.shape(inputs[0])[0], 1)
    )


def numpy_noise(inputs):
    return inputs[0] + ops.exp(0.5 * inputs[1]) * np.random.default_rng().normal(
        size=inputs[0].shape
    ).astype("float32")


def variance_noise(inputs):
    return inputs[0] + ops.exp(inputs[1]) * keras.random.normal(ops.shape(inputs[0]))


class DrawsByHand(vh.VAE):
    def call(self, inputs, training=None):
        mean, log_var = self.encoder(inputs)
        self._kl = ops.sum(vh.kl_to_prior(mean, log_var), axis=1)
        return self.decoder(
            mean + ops.exp(log_var / 2) * keras.random.normal(ops.shape(mean))
        )


class NeverDraws(vh.VAE):
    def call(self, inputs, training=None):
        z_mean, z_log_var = self.encoder(inputs)
        self._kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(z_mean)


class DrawsWide(vh.VAE):
    def call(self, inputs, training=None):
        z_mean, z_log_var = self.encoder(inputs)
        self._kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var + 3]))


def new_in_keras(encoder, decoder, images, n):
    return decoder(keras.random.normal((n, 10), seed=4))


def new_one_by_one(encoder, decoder, images, n):
    rng = np.random.default_rng()
    return decoder.predict(
        np.array([[rng.normal() for _ in range(10)] for _ in range(n)]), verbose=0
    )


def uniform_codes(encoder, decoder, images, n):
    return decoder(
        np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, (n, 10)).astype("float32")
    )


def new_by_reference(encoder, decoder, images, n):
    return exercises.load_reference()[1](keras.random.normal((n, 10), seed=4))


def same_code(encoder, decoder, images, n):
    return decoder(
        np.repeat(np.random.default_rng(0).normal(size=(1, 10)), n, axis=0).astype(
            "float32"
        )
    )


def short_codes(encoder, decoder, images, n):
    return decoder(
        (0.5 * np.random.default_rng(0).normal(size=(n, 10))).astype("float32")
    )


def pairs_in_a_loop(labels, n):
    rng, ends = np.random.default_rng(), []
    while len(ends) < n:
        a, b = rng.integers(len(labels)), rng.integers(len(labels))
        if labels[a] != labels[b]:
            ends.append((int(a), int(b)))
    return ends


def pairs_by_class(labels, n):
    classes = [np.flatnonzero(labels == c) for c in range(10)]
    steps = [(c, (c + 1 + k % 9) % 10, k) for k in range(n) for c in [k % 10]]
    return tf.constant(
        [
            [classes[a][k % len(classes[a])], classes[b][(7 * k) % len(classes[b])]]
            for a, b, k in steps
        ]
    )


def shuffled_pairs(labels, n):
    return np.random.default_rng(0).permutation(len(labels))[: 2 * n].reshape(n, 2)


def first_and_last(labels, n):
    order = np.argsort(labels)
    return np.stack([order[:n], order[::-1][:n]], axis=1)


def density_in_keras(z, z_mean, z_log_var):
    z, z_mean, z_log_var = (ops.cast(v, "float64") for v in (z, z_mean, z_log_var))
    return -0.5 * ops.sum(
        ops.square(z - z_mean) * ops.exp(-z_log_var) + z_log_var + np.log(2 * np.pi),
        axis=-1,
    )


def density_with_scipy(z, z_mean, z_log_var):
    return norm.logpdf(z, z_mean, np.exp(0.5 * z_log_var)).sum(axis=1)[:, None]


def density_half_corrected(z, z_mean, z_log_var):
    return -0.5 * (
        (z - z_mean) ** 2 / np.exp(z_log_var) + 0.5 * z_log_var + np.log(2 * np.pi)
    ).sum(axis=1)


def density_without_constant(z, z_mean, z_log_var):
    return -0.5 * ((z - z_mean) ** 2 / np.exp(z_log_var) + z_log_var).sum(axis=1)


def density_averaged(z, z_mean, z_log_var):
    return -0.5 * (
        (z - z_mean) ** 2 / np.exp(z_log_var) + z_log_var + np.log(2 * np.pi)
    ).mean(axis=1)


def memoriser_in_a_loop(binary, images):
    result = []
    for b in binary:
        log_p = np.array(
            [np.sum(np.log(np.where(b == 1, image, 1 - image))) for image in images]
        )
        top = log_p.max()
        result.append(-top - np.log(np.mean(np.exp(log_p - top))))
    return result


def memoriser_in_keras(binary, images):
    b, x = ops.convert_to_tensor(binary), ops.convert_to_tensor(images)
    log_p = b @ ops.transpose(ops.log(x)) + (1 - b) @ ops.transpose(ops.log(1 - x))
    return -(ops.logsumexp(log_p, axis=1) - float(np.log(len(images))))[:, None]


def likelihoods(binary, images):
    """log p of each binary image under each image's own Bernoulli distributions."""
    return binary @ np.log(images).T + (1 - binary) @ np.log(1 - images).T


def map_in_a_loop(z_mean, z_log_var, labels, label):
    kl = [kl_terms(m, np.exp(s / 2)).sum() for m, s in zip(z_mean.T, z_log_var.T)]
    first, second = sorted(range(len(kl)), key=lambda d: -kl[d])[:2]
    rows = [
        z_mean[i, [first, second]] for i in range(len(labels)) if labels[i] == label
    ]
    sigma = np.exp(z_log_var / 2)
    return [first, second], sum(rows) / len(rows), sigma[:, [first, second]]


def map_in_keras(z_mean, z_log_var, labels, label):
    kl = ops.mean(vh.kl_to_prior(z_mean, z_log_var), axis=0)
    dimensions = ops.top_k(kl, 2)[1]
    sigma = ops.sqrt(ops.exp(ops.take(z_log_var, dimensions, axis=1)))
    centre = ops.mean(ops.take(z_mean[labels == label], dimensions, axis=1), axis=0)
    return dimensions, ops.reshape(centre, (1, 2)), sigma


def map_with(by=None, order=(0, 1), power=1, whole=False):
    """A map with one thing changed: the ranking, its order, the axes, the centre."""

    def latent_map(m, s, labels, label):
        values = kl_terms(m, np.exp(s / 2)).mean(axis=0) if by is None else by(m, s)
        dims = np.argsort(values)[::-1][list(order)]
        centre = m[(labels == label) | whole][:, dims].mean(axis=0)
        return dims, centre, np.exp(power * s[:, dims] / 2)

    return latent_map


class FlagInherited(vh.VAE):
    def call(self, inputs, training=None):  # inner layers inherit the flag
        z_mean, z_log_var = self.encoder(inputs)
        self._kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var]))


class FlagAlwaysTrue(vh.VAE):
    def call(self, inputs):
        z_mean, z_log_var = self.encoder(inputs, training=True)
        self._kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var]), training=True)


class FlagForEncoder(vh.VAE):
    def call(self, inputs, training=None):
        z_mean, z_log_var = self.encoder(inputs, training=training)
        self._kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var]), training=False)


class FlagWithoutSum(vh.VAE):
    def call(self, inputs, training=None):
        z_mean, z_log_var = self.encoder(inputs, training=training)
        self._kl = ops.mean(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder(self.sampling([z_mean, z_log_var]), training=training)


PROJECTION = np.random.default_rng(7).normal(size=(784, 30)).astype("float32") / 28
COMPONENTS = np.linalg.svd(
    exercises.load_images()[0] - exercises.load_images()[0].mean(axis=0),
    full_matrices=False,
)[2][:20]


def refine_with(kl_weight=1.0, steps=100, rate=0.02):
    """Minimises reconstruction + kl_weight * KL, with the same noise in all steps."""

    def refine(decoder, x, z_mean, z_log_var):
        n = len(x)
        mean, log_var = tf.Variable(z_mean), tf.Variable(z_log_var)
        optimizer = keras.optimizers.RMSprop(rate)
        noise = np.random.default_rng(0).normal(size=(32, n, 10)).astype("float32")
        images = np.tile(x, (32, 1))

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                z = tf.reshape(mean + tf.exp(log_var / 2) * noise, (-1, 10))
                nll = tf.reduce_sum(vh.bernoulli_nll(images, decoder(z))) / 32
                kl = tf.reduce_sum(vh.kl_to_prior(mean, log_var))
                loss = nll + kl_weight * kl
            gradients = tape.gradient(loss, [mean, log_var])
            optimizer.apply(gradients, [mean, log_var])

        optimizer.build([mean, log_var])
        for _ in range(steps):
            step()
        return mean, log_var

    return refine


def refine_to_lists(decoder, x, z_mean, z_log_var):
    codes = refine_with(steps=60)(decoder, x, z_mean, z_log_var)
    return [part.numpy().tolist() for part in codes]


def refine_the_decoder(decoder, x, z_mean, z_log_var):
    decoder.set_weights([weight * 0.99 for weight in decoder.get_weights()])
    return z_mean, z_log_var


def optimise_codes(decoder, x, visible, start, steps=150):
    z, optimizer = tf.Variable(start), keras.optimizers.Adam(0.1)
    optimizer.build([z])
    indices = np.flatnonzero(visible)
    seen = tf.constant(x[:, indices])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            x_hat = tf.gather(decoder(z), indices, axis=1)
            loss = tf.reduce_sum(vh.bernoulli_nll(seen, x_hat) + tf.norm(z, axis=1) / 2)
        optimizer.apply([tape.gradient(loss, z)], [z])

    for _ in range(steps):
        step()
    return tf.where(visible, x, decoder(z))


def nearest_draws(decoder, x, visible, n=4_000):
    """Draws from the prior (n, 10), their images, -log p of the visible pixels."""
    z = np.random.default_rng(3).normal(size=(n, 10)).astype("float32")
    images = np.asarray(decoder(z)).clip(1e-6, 1 - 1e-6)
    return z, images, -likelihoods(x[:, visible], images[:, visible])


def inpaint_from_training_images(encoder, decoder, x, visible):
    others = exercises.load_images()[0][1000:]
    distances = ((x[:, None, visible] - others[None, :, visible]) ** 2).sum(axis=2)
    start = np.asarray(encoder(others[distances.argmin(axis=1)])[0])
    return optimise_codes(decoder, x, visible, start)


def inpaint_with_weights(encoder, decoder, x, visible):
    """The mean over draws from the prior, weighted by the likelihood of what is seen."""
    z, images, nll = nearest_draws(decoder, x, visible)
    weights = np.exp(nll.min(axis=1, keepdims=True) - nll)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.where(visible, x, weights @ images)


def inpaint_with_the_best_draw(encoder, decoder, x, visible):
    z, images, nll = nearest_draws(decoder, x, visible)
    return [np.where(visible, a, b) for a, b in zip(x, images[nll.argmin(axis=1)])]


def inpaint_by_repeating(encoder, decoder, x, visible):
    images = x
    for _ in range(20):
        images = np.where(visible, x, decoder(encoder(images)[0]))
    return images


def inpaint_once(encoder, decoder, x, visible):
    return np.where(visible, x, decoder(encoder(x)[0]))


def digits(scale=1 / 16, dtype="float32", shape=(784,), cuts=(1400, 1600), start=1600):
    """Other images as the solutions make them, with something changed."""
    from sklearn.datasets import load_digits

    large = (
        np.pad(np.kron(load_digits().images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
        * scale
    )
    images = large.reshape(-1, *shape).astype(dtype)
    return images[: cuts[0]], images[cuts[0] : cuts[1]], images[start:]


def noisy_bars():
    rng = np.random.default_rng(0)
    images = np.zeros((900, 28, 28), "float32")
    for image in images:
        image[:, rng.integers(28)] = image[rng.integers(28)] = rng.uniform(0.3, 1)
    return tuple(
        tf.constant(part.reshape(-1, 784)) for part in np.split(images, [700, 800])
    )


def garments():
    return tuple(np.split(exercises.load_images()[0], [1500, 1700]))


def conv_encoder(filters=8, heads=None, width=32, twin=False, kind=layers.Conv2D):
    image = keras.Input((784,))
    x = kind(filters, 5, strides=3, padding="same", activation="gelu")(
        layers.Reshape((28, 28, 1))(image)
    )
    x = layers.Dense(width, activation="relu")(layers.Flatten()(x))
    mean = layers.Dense(10, activation=heads)(x)
    return keras.Model(
        image, [mean, mean if twin else layers.Dense(10, activation=heads)(x)]
    )


def conv_sequential():
    body = keras.Sequential([layers.Reshape((28, 28, 1)), layers.Conv2D(16, 3, strides=4, activation="relu"),
                             layers.GlobalAveragePooling2D()])  # fmt: skip
    image = keras.Input((784,))
    x = body(image)
    return keras.Model(image, (layers.Dense(10)(x), layers.Dense(10)(x)))


class Conditional(vh.VAE):
    def call(self, inputs):
        z_mean, z_log_var = self.encoder(inputs)
        self._kl = ops.sum(vh.kl_to_prior(z_mean, z_log_var), axis=-1)
        return self.decoder([self.sampling([z_mean, z_log_var]), inputs[1]])


def conditional(
    latent_dim=10,
    to_encoder=True,
    use_label=True,
    use_code=True,
    last="sigmoid",
    shift=0,
    activation="relu",
):
    image, label, z = (
        keras.Input((784,)),
        keras.Input((10,)),
        keras.Input((latent_dim,)),
    )
    x = layers.Dense(128, activation=activation)(
        layers.Concatenate()([image, label]) if to_encoder else image
    )
    encoder = keras.Model(
        [image, label], [layers.Dense(latent_dim)(x), layers.Dense(latent_dim)(x)]
    )
    inputs = [z] * use_code + [label] * use_label
    x = layers.Dense(128, activation=activation)(
        layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    )
    decoder = keras.Model([z, label], layers.Dense(784, activation=last)(x))
    return Conditional(encoder, decoder)


class UnsummedConditional(Conditional):
    def call(self, inputs):
        z_mean, z_log_var = self.encoder(inputs)
        self._kl = vh.kl_to_prior(z_mean, z_log_var)
        return self.decoder([self.sampling([z_mean, z_log_var]), inputs[1]])


class MisshapenConditional(Conditional):
    def call(self, inputs):
        return inputs[0] + inputs[1]


def rebuilt(kind):
    model = conditional()
    return kind(model.encoder, model.decoder)


class Schedule(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight.assign(
            np.sin(np.pi / 2 * min(epoch / self.epochs, 1)) ** 2
        )


def scheduled(weight, assign=True):
    """Builds a callback that sets the KL weight to `weight(epoch, epochs)`."""

    def make(vae, epochs):
        def begin(epoch, logs=None):
            if assign:
                vae.kl_weight.assign(weight(epoch, epochs))
            else:
                vae.kl_weight = weight(epoch, epochs)

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin)

    return make


def half_cosine(epoch, epochs):
    return 0.5 - 0.5 * np.cos(np.pi * min(epoch, epochs) / epochs)


RIGHT = {
    "grey_card": [
        (500, GREY),
        (0, np.float32(543)),
        ([1.0], tf.constant([543.43])),
        (1, 543.4),
    ],
    "other_data": [
        (solution("other_images"),),
        (noisy_bars,),
        (lambda: list(digits(cuts=(1000, 1200), start=1200)),),
    ],
    "parameters": [(1, 159_794), (1, 159_794.0), (np.array([3]), tf.constant(159_794))],
    "dead_units": [
        (solution("dead_units"),),
        (dead_in_a_loop,),
        (
            lambda codes: tf.reduce_sum(
                tf.cast(tf.reduce_all(codes == 0, axis=0), "int32")
            ),
        ),
        (lambda codes: [np.sum(np.std(codes, axis=0) == 0)],),
    ],
    "kl_by_hand": [
        (1, KL_TERMS.sum()),
        (2, 2.32),
        (3, ops.sum(ops.convert_to_tensor(KL_TERMS))),
    ],
    "which_beta": [
        ([2.048, 784, 0.05],),
        (np.array([[2.05], [784.0], [0.05]]),),
        (tf.constant([2.048, 784, 0.05]),),
    ],
    "draw": [
        (solution("draw"),),
        (lambda m, s, noise: m + np.sqrt(np.exp(s)) * noise,),
        (lambda m, s, noise: tf.add(m, tf.multiply(tf.exp(s / 2), noise)),),
    ],
    "kl": [
        (solution("kl"),),
        (lambda m, s: ops.sum(vh.kl_to_prior(m, s), axis=1),),
        (lambda m, s: [[sum(kl_terms(a, np.exp(b / 2)))] for a, b in zip(m, s)],),
        (lambda m, s: -0.5 * tf.reduce_sum(1 + s - m**2 - tf.exp(s), axis=-1),),
    ],
    "memoriser": [
        (6, solution("memoriser_nll")),
        (50, memoriser_in_a_loop),
        (0, memoriser_in_keras),
    ],
    "latent_map": [(solution("latent_map"),), (map_in_a_loop,), (map_in_keras,)],
    "loss": [(solution("vae_loss"),), (loss_in_keras,), (loss_in_a_loop,)],
    "any_size": [(solution("any_size_loss"),), (loss_in_keras,), (loss_in_a_loop,)],
    "sampling_layer": [
        (solution("Noise"),),
        (Fresh,),
        (vh.Sampling(),),
        (fresh_function,),
    ],
    "validation": [(solution("TidyVAE"),), (vh.VAE,), (DrawsByHand,)],
    "training_flag": [(solution("RegularisedVAE"),), (vh.VAE,), (FlagInherited,)],
    "convolutional": [
        (solution("build_conv_encoder"),),
        (conv_encoder,),
        (conv_sequential,),
    ],
    "conditional": [
        (solution("build_conditional"),),
        (functools.partial(conditional, 4),),
        (functools.partial(conditional, activation="gelu"),),
    ],
    "inside_ball": [(0.5, 0.000172), (0, 0.00012), (0.1, tf.constant([0.0002]))],
    "traverse": [(solution("traverse"),), (traverse_in_a_loop,), (traverse_with_ops,)],
    "slerp": [(solution("slerp"),), (arc_by_hand,), (arc_in_tensorflow,)],
    "new_garments": [(solution("new_garments"),), (new_in_keras,), (new_one_by_one,)],
    "pairs": [(solution("pairs"),), (pairs_in_a_loop,), (pairs_by_class,)],
    "draw_like": [(solution("draw_like"),), (draw_with_cholesky,), (draw_with_svd,)],
    "own_features": [
        (solution("my_features"),),
        (lambda x: np.asarray(x) @ COMPONENTS.T,),
        (lambda x: ops.relu(ops.convert_to_tensor(x) @ PROJECTION),),
    ],
    "schedule": [
        (solution("cosine_warm_up"),),
        (lambda vae, epochs: Schedule(epochs),),
        (scheduled(half_cosine),),
        (scheduled(half_cosine, assign=False),),
    ],
    "log_density": [(solution("log_q"),), (density_in_keras,), (density_with_scipy,)],
    "refine": [(solution("refine"),), (refine_with(),), (refine_to_lists,)],
    "inpaint": [
        (solution("inpaint"),),
        (inpaint_from_training_images,),
        (inpaint_with_weights,),
        (inpaint_with_the_best_draw,),
    ],
}
WRONG = {
    "grey_card": [
        ((1, np.log(2)), "one pixel"),
        ((1, 784.0), "in bits"),
        ((1, 0), "is not 0"),
        ((1, 190), "too small"),
        ((1, float("nan")), "NaN"),
        ((1, [1, 2]), "one number"),
        ((1, "many"), "one number, without quotes or commas"),
        ((1, "543.4"), "without quotes"),
    ],
    "other_data": [
        ((functools.partial(digits, scale=1),), "from 0 to 16"),
        ((functools.partial(digits, dtype="float64"),), "float32"),
        ((functools.partial(digits, shape=(28, 28)),), "rows of 784"),
        ((functools.partial(digits, start=0),), "share images"),
        ((garments,), "Fashion-MNIST"),
    ],
    "parameters": [
        ((1, 158_800), "after its matrix product"),
        ((1, 79_510), "half"),
        ((1, 223_586), "too large"),
        ((1, "159,794"), "without quotes"),
        ((1, "159794"), "without quotes"),
    ],
    "dead_units": [
        ((lambda codes: (codes == 0).any(axis=0).sum(),), "not dead"),
        ((lambda codes: (codes == 0).all(axis=1).sum(),), "images"),
        ((lambda codes: (codes == 0).all(axis=0).mean(),), "share"),
        ((lambda codes: (codes.max(axis=0) > 0).sum(),), "active units"),
        ((lambda codes: (codes == 0).sum(),), "single zeros"),
        ((lambda codes: (codes.mean(axis=0) < 1e-2).sum(),), "active rarely"),
        ((lambda codes: (codes.sum(axis=0) < 1).sum(),), "active rarely"),
        ((lambda codes: (codes == 0).all(axis=0),), "one number"),
        ((lambda codes: (codes[0] == 0).sum(),), "first image"),
    ],
    "kl_by_hand": [
        ((1, KL_TERMS.mean()), "average"),
        ((1, KL_TERMS.sum() / np.log(2)), "in bits"),
        ((1, -KL_TERMS.sum()), "negative"),
        ((1, 2.0966), "standard deviation or the variance"),
        ((1, 2.0), "only one of the two"),
        ((1, 9), "too large"),
    ],
    "which_beta": [
        (([500, 784, 0.05],), "first value is too large"),
        (([2.048, 1, 0.05],), "second value is too small"),
        (([2.048, 784, 20],), "third value is inverted"),
        ((2.048,), "shape"),
        ((["2.048", "784", "0.05"],), "without quotes"),
    ],
    "draw": [
        ((lambda m, s, noise: m + np.exp(s) * noise,), "scaled by the variance"),
        ((lambda m, s, noise: m + noise,), "added unscaled"),
        ((lambda m, s, noise: np.exp(0.5 * s) * noise,), "should be the mean"),
        ((lambda m, s, noise: m + s * noise,), "negative"),
        ((lambda m, s, noise: m,), "not used"),
        ((lambda m, s, noise: m + np.exp(0.5 * s) * noise[0],), "share"),
    ],
    "kl": [
        (
            (lambda m, s: kl_terms(m, np.exp(s / 2)).mean(axis=1),),
            "ten times too small",
        ),
        ((lambda m, s: kl_terms(m, np.exp(s / 2)).sum(),), "whole batch"),
        ((lambda m, s: kl_terms(m, np.exp(s / 2)),), "each dimension of each image"),
        ((lambda m, s: kl_terms(m, np.exp(s / 2)).sum(axis=0),), "ten numbers"),
        ((lambda m, s: 2 * kl_terms(m, np.exp(s / 2)).sum(axis=1),), "twice as large"),
        ((lambda m, s: -kl_terms(m, np.exp(s / 2)).sum(axis=1),), "sign"),
        (
            (lambda m, s: 0.5 * (m**2 + np.exp(0.5 * s) - 1 - 0.5 * s).sum(axis=1),),
            "part of the width",
        ),
        (
            (lambda m, s: 0.5 * (np.abs(m) + np.exp(s) - 1 - s).sum(axis=1),),
            "part of the mean",
        ),
        (
            (lambda m, s: 0.5 * (m**2 + np.exp(s) - s).sum(axis=1),),
            "should be 0",
        ),
    ],
    "memoriser": [
        (
            (6, lambda b, x: -np.log(np.exp(likelihoods(b, x)).mean(axis=1))),
            "logarithms",
        ),
        ((6, lambda b, x: -logsumexp(likelihoods(b, x), axis=1)), "costs nothing"),
        (
            (6, lambda b, x: -likelihoods(b, x).mean(axis=1)),
            "average of the logarithms",
        ),
        (
            (6, lambda b, x: np.log(len(x)) - likelihoods(b, x).max(axis=1)),
            "nearest image only",
        ),
        ((6, lambda b, x: -1 * solution("memoriser_nll")(b, x)), "change the sign"),
        ((6, lambda b, x: likelihoods(b, x)), "shape"),
        ((6, lambda b, x: 2 * solution("memoriser_nll")(b, x)), "too large"),
    ],
    "latent_map": [
        ((map_with(by=lambda m, s: m.var(axis=0)),), "variance of the means"),
        ((map_with(by=lambda m, s: -s.mean(axis=0)),), "largest mean KL"),
        ((map_with(order=(-1, -2)),), "smallest mean KL"),
        ((map_with(order=(1, 0)),), "reversed"),
        ((map_with(power=2),), "variances"),
        ((map_with(power=4),), "not the standard deviations"),
        ((map_with(whole=True),), "all images"),
        ((lambda *arguments: map_in_a_loop(*arguments)[:2],), "three things"),
    ],
    "loss": [
        ((planted("vae_loss"),), "one nat of KL adds 0.1"),
        ((ten_times_the_mean,), "not for another"),
        ((loss_with(1 / 784, 1),), "0.00127"),
        ((loss_with(1, 1, 1 / 784),), "the scale is not"),
        ((summed_over_the_batch,), "number of images"),
        ((loss_by_image,), "average over the batch"),
    ],
    "any_size": [
        ((planted("any_size_loss"),), "reconstruction adds 0.488"),
        ((weight_1024,), "not for another"),
        ((loss_by_image,), "average over the batch"),
        ((loss_with(1, 2.048),), "one nat of KL adds 2.048"),
    ],
    "sampling_layer": [
        ((planted("Noise"),), "the same codes"),
        ((numbered_noise,), "the same codes"),
        ((noise_of_a_batch,), "for all images"),
        ((noise_of_a_code,), "correlated"),
        ((numpy_noise,), "not in training"),
        ((variance_noise,), "mean and the width"),
        ((lambda inputs: inputs[0],), "no noise"),
    ],
    "validation": [
        ((planted("TidyVAE"),), "in validation"),
        ((NeverDraws,), "in training"),
        ((DrawsWide,), "not follow the encoder"),
    ],
    "training_flag": [
        ((planted("RegularisedVAE"),), "the encoder's BatchNormalization"),
        ((FlagForEncoder,), "the decoder's BatchNormalization"),
        ((FlagAlwaysTrue,), "in validation, too"),
        ((FlagWithoutSum,), "KL is not"),
    ],
    "convolutional": [
        ((vh.build_encoder,), "no two-dimensional"),
        ((functools.partial(conv_encoder, heads="relu"),), "never negative"),
        ((functools.partial(conv_encoder, width=512),), "quarter"),
        ((functools.partial(conv_encoder, twin=True),), "same numbers"),
    ],
    "conditional": [
        ((functools.partial(conditional, use_label=False),), "for every class"),
        ((functools.partial(conditional, use_code=False),), "for every code"),
        ((functools.partial(conditional, to_encoder=False),), "the encoder returns"),
        ((functools.partial(rebuilt, UnsummedConditional),), "one number per image"),
        (
            (functools.partial(rebuilt, MisshapenConditional),),
            "Incompatible shapes: [512,784] vs. [512,10]",
        ),
        ((functools.partial(conditional, last=None),), "not all in [0, 1]"),
        ((lambda: vh.VAE(vh.build_encoder(), vh.build_decoder()),), "two inputs"),
    ],
    "inside_ball": [
        ((0.1, 0.6827), "in one dimension"),
        ((0.1, 0.0), "many more"),
        ((0.1, 0.0172), "percent"),
        ((0.1, 0.0211), "cube"),
        ((0.1, 0.0222), "cube"),
        ((0.1, 0.4), "too large"),
    ],
    "traverse": [
        ((traverse_all,), "all dimensions"),
        ((traverse_in_a_row,), "your code raised an error"),
        (
            (lambda decoder, d, v: decoder(np.zeros((len(v), 9), "float32")),),
            "your code raised an error",
        ),
        ((traverse_with_reference,), "not come from the decoder"),
        ((lambda decoder, d, v: np.outer(v, np.eye(10)[d]),), "are they decoded"),
        ((lambda decoder, d, v: traverse_in_a_loop(decoder, d, v[::-1]),), "reversed"),
        (
            (lambda decoder, d, v: traverse_in_a_loop(decoder, (d + 1) % 10, v),),
            "should stay at 0",
        ),
        (
            (lambda decoder, d, v: traverse_in_a_loop(decoder, d, 0 * v),),
            "nothing changes",
        ),
    ],
    "slerp": [
        ((lambda a, b, t: a + t[:, None] * (b - a),), "straight line"),
        ((arc_of_chapter_04,), "same direction"),
        ((arc_unless_cosine_is_one,), "rounding"),
        ((stretched_line,), "not equal steps"),
        ((lambda a, b, t: arc_by_hand(b, a, t),), "reversed"),
    ],
    "new_garments": [
        ((planted("new_garments"),), "where do the codes come from"),
        ((uniform_codes,), "shape is not"),
        ((same_code,), "same garment"),
        ((short_codes,), "spread"),
        ((new_by_reference,), "not come from the decoder"),
    ],
    "pairs": [
        ((planted("pairs"),), "two ends of each interpolation"),
        ((shuffled_pairs,), "in the same class"),
        ((lambda labels, n: labels[pairs_in_a_loop(labels, n)],), "to be classes"),
        ((first_and_last,), "never occur"),
    ],
    "draw_like": [
        (
            (
                lambda c, n: np.random.default_rng(0).normal(
                    c.mean(0), c.std(0), (n, 4)
                ),
            ),
            "correlated",
        ),
        (
            (
                lambda c, n: np.random.default_rng(0).normal(
                    c.mean(0), c.var(0), (n, 4)
                ),
            ),
            "its square root",
        ),
        ((draw_without_root,), "its square root"),
        (
            (lambda c, n: 2 * draw_with_cholesky(c, n) - c.mean(0),),
            "not have the spread",
        ),
        (
            (lambda c, n: c[np.random.default_rng(0).integers(len(c), size=n)],),
            "not new ones",
        ),
        (
            (lambda c, n: np.random.default_rng(0).normal(size=(n, 4)),),
            "mean of the draws",
        ),
        ((lambda c, n: draw_with_cholesky(c, 10),), "shape"),
    ],
    "own_features": [
        ((lambda x: x.mean(axis=1),), "shape"),
        ((lambda x: x,), "from 2 to 100"),
        ((lambda x: np.sort(x, axis=1)[:, ::20],), "pixels in random order"),
        ((lambda x: x @ np.random.default_rng().normal(size=(784, 9)),), "two calls"),
        ((lambda x: (x - x.mean(axis=0)) @ COMPONENTS.T,), "other images"),
        ((lambda x: np.ones((len(x), 3)),), "do not see"),
    ],
    "schedule": [
        ((scheduled(lambda e, n: min(1, e / n)),), "linear warm-up"),
        ((scheduled(lambda e, n: 0.5 - 0.5 * np.cos(np.pi * e / n)),), "stay at 1"),
        ((scheduled(lambda e, n: 1.0),), "never changes"),
        ((scheduled(lambda e, n: 1 - half_cosine(e, n)),), "should be 0"),
        ((scheduled(lambda e, n: min(1, e / n) ** 2),), "halfway"),
        ((lambda vae, n: half_cosine,), "a Keras callback"),
    ],
    "log_density": [
        ((planted("log_q"),), "the width is wrong"),
        ((density_half_corrected,), "integrates to"),
        ((density_without_constant,), "constant is missing"),
        ((density_averaged,), "three are not"),
        (
            (lambda *arguments: np.exp(density_with_scipy(*arguments)),),
            "not its logarithm",
        ),
    ],
    "refine": [
        ((lambda decoder, x, *codes: codes,), "only"),
        ((refine_with(steps=3, rate=1e-4),), "only"),
        ((refine_with(kl_weight=0.0, steps=400),), "minimise their sum"),
        ((lambda decoder, x, m, s: (m + 1, s),), "worse"),
        ((lambda decoder, x, m, s: (m[:1], s),), "shape"),
        ((refine_the_decoder,), "decoder has changed"),
        ((lambda decoder, x, m, s: m,), "two arrays"),
    ],
    "inpaint": [
        ((lambda encoder, decoder, x, visible: x,), "still black"),
        ((inpaint_once,), "taken for black"),
        ((inpaint_by_repeating,), "other garments"),
        ((lambda encoder, decoder, x, v: decoder(encoder(x)[0]),), "stay as they are"),
        ((lambda encoder, decoder, x, v: x + 2 * ~v,), "in [0, 1]"),
    ],
}


BUGS = {
    "loss",
    "any_size",
    "sampling_layer",
    "validation",
    "training_flag",
    "new_garments",
    "pairs",
    "log_density",
}


def verdict(name, answers, capsys):
    """The verdict with its hint, on an exercise that was not answered before."""
    exercises.VERDICTS[name] = "not answered yet"
    getattr(exercises, name)(*answers)
    is_first = exercises.VERDICTS[name] == exercises.FIRST_VERDICT
    assert not is_first or name in BUGS
    if is_first:
        getattr(exercises, name)(*answers)
    printed = capsys.readouterr().out.strip()
    assert printed.splitlines()[-1] == exercises.VERDICTS[name]
    return exercises.VERDICTS[name]


def each(table):
    return [
        pytest.param(name, answer, id=f"{name}-{i}")
        for name in table
        for i, answer in enumerate(table[name])
    ]


@pytest.mark.parametrize("name, answer", each(RIGHT))
def test_right_answers_pass_however_written(name, answer, capsys):
    assert verdict(name, answer, capsys).startswith("right")


@pytest.mark.parametrize("name, wrong", each(WRONG))
def test_a_wrong_answer_gets_a_hint_of_its_own(name, wrong, capsys):
    answer, hint = wrong
    message = verdict(name, answer, capsys)
    assert message.startswith("not yet: ") and hint in message
    assert "\n" not in message and "\x1b" not in message


def test_every_check_has_several_right_and_wrong_answers():
    assert list(RIGHT) == list(WRONG) == list(exercises.VERDICTS)
    assert all(len(RIGHT[name]) >= 3 and len(WRONG[name]) >= 2 for name in RIGHT)


def test_no_message_gives_the_answer_away():
    """The messages for wrong answers hold neither code nor the requested numbers."""
    source = (course.ROOT / "course" / "exercises.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    raised = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "WrongAnswer"
    ]
    parts = [
        part
        for node in raised
        for part in ast.walk(node)
        if isinstance(part, ast.Constant)
    ]
    assert len(raised) > 110
    for message in [part.value for part in parts if isinstance(part.value, str)]:
        assert not re.search(
            r"np\.|ops\.|axis=|\*\*|exp\(|\.(sum|mean|max|min)\b|half of the log",
            message,
        ), message
        assert not re.search(
            r"\b(543|159.?794|2\.3\d|0\.0001\d|2\.05|2\.048|0\.05)\b", message
        ), message


@pytest.mark.parametrize("name", sorted(BUGS))
def test_the_first_verdict_on_a_bug_gives_no_hint(name, capsys):
    wrong, hint = WRONG[name][0]
    verdict(name, RIGHT[name][0], capsys)
    getattr(exercises, name)(*wrong)
    assert capsys.readouterr().out.strip() == exercises.FIRST_VERDICT
    assert hint not in exercises.FIRST_VERDICT
    getattr(exercises, name)(*wrong)
    assert hint in capsys.readouterr().out


def test_no_picture_shows_what_a_bug_does():
    """No cell that is not an answer calls a program with a bug."""
    answers = [cell.source for cell in EXERCISES.cells if has_tag(cell, "answer")]
    for cell in EXERCISES.cells:
        if cell.cell_type == "code" and not has_tag(cell, "nbval-check-output"):
            assert has_tag(cell, "answer") or not any(
                f"{name}(" in cell.source
                for answer in answers
                for name in re.findall(r"^(?:def|class) (\w+)", answer, re.M)
            ), cell.source


@pytest.mark.parametrize("name", list(RIGHT))
def test_a_missing_answer_is_no_mistake(name, capsys):
    number = len(RIGHT[name][0])
    assert verdict(name, [None] * number, capsys) == "not answered yet"
    if callable(RIGHT[name][0][0]):
        assert verdict(name, [lambda *arguments: ...], capsys) == "not answered yet"


def test_a_prediction_is_required_and_never_judged(capsys):
    assert (
        verdict("grey_card", [None, GREY], capsys)
        == "not answered yet: the prediction is missing."
    )
    assert (
        verdict("grey_card", ["about 300", GREY], capsys)
        == "right: the result is 543.4 nats; your prediction is not one number."
    )


@pytest.mark.parametrize(
    "name", [name for name in RIGHT if callable(RIGHT[name][0][0])]
)
def test_an_answer_that_raises_an_error_gets_a_sentence(name, capsys):
    def broken(*arguments):
        return not_defined_anywhere  # noqa: F821

    message = verdict(name, [broken], capsys)
    assert message.startswith("not yet: ") and "NameError" in message
    assert "Traceback" not in message
    message = verdict(name, [lambda *arguments: None], capsys)
    assert message.startswith("not yet: ") and "return" in message
    assert verdict(name, [42], capsys).startswith("not yet: ")
    assert verdict(name, [lambda *arguments: "text"], capsys).startswith("not yet: ")


def test_a_message_names_the_line_that_raised_the_error(capsys):
    source = "def kl(z_mean, z_log_var):\n    x = z_mean\n    return x / nothing\n"
    scope = {}
    exec(compile(source, "ipykernel_1/1.py", "exec"), scope)
    assert "in line 3 of its cell (NameError" in verdict("kl", [scope["kl"]], capsys)


def test_summary_lists_every_verdict(capsys):
    exercises.kl(RIGHT["kl"][0][0])
    exercises.draw(None)
    capsys.readouterr()
    exercises.summary()
    printed = capsys.readouterr().out
    assert re.search(r"^kl +right$", printed, re.M)
    assert re.search(r"^draw +not answered yet$", printed, re.M)


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
    assert sum(has_tag(cell, "answer") for cell in SOLUTIONS.cells) == len(
        exercises.VERDICTS
    )


def test_exercises_hold_no_solutions():
    assert not any(has_tag(cell, "explanation") for cell in EXERCISES.cells)
    given = [cell.source for cell in EXERCISES.cells if has_tag(cell, "answer")]
    solved = [cell.source for cell in SOLUTIONS.cells if has_tag(cell, "answer")]
    assert len(given) == len(solved) and not set(given) & set(solved)
    rest = [cell.source for cell in EXERCISES.cells if not has_tag(cell, "answer")]
    for question, answer in zip(given, solved):
        for line in {line.split("#")[0].strip() for line in answer.splitlines()}:
            if len(line) > 25 and line not in question:
                assert not any(line in source for source in rest), line


def stored_verdicts(notebook):
    cells = [
        cell
        for cell in notebook.cells
        if re.match(r"exercises\.(?!summary)", cell.source)
    ]
    assert all(has_tag(cell, "nbval-check-output") for cell in cells), (
        "a verdict that nbval does not compare"
    )
    return {
        re.match(r"exercises\.(\w+)", c.source)[1]: "".join(
            o.text for o in c.outputs
        ).strip()
        for c in cells
    }


def test_stored_verdicts_are_right_in_the_solutions_alone():
    unanswered, solved = stored_verdicts(EXERCISES), stored_verdicts(SOLUTIONS)
    assert list(unanswered) == list(solved) == list(exercises.VERDICTS), (
        "a check that no exercise uses, or out of order"
    )
    assert all(text.startswith("right") for text in solved.values()), solved
    assert {n for n, text in unanswered.items() if text.startswith("not yet")} == BUGS
    assert {unanswered[name] for name in BUGS} == {exercises.FIRST_VERDICT}, (
        "a stored verdict that says what is wrong"
    )
    assert all(
        text.startswith("not answered yet")
        for name, text in unanswered.items()
        if name not in BUGS
    )


def table_rows():
    """The rows of the table of exercises: (number, name, kind, chapter, minutes)."""
    table = next(
        cell.source
        for cell in EXERCISES.cells
        if cell.source.startswith("## All exercises")
    )
    return re.findall(
        r"^\| (\d+) \| (.+?) \| (.+?) \| (\d\d) \| (\d+) \|$", table, re.M
    )


def test_the_table_lists_the_exercises():
    pattern = r"### (\d+) · (.+)\n\n\*Chapter (\d\d), (\d+) minutes\. (.+)\.\* "
    headings = [
        re.match(pattern, cell.source)
        for cell in EXERCISES.cells
        if cell.source.startswith("### ")
    ]
    assert all(headings)
    assert [h.groups() for h in headings] == [
        (n, name, chapter, minutes, kind.capitalize())
        for n, name, kind, chapter, minutes in table_rows()
    ]
    numbers, chapters = [[row[i] for row in table_rows()] for i in (0, 3)]
    assert numbers == [str(i + 1) for i in range(len(exercises.VERDICTS))]
    assert chapters == sorted(chapters)
    kinds = [row[2] for row in table_rows()]
    assert kinds.count("find the bug") == len(BUGS)
    assert kinds.count("warm-up") >= 3 and kinds.count("build") >= 4
    assert kinds.count("stretch") >= 4
    assert set(chapters) == {path.name[:2] for path in refresh.chapters()}


def test_the_marking_guide_has_every_exercise():
    rows = re.findall(
        r"^\| (\d+) \| (.+?) \| (.+?) \| (\d\d) \| (\d+) \| (\d+) \| .{20,} \| .{20,} \|$",
        MARKING,
        re.M,
    )
    assert [row[:5] for row in rows] == table_rows()
    assert re.search(rf"\b{sum(int(row[5]) for row in rows)} points", MARKING), (
        "the sum of the points"
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("make") and (course.ROOT / ".git").exists()),
    reason="needs make and a git clone",
)
def test_the_handout_has_exercises_and_no_solutions(tmp_path):
    subprocess.run(["make", "-s", "handout"], cwd=course.ROOT, check=True)
    with zipfile.ZipFile(course.ROOT / "build" / "handout.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    secret = re.compile(r"solution|marking|test_|/tests/")
    assert not [name for name in names if secret.search(name)]
    folder = next(tmp_path.iterdir()) / "notebooks"
    notebook = nbformat.read(folder / "exercises.ipynb", as_version=4)
    first = [cell.source for cell in notebook.cells if cell.cell_type == "code"][:2]
    program = "\n".join(
        [
            *first,
            "exercises.grey_card(1, 784 * np.log(2))",
            "exercises.validation(vh.VAE)",
        ]
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert run.stdout.splitlines()[-2].startswith("right"), run.stderr
    assert run.stdout.endswith("right\n"), run.stderr
