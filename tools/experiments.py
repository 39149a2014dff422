"""Train what the chapters quote, measure it, and write course/assets/experiments.json.

usage: python -m tools.experiments
           train and measure what the file lacks; about three hours on 2 cores in all
       python -m tools.experiments --reproduce NAME SEED
           train a stored run again, and compare

- Several seeds of the models of chapters 02, 03 and 04. The bands that `expect`
  compares with are the mean +- 4 standard deviations over these seeds.
- For chapters 05 and 06: autoencoders of the VAE's widths; the VAE's network without
  noise, without KL and without both; the improvements to the VAE, added one at a time;
  other weights of KL. Three seeds of three models are scored by four feature sets.
- For chapter 07: flows on the codes of the reference autoencoder, with and without
  classes.

The first seeds of the 2-d VAE, the wide autoencoder, the better VAE and the flow are
the reference models. To train a run again, delete its line in experiments.json. Each
run's record is saved in build/experiments/, so that a second call resumes where the
first one stopped; it does not notice changed code: delete it if the code changed.
"""

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
import sklearn
import tensorflow as tf
from sklearn.cluster import KMeans

import course
from course import evaluation, flow
from course.files import write_text

AE_SEEDS, SEEDS, FIVE_SEEDS, FEW_SEEDS = (range(1, 1 + n) for n in (8, 6, 5, 3))


class DividedLossVAE(vh.VAE):
    """A VAE whose loss is divided by 784: BCE averaged over pixels, plus KL / 784."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) / 784


def autoencoder():
    """Chapter 02's compiled model, and an empty list of callbacks."""
    model = vh.build_autoencoder()
    model.compile(optimizer="adam", loss="mse")
    return model, []


def vae_2d():
    """Chapter 04's VAE: chapter 03's with a code of two dimensions."""
    model = vh.VAE(vh.build_encoder(latent_dim=2), vh.build_decoder(latent_dim=2))
    model.compile(optimizer="adam", loss="mse")
    return model, []


def wide_autoencoder(units, activation):
    """A plain autoencoder of the VAE's widths, with this code, trained by MSE."""
    image = x = keras.Input((784,), name="image")
    for width in (512, 256, 128):
        x = keras.layers.Dense(width, activation="relu")(x)
    code = keras.layers.Dense(units, activation=activation, name="code")(x)
    model = keras.Model(image, vh.build_decoder(units)(code), name="autoencoder")
    model.compile(optimizer="adam", loss="mse")
    return model, []


# What is trained: {name of a run: (its seeds, what builds its model and callbacks)}.
vae = evaluation.build_vae
PLAN = {
    "autoencoder": (AE_SEEDS, autoencoder),
    "vae": (SEEDS, vae),
    "vae, 2 dimensions": (FIVE_SEEDS, vae_2d),
    "wide autoencoder, 18 ReLU": (FEW_SEEDS, lambda: wide_autoencoder(18, "relu")),
    "wide autoencoder, 10 linear": (FEW_SEEDS, lambda: wide_autoencoder(10, "linear")),
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
        f"beta {w:g}": (seeds, lambda w=w: vae(kl_weight=w))
        for seeds, weights in ((FEW_SEEDS, (0.5, 2.0)), ([1], (0.1, 4.0, 78.4, 784.0)))
        for w in weights
    },
    "vae, loss divided by 784": ([1], lambda: vae(DividedLossVAE)),
}


def rounded(value):
    """A number to six digits, as it is stored."""
    return float(f"{value:.6g}")


# The reference VAEs, first seeds: {name of a run: name of the files}.
REFERENCES = {
    "vae, 2 dimensions": "vae2d",
    "no noise, no KL": "wide",
    "warm-up, cosine, GELU": "better",
}
# Scored by all feature sets: three seeds each.
FEATURES = ("vae", "no noise, no KL", "warm-up, cosine, GELU")
FLOWS = {
    "flow": FIVE_SEEDS,
    "flow, no classes": FEW_SEEDS,
    "flow, clusters": FEW_SEEDS,
}


def train(name, seed, data):
    """Train a run of `PLAN`: the model, and its curves {name: one value per epoch}.

    A VAE's curves include "kl_per_dimension": the mean KL in nats of each latent
    dimension on the validation images, a list of 10 per epoch.
    """
    keras.utils.set_random_seed(seed)
    model, callbacks = PLAN[name][1]()
    kl_per_dimension = []
    if isinstance(model, vh.VAE):

        def measure_kl(epoch, logs):
            kl = vh.kl_to_prior(*model.encoder(data.x_val))
            kl_per_dimension.append(np.mean(kl, axis=0))

        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=measure_kl))
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
        key: [rounded(value) for value in values] for key, values in history.items()
    }
    if kl_per_dimension:
        curves["kl_per_dimension"] = [
            [float(f"{value:.3g}") for value in row] for row in kl_per_dimension
        ]
    return model, curves


def measure(model, data, classifier):
    """The results of a trained model: {name: value}, named as in the chapters."""
    keras.utils.set_random_seed(0)
    predict = evaluation.predict_in_batches
    real_features, _ = evaluation.classify(classifier, data.x_test)
    results = {}
    if isinstance(model, vh.VAE):
        test = model.evaluate(
            data.x_test, data.x_test, batch_size=500, verbose=0, return_dict=True
        )
        val_mean, val_log_var = predict(model.encoder, data.x_val)
        test_mean, _ = predict(model.encoder, data.x_test)
        codes, log_var = predict(model.encoder, data.x_train)
        if not isinstance(model, evaluation.Noiseless):
            codes = np.asarray(model.sampling([codes, log_var]))
            results |= evaluation.measure_prior(
                model.encoder, data.x_train, data.x_test
            )
        decoder = model.decoder
        restored = predict(decoder, test_mean)
        kl = np.asarray(vh.kl_to_prior(val_mean, val_log_var))
        val_variance = val_mean.var(axis=0)
        results |= {
            "test reconstruction (nats)": test["reconstruction"],
            "test KL (nats)": test["kl"],
            "test -ELBO (nats)": test["reconstruction"] + test["kl"],
            "active latent dimensions": vh.active_dimensions(kl),
            "active by the variance of the means": int((val_variance > 0.01).sum()),
            "spread of the means": float(np.sqrt(val_variance.mean())),
            "typical sigma": float(np.exp(0.5 * val_log_var).mean()),
            "test MSE from z_mean": vh.mse(data.x_test, restored),
        }
    else:
        encoder, decoder = vh.split_autoencoder(model)
        codes = predict(encoder, data.x_train)
        restored = predict(model, data.x_test)
        results |= {
            "test MSE": vh.mse(data.x_test, restored),
            "unused code units": int((codes.max(axis=0) == 0).sum()),
        }
    images = {"test images, restored": restored}
    for source, samples in evaluation.sample_codes(codes).items():
        images[source] = predict(decoder, samples)
    for source, part in images.items():
        features, classes = evaluation.classify(classifier, part)
        distance = evaluation.squared_frechet(features, real_features)
        results[f"squared Frechet, {source}"] = distance
        if source == "N(0, I)":
            counts = np.bincount(classes.argmax(axis=1), minlength=10)
            results["classes of samples"] = counts.tolist()
    return {
        key: value if isinstance(value, (int, list)) else rounded(value)
        for key, value in results.items()
    }


def measure_flow(name, seed, data, classifier):
    """The record of a flow on the codes of the reference autoencoder, one of `FLOWS`.

    Its classes are those of the images, or clusters of the codes in their place, or it
    saw none. The first seed's, with classes, is saved as the reference model.
    """
    autoencoder = vh.load(course.REFERENCE / "autoencoder.keras")
    encoder, decoder = vh.split_autoencoder(autoencoder)
    codes = evaluation.predict_in_batches(encoder, data.x_train)
    labels, asked = data.y_train, data.y_test
    if name == "flow, no classes":
        labels, asked = np.full(len(codes), flow.ANY), flow.ANY
    elif name == "flow, clusters":
        labels = KMeans(10, random_state=0).fit(codes).labels_
        asked = np.random.default_rng(0).choice(labels, evaluation.IMAGES)
    model = flow.train(codes, labels, seed)
    if name == "flow" and not flow.REFERENCE.is_file():
        flow.save_reference(model)
    new = decoder(flow.sample(model, asked, evaluation.IMAGES).clip(0)).numpy()
    sets = evaluation.feature_sets(classifier, data.x_train)
    results = {
        f"squared Frechet, {feature_set}": rounded(
            evaluation.squared_frechet(features_of(new), features_of(data.x_test))
        )
        for feature_set, features_of in sets.items()
    }
    classes = evaluation.classify(classifier, new)[1].argmax(axis=1)
    results["recognised as asked"] = rounded(np.mean(classes == data.y_test))
    return {"name": name, "seed": seed, "results": results, "curves": {}}


def train_and_measure(name, seed, data, classifier):
    """The record of a run of `PLAN` for experiments.json: its results and curves."""
    start = time.perf_counter()
    model, curves = train(name, seed, data)
    seconds = round(time.perf_counter() - start)
    if seed == 1 and name in REFERENCES:
        parts = {"encoder": model.encoder, "decoder": model.decoder}
        models = {f"{REFERENCES[name]}_{part}": parts[part] for part in parts}
        if not (course.REFERENCE / f"{REFERENCES[name]}_decoder.keras").is_file():
            vh.save(course.REFERENCE, **models)
    if "val_kl" in curves:
        negative_elbo = curves["val_reconstruction"][-1] + curves["val_kl"][-1]
        results = {"validation -ELBO (nats)": negative_elbo}
    else:
        results = {"validation MSE": curves["val_loss"][-1]}
    results |= measure(model, data, classifier)
    if name not in ("vae", "warm-up"):  # chapter 06 draws these two
        curves.pop("kl_per_dimension", None)
    record = {"name": name, "seed": seed, "seconds": seconds}
    record |= {"results": results, "curves": curves}
    if name in FEATURES and seed in FEW_SEEDS:
        sets = evaluation.feature_sets(classifier, data.x_train)
        record["features"] = evaluation.score_by_features(model, data, sets)
    return record


def load_or_measure(name, seed, data, classifier):
    """The record of a run, as an earlier call saved it in build/experiments, or new."""
    name_of_file = name.replace(", ", "-").replace(" ", "-")
    path = course.BUILD / "experiments" / f"{name_of_file}-seed{seed}.record.json"
    if not path.is_file():
        print(f"{name}, seed {seed}", flush=True)
        measure_run = measure_flow if name in FLOWS else train_and_measure
        write_text(path, json.dumps(measure_run(name, seed, data, classifier)))
        keras.backend.clear_session()
    return json.loads(path.read_text(encoding="utf-8"))


def load_or_train_classifier(data):
    """Chapter 05's classifier; if it is missing, trained and saved in course/assets."""
    if not evaluation.CLASSIFIER.is_file():
        keras.utils.set_random_seed(vh.SEED)
        classifier = evaluation.build_classifier()
        # After 15 epochs the accuracy on validation images no longer rises.
        rate = keras.optimizers.schedules.CosineDecay(1e-3, 15 * 430)
        classifier.compile(
            keras.optimizers.Adam(rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        vh.fit(
            classifier,
            data.x_train,
            data.y_train,
            epochs=15,
            validation_data=(data.x_val, data.y_val),
        )
        vh.save(course.REFERENCE, classifier=classifier)
    return vh.load(evaluation.CLASSIFIER)


# Scores of samples, with what other samples of the same model change: the standard
# deviation over 12 draws, and over 8 fits of the mixture, of chapter 03's VAE, divided
# by the score.
SAMPLING_NOISE = {
    "squared Frechet, N(0, I)": 0.028,
    "squared Frechet, mixture of 50": 0.067,
}
FRECHET = list(SAMPLING_NOISE)
# Runs that the stored notebooks show. A result is compared with other runs' results.
SHOWN = [
    ("vae, 2 dimensions", FIVE_SEEDS[0]),
    ("no noise, no KL", evaluation.SEED),
    ("warm-up, cosine, GELU", evaluation.SEED),
]
BOUNDS = ["validation -ELBO (nats)", "active latent dimensions", "test -ELBO (nats)"]
# The results that have a band: {name of a run: (the model's name in the chapters,
# the names of the results)}.
COMPARED = {
    "autoencoder": ("autoencoder", ["validation MSE", "test MSE", "unused code units"]),
    "vae": (
        "VAE",
        BOUNDS
        + ["test reconstruction (nats)", "test KL (nats)", "test MSE from z_mean"]
        + FRECHET,
    ),
    "vae, 2 dimensions": ("2-d VAE", ["validation -ELBO (nats)"]),
    "no noise, no KL": ("wide autoencoder", FRECHET),
    "warm-up, cosine, GELU": ("better VAE", FRECHET),
    "flow": ("flow", ["squared Frechet, our classifier", "recognised as asked"]),
}


def bands(records):
    """{name: [low, high]} of the results in `COMPARED`.

    The mean +- 4 standard deviations over the seeds, without the run that the notebooks
    show, not below 0; for counts, the whole numbers in between. Samples' scores have
    the standard deviation over seeds and that over samples.
    """
    ranges = {}
    for run, (model, names) in COMPARED.items():
        for name in names:
            values = [
                record["results"][name]
                for record in records
                if record["name"] == run and (run, record["seed"]) not in SHOWN
            ]
            noise = SAMPLING_NOISE.get(name, 0) * np.mean(values)
            margin = 4 * np.hypot(np.std(values, ddof=1), noise)
            low, high = max(0, np.mean(values) - margin), np.mean(values) + margin
            if all(isinstance(value, int) for value in values):
                limits = [math.ceil(low), math.floor(high)]
            else:
                limits = [float(f"{limit:.6g}") for limit in (low, high)]
            ranges[f"{model}, {name}"] = limits
    return ranges


def reproduce(name, seed, data):
    """Train a stored run again; exit with an error unless the loss is reproduced."""
    losses = {
        run["seed"]: run["curves"]["val_loss"][-1]
        for run in json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
        if run["name"] == name
    }
    if seed not in losses:
        sys.exit(f"experiments.json has no run {name!r} with seed {seed}.")
    loss = train(name, seed, data)[1]["val_loss"][-1]
    # On the same kind of machine all digits agree. On another, rounding errors grow
    # until the two runs differ as two seeds do.
    several = len(losses) > 2
    spread = np.std(list(losses.values()), ddof=1) if several else losses[seed] / 800
    print(
        f"{name}, seed {seed}: last validation loss {loss}, stored {losses[seed]}, "
        f"difference of up to {4 * spread:.2g} allowed"
    )
    if not abs(loss - losses[seed]) <= 4 * spread:  # NaN fails this comparison
        sys.exit(
            "The run was not reproduced: see what has changed in the code and in the "
            "versions since experiments.json was written."
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reproduce", nargs=2, metavar=("NAME", "SEED"))
    options = parser.parse_args()
    data = vh.load_data()
    if not data.is_full_run:
        sys.exit(
            "The experiments need the full data set: run make data, "
            "and unset VAE_COURSE_QUICK."
        )
    if options.reproduce:
        name, seed = options.reproduce
        return reproduce(name, int(seed), data)
    classifier = load_or_train_classifier(data)
    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    stored = {(run["name"], run["seed"]): run for run in stored}
    plan = {name: seeds for name, (seeds, _) in PLAN.items()} | FLOWS
    records = [
        stored.get((name, seed)) or load_or_measure(name, seed, data, classifier)
        for name, seeds in plan.items()
        for seed in seeds
    ]
    packages = {"tensorflow": tf, "keras": keras, "numpy": np, "scikit-learn": sklearn}
    origin = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "epochs": evaluation.EPOCHS,
        **{name: package.__version__ for name, package in packages.items()},
    }
    lines = ",\n  ".join(json.dumps(record) for record in records)
    parts = {"last_written": origin, "bands": bands(records)}
    head = "".join(f' "{name}": {json.dumps(part)},\n' for name, part in parts.items())
    write_text(course.EXPERIMENTS, f'{{\n{head} "runs": [\n  {lines}\n ]\n}}\n')
    print(f"Written: {course.EXPERIMENTS.relative_to(course.ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted: run the same command again to train what is missing.")
