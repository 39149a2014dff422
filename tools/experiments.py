"""Train what the chapters only quote, measure it, and write experiments.json.

usage: python -m tools.experiments          (about two hours on 2 cores; goes on where it stopped)
       python -m tools.experiments --reproduce   (train one committed run anew and compare; another each week)
       python -m tools.experiments --reproduce NAME SEED

- Several seeds of both models exactly as chapters 02 and 03 train them. The bands that `expect`
  compares with are the mean +- 4 standard deviations over these.
- The readings of "scaled by 784" in chapter 03, and the beta curve of chapter 05, one run each.
- For chapter 05, three to five seeds each: the VAE's network without noise, without KL and without both;
  and what makes the VAE better, step by step.

Trained weights and curves are kept in build/experiments/, so that a second call trains only what is
missing. Delete that folder to train everything anew.
"""

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version

INTERRUPTED = "\nInterrupted. Run the same command again to train what is missing."
try:  # these imports take seconds
    import vae_helpers as vh  # isort: skip  (before Keras)

    import keras
    import numpy as np

    import course
    from course import checkpoints, evaluation
    from course.files import write_text
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)
except ImportError as error:
    sys.exit(f"{error} (To install: python -m pip install -r requirements.txt)")

AE_SEEDS, SEEDS, FIVE_SEEDS, FEW_SEEDS = (range(1, 1 + n) for n in (8, 6, 5, 3))
RUNS = course.BUILD / "experiments"


class Divided(vh.VAE):
    """The same loss divided by 784: BCE averaged over pixels, and KL / 784."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) / 784


def autoencoder():
    """Chapter 02's model, compiled, and no callbacks."""
    model = vh.build_autoencoder()
    model.compile(optimizer="adam", loss="mse")
    return model, []


# What is trained: the name of a run, its seeds, and the function that builds its model.
vae = evaluation.build_vae
PLAN = {
    "autoencoder": (AE_SEEDS, autoencoder),
    "vae": (SEEDS, vae),
    "no noise, no KL": (FIVE_SEEDS, lambda: vae(evaluation.Noiseless, 0.0)),
    "noise, no KL": (FEW_SEEDS, lambda: vae(kl_weight=0.0)),
    "KL, no noise": (FEW_SEEDS, lambda: vae(evaluation.Noiseless)),
    "warm-up": (FIVE_SEEDS, lambda: vae(warm_up_epochs=20)),
    "warm-up, cosine": (FIVE_SEEDS, lambda: vae(warm_up_epochs=20, cosine=True)),
    "warm-up, cosine, GELU": (
        FIVE_SEEDS,
        lambda: vae(warm_up_epochs=20, cosine=True, activation="gelu"),
    ),
    **{
        f"beta {w:g}": ([1], lambda w=w: vae(kl_weight=w))
        for w in (0.1, 0.5, 2.0, 4.0, 78.4, 784.0)
    },
    "vae, loss divided by 784": ([1], lambda: vae(Divided)),
}


def train(name, seed, data):
    """A trained model and its curves; KL for each latent dimension among them, on validation images."""
    keras.utils.set_random_seed(seed)
    model, callbacks = PLAN[name][1]()
    kl = []
    if isinstance(model, vh.VAE):

        def measure(epoch, logs):
            kl.append(np.mean(vh.kl_to_prior(*model.encoder(data.x_val)), axis=0))

        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=measure))
    history = vh.fit(
        model,
        data.x_train,
        data.x_train,
        epochs=evaluation.EPOCHS,
        validation_data=(data.x_val, data.x_val),
        callbacks=callbacks,
    ).history
    print()
    curves = {
        key: [float(f"{value:.6g}") for value in values]
        for key, values in history.items()
    }
    if kl:
        curves["kl_per_dimension"] = [
            [float(f"{value:.3g}") for value in row] for row in kl
        ]
    return model, curves


def kept(name, seed, ending):
    """Where something of a run is kept."""
    return RUNS / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}{ending}"


def read(path):
    """What is kept in a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(
            f"{path} is damaged: delete it, and say the same again."
        ) from None


def trained(name, seed, data):
    """`train`, or what is left of it from an earlier call."""
    path = kept(name, seed, ".npz")
    if path.is_file():
        model, _ = PLAN[name][1]()
        return model, checkpoints.read(path, model)
    print(f"{name}, seed {seed}", flush=True)
    start = time.perf_counter()
    model, curves = train(name, seed, data)
    record = {"seconds": round(time.perf_counter() - start), **curves}
    checkpoints.write(path, model, **record)
    return model, record


def measure(model, data, classifier):
    """The results of one trained model, by the names that the chapters and their bands use."""
    keras.utils.set_random_seed(0)
    real, _ = evaluation.classify(classifier, data.x_test)
    results = {}
    if isinstance(model, vh.VAE):
        test = model.evaluate(
            data.x_test, data.x_test, batch_size=500, verbose=0, return_dict=True
        )
        val_mean, val_log_var = evaluation.predict_in_batches(model.encoder, data.x_val)
        test_mean, _ = evaluation.predict_in_batches(model.encoder, data.x_test)
        mean, log_var = evaluation.predict_in_batches(model.encoder, data.x_train)
        codes = (
            mean
            if isinstance(model, evaluation.Noiseless)
            else np.asarray(model.sampling([mean, log_var]))
        )
        decoder, restored = (
            model.decoder,
            evaluation.predict_in_batches(model.decoder, test_mean),
        )
        kl = np.asarray(vh.kl_to_prior(val_mean, val_log_var))
        results |= {
            "test reconstruction (nats)": test["reconstruction"],
            "test KL (nats)": test["kl"],
            "test -ELBO (nats)": test["reconstruction"] + test["kl"],
            "active latent dimensions": vh.active_dimensions(kl),
            "active by the variance of the means": int(
                (val_mean.var(axis=0) > 0.01).sum()
            ),
            "spread of the means": float(np.sqrt(val_mean.var(axis=0).mean())),
            "typical sigma": float(np.exp(0.5 * val_log_var).mean()),
            "test MSE from z_mean": vh.mse(data.x_test, restored),
        }
    else:
        encoder, decoder = vh.split_autoencoder(model)
        codes = evaluation.predict_in_batches(encoder, data.x_train)
        restored = evaluation.predict_in_batches(model, data.x_test)
        results |= {
            "test MSE": vh.mse(data.x_test, restored),
            "unused code units": int((codes.max(axis=0) == 0).sum()),
        }
    frechet = {"test images, restored": restored}
    for source, drawn in evaluation.sample_codes(codes).items():
        frechet[source] = evaluation.predict_in_batches(decoder, drawn)
    for source, images in frechet.items():
        features, classes = evaluation.classify(classifier, images)
        results[f"squared Frechet, {source}"] = evaluation.squared_frechet(
            features, real
        )
        if source == "N(0, I)":
            results["classes of samples"] = np.bincount(
                classes.argmax(axis=1), minlength=10
            ).tolist()
    return {
        key: value if isinstance(value, (int, list)) else float(f"{value:.6g}")
        for key, value in results.items()
    }


def measured(name, seed, data, classifier):
    """`measure` of a run, and its curves, as one record; kept like the weights."""
    path = kept(name, seed, ".record.json")
    if not path.is_file():
        model, curves = trained(name, seed, data)
        results = {}
        if "val_kl" in curves:
            results["validation -ELBO (nats)"] = (
                curves["val_reconstruction"][-1] + curves["val_kl"][-1]
            )
        else:
            results["validation MSE"] = curves["val_loss"][-1]
        results |= measure(model, data, classifier)
        seconds = curves.pop("seconds")
        if name not in ("vae", "warm-up"):  # chapter 05 draws these two
            curves.pop("kl_per_dimension", None)
        write_text(
            path,
            json.dumps(
                {
                    "name": name,
                    "seed": seed,
                    "seconds": seconds,
                    "results": results,
                    "curves": curves,
                }
            ),
        )
        keras.backend.clear_session()
    return read(path)


def classifier_of(data):
    """The classifier of chapter 05: trained here once, and stored with the reference models."""
    if not evaluation.CLASSIFIER.is_file():
        keras.utils.set_random_seed(vh.SEED)
        classifier = evaluation.build_classifier()
        # 15 epochs: accuracy on validation images no longer rises.
        optimizer = keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-3, 15 * 430)
        )
        classifier.compile(
            optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        validation = (data.x_val, data.y_val)
        vh.fit(
            classifier,
            data.x_train,
            data.y_train,
            epochs=15,
            validation_data=validation,
        )
        vh.save(course.REFERENCE, classifier=classifier)
    return vh.load(evaluation.CLASSIFIER)


def baselines(data):
    """Chapter 01's numbers, which no seed changes."""
    mean_image = np.broadcast_to(data.x_train.mean(axis=0), data.x_test.shape)
    return {
        "pixel entropy, test (nats)": vh.pixel_entropy(data.x_test),
        "mean image, test MSE": vh.mse(data.x_test, mean_image),
        "PCA-10, test MSE": vh.mse(
            data.x_test, vh.pca_reconstruct(data.x_train, data.x_test, 10)
        ),
        "PCA-18, test MSE": vh.mse(
            data.x_test, vh.pca_reconstruct(data.x_train, data.x_test, 18)
        ),
    }


# Which results of which runs the chapters compare with: the name of a run, how the chapters call the model, results.
COMPARED = {
    "autoencoder": ("autoencoder", ["validation MSE", "test MSE", "unused code units"]),
    "vae": ("VAE", ["validation -ELBO (nats)", "active latent dimensions", "test -ELBO (nats)",
                    "test reconstruction (nats)", "test KL (nats)", "test MSE from z_mean",
                    "squared Frechet, N(0, I)", "squared Frechet, mixture of 50"]),
    "no noise, no KL": ("plain AE", ["squared Frechet, N(0, I)", "squared Frechet, mixture of 50"]),
    "warm-up, cosine, GELU": ("better VAE", ["validation -ELBO (nats)", "test -ELBO (nats)", "active latent dimensions",
                                             "test MSE from z_mean", "squared Frechet, N(0, I)",
                                             "squared Frechet, mixture of 50"]),
}  # fmt: skip


def tolerances(records):
    """+- 0.1% of the results that depend on no seed."""
    [record] = [record for record in records if record["name"] == "baselines"]
    return {
        name: [float(f"{value * (1 + reach):.6g}") for reach in (-1e-3, 1e-3)]
        for name, value in record["results"].items()
    }


def bands(records):
    """Mean +- 4 standard deviations over the seeds, not below 0.

    Counts are rounded outwards to whole numbers.
    """
    ranges = {}
    for run, (model, names) in COMPARED.items():
        for name in names:
            values = [
                record["results"][name] for record in records if record["name"] == run
            ]
            reach = 4 * np.std(values, ddof=1)
            low, high = max(0, np.mean(values) - reach), np.mean(values) + reach
            if all(isinstance(value, int) for value in values):
                limits = [math.floor(low), math.ceil(high)]
            else:
                limits = [float(f"{limit:.6g}") for limit in (low, high)]
            ranges[f"{model}, {name}"] = limits
    return ranges


def asked(words):
    """The run that the words after --reproduce name, (name, seed); without words, another one each week."""
    choices = [(name, seed) for name, (seeds, _) in PLAN.items() for seed in seeds]
    if not words:
        return choices[datetime.date.today().isocalendar().week % len(choices)]
    found = [(name, seed) for name, seed in choices if [name, str(seed)] == words]
    if not found:
        known = ", ".join(
            f'"{name}" 1' + f" to {len(seeds)}" * (len(seeds) > 1)
            for name, (seeds, _) in PLAN.items()
        )
        sys.exit(
            f"--reproduce takes nothing, or one of these names and a seed of it: {known}."
        )
    return found[0]


def reproduce(name, seed, data):
    """Train a committed run anew: exit with an error unless its validation loss comes out as committed."""
    stored = read(course.EXPERIMENTS)["runs"]
    last = {
        run["seed"]: run["curves"]["val_loss"][-1]
        for run in stored
        if run["name"] == name
    }
    if seed not in last:
        raise ValueError(
            f"{course.EXPERIMENTS} lacks {name}, seed {seed}: restore it with git."
        )
    found = train(name, seed, data)[1]["val_loss"][-1]
    # On the same kind of machine all digits agree; elsewhere rounding grows until it is like another seed.
    reach = (
        4 * np.std(list(last.values()), ddof=1) if len(last) > 2 else 0.005 * last[seed]
    )
    print(
        f"{name}, seed {seed}: last validation loss {found} now, {last[seed]} committed, may differ by {reach:.2g}"
    )
    if not abs(found - last[seed]) <= reach:
        sys.exit("That is not the same run.")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reproduce", nargs="*", metavar="NAME SEED")
    options = parser.parse_args()
    run = asked(options.reproduce) if options.reproduce is not None else None
    data = vh.load_data()
    if not data.is_full_run:
        sys.exit("The experiments need the full data set, and no quick mode.")
    if run:
        return reproduce(*run, data)
    classifier = classifier_of(data)
    records = [
        measured(name, seed, data, classifier)
        for name, (seeds, _) in PLAN.items()
        for seed in seeds
    ]
    records.append(
        {"name": "baselines", "seed": 0, "results": baselines(data), "curves": {}}
    )
    made = {"date": datetime.date.today().isoformat(), "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", "epochs": evaluation.EPOCHS,
            **{name: version(name) for name in ("tensorflow", "keras", "numpy", "scikit-learn")}}  # fmt: skip
    lines = ",\n  ".join(json.dumps(record) for record in records)
    parts = {"made": made, "tolerances": tolerances(records), "bands": bands(records)}
    head = "".join(f' "{name}": {json.dumps(part)},\n' for name, part in parts.items())
    write_text(course.EXPERIMENTS, f'{{\n{head} "runs": [\n  {lines}\n ]\n}}\n')
    print(f"written: {course.EXPERIMENTS.relative_to(course.ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
