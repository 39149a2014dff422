"""Two devices give what one gives: losses, a step, metrics over the whole batch."""

import pytest

# In a process of its own, because the number of devices is settled before Keras starts.
# The noise is fixed, so that a step can be compared: plain gradient descent, because
# Adam hides a wrong factor.
CODE = """
import keras
import numpy as np

import vae_helpers as vh

def fixed_noise(*parts):
    vae = vh.VAE(*parts)
    vae.sampling.call = lambda inputs: inputs[0] + keras.ops.exp(0.5 * inputs[1]) * 0.5
    return vae

x = np.random.default_rng(0).uniform(size=(96, 784)).astype("float32") ** 3  # three batches of 16 + 16

def build(kind, optimizer):
    keras.utils.set_random_seed(0)
    model = kind(vh.build_encoder(), vh.build_decoder())
    for layer in model.encoder.layers[1:3]:  # penalties must count once
        layer.kernel.regularizer = keras.regularizers.L2(1.0)
    assert len(model.losses) == 2
    model(keras.Input((784,)))
    model.compile(optimizer=optimizer, loss="mse", metrics=["mse"])
    return model

def trained():
    model = build(fixed_noise, keras.optimizers.SGD(1e-4))
    before = model.get_weights()
    history = model.fit(x, x, batch_size=32, validation_data=(x[:64], x[:64]), shuffle=False, verbose=0).history
    return history, [after - old for after, old in zip(model.get_weights(), before)]

def same(one, two):
    assert one[0].keys() == two[0].keys()
    for name in one[0]:
        np.testing.assert_allclose(two[0][name], one[0][name], rtol=1e-5, err_msg=name)
    assert max(np.abs(step).max() for step in one[1]) > 1e-4
    for step_of_one, step_of_two in zip(one[1], two[1]):
        np.testing.assert_allclose(step_of_two, step_of_one, rtol=1e-3, atol=1e-7)

def falls():
    losses = vh.fit(build(vh.VAE, "adam"), x, x, batch_size=32, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0], losses

one = trained()
assert len(keras.distribution.list_devices()) == 2
keras.distribution.set_distribution(keras.distribution.DataParallel())
same(one, trained())
falls()
"""


def test_data_parallel_of_jax_on_two_devices(run_python):
    pytest.importorskip("jax")
    ended = run_python(
        CODE,
        KERAS_BACKEND="jax",
        VAE_COURSE_QUICK="0",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
        JAX_ENABLE_X64="0",
    )
    assert ended.returncode == 0, ended.stderr
