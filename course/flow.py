"""A prior that is learned: flow matching on the codes of an autoencoder (chapter 07).

A network learns the velocity at which a point moves from noise, N(0, I), at time 0, to
a code at time 1. To sample, draw noise and follow the velocity. Lipman et al. (2023),
"Flow Matching for Generative Modeling"; the path is their straight one, with no noise
left at the code.
"""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers, ops

import course
from course import saving

REFERENCE = course.REFERENCE / "flow.keras"
AUTOENCODER = course.REFERENCE / "autoencoder.keras"  # on its codes it was trained
ANY = 10  # the label that stands for "any class"


def build_velocity(dimensions=18, width=128):
    """The velocity of a point: three hidden layers of `width` units, GELU.

    Inputs: points (batch, dimensions), times (batch, 1) from 0 to 1, labels (batch,)
    from 0 to 9, or 10 for "any class". Output: velocities (batch, dimensions).
    """
    point = keras.Input((dimensions,), name="point")
    time = keras.Input((1,), name="time")
    label = keras.Input((), dtype="int32", name="label")
    x = layers.Concatenate()([point, time, layers.Embedding(11, 16)(label)])
    for _ in range(3):
        x = layers.Dense(width, activation="gelu")(x)
    return keras.Model([point, time, label], layers.Dense(dimensions)(x))


@keras.saving.register_keras_serializable(package="vae_course")
class Flow(keras.Model):
    """Flow matching (Lipman et al. 2023) on codes (batch, d) times `scale`, fitted on
    `(codes, labels)`. The loss is the squared error of the velocity, a mean over d."""

    def __init__(self, velocity, scale=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.velocity, self.scale, self.seed = velocity, scale, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, code):
        noise = keras.random.normal(ops.shape(code), seed=self.seed_generator)
        t = keras.random.uniform((ops.shape(code)[0], 1), seed=self.seed_generator)
        end = code * self.scale
        return (1 - t) * noise + t * end, t, end - noise  # point, time, velocity

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        point, t, velocity = y_pred
        is_hidden = keras.random.uniform(ops.shape(y), seed=self.seed_generator) < 0.1
        label = ops.where(is_hidden, ANY, ops.cast(y, "int32"))
        return ops.mean(ops.square(self.velocity([point, t, label]) - velocity))

    def get_config(self):
        own = dict(velocity=self.velocity, scale=self.scale, seed=self.seed)
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


def train(codes, labels, seed):
    """Chapter 07's flow, trained as there on codes (n, d) and labels (n,)."""
    keras.utils.set_random_seed(seed)
    flow = Flow(build_velocity(codes.shape[1], 192), scale=float(1 / codes.std()))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, 100 * -(-len(codes) // 256))
    flow.compile(optimizer=keras.optimizers.Adam(rate))
    vh.fit(flow, codes, labels, epochs=100, batch_size=256)
    return flow


def carry(flow, label, count, steps=20, guidance=0.0, seed=0):
    """Points on their way from noise to codes: (steps + 1, count, d).

    They follow the velocity by the midpoint rule. `label` is a class, 10 for any class,
    or an array (count,) of them. With guidance w, the velocity is v + w (v - v of any
    class) (Ho and Salimans 2022).
    """
    label = np.broadcast_to(label, count).astype("int32")

    def velocity(z, t, label=label):
        t = np.full((count, 1), t, "float32")
        return np.asarray(flow.velocity([z, t, label]))

    def guided(z, t):
        v, any_class = velocity(z, t), np.full(count, ANY, "int32")
        return v + guidance * (v - velocity(z, t, any_class)) if guidance else v

    shape = count, flow.velocity.output.shape[1]
    way = [np.random.default_rng(seed).normal(size=shape).astype("float32")]
    for t in np.arange(steps) / steps:
        middle = way[-1] + guided(way[-1], t) / (2 * steps)
        way.append(way[-1] + guided(middle, t + 0.5 / steps) / steps)
    return np.stack(way) / flow.scale


def sample(flow, label, count, steps=20, guidance=0.0, seed=0):
    """New codes (count, d): the ends of `carry`."""
    return carry(flow, label, count, steps, guidance, seed)[-1]


def renew_reference(data):
    """Train the reference flow on the codes of the reference autoencoder; a minute."""
    encoder, _ = vh.split_autoencoder(vh.load(AUTOENCODER))
    codes = np.asarray(encoder(data.x_train))
    trained = train(codes, data.y_train, 1)
    model = Flow(trained.velocity, trained.scale)  # without the optimizer
    model(codes[:1])  # Keras warns where one is saved that was never called
    model.save(REFERENCE)
    saving.leave_out_new_options(REFERENCE)
