"""The page that trains a VAE in the browser: its arithmetic, in node, and its file."""

import json
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest

import vae_helpers as vh
from course.data import load_sample
from course.map import PARTS, train

PIXELS, BATCH = 196, 8
SETTINGS = [(1, True), (0, False), (0, True), (1, False), (196, True)]  # beta, noisy

# What node runs after learn.js: on the weights, images and noise that it reads, the
# losses, the gradient, finite differences of some weights, and the weights after steps.
SCRIPT = """
const given = JSON.parse(require("fs").readFileSync(0)), net = network(numbers(1));
const all = weights(net), x = Float64Array.from(given.x.flat());
const noise = Float64Array.from(given.noise.flat());
const restore = () => all.forEach((w, i) => w.values.set(given.weights[i].flat()));
const results = given.settings.map(([beta, noisy]) => {
  restore();
  const settings = { beta, noisy, rate: 0.003 };
  const loss = () => {
    const { reconstruction, kl } = losses(net, x, noise, noisy);
    return reconstruction + beta * kl;
  };
  const { reconstruction, kl } = gradients(net, x, noise, settings);
  const pairs = all.flatMap(({ values, gradient }) => given.places.map(place => {
    const i = Math.floor(place * values.length), value = values[i], h = 1e-6;
    values[i] = value + h;
    const above = loss();
    values[i] = value - h;
    const below = loss();
    values[i] = value;
    return [gradient[i], (above - below) / (2 * h)];
  }));
  for (let i = 0; i < 20; i++) step(net, x, noise, settings);
  return { reconstruction, kl, pairs, before: reconstruction + beta * kl, after: loss() };
});
console.log(JSON.stringify(results));
"""


def dense(inputs, outputs, activation=None):
    """One layer of Keras, built, with biases that are not 0."""
    layer = keras.layers.Dense(
        outputs, activation, bias_initializer=keras.initializers.RandomNormal(0.1)
    )
    layer.build((None, inputs))
    return layer


@pytest.fixture(scope="module")
def compared():
    """Keras' layers, images, noise, and what node made of them for `SETTINGS`."""
    if not shutil.which("node"):
        pytest.skip("needs node")
    keras.utils.set_random_seed(3)
    encoder = [dense(196, 64, "relu"), dense(64, 32, "relu"), dense(32, 4)]
    decoder = [
        dense(2, 32, "relu"),
        dense(32, 64, "relu"),
        dense(64, 196, "sigmoid"),
    ]
    x = train.reduced(load_sample()[0][:BATCH]) / 255
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(BATCH, 2))
    given = {
        "x": x.tolist(),
        "noise": noise.tolist(),
        "weights": [
            np.ravel(value).tolist()
            for layer in encoder + decoder
            for value in layer.get_weights()
        ],
        "settings": SETTINGS,
        "places": rng.random(40).tolist(),
    }
    learner = (PARTS / "learn.js").read_text(encoding="utf-8")
    run = subprocess.run(
        ["node", "-e", learner + SCRIPT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return encoder, decoder, x, noise, json.loads(run.stdout)


def test_losses_equal_keras_on_the_same_weights_batch_and_noise(compared):
    encoder, decoder, x, noise, results = compared
    code = x
    for layer in encoder:
        code = layer(code)
    mean, log_var = np.split(np.asarray(code), 2, axis=1)
    kl = np.sum(vh.kl_to_prior(mean, log_var), axis=-1).mean()
    for (_, noisy), result in zip(SETTINGS, results):
        x_hat = mean + noisy * np.exp(log_var / 2) * noise
        for layer in decoder:
            x_hat = layer(x_hat)
        mean_bce = keras.losses.binary_crossentropy(x.astype("float32"), x_hat)
        reconstruction = PIXELS * np.asarray(mean_bce).mean()
        np.testing.assert_allclose(result["reconstruction"], reconstruction, atol=1e-4)
        np.testing.assert_allclose(result["kl"], kl, atol=1e-4)


def test_gradients_equal_finite_differences(compared):
    for result in compared[-1]:
        gradient, difference = np.transpose(result["pairs"])
        assert np.abs(gradient).max() > 0.1
        np.testing.assert_allclose(gradient, difference, atol=1e-4)


def test_twenty_steps_lower_the_loss(compared):
    for result in compared[-1]:
        assert result["after"] < 0.9 * result["before"]


def test_the_step_shown_is_at_most_sixty_lines():
    learner = (PARTS / "learn.js").read_text(encoding="utf-8")
    step = learner.split("the training step\n")[1].split("// ------")[0]
    assert len(step.strip().splitlines()) <= 60


def test_page_is_one_small_file_that_requests_nothing(tmp_path):
    x, y = load_sample()[:2]
    path = train.write(tmp_path / "a.html", x, y)
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1.2e6 and "{{" not in text
    text = re.sub("<meta[^>]*>", "", text)  # the share picture's address
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://|import\(""", text)
    assert train.write(tmp_path / "b.html", x, y).read_bytes() == path.read_bytes()


def test_pixels_of_the_page_are_means_of_four():
    x = np.zeros((1, 784), "float32")
    x[0, [0, 1, 28]] = 1.0  # three of the first four
    assert train.reduced(x)[0, :2].tolist() == [191, 0]


def test_too_few_images_are_refused(tmp_path):
    x, y = load_sample()[:2]
    with pytest.raises(ValueError, match="at least 3500"):
        train.write(tmp_path / "a.html", x[:100], y[:100])
