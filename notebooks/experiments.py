"""Train what the chapters only quote, and write experiments.json.

usage: python notebooks/experiments.py          (about an hour on 2 cores; goes on where it stopped)

- Eleven seeds of both models exactly as chapters 02 and 03 train them. The bands that `expect`
  compares with are the mean +- 4 standard deviations over these.
- The readings of "scaled by 784" in chapter 03, one run each.

Every finished run is kept in build/experiments/, so that a second call trains only what is
missing. Delete that folder to train everything anew.
"""

import datetime
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vae_helpers as vh  # isort: skip (before Keras, because it settles on which backend Keras runs)

import keras
import numpy as np

SEEDS = range(1, 12)
EPOCHS = 50
RUNS = vh.BUILD / "experiments"


def fit(model, data, **compile_options):
    """Compile and train as the chapters do."""
    model.compile(optimizer="adam", loss="mse", jit_compile=True, steps_per_execution=50, **compile_options)
    history = model.fit(
        data.x_train, data.x_train, batch_size=128, epochs=EPOCHS,
        validation_data=(data.x_val, data.x_val), callbacks=[vh.progress()], verbose=0,
    )  # fmt: skip
    print()
    return {name: [float(f"{value:.6g}") for value in values] for name, values in history.history.items()}


def autoencoder(data):
    """Chapter 02's model: its curves and results."""
    model = vh.build_autoencoder()
    curves = fit(model, data)
    encoder, _ = vh.split_autoencoder(model)
    codes = encoder.predict(data.x_train, batch_size=500, verbose=0)
    return curves, {
        "autoencoder, validation MSE": curves["val_loss"][-1],
        "autoencoder, test MSE": vh.mse(data.x_test, model.predict(data.x_test, batch_size=500, verbose=0)),
        "autoencoder, unused code units": int((codes.max(axis=0) == 0).sum()),
    }


class Divided(vh.VAE):
    """The same loss divided by 784: BCE averaged over pixels, and KL / 784."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) / 784


def vae(data, kl_weight=1.0, kind=vh.VAE):
    """Chapter 03's model: its curves and results."""
    model = kind(vh.build_encoder(), vh.build_decoder(), kl_weight=kl_weight)
    curves = fit(model, data, metrics=["mse"])
    test = model.evaluate(data.x_test, data.x_test, batch_size=500, verbose=0, return_dict=True)
    z_mean, z_log_var = model.encoder.predict(data.x_val, batch_size=500, verbose=0)
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var))
    test_mean = model.encoder.predict(data.x_test, batch_size=500, verbose=0)[0]
    reconstruction = model.decoder.predict(test_mean, batch_size=500, verbose=0)
    return curves, {
        "VAE, validation -ELBO (nats)": curves["val_reconstruction"][-1] + curves["val_kl"][-1],
        "VAE, active latent dimensions": vh.active_dimensions(kl),
        "VAE, test -ELBO (nats)": test["reconstruction"] + test["kl"],
        "VAE, test reconstruction (nats)": test["reconstruction"],
        "VAE, test KL (nats)": test["kl"],
        "VAE, test MSE from z_mean": vh.mse(data.x_test, reconstruction),
    }


def baselines(data):
    """Chapter 01's numbers, which no seed changes."""
    mean_image = np.broadcast_to(data.x_train.mean(axis=0), data.x_test.shape)
    return {}, {
        "pixel entropy, test (nats)": vh.pixel_entropy(data.x_test),
        "mean image, test MSE": vh.mse(data.x_test, mean_image),
        "PCA-10, test MSE": vh.mse(data.x_test, vh.pca_reconstruct(data.x_train, data.x_test, 10)),
        "PCA-18, test MSE": vh.mse(data.x_test, vh.pca_reconstruct(data.x_train, data.x_test, 18)),
    }


def plan():
    """Every run: (name, seed, function)."""
    yield "baselines", 0, baselines
    for seed in SEEDS:
        yield "autoencoder", seed, autoencoder
        yield "vae", seed, vae
    for kl_weight in (0.1, 78.4, 784.0):
        yield f"vae, kl_weight {kl_weight:g}", 1, lambda data, w=kl_weight: vae(data, w)
    yield "vae, loss divided by 784", 1, lambda data: vae(data, kind=Divided)


def run(name, seed, function, data):
    """One run, or what is left of it from an earlier call."""
    path = RUNS / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}.json"
    if path.is_file():
        return json.loads(path.read_text())
    print(f"{name}, seed {seed}", flush=True)
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    curves, results = function(data)
    seconds = round(time.perf_counter() - start)
    record = {"name": name, "seed": seed, "seconds": seconds, "results": results, "curves": curves}
    path.with_suffix(".tmp").write_text(json.dumps(record))
    path.with_suffix(".tmp").replace(path)
    print(results, flush=True)
    keras.backend.clear_session()
    return record


def bands(records):
    """Mean +- 4 standard deviations over the seeds, not below 0; +- 0.1% where no seed plays a part.

    Counts are rounded outwards to whole numbers.
    """
    found = {}
    for name in ("baselines", "autoencoder", "vae"):
        results = [record["results"] for record in records if record["name"] == name]
        for key in results[0]:
            values = [result[key] for result in results]
            reach = 4 * np.std(values, ddof=1) if len(values) > 1 else 1e-3 * abs(values[0])
            low, high = max(0, np.mean(values) - reach), np.mean(values) + reach
            counts = all(isinstance(value, int) for value in values)
            found[key] = [math.floor(low), math.ceil(high)] if counts else [float(f"{x:.6g}") for x in (low, high)]
    return found


def main():
    data = vh.load_data()
    if not data.complete:
        sys.exit("The experiments need the full data set, and no quick mode.")
    RUNS.mkdir(parents=True, exist_ok=True)
    records = [run(*entry, data) for entry in plan()]
    made = {"date": datetime.date.today().isoformat(), "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", "epochs": EPOCHS,
            **{name: version(name) for name in ("tensorflow", "keras", "numpy")}}  # fmt: skip
    lines = ",\n  ".join(json.dumps(record) for record in records)
    text = (f'{{\n "made": {json.dumps(made)},\n "bands": {json.dumps(bands(records), indent=1)},\n'
            f' "runs": [\n  {lines}\n ]\n}}\n')  # fmt: skip
    temporary = vh.EXPERIMENTS.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(vh.EXPERIMENTS)
    print(f"written: {vh.EXPERIMENTS.relative_to(vh.ROOT)}")


if __name__ == "__main__":
    main()
