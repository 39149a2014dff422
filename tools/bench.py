"""Compare the speed of `vae_helpers.fit` with Keras, PyTorch and JAX, and see it grow.

usage: python -m tools.bench [--repeats 7] [--images 60000]

`make bench` installs PyTorch and JAX first. All contenders train chapter 03's VAE: BCE
summed over pixels plus KL, mean over the batch; Adam at 1e-3; whole batches of 128, a
new random order in each epoch; float32 on the CPU; no validation, no metric. Each has a
process of its own; they take turns, one epoch to warm up, then the measured one. Last,
time and memory of `fit` are drawn in build/growth.png. Not for Windows.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from functools import partial

import numpy as np

import course
from course.data import load_data

HIDDEN = (512, 256, 128)


# Heavy imports stand inside functions: a worker imports only what it needs. Contenders
# get images (n, 784), the number of epochs, the batch size, and a `Clock`.


class Clock:
    """In a worker: waits for its turns, and reports them through a pipe."""

    def __init__(self, pipe):
        self.pipe, self.began = pipe, None

    def start(self):
        """Wait until the parent says go."""
        self.pipe.recv()
        self.began = time.perf_counter()

    def stop(self, loss):
        """Send the seconds of this turn, the loss, and the peak memory so far in MB."""
        loss = float(loss)  # waits until JAX has computed it
        seconds = time.perf_counter() - self.began
        unit = 2**20 if sys.platform == "darwin" else 2**10
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        self.pipe.send((seconds, loss, memory))


def run_keras(x, epochs, batch_size, clock, ours, **compile_options):
    """`vae_helpers.fit` if `ours`, else Keras' own."""
    import vae_helpers as vh  # isort: skip  (before Keras)
    import keras

    keras.utils.set_random_seed(0)
    model = vh.VAE(vh.build_encoder(), vh.build_decoder())
    model.compile(optimizer="adam", **compile_options)
    turns = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: clock.start(),
        on_epoch_end=lambda epoch, logs: clock.stop(logs["loss"]),
    )
    fit = partial(vh.fit, model) if ours else model.fit
    fit(x, x, epochs=epochs, batch_size=batch_size, callbacks=[turns], verbose=0)


def run_torch(x, epochs, batch_size, clock):
    """PyTorch, eager, with its fused Adam."""
    import torch
    from torch import nn

    torch.set_flush_denormal(True)  # as TensorFlow and JAX do
    torch.manual_seed(0)

    def chain(*units):
        parts = []
        for n_in, n_out in zip(units, units[1:]):
            parts += [nn.Linear(n_in, n_out), nn.ReLU()]
        return nn.Sequential(*parts[:-1])

    encoder, decoder = chain(784, *HIDDEN, 20), chain(10, *HIDDEN[::-1], 784)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer, images = torch.optim.Adam(weights, fused=True), torch.from_numpy(x)
    bce = nn.BCEWithLogitsLoss(reduction="sum")
    for _ in range(epochs):
        clock.start()
        total = torch.zeros(())
        for rows in torch.randperm(len(images)).split(batch_size):
            batch = images[rows]
            mean, log_var = encoder(batch).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
            loss = (bce(decoder(z), batch) + kl) / len(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        clock.stop(total.item() * batch_size / len(images))


def run_jax(x, epochs, batch_size, clock):
    """JAX: an epoch is one program, a `scan` over the batches."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer, glorot = optax.adam(1e-3), jax.nn.initializers.glorot_uniform()

    def chain(seed, *units):
        keys = jax.random.split(jax.random.key(seed), len(units))
        shapes = zip(units, units[1:])
        return [(glorot(k, pair), jnp.zeros(pair[1])) for k, pair in zip(keys, shapes)]

    def apply(layers, h):
        for weights, bias in layers[:-1]:
            h = jax.nn.relu(h @ weights + bias)
        return h @ layers[-1][0] + layers[-1][1]

    def loss_of(params, batch, key):
        mean, log_var = jnp.split(apply(params[0], batch), 2, axis=1)
        z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        bce = optax.sigmoid_binary_cross_entropy(apply(params[1], z), batch).sum()
        kl = 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum()
        return (bce + kl) / len(batch)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, images, key):
        order = jax.random.permutation(key, len(images)).reshape(-1, batch_size)

        def step(state, rows):
            params, moments, key = state
            key, noise = jax.random.split(key)
            loss, gradients = jax.value_and_grad(loss_of)(params, images[rows], noise)
            updates, moments = optimizer.update(gradients, moments)
            return (optax.apply_updates(params, updates), moments, key), loss

        state, losses = jax.lax.scan(step, state, order)
        return state, losses.mean()

    params = chain(0, 784, *HIDDEN, 20), chain(1, 10, *HIDDEN[::-1], 784)
    state, images = (params, optimizer.init(params), jax.random.key(2)), jnp.asarray(x)
    for turn in range(epochs):
        clock.start()
        state, loss = epoch(state, images, jax.random.key(3 + turn))
        clock.stop(loss)


CONTENDERS = {
    "`vae_helpers.fit`": partial(run_keras, ours=True),
    "Keras `fit`": partial(run_keras, ours=False),
    "Keras `fit`, `jit_compile=True, steps_per_execution=50`": partial(
        run_keras, ours=False, jit_compile=True, steps_per_execution=50
    ),
    "PyTorch, fused Adam": run_torch,
    "JAX, one program an epoch": run_jax,
}
OURS = next(iter(CONTENDERS))


def work(pipe, name, *arguments):
    """A worker: trains a contender, an epoch for each message."""
    CONTENDERS[name](*arguments, Clock(pipe))


def start(name, x, epochs, batch_size=128):
    """The pipe to a process that trains a contender on images x."""
    ours, theirs = multiprocessing.Pipe()
    args = theirs, name, x, epochs, batch_size
    multiprocessing.Process(target=work, args=args, daemon=True).start()
    theirs.close()
    return ours


def take_turn(pipe):
    """Let a worker train an epoch: what `Clock` reports."""
    pipe.send("go")
    return pipe.recv()


def compare(x, repeats):
    """All contenders, taking turns: prints a table in Markdown."""
    workers = {name: start(name, x, 2 * repeats + 2) for name in CONTENDERS}
    reports = {name: [] for name in workers}
    for repeat in range(repeats + 1):
        names = list(workers)
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            take_turn(workers[name])  # others have taken its memory and caches
            reports[name].append(take_turn(workers[name]))
            print(repeat, name, reports[name][-1], file=sys.stderr, flush=True)
    print("| contender | s per epoch | min..max | / ours | peak MB | last loss |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours = statistics.median(report[0] for report in reports[OURS][1:])
    for name, rows in reports.items():
        seconds, [*_, loss], [*_, memory] = zip(*rows[1:])
        median = statistics.median(seconds)
        print(
            f"| {name} | {median:.2f} | {min(seconds):.2f}..{max(seconds):.2f} "
            f"| {median / ours:.2f} | {memory:.0f} | {loss:.1f} |"
        )


def growth(x, repeats):
    """How time and memory of `vae_helpers.fit` grow: one figure, build/growth.png."""
    import matplotlib.pyplot as plt

    few = len(x) // 3
    sweeps = {
        "images (batch 128)": [few // 2, few, 2 * few, len(x)],
        f"batch size ({few:,} images)": [32, 64, 128, 256, 512, 1024],
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, (key, values) in zip(axes, sweeps.items()):
        points = []
        for value in values:
            images, size = (few, value) if "size" in key else (value, 128)
            worker = start(OURS, x[:images], repeats + 1, size)
            seconds, _, memory = zip(*[take_turn(worker) for _ in range(repeats + 1)])
            points.append((statistics.median(seconds[1:]), memory[-1] / 1000))
        axis.loglog(values, points, "o-", label=["s per epoch", "peak memory (GB)"])
        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.set_yticks([0.25, 0.5, 1, 2], [0.25, 0.5, 1, 2])
        axis.minorticks_off()
        axis.set_xlabel(key)
    axes[0].legend()
    figure.savefig(course.BUILD / "growth.png", dpi=150)
    print("\nDrawn: build/growth.png")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=60_000)
    args = parser.parse_args()
    data = load_data()
    x = np.concatenate([data.x_train, data.x_val])[: args.images // 128 * 128]
    course.BUILD.mkdir(exist_ok=True)
    print(f"{len(x):,} images; {platform.platform()}, {os.cpu_count()} cores\n")
    cpu = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "VAE_COURSE_QUICK": ""}
    os.environ.update(cpu)
    multiprocessing.set_start_method("spawn")
    compare(x, args.repeats)
    growth(x, min(args.repeats, 3))


if __name__ == "__main__":
    main()
