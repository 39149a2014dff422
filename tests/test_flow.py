"""Chapter 07's flow, compared with distributions for which the answer is known."""

import keras
import numpy as np

import course
import vae_helpers as vh
from course import evaluation, flow


class KnownVelocity:
    """Stands for a network: the exact velocity from N(0, I) to N(mean, sd^2 I).

    The mean of class c is (c, -c); that of "any class" is 0.
    """

    output = np.zeros((1, 2))
    sd = 0.5

    def __call__(self, inputs):
        z, t, label = inputs
        c = np.where(label == flow.ANY, 0, label)[:, None]
        mean = c * np.array([[1.0, -1.0]])
        slope = (self.sd**2 * t - (1 - t)) / ((self.sd * t) ** 2 + (1 - t) ** 2)
        return (mean + slope * (z - t * mean)).astype("float32")


def test_noise_is_carried_to_the_known_gaussian():
    z = flow.sample(
        flow.Flow(KnownVelocity(), scale=2.0),
        np.repeat([1, 3], 20_000),
        40_000,
        steps=50,
    )
    for c, part in zip((1, 3), np.split(z, 2)):
        np.testing.assert_allclose(part.mean(axis=0), [c / 2, -c / 2], atol=0.02)
        np.testing.assert_allclose(part.std(axis=0), 0.25, rtol=0.03)


def test_the_midpoint_rule_is_of_second_order():
    exact, *coarse = (
        flow.sample(flow.Flow(KnownVelocity()), 2, 500, n) for n in (800, 10, 20)
    )
    errors = [np.abs(z - exact).mean() for z in coarse]
    assert errors[0] / errors[1] > 3, "half the step, a quarter of the error"


def test_guidance_goes_further_away_from_any_class():
    for w, mean in [(-1, 0), (0, 2), (1, 4)]:
        z = flow.sample(flow.Flow(KnownVelocity()), 2, 2_000, guidance=w)
        np.testing.assert_allclose(z.mean(axis=0), [mean, -mean], atol=0.1)


def test_the_loss_is_least_for_the_exact_velocity():
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=50_000)
    codes = label[:, None] * [[1.0, -1.0]] + 0.5 * rng.normal(size=(50_000, 2))
    model = flow.Flow(flow.build_velocity(2), seed=0)
    point, t, velocity = map(np.asarray, model(codes.astype("float32")))
    known = KnownVelocity()([point, t, label])
    least = np.mean((known - velocity) ** 2)
    for factor, shift in [(0.9, 0), (1.1, 0), (1, 0.1)]:
        assert np.mean((factor * known + shift - velocity) ** 2) > least


def test_training_lowers_the_loss_and_the_reference_makes_what_it_is_asked_for(
    tmp_path,
):
    keras.utils.set_random_seed(0)
    model = flow.Flow(flow.build_velocity(2), scale=0.5)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    codes = np.random.default_rng(0).normal(3, 0.1, (2_000, 2)).astype("float32")
    labels = np.zeros(2_000, "int32")
    losses = vh.fit(model, codes, labels, epochs=2, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "flow.keras")
    loaded = vh.load(tmp_path / "flow.keras")
    np.testing.assert_array_equal(flow.sample(loaded, 0, 9), flow.sample(model, 0, 9))


def test_the_reference_flow_makes_the_class_asked_for():
    _, decoder = vh.split_autoencoder(vh.load(course.REFERENCE / "autoencoder.keras"))
    asked = np.repeat(range(10), 50)
    images = decoder(flow.sample(vh.load(flow.REFERENCE), asked, 500).clip(0))
    _, classes = evaluation.classify(vh.load(evaluation.CLASSIFIER), images)
    assert 0.7 < np.mean(classes.argmax(axis=1) == asked) < 0.9, "as real images: 0.89"
