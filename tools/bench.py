"""Compare the speed of `vae_helpers.fit` with that of Keras, PyTorch and JAX.

usage: make bench   (installs PyTorch and JAX into build/peers, then runs all modes)

or one mode:
  python -m tools.bench             all contenders in one run, epoch by epoch in turn
  python -m tools.bench --growth    how time and memory grow; draws build/growth.png
  python -m tools.bench --startup   the time spent outside epochs

  --repeats N          measured epochs of each contender (7; growth and startup: 3)
  --images N           fewer than all 60,000 (a quick try: --images 6000 --repeats 1)
  --peers-python PATH  the Python that has jax, optax and torch (build/peers/bin/python)

All contenders train the same model in the same way: VAE 784-512-256-128 - mean and
log-variance (10) - 128-256-512-784, ReLU, binary cross-entropy summed over pixels plus
KL, mean over the batch; Adam with learning rate 1e-3; batches of 128, the last one
smaller; a new random order in each epoch; float32 on the CPU; no validation, no metric.
Each contender has a process of its own. All exist at once (about 6 GB), and only one
works at a time: one epoch to warm up, then the measured one.

Markdown goes to stdout, progress to stderr. For Linux and macOS, on a machine that does
nothing else: other load slows the contenders by different factors.
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
OPTIONS = {"images": 60_000, "batch": 128, "width": 1, "epochs": 1}  # of a worker


def widths(width=1):
    """Units per layer of encoder and decoder, hidden layers `width` times as wide.

    The encoder ends in 20 units: 10 for the mean, 10 for the log-variance.
    """
    hidden = [512 * width, 256 * width, 128 * width]
    return [784, *hidden, 20], [10, *hidden[::-1], 784]


def products(width=1):
    """The shapes of all weight matrices, (inputs, outputs)."""
    return [pair for part in widths(width) for pair in zip(part, part[1:])]


def flop(width=1):
    """Floating-point operations per image in matrix products.

    One product forward and two backward for each matrix, except that the first layer
    needs no gradient with respect to the pixels.
    """
    return (
        sum(6 * rows * columns for rows, columns in products(width))
        - 2 * 784 * 512 * width
    )


# ---------------------------------------------------------------- workers
# Heavy imports stand inside functions: each worker imports only what it needs.


clocks = {}


def wait_for_turn():
    """Report that this worker is ready, wait for the parent, start the clocks."""
    reply(ready=True)
    if not sys.stdin.readline():
        sys.exit("The parent process has ended.")
    clocks.update(cpu=time.process_time(), wall=time.perf_counter())


def end_turn(loss):
    """Report the time since `wait_for_turn`, the cores that were busy, and the loss."""
    seconds = time.perf_counter() - clocks["wall"]
    cpu = time.process_time() - clocks["cpu"]
    reply(seconds=seconds, cores=cpu / seconds, loss=float(loss))


def run_epochs(epoch, epochs):
    """Call the function `epoch`, which returns the loss, once per turn."""
    for _ in range(epochs):
        wait_for_turn()
        end_turn(epoch())


def denormals(tenth):
    """What a function that multiplies by 0.1 makes of 2e-38: "kept" or "flushed" to 0.

    The product is so small that float32 can hold it only as a denormal number.
    """
    import numpy as np

    nonzero = np.count_nonzero(np.asarray(tenth(np.full(1_000_000, 2e-38, "float32"))))
    return {0: "flushed", 1_000_000: "kept"}.get(nonzero, "flushed by some threads")


def run_keras(x, args, ours, kind="vae", validation=None, **compile_options):
    """`vae_helpers.fit`, if `ours`, or Keras' own; with `validation` images or none."""
    import vae_helpers as vh  # isort: skip  # before Keras, whose backend it sets
    import keras
    import tensorflow as tf

    def widened(layer):
        config = layer.get_config()
        config["units"] *= args.width if config["units"] in (128, 256, 512) else 1
        return layer.from_config(config)

    keras.utils.set_random_seed(0)
    if kind == "vae":
        parts = vh.build_encoder(), vh.build_decoder()
        clone = keras.models.clone_model
        model = vh.VAE(*(clone(part, clone_function=widened) for part in parts))
    else:
        model = vh.build_autoencoder()
    model.compile(optimizer="adam", loss="mse", **compile_options)
    turns = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: wait_for_turn(),
        on_epoch_end=lambda epoch, logs: end_turn(logs["loss"]),
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
    threads = tf.config.threading.get_intra_op_parallelism_threads()  # 0: all
    tenth = tf.function(lambda v: v * 0.1, jit_compile=bool(model.jit_compile))
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return versions, threads or THREADS, denormals(lambda v: tenth(tf.constant(v)))


def run_torch(x, args, fused=None, compiled=False):
    import torch
    from torch import nn
    from torch.nn import functional as F

    # Before the first operation, because threads inherit it.
    torch.set_flush_denormal(True)
    torch.manual_seed(0)

    def chain(units):
        parts = []
        for n_in, n_out in zip(units, units[1:]):
            parts += [nn.Linear(n_in, n_out), nn.ReLU()]
            nn.init.xavier_uniform_(parts[-2].weight)  # as Keras initialises
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

    run_epochs(epoch, args.epochs)
    return (
        f"PyTorch {torch.__version__}",
        torch.get_num_threads(),
        denormals(lambda v: torch.from_numpy(v) * 0.1),
    )


def run_jax(x, args):
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
        kl = 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum()
        return (bce + kl) / len(batch)

    @partial(jax.jit, donate_argnums=0)
    def run(state, images, order):
        def step(state, rows):
            params, moments, key = state
            key, noise = jax.random.split(key)
            loss, gradients = jax.value_and_grad(loss_of)(params, images[rows], noise)
            updates, moments = optimizer.update(gradients, moments)
            params = optax.apply_updates(params, updates)
            return (params, moments, key), loss * len(rows)

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

    run_epochs(epoch, args.epochs)
    return (
        f"JAX {jax.__version__}, Optax {optax.__version__}",
        THREADS,
        denormals(jax.jit(lambda v: v * 0.1)),
    )


def run_products(x, args):
    """The matrix products of an epoch and nothing else: a lower bound on its time."""
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

    run_epochs(epoch, args.epochs)
    return f"NumPy {np.__version__}", THREADS, denormals(lambda v: v * np.float32(0.1))


def load_images(args):
    """Write the images of `load_data` as float32; report the times to import and load."""
    wait_for_turn()
    import vae_helpers as vh

    imported = time.perf_counter() - clocks["wall"]
    data = vh.load_data()
    loaded = time.perf_counter() - clocks["wall"] - imported
    import numpy as np

    images = np.concatenate([data.x_train, data.x_val])[: args.images]
    images.tofile(args.data)
    reply(imported=imported, loaded=loaded, images=len(images))


def start_kernel(args):
    """Report the time that an empty notebook takes to run."""
    import nbclient
    import nbformat

    wait_for_turn()
    nbclient.NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3").execute()
    reply(seconds=time.perf_counter() - clocks["wall"])


# {name: (title, whether it needs the peers' Python, function)}
CONTENDERS = {
    "ours": ("`vae_helpers.fit`", False, lambda x, a: run_keras(x, a, True)),
    "keras": ("Keras `fit`, defaults", False, lambda x, a: run_keras(x, a, False)),
    "keras_jit": (
        "Keras `fit`, `jit_compile=True, steps_per_execution=50`",
        False,
        lambda x, a: run_keras(x, a, False, jit_compile=True, steps_per_execution=50),
    ),
    "torch": ("PyTorch, eager", True, run_torch),
    "torch_fused": (
        "PyTorch, eager, fused Adam",
        True,
        lambda x, a: run_torch(x, a, True),
    ),
    "torch_compile": (
        "PyTorch, `torch.compile`, fused Adam",
        True,
        lambda x, a: run_torch(x, a, True, True),
    ),
    "jax": ("JAX, one jit: `scan` over the epoch, donated state", True, run_jax),
    "products": ("lower bound: the matrix products alone, NumPy", False, run_products),
}
STEPS = {"data": load_images, "kernel": start_kernel}
FIRST_FITS = {  # with validation, as in the chapters
    "first_autoencoder": lambda x, a: run_keras(
        x, a, True, "autoencoder", validation=1000
    ),
    "first_vae": lambda x, a: run_keras(x, a, True, validation=1000),
}


def reply(**record):
    """Send a record to the parent, as a line of JSON."""
    print(json.dumps(record), file=reply.out, flush=True)


def work(args):
    """Be the worker `args.worker`."""
    # Whatever else is printed must not come between the replies.
    reply.out, sys.stdout = sys.stdout, sys.stderr
    if args.worker in STEPS:
        STEPS[args.worker](args)
        return reply()
    import numpy as np

    x = np.fromfile(args.data, "float32", count=784 * args.images).reshape(-1, 784)
    run = FIRST_FITS.get(args.worker) or CONTENDERS[args.worker][2]
    versions, threads, tiny = run(x, args)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit  # MB
    reply(memory=memory, versions=versions, threads=threads, denormals=tiny)


# ---------------------------------------------------------------- the parent
# It imports little, because its children's peak memory starts at its own.


class WorkerFailed(Exception):
    """A worker ended too early; the message is the last error that it printed."""


class Worker:
    """A process that runs this module as the worker `name`.

    `replies` holds what it reported for each turn. `last` is its latest reply besides:
    at the end, the memory in MB, the versions, the threads and the denormals.
    """

    def __init__(self, name, folder, python=sys.executable, **options):
        self.log = open(folder / f"{name}.log", "w+", encoding="utf-8")
        self.replies = []
        command = [python, "-m", "tools.bench", "--worker", name]
        command += ["--data", folder / "images.f32"]
        command += [f"--{key}={value}" for key, value in {**OPTIONS, **options}.items()]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(THREADS),
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",
            "JAX_PLATFORMS": "cpu",
            "VAE_COURSE_QUICK": "",
        }
        try:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise WorkerFailed(f"{python}: {error.strerror}") from None
        self.last = self.read()  # it has imported what it needs

    def take_turn(self):
        """Let the worker run one epoch or one step; its reply."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        self.replies.append(self.read())
        self.last = self.read()  # ready for the next turn, or the final record
        return self.replies[-1]

    def read(self):
        """The next reply."""
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            lines = [text.strip() for text in self.log if text.strip()]
            errors = [text for text in lines if "Error" in text]
            reason = (errors or lines or ["it printed no error"])[-1]
            raise WorkerFailed(reason[:150])
        return json.loads(line)

    def close(self):
        self.process.stdin.close()  # ends a worker that waits
        self.process.wait()
        self.log.close()


def run_worker(folder, name, epochs, **options):
    """Run one worker alone: its replies, and its final record."""
    worker = Worker(name, folder, epochs=epochs, **options)
    try:
        return [worker.take_turn() for _ in range(epochs)], worker.last
    finally:
        worker.close()


def log(text):
    print(text, file=sys.stderr, flush=True)


def table(*rows):
    """Print rows as a Markdown table; the first row is the head."""
    alignment = "|---" + "|---:" * (len(rows[0]) - 1) + "|"
    print(f"\n| {' | '.join(rows[0])} |\n{alignment}")
    for row in rows[1:]:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def compare(folder, images, repeats, peers):
    """All contenders, taking turns: prints a table of times, memory and ratios."""
    workers = {}

    def leave_out(name, reason):
        title, needs_peers, _ = CONTENDERS[name]
        if not needs_peers:
            raise reason
        print(f"{title}: left out ({reason})", flush=True)

    for name, (_, needs_peers, _) in CONTENDERS.items():
        python = peers if needs_peers else sys.executable
        options = {"images": images, "epochs": 2 * repeats + 1}
        try:
            workers[name] = Worker(name, folder, python, **options)
        except WorkerFailed as reason:
            leave_out(name, reason)
    try:
        for repeat in range(repeats + 1):
            names = list(workers)
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                time.sleep(0.3)
                try:
                    if repeat:
                        # Warm up: other processes have taken its memory and caches.
                        workers[name].take_turn()
                    seconds = workers[name].take_turn()["seconds"]
                    part = "measured" if repeat else "first"
                    log(f"{part} {repeat}/{repeats}  {name:<14}{seconds:8.2f} s")
                except WorkerFailed as reason:
                    workers.pop(name).close()
                    leave_out(name, reason)
        printed = (folder / "ours.log").read_text(encoding="utf-8")
        fell_back = "Keras' own fit" in printed
    finally:
        for worker in workers.values():
            worker.close()
    measured = {name: worker.replies[2::2] for name, worker in workers.items()}
    median = {
        name: statistics.median(reply["seconds"] for reply in replies)
        for name, replies in measured.items()
    }
    rows = []
    for name, worker in workers.items():
        seconds = [reply["seconds"] for reply in measured[name]]
        cores = statistics.median(reply["cores"] for reply in measured[name])
        loss = worker.replies[-1]["loss"]
        rows.append((
            CONTENDERS[name][0],
            f"{median[name]:.2f}",
            f"{min(seconds):.2f}..{max(seconds):.2f}",
            f"{median[name] / median['ours']:.2f}",
            f"{median[name] / median['products']:.2f}",
            f"{worker.replies[0]['seconds'] - median[name]:.1f}",
            f"{worker.last['memory']:.0f}",
            f"{loss:.1f}" if loss else "",
            worker.last["threads"],
            f"{cores:.2f}",
            worker.last["denormals"],
        ))  # fmt: skip
    head = (
        "contender", "s per epoch", "min..max", "/ ours", "/ lower bound",
        "extra s of the first epoch", "peak MB", "last loss", "threads", "cores busy",
        "denormals",
    )  # fmt: skip
    table(head, *rows)
    if fell_back:
        print("vae_helpers.fit fell back to Keras' own fit: its row is not its speed.")
    print("; ".join(dict.fromkeys(w.last["versions"] for w in workers.values())) + ".")
    print(
        f"{flop() * images / 1e9:.0f} GFLOP of matrix products per epoch. "
        "Ratios of medians, below 1 where ours is faster:"
    )
    best = min(set(median) - {"ours", "products"}, key=median.get)
    others = {
        "Keras with its defaults": "keras",
        "PyTorch, eager": "torch",
        f"the fastest other contender ({CONTENDERS[best][0]})": best,
        "the lower bound": "products",
    }
    for title, name in others.items():
        if name in median:
            print(f"- ours / {title}: {median['ours'] / median[name]:.2f}")


def growth(folder, images, repeats):
    """How time and memory of `vae_helpers.fit` grow; draws build/growth.png."""
    few = min(20_000, images)
    sweeps = [  # points (images, batch size, width)
        [(n, 128, 1) for n in (10_000, 20_000, 40_000, 60_000) if n <= images]
        or [(images, 128, 1)],
        [(few, size, 1) for size in (32, 64, 128, 256, 512, 1024)],
        [(few, 128, factor) for factor in (1, 2, 4)],
    ]
    points = {}
    for point in dict.fromkeys(point for sweep in sweeps for point in sweep):
        n, batch, width = point
        options = {"images": n, "batch": batch, "width": width}
        replies, last = run_worker(folder, "ours", repeats + 1, **options)
        seconds = statistics.median(reply["seconds"] for reply in replies[1:])
        points[point] = seconds, last["memory"], flop(width) * n / 1e9
        log(f"{n} images, batch {batch}, width x{width}: {seconds:.2f} s")
    head = (
        "images, batch, width", "s per epoch", "s for 60,000 images", "peak MB",
        "GFLOP per epoch", "GFLOP/s",
    )  # fmt: skip
    rows = [
        (
            f"{n:,}, {batch}, x{width}", f"{seconds:.2f}",
            f"{seconds * 60_000 / n:.2f}", f"{memory:.0f}", f"{work:.0f}",
            f"{work / seconds:.0f}",
        )
        for (n, batch, width), (seconds, memory, work) in points.items()
    ]  # fmt: skip
    table(head, *rows)
    print(
        f"Medians of {repeats} epochs after a first one. Batch sizes and widths were "
        f"measured on {few:,} images, and their times scaled to 60,000."
    )

    import matplotlib.pyplot as plt

    plt.style.use("petroff10")
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 4), sharey=True, layout="constrained"
    )
    scaled = f"({few:,} images, time x{60_000 / few:g})"
    labels = (
        "images (batch 128)",
        f"batch size {scaled}",
        f"width of hidden layers {scaled}",
    )
    for i, (axis, label, sweep) in enumerate(zip(axes, labels, sweeps)):
        x = [point[i] for point in sweep]
        scale = 60_000 / few if i else 1
        seconds, memory, work = zip(*(points[point] for point in sweep))
        lines = [
            ("o-", "time per epoch (s)", [s * scale for s in seconds]),
            ("s-", "peak memory (GB)", [m / 1000 for m in memory]),
            ("^-", "matrix products (GFLOP/s)", [w / s for w, s in zip(work, seconds)]),
        ]
        for style, title, values in lines:
            axis.loglog(x, values, style, label=title)
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
    print("Drawn: build/growth.png")


def startup(folder, images, repeats):
    """The time spent outside epochs: prints a table."""
    times = {}
    for repeat in range(repeats):
        (step,), _ = run_worker(folder, "data", 1, images=images)
        times.setdefault("`import vae_helpers`", []).append(step["imported"])
        times.setdefault("`load_data()`", []).append(step["loaded"])
        for name in FIRST_FITS:
            options = {"images": min(6_000, images)}
            (first, second), _ = run_worker(folder, name, 2, **options)
            model = name.removeprefix("first_").replace("vae", "VAE")
            title = f"first `fit` of the {model}: first epoch - second"
            times.setdefault(title, []).append(first["seconds"] - second["seconds"])
        (step,), _ = run_worker(folder, "kernel", 1)
        title = "start a Jupyter kernel, run an empty notebook, stop"
        times.setdefault(title, []).append(step["seconds"])
        log(f"startup {repeat + 1}/{repeats}")
    rows = [
        (title, f"{statistics.median(part):.2f}", f"{min(part):.2f}..{max(part):.2f}")
        for title, part in times.items()
    ]
    table(("outside epochs", "s (median)", "min..max"), *rows)
    print(
        f"Each in a new process, {repeats} times; "
        "after the first time, files come from the page cache."
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
        (step,), _ = run_worker(folder, "data", 1, images=args.images)
        print(
            f"{step['images']:,} images; {platform.platform()}, {THREADS} threads; "
            f"load of the machine before: {os.getloadavg()[0]:.1f}."
        )
        if args.growth:
            growth(folder, step["images"], args.repeats or 3)
        elif args.startup:
            startup(folder, step["images"], args.repeats or 3)
        else:
            compare(folder, step["images"], args.repeats or 7, args.peers_python)


if __name__ == "__main__":
    main()
