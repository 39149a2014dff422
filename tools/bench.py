"""Compare the speed of `vae_helpers.fit` with Keras, PyTorch and JAX, and see it grow.

usage: python -m tools.bench [--repeats 7] [--images 60000]

`make bench` installs PyTorch and JAX first; without them, their rows are missing. All
contenders train chapter 03's VAE: BCE summed over pixels plus KL, mean over the batch;
Adam at 1e-3; whole batches of 128, a new random order in each epoch; float32 on the CPU;
no validation, no metric. Each has a process of its own; they take turns, one epoch to
warm up, then the measured one. Last, time and memory of `fit` are drawn in
build/growth.png. Not for Windows. Other load would slow the contenders differently.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import numpy as np

import course
from course.data import load_data

HIDDEN = (512, 256, 128)


# Heavy imports stand inside functions: a worker imports only what it needs.


def run_keras(x, args, ours, **compile_options):
    """`vae_helpers.fit` if `ours`, else Keras' own."""
    import vae_helpers as vh  # isort: skip  (before Keras)
    import keras

    keras.utils.set_random_seed(0)
    model = vh.VAE(vh.build_encoder(), vh.build_decoder())
    model.compile(optimizer="adam", **compile_options)
    turns = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: wait_for_turn(),
        on_epoch_end=lambda epoch, logs: end_turn(logs["loss"]),
    )
    fit = partial(vh.fit, model) if ours else model.fit
    fit(x, x, epochs=args.turns, batch_size=args.batch, callbacks=[turns], verbose=0)


def run_torch(x, args):
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
    for _ in range(args.turns):
        wait_for_turn()
        total = torch.zeros(())
        for rows in torch.randperm(len(images)).split(args.batch):
            batch = images[rows]
            mean, log_var = encoder(batch).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
            loss = (bce(decoder(z), batch) + kl) / len(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        end_turn(total.item() * args.batch / len(images))


def run_jax(x, args):
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
        order = jax.random.permutation(key, len(images)).reshape(-1, args.batch)

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
    for turn in range(args.turns):
        wait_for_turn()
        state, loss = epoch(state, images, jax.random.key(3 + turn))
        end_turn(float(loss))


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


def wait_for_turn():
    """Wait for a line from the parent, then start the clock."""
    if not sys.stdin.readline():
        sys.exit()
    wait_for_turn.start = time.perf_counter()


def end_turn(loss):
    """Report the seconds of this turn, the loss, and the peak memory so far in MB."""
    seconds = time.perf_counter() - wait_for_turn.start
    unit = 2**20 if sys.platform == "darwin" else 2**10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    report = {"seconds": seconds, "loss": float(loss), "memory": memory}
    print(json.dumps(report), file=sys.__stdout__, flush=True)


def start(name, turns, images, batch=128):
    """A process that trains a contender, one epoch for each line that it is sent."""
    options = {"worker": name, "turns": turns, "images": images, "batch": batch}
    command = [sys.executable, "-m", "tools.bench"]
    command += [f"--{key}={value}" for key, value in options.items()]
    cpu = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "VAE_COURSE_QUICK": ""}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    environment = {**os.environ, **cpu}
    return subprocess.Popen(
        command, **pipes, stderr=subprocess.DEVNULL, env=environment
    )


def take_turn(process):
    """Let a process train one epoch: its report, or None if it has ended."""
    try:
        print("go", file=process.stdin, flush=True)
    except BrokenPipeError:
        return None
    line = process.stdout.readline()
    return json.loads(line) if line else None


def compare(images, repeats):
    """All contenders, taking turns: prints a table in Markdown."""
    workers = {name: start(name, 2 * repeats + 2, images) for name in CONTENDERS}
    reports = {name: [] for name in workers}
    for repeat in range(repeats + 1):
        names = list(workers)
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            take_turn(workers[name])  # others have taken its memory and caches
            reports[name].append(take_turn(workers[name]))
            print(repeat, name, reports[name][-1], file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.kill()
    print("| contender | s per epoch | min..max | / ours | peak MB | last loss |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours = statistics.median(report["seconds"] for report in reports[OURS][1:])
    for name, rows in reports.items():
        if None in rows:
            print(f"| {name} | did not run | | | | |")
            continue
        seconds = [report["seconds"] for report in rows[1:]]
        median, memory = statistics.median(seconds), rows[-1]["memory"]
        print(
            f"| {name} | {median:.2f} | {min(seconds):.2f}..{max(seconds):.2f} "
            f"| {median / ours:.2f} | {memory:.0f} | {rows[-1]['loss']:.1f} |"
        )


def growth(images, repeats):
    """How time and memory of `vae_helpers.fit` grow: one figure, build/growth.png."""
    import matplotlib.pyplot as plt

    few = images // 3
    sweeps = {
        "images": [few // 2, few, 2 * few, images],
        "batch": [32, 64, 128, 256, 512, 1024],
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, (key, values) in zip(axes, sweeps.items()):
        points = []
        for value in values:
            worker = start(OURS, repeats + 1, **{"images": few, key: value})
            rows = [take_turn(worker) for _ in range(repeats + 1)]
            worker.kill()
            seconds = statistics.median(row["seconds"] for row in rows[1:])
            points.append((seconds, rows[-1]["memory"] / 1000))
        axis.loglog(values, points, "o-", label=["s per epoch", "peak memory (GB)"])
        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.set_yticks([0.25, 0.5, 1, 2], [0.25, 0.5, 1, 2])
        axis.minorticks_off()
    axes[0].set_xlabel("images (batch 128)")
    axes[1].set_xlabel(f"batch size ({few:,} images)")
    axes[0].legend()
    figure.savefig(course.BUILD / "growth.png", dpi=150)
    print("\nDrawn: build/growth.png")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    for name in ("turns", "batch"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        sys.stdout = sys.stderr  # whatever else is printed is no report
        x = np.load(course.BUILD / "bench.npy")[: args.images]
        return CONTENDERS[args.worker](x, args)
    data = load_data()
    x = np.concatenate([data.x_train, data.x_val])[: args.images // 128 * 128]
    course.BUILD.mkdir(exist_ok=True)
    np.save(course.BUILD / "bench.npy", x)
    print(f"{len(x):,} images; {platform.platform()}, {os.cpu_count()} cores\n")
    compare(len(x), args.repeats)
    growth(len(x), min(args.repeats, 3))


if __name__ == "__main__":
    main()
