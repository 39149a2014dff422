"""How fast `vae_helpers.fit` trains the course's VAE, beside its peers and beside the matrix products alone.

usage: make bench   (installs the peers into build/peers, then runs all three modes), or one of

  .venv/bin/python -m tools.bench             every contender in one run, epoch by epoch in turn
  .venv/bin/python -m tools.bench --growth    how time and memory grow; draws build/growth.png
  .venv/bin/python -m tools.bench --startup   where time goes outside epochs

  --repeats N          measured epochs of each contender (7; growth and startup: 3)
  --images N           fewer images than all 60,000 (a smoke test: --images 6000 --repeats 1)
  --peers-python PATH  the Python that has jax, optax and torch (build/peers/bin/python)

Everywhere: VAE 784-512-256-128 - mean and log-variance (10) - 128-256-512-784, ReLU, binary cross-entropy
summed over pixels plus KL, mean over the batch; Adam at 1e-3; batches of 128, the smaller last one included;
freshly shuffled each epoch; float32 on the CPU; no validation, no metric. Each contender lives in a process of
its own, all at once (about 6 GB), and works only while the others wait: an epoch to settle, then the measured one.
Writes Markdown to stdout, progress to stderr. For Linux and macOS, on a machine that does nothing else: load slows
the contenders unequally.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THREADS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
)
OPTIONS = {
    "images": 60_000,
    "batch": 128,
    "width": 1,
    "epochs": 1,
}  # what a worker is told


def widths(width=1):
    """Layers of encoder and decoder, the hidden ones `width` times as wide; mean and log-variance side by side."""
    hidden = [512 * width, 256 * width, 128 * width]
    return [784, *hidden, 20], [10, *hidden[::-1], 784]


def products(width=1):
    """The shapes of all weight matrices."""
    return [pair for part in widths(width) for pair in zip(part, part[1:])]


def flop(width=1):
    """Floating-point operations of an image's matrix products: forward, and two backward but for the pixels."""
    return (
        sum(6 * rows * columns for rows, columns in products(width))
        - 2 * 784 * 512 * width
    )


# ---------------------------------------------------------------- workers: heavy imports only inside functions


def begin():
    answer(ready=True)
    if not sys.stdin.readline():
        sys.exit("the parent has gone")
    begin.cpu, begin.clock = time.process_time(), time.perf_counter()


def end(loss):
    seconds, cpu = time.perf_counter() - begin.clock, time.process_time() - begin.cpu
    answer(seconds=seconds, cores=cpu / seconds, loss=float(loss))


def take_turns(epoch, epochs):
    for _ in range(epochs):
        begin()
        end(epoch())


def denormals(tenth):
    """What becomes of 2e-38 / 10, which float32 can hold only as a denormal number."""
    import numpy as np

    kept = np.count_nonzero(np.asarray(tenth(np.full(1_000_000, 2e-38, "float32"))))
    return {0: "flushed", 1_000_000: "kept"}.get(kept, "flushed by some threads")


def keras_row(x, args, ours, what="vae", validation=None, **how):
    import vae_helpers as vh  # isort: skip  # before Keras, whose backend it sets
    import keras
    import tensorflow as tf

    def widened(layer):
        config = layer.get_config()
        config["units"] *= args.width if config["units"] in (128, 256, 512) else 1
        return layer.from_config(config)

    keras.utils.set_random_seed(0)
    if what == "vae":
        encoder, decoder = vh.build_encoder(), vh.build_decoder()
        model = vh.VAE(
            *(
                keras.models.clone_model(part, clone_function=widened)
                for part in (encoder, decoder)
            )
        )
    else:
        model = vh.build_autoencoder()
    model.compile(optimizer="adam", loss="mse", **how)
    turns = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begin(),
        on_epoch_end=lambda epoch, logs: end(logs["loss"]),
    )
    settings = dict(
        epochs=args.epochs, batch_size=args.batch, callbacks=[turns], verbose=0
    )
    if validation:
        settings["validation_data"] = (x[:validation], x[:validation])
    if ours:
        vh.fit(model, x, x, **settings)
    else:
        model.fit(x, x, **settings)
    threads = (
        tf.config.threading.get_intra_op_parallelism_threads() or THREADS
    )  # 0 stands for all
    tenth = tf.function(lambda v: v * 0.1, jit_compile=bool(model.jit_compile))
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return versions, threads, denormals(lambda v: tenth(tf.constant(v)))


def torch_row(x, args, fused=None, compiled=False):
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_flush_denormal(
        True
    )  # before the first operation, because threads inherit it
    torch.manual_seed(0)

    def chain(units):
        parts = []
        for n_in, n_out in zip(units, units[1:]):
            parts += [nn.Linear(n_in, n_out), nn.ReLU()]
            nn.init.xavier_uniform_(parts[-2].weight)  # begin where Keras begins
            nn.init.zeros_(parts[-2].bias)
        return nn.Sequential(*parts[:-1])

    encoder, decoder = map(chain, widths(args.width))
    optimizer = torch.optim.Adam(
        [*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=fused
    )

    def loss_of(batch):
        mean, log_var = encoder(batch).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        bce = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
        return (bce + kl) / len(batch)

    if compiled:
        loss_of = torch.compile(loss_of)
    images = torch.from_numpy(x)

    def epoch():
        total = torch.zeros(())
        for rows in torch.randperm(len(images)).split(args.batch):
            loss = loss_of(images[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        return total.item() / len(images)

    take_turns(epoch, args.epochs)
    return (
        f"PyTorch {torch.__version__}",
        torch.get_num_threads(),
        denormals(lambda v: torch.from_numpy(v) * 0.1),
    )


def jax_row(x, args):
    from functools import partial

    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    optimizer = optax.adam(1e-3)
    glorot = jax.nn.initializers.glorot_uniform()

    def chain(key, units):
        pairs = list(zip(units, units[1:]))
        return [
            (glorot(k, pair), jnp.zeros(pair[1]))
            for k, pair in zip(jax.random.split(key, len(pairs)), pairs)
        ]

    def apply(layers, h):
        for weights, bias in layers[:-1]:
            h = jax.nn.relu(h @ weights + bias)
        return h @ layers[-1][0] + layers[-1][1]

    def loss_of(params, batch, key):
        mean, log_var = jnp.split(apply(params[0], batch), 2, axis=1)
        z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        bce = optax.sigmoid_binary_cross_entropy(apply(params[1], z), batch).sum()
        return (bce + 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum()) / len(
            batch
        )

    @partial(jax.jit, donate_argnums=0)
    def run(state, images, order):
        def step(state, rows):
            params, moments, key = state
            key, noise = jax.random.split(key)
            loss, gradients = jax.value_and_grad(loss_of)(params, images[rows], noise)
            updates, moments = optimizer.update(gradients, moments)
            return (optax.apply_updates(params, updates), moments, key), loss * len(
                rows
            )

        whole = len(images) // args.batch * args.batch
        state, losses = jax.lax.scan(step, state, order[:whole].reshape(-1, args.batch))
        total = losses.sum()
        if whole < len(images):
            state, last = step(state, order[whole:])
            total += last
        return state, total / len(images)

    params = [
        chain(jax.random.key(i), units) for i, units in enumerate(widths(args.width))
    ]
    state, images = (params, optimizer.init(params), jax.random.key(2)), jnp.asarray(x)
    generator = np.random.default_rng(0)

    def epoch():
        nonlocal state
        state, loss = run(state, images, generator.permutation(len(x)).astype("int32"))
        return float(loss)

    take_turns(epoch, args.epochs)
    return (
        f"JAX {jax.__version__}, Optax {optax.__version__}",
        THREADS,
        denormals(jax.jit(lambda v: v * 0.1)),
    )


def floor_row(x, args):
    import numpy as np

    generator = np.random.default_rng(0)
    layers = []
    for n_in, n_out in products(args.width):
        shapes = (args.batch, n_in), (n_in, n_out), (args.batch, n_out)
        arrays = [generator.standard_normal(shape, "float32") for shape in shapes]
        layers.append([*arrays, *(np.empty_like(array) for array in arrays)])

    def epoch():
        for start in range(0, len(x), args.batch):
            size = min(args.batch, len(x) - start)
            for i, (h, weights, slope, h_slope, weights_slope, out) in enumerate(
                layers
            ):
                np.matmul(h[:size], weights, out=out[:size])
                np.matmul(h[:size].T, slope[:size], out=weights_slope)
                if i:
                    np.matmul(slope[:size], weights.T, out=h_slope[:size])
        return 0

    take_turns(epoch, args.epochs)
    return f"NumPy {np.__version__}", THREADS, denormals(lambda v: v * np.float32(0.1))


def data_step(args):
    """Writes the images of `load_data` as bare float32; measures both steps on the way there."""
    begin()
    import vae_helpers as vh

    imported = time.perf_counter() - begin.clock
    data = vh.load_data()
    loaded = time.perf_counter() - begin.clock - imported
    import numpy as np

    images = np.concatenate([data.x_train, data.x_val])[: args.images]
    images.tofile(args.data)
    answer(imported=imported, loaded=loaded, images=len(images))


def kernel_step(args):
    import nbclient
    import nbformat

    begin()
    nbclient.NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3").execute()
    answer(seconds=time.perf_counter() - begin.clock)


# title, whether it needs the peers' Python, function
ROWS = {
    "ours": ("`vae_helpers.fit`", False, lambda x, a: keras_row(x, a, True)),
    "keras": ("Keras `fit`, as everyone writes it", False, lambda x, a: keras_row(x, a, False)),
    "keras_jit": (
        "Keras `fit`, `jit_compile=True, steps_per_execution=50`", False,
        lambda x, a: keras_row(x, a, False, jit_compile=True, steps_per_execution=50),
    ),
    "torch": ("PyTorch, eager", True, torch_row),
    "torch_fused": ("PyTorch, eager, fused Adam", True, lambda x, a: torch_row(x, a, True)),
    "torch_compile": ("PyTorch, `torch.compile`, fused Adam", True, lambda x, a: torch_row(x, a, True, True)),
    "jax": ("JAX, one jit: `scan` over the epoch, donated state", True, jax_row),
    "floor": ("the floor: matrix products alone, NumPy", False, floor_row),
}  # fmt: skip
STEPS = {"data": data_step, "kernel": kernel_step}
FIRST_FITS = {  # with validation, as the chapters fit
    "first_autoencoder": lambda x, a: keras_row(
        x, a, True, "autoencoder", validation=1000
    ),
    "first_vae": lambda x, a: keras_row(x, a, True, validation=1000),
}


def answer(**record):
    print(json.dumps(record), file=answer.out, flush=True)


def work(args):
    answer.out, sys.stdout = (
        sys.stdout,
        sys.stderr,
    )  # nobody else prints between the answers
    sys.path.insert(0, str(ROOT))
    if args.worker in STEPS:
        STEPS[args.worker](args)
        return answer()
    import numpy as np

    x = np.fromfile(args.data, "float32", count=784 * args.images).reshape(-1, 784)
    row = FIRST_FITS.get(args.worker) or ROWS[args.worker][2]
    versions, threads, tiny = row(x, args)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )
    answer(memory=memory, versions=versions, threads=threads, denormals=tiny)


# ---------------------------------------------------------------- the parent: small, because children inherit its peak


class Gone(Exception):
    """A worker ended before its time; the message is its last word."""


class Worker:
    def __init__(self, name, folder, python=sys.executable, **options):
        self.log, self.answers = open(folder / f"{name}.log", "w+"), []
        command = [python, __file__, "--worker", name, "--data", folder / "images.f32"]
        command += [f"--{key}={value}" for key, value in {**OPTIONS, **options}.items()]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "KERAS_BACKEND": "tensorflow",
                       "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "VAE_COURSE_QUICK": ""}  # fmt: skip
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise Gone(f"{python}: {error.strerror}") from None
        self.last = self.read()  # it has imported what it needs

    def go(self):
        """One epoch, or one step."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        self.answers.append(self.read())
        self.last = self.read()  # ready for the next, or what it has to say at the end
        return self.answers[-1]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            lines = [text.strip() for text in self.log if text.strip()]
            raise Gone(
                next(
                    (t for t in reversed(lines) if "Error" in t),
                    lines[-1] if lines else "no word",
                )[:150]
            )
        return json.loads(line)

    def close(self):
        self.process.stdin.close()  # a waiting worker ends on that
        self.process.wait()
        self.log.close()


def measured(folder, name, epochs, **options):
    """Answers of one worker alone, and its last one with memory and versions."""
    worker = Worker(name, folder, epochs=epochs, **options)
    try:
        return [worker.go() for _ in range(epochs)], worker.last
    finally:
        worker.close()


def say(text):
    print(text, file=sys.stderr, flush=True)


def table(*rows):
    """Markdown; the first row is the head. First column to the left, the others to the right."""
    print(
        "\n| " + " | ".join(rows[0]) + " |\n|---" + "|---:" * (len(rows[0]) - 1) + "|"
    )
    for row in rows[1:]:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def side_by_side(folder, images, repeats, peers):
    workers = {}

    def left_out(name, reason):
        if not ROWS[name][1]:
            raise reason
        print(f"{ROWS[name][0]}: left out ({reason})", flush=True)

    for name, (_, peer, _) in ROWS.items():
        try:
            workers[name] = Worker(
                name,
                folder,
                peers if peer else sys.executable,
                images=images,
                epochs=2 * repeats + 1,
            )
        except Gone as reason:
            left_out(name, reason)
    try:
        for repeat in range(repeats + 1):
            names = list(workers)
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                time.sleep(0.3)
                try:
                    if repeat:
                        workers[
                            name
                        ].go()  # brings back what other processes drove out of memory and caches
                    seconds = workers[name].go()["seconds"]
                    say(
                        f"{'measured' if repeat else 'first'} {repeat}/{repeats}  {name:<14}{seconds:8.2f} s"
                    )
                except Gone as reason:
                    workers.pop(name).close()
                    left_out(name, reason)
        handed_over = "Keras' own fit" in (folder / "ours.log").read_text()
    finally:
        for worker in workers.values():
            worker.close()
    measured_ones = {name: worker.answers[2::2] for name, worker in workers.items()}
    median = {
        name: statistics.median(a["seconds"] for a in ones)
        for name, ones in measured_ones.items()
    }
    rows = []
    for name, worker in workers.items():
        seconds = [a["seconds"] for a in measured_ones[name]]
        loss, cores = (
            worker.answers[-1]["loss"],
            statistics.median(a["cores"] for a in measured_ones[name]),
        )
        rows.append((
            ROWS[name][0], f"{median[name]:.2f}", f"{min(seconds):.2f}..{max(seconds):.2f}",
            f"{median[name] / median['ours']:.2f}", f"{median[name] / median['floor']:.2f}",
            f"{worker.answers[0]['seconds'] - median[name]:.1f}", f"{worker.last['memory']:.0f}",
            f"{loss:.1f}" if loss else "",
            worker.last["threads"], f"{cores:.2f}", worker.last["denormals"],
        ))  # fmt: skip
    table(("contender", "s an epoch", "min..max", "to ours", "to the floor", "first epoch's extra s", "peak MB",
           "last loss", "threads", "cores busy", "denormals"), *rows)  # fmt: skip
    if handed_over:
        print(
            "vae_helpers.fit handed over to Keras' own fit: see why before reading its row."
        )
    print(
        "; ".join(dict.fromkeys(worker.last["versions"] for worker in workers.values()))
        + "."
    )
    print(
        f"{flop() * images / 1e9:.0f} GFLOP of matrix products an epoch. Ratios of medians, below 1: ours is faster."
    )
    best = min(set(median) - {"ours", "floor"}, key=median.get)
    for words, name in [("Keras as everyone writes it", "keras"), ("PyTorch as its users write it", "torch"),
                        (f"the best peer ({ROWS[best][0]})", best), ("the floor", "floor")]:  # fmt: skip
        if name in median:
            print(f"- ours / {words}: {median['ours'] / median[name]:.2f}")


def growth(folder, images, repeats):
    few = min(20_000, images)
    sweeps = [
        [(n, 128, 1) for n in (10_000, 20_000, 40_000, 60_000) if n <= images]
        or [(images, 128, 1)],
        [(few, size, 1) for size in (32, 64, 128, 256, 512, 1024)],
        [(few, 128, factor) for factor in (1, 2, 4)],
    ]
    points = {}
    for point in dict.fromkeys(point for sweep in sweeps for point in sweep):
        n, batch, width = point
        answers, last = measured(
            folder, "ours", repeats + 1, images=n, batch=batch, width=width
        )
        seconds = statistics.median(a["seconds"] for a in answers[1:])
        points[point] = seconds, last["memory"], flop(width) * n / 1e9
        say(f"{n} images, batch {batch}, width x{width}: {seconds:.2f} s")
    table(("images, batch, width", "s an epoch", "s for 60,000 images", "peak MB", "GFLOP an epoch", "GFLOP/s"), *(
        (f"{n:,}, {batch}, x{width}", f"{seconds:.2f}", f"{seconds * 60_000 / n:.2f}", f"{memory:.0f}",
         f"{work:.0f}", f"{work / seconds:.0f}")
        for (n, batch, width), (seconds, memory, work) in points.items()
    ))  # fmt: skip
    print(f"Medians of {repeats} epochs after a first one. Batches and widths were measured on {few:,} images and "
          "scaled to 60,000.")  # fmt: skip

    import matplotlib.pyplot as plt

    plt.style.use("petroff10")
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 4), sharey=True, layout="constrained"
    )
    same = f"({few:,} images, time x{60_000 / few:g})"
    labels = (
        "images (batch 128)",
        f"batch size {same}",
        f"width of hidden layers {same}",
    )
    for i, (axis, label, sweep) in enumerate(zip(axes, labels, sweeps)):
        x = [point[i] for point in sweep]
        axis.loglog(
            x,
            [points[p][0] * (60_000 / few if i else 1) for p in sweep],
            "o-",
            label="time of an epoch (s)",
        )
        axis.loglog(
            x, [points[p][1] / 1000 for p in sweep], "s-", label="peak memory (GB)"
        )
        axis.loglog(
            x,
            [points[p][2] / points[p][0] for p in sweep],
            "^-",
            label="matrix products (GFLOP/s)",
        )
        axis.set_xticks(x, [f"{value:,}" for value in x])
        axis.minorticks_off()
        axis.set_xlabel(label)
    axes[0].set_ylabel("s, GB, GFLOP/s")
    axes[0].yaxis.set_major_formatter("{x:g}")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3
    )
    (ROOT / "build").mkdir(exist_ok=True)
    figure.savefig(ROOT / "build" / "growth.png", dpi=150)
    print("Drawn in build/growth.png.")


def startup(folder, images, repeats):
    found = {}
    for repeat in range(repeats):
        (step,), _ = measured(folder, "data", 1, images=images)
        found.setdefault("`import vae_helpers`", []).append(step["imported"])
        found.setdefault("`load_data()`", []).append(step["loaded"])
        for name in FIRST_FITS:
            (first, second), _ = measured(folder, name, 2, images=min(6_000, images))
            title = f"first `fit` of the {name.removeprefix('first_').replace('vae', 'VAE')}: first epoch - second"
            found.setdefault(title, []).append(first["seconds"] - second["seconds"])
        (step,), _ = measured(folder, "kernel", 1)
        found.setdefault(
            "start a Jupyter kernel, run an empty notebook, stop", []
        ).append(step["seconds"])
        say(f"startup {repeat + 1}/{repeats}")
    table(("outside epochs", "s (median)", "min..max"), *(
        (title, f"{statistics.median(values):.2f}", f"{min(values):.2f}..{max(values):.2f}")
        for title, values in found.items()
    ))  # fmt: skip
    print(
        f"Each in a new process, {repeats} times; files come from the page cache after the first."
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in ("--growth", "--startup"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--repeats", type=int)
    parser.add_argument(
        "--peers-python", default=str(ROOT / "build" / "peers" / "bin" / "python")
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    for name, value in OPTIONS.items():
        parser.add_argument(
            f"--{name}",
            type=int,
            default=value,
            help=None if name == "images" else argparse.SUPPRESS,
        )
    args = parser.parse_args()
    if args.worker:
        return work(args)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (step,), _ = measured(folder, "data", 1, images=args.images)
        print(f"{step['images']:,} images; {platform.platform()}, {THREADS} threads; "
              f"load of the machine before: {os.getloadavg()[0]:.1f}.")  # fmt: skip
        if args.growth:
            growth(folder, step["images"], args.repeats or 3)
        elif args.startup:
            startup(folder, step["images"], args.repeats or 3)
        else:
            side_by_side(folder, step["images"], args.repeats or 7, args.peers_python)


if __name__ == "__main__":
    main()
