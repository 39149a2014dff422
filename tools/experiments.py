"""Train what the chapters quote, measure it, and write course/assets/experiments.json.

usage: python -m tools.experiments
           train and measure what the file lacks; about three hours on 2 cores in all
       python -m tools.experiments --reproduce
           train the first stored run of chapter 03's VAE again, and compare

- Several seeds of the models of chapters 02, 03 and 04. The bands that `expect`
  compares with are the mean +- 4 standard deviations over these seeds.
- For chapters 05 and 06: autoencoders of the VAE's widths; the VAE's network without
  noise, without KL and without both; the improvements to the VAE, added one at a time;
  other weights of KL. Three seeds of three models are scored by four feature sets.
- For chapter 07: flows on the codes of the reference autoencoder, with and without
  classes.

The first seeds of the 2-d VAE, the wide autoencoder and the better VAE are the
reference models, which are renewed with them. Each run is written into the file as soon
as it is measured, so a second call resumes where the first one stopped. Changed code is
not noticed: to train a run again, delete its line in the file.
"""

import argparse
import datetime
import json
import math
import sys
from importlib.metadata import version

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from sklearn.cluster import KMeans

import course
from course import evaluation, flow
from course.files import write_text

AE_SEEDS, SEEDS, FIVE_SEEDS, FEW_SEEDS = (range(1, 1 + n) for n in (8, 6, 5, 3))


class DividedLossVAE(vh.VAE):
    """A VAE whose loss is divided by 784: BCE averaged over pixels, plus KL / 784."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) / 784


def compiled(model):
    """A model compiled as in chapters 02 and 04, and an empty list of callbacks."""
    model.compile(optimizer="adam", loss="mse")
    return model, []


def wide_autoencoder(units, activation):
    """A plain autoencoder of the VAE's widths, with this code, trained by MSE."""
    image = x = keras.Input((784,), name="image")
    for width in (512, 256, 128):
        x = keras.layers.Dense(width, activation="relu")(x)
    code = keras.layers.Dense(units, activation=activation, name="code")(x)
    return compiled(
        keras.Model(image, vh.build_decoder(units)(code), name="autoencoder")
    )


# What is trained: {name of a run: (its seeds, what builds its model and callbacks)}.
vae = evaluation.build_vae
PLAN = {
    "autoencoder": (AE_SEEDS, lambda: compiled(vh.build_autoencoder())),
    "vae": (SEEDS, vae),
    "vae, 2 dimensions": (
        FIVE_SEEDS,
        lambda: compiled(vh.VAE(vh.build_encoder(2), vh.build_decoder(2))),
    ),
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


# The reference VAEs, first seeds: {name of a run: name of the files}.
REFERENCES = {
    "vae, 2 dimensions": "vae2d",
    "no noise, no KL": "wide",
    "warm-up, cosine, GELU": "better",
}
# Scored by all feature sets: three seeds each.
FEATURES = ("vae", "no noise, no KL", "warm-up, cosine, GELU")
KL_CURVES = ("vae", "warm-up")  # chapter 06 draws the KL of their dimensions
FLOWS = {
    "flow": FIVE_SEEDS,
    "flow, no classes": FEW_SEEDS,
    "flow, clusters": FEW_SEEDS,
}


def train(name, seed, data):
    """Train a run of `PLAN`: the model, and its curves {name: one value per epoch}.

    Those of `KL_CURVES` include "kl_per_dimension": the mean KL in nats of each latent
    dimension on the validation images, a list of 10 per epoch.
    """
    keras.utils.set_random_seed(seed)
    model, callbacks = PLAN[name][1]()
    kl_per_dimension = []

    def measure_kl(epoch, logs):
        kl = vh.kl_to_prior(*model.encoder(data.x_val))
        kl_per_dimension.append(np.mean(kl, axis=0))

    if name in KL_CURVES:
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=measure_kl))
    x, validation = data.x_train, (data.x_val, data.x_val)
    settings = {"epochs": evaluation.EPOCHS, "callbacks": callbacks}
    curves = vh.fit(model, x, x, validation_data=validation, **settings).history
    print()
    if name in KL_CURVES:
        curves["kl_per_dimension"] = kl_per_dimension
    return model, curves


def measure(model, data, classifier):
    """The results of a trained model: {name: value}, named as in the chapters."""
    keras.utils.set_random_seed(0)
    real_features, _ = evaluation.classify(classifier, data.x_test)
    results = {}
    if isinstance(model, vh.VAE):
        test = model.evaluate(
            data.x_test, data.x_test, batch_size=500, verbose=0, return_dict=True
        )
        val_mean, val_log_var = map(np.asarray, model.encoder(data.x_val))
        test_mean, _ = model.encoder(data.x_test)
        codes, log_var = model.encoder(data.x_train)
        if not isinstance(model, evaluation.Noiseless):
            codes = model.sampling([codes, log_var])
        decoder = model.decoder
        restored = np.asarray(decoder(test_mean))
        val_kl = np.asarray(vh.kl_to_prior(val_mean, val_log_var))
        results |= {
            "test reconstruction (nats)": test["reconstruction"],
            "test KL (nats)": test["kl"],
            "test -ELBO (nats)": test["reconstruction"] + test["kl"],
            "active latent dimensions": vh.active_dimensions(val_kl),
            "spread of the means": np.sqrt(val_mean.var(axis=0).mean()),
            "typical sigma": np.exp(0.5 * val_log_var).mean(),
            "test MSE from z_mean": vh.mse(data.x_test, restored),
        }
    else:
        encoder, decoder = vh.split_autoencoder(model)
        codes = encoder(data.x_train)
        restored = np.asarray(model(data.x_test))
        results |= {
            "test MSE": vh.mse(data.x_test, restored),
            "unused code units": (np.max(codes, axis=0) == 0).sum(),
        }
    images, codes = {"test images, restored": restored}, np.asarray(codes)
    for source, components in evaluation.SOURCES.items():
        new = evaluation.sample_codes(codes, components)
        images[source] = np.asarray(decoder(new))
    for source, part in images.items():
        features, classes = evaluation.classify(classifier, part)
        distance = evaluation.squared_frechet(features, real_features)
        results[f"squared Frechet, {source}"] = distance
        if source == "N(0, I)":
            counts = np.bincount(classes.argmax(axis=1), minlength=10)
            results["classes of samples"] = counts
    return results


def measure_flow(name, seed, data, classifier):
    """The record of a flow on the codes of the reference autoencoder, one of `FLOWS`.

    Its classes are those of the images, or clusters of the codes in their place, or it
    saw none.
    """
    encoder, decoder = vh.split_autoencoder(vh.load(flow.AUTOENCODER))
    codes = np.asarray(encoder(data.x_train))
    labels, asked = data.y_train, data.y_test
    if name == "flow, no classes":
        labels, asked = np.full(len(codes), flow.ANY), flow.ANY
    elif name == "flow, clusters":
        labels = KMeans(10, random_state=0).fit(codes).labels_
        asked = np.random.default_rng(0).choice(labels, evaluation.IMAGES)
    model = flow.train(codes, labels, seed)
    new = decoder(flow.sample(model, asked, evaluation.IMAGES).clip(0)).numpy()
    sets = evaluation.feature_sets(classifier, data.x_train)
    results = {}
    for feature_set, features_of in sets.items():
        features = features_of(new), features_of(data.x_test)
        distance = evaluation.squared_frechet(*features)
        results[f"squared Frechet, {feature_set}"] = distance
    classes = evaluation.classify(classifier, new)[1].argmax(axis=1)
    results["recognised as asked"] = np.mean(classes == data.y_test)
    return {"name": name, "seed": seed, "results": results, "curves": {}}


def train_and_measure(name, seed, data, classifier):
    """The record of a run of `PLAN` for experiments.json: its results and curves."""
    model, curves = train(name, seed, data)
    if (name, seed) in SHOWN:
        parts = {"encoder": model.encoder, "decoder": model.decoder}
        models = {f"{REFERENCES[name]}_{part}": parts[part] for part in parts}
        vh.save(course.REFERENCE, **models)
    if "val_kl" in curves:
        negative_elbo = curves["val_reconstruction"][-1] + curves["val_kl"][-1]
        results = {"validation -ELBO (nats)": negative_elbo}
    else:
        results = {"validation MSE": curves["val_loss"][-1]}
    results |= measure(model, data, classifier)
    record = {"name": name, "seed": seed, "results": results, "curves": curves}
    if name in FEATURES and seed in FEW_SEEDS:
        sets = evaluation.feature_sets(classifier, data.x_train)
        record["features"] = evaluation.score_by_features(model, data, sets)
    return record


def rounded(record):
    """A record as it is stored: lists in place of arrays, floats to six digits."""
    text = json.dumps(record, default=lambda array: array.tolist())
    return json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))


def load_or_train_classifier(data):
    """Chapter 05's classifier; if it is missing, trained and saved in course/assets."""
    if not evaluation.CLASSIFIER.is_file():
        keras.utils.set_random_seed(vh.SEED)
        classifier = evaluation.build_classifier()
        # After 15 epochs the accuracy on validation images no longer rises.
        rate = keras.optimizers.schedules.CosineDecay(1e-3, 15 * 430)
        optimizer = keras.optimizers.Adam(rate)
        classifier.compile(optimizer, loss="sparse_categorical_crossentropy")
        vh.fit(classifier, data.x_train, data.y_train, epochs=15)
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
SHOWN = [(name, 1) for name in REFERENCES]
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
                limits = [low, high]
            ranges[f"{model}, {name}"] = limits
    return rounded(ranges)


def reproduce(data):
    """Train a stored run again; exit with an error unless the loss is reproduced."""
    runs = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    losses = [run["curves"]["val_loss"][-1] for run in runs if run["name"] == "vae"]
    loss = train("vae", SEEDS[0], data)[1]["val_loss"][-1]
    # On the same kind of machine all digits agree. On another, rounding errors grow
    # until the two runs differ as two seeds do.
    allowed = 4 * np.std(losses, ddof=1)
    print(
        f"vae, seed 1: last validation loss {loss:.6g}, stored {losses[0]}, "
        f"difference of up to {allowed:.2g} allowed"
    )
    if not abs(loss - losses[0]) <= allowed:  # NaN fails this comparison
        sys.exit(
            "The run was not reproduced: see what has changed in the code and in the "
            "versions since experiments.json was written."
        )


def write(records, ranges):
    """Write experiments.json, with a line for each run."""
    origin = {
        "date": datetime.date.today().isoformat(),
        "epochs": evaluation.EPOCHS,
    }
    for name in ("tensorflow", "keras", "numpy", "scikit-learn"):
        origin[name] = version(name)
    lines = ",\n  ".join(json.dumps(record) for record in records)
    head = f' "last_written": {json.dumps(origin)},\n "bands": {json.dumps(ranges)},\n'
    write_text(course.EXPERIMENTS, f'{{\n{head} "runs": [\n  {lines}\n ]\n}}\n')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reproduce", action="store_true")
    options = parser.parse_args()
    data = vh.load_data()
    if not data.is_full_run:
        sys.exit(
            "The experiments need the full data set: run make data, "
            "and unset VAE_COURSE_QUICK."
        )
    if options.reproduce:
        return reproduce(data)
    classifier = load_or_train_classifier(data)
    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))
    records = {(run["name"], run["seed"]): run for run in stored["runs"]}
    plan = {name: seeds for name, (seeds, _) in PLAN.items()} | FLOWS
    planned = [(name, seed) for name, seeds in plan.items() for seed in seeds]
    for name, seed in planned:
        if (name, seed) not in records:
            print(f"{name}, seed {seed}", flush=True)
            measure_run = measure_flow if name in FLOWS else train_and_measure
            record = measure_run(name, seed, data, classifier)
            records[name, seed] = rounded(record)
            write(records.values(), stored["bands"])  # an interruption loses one run
            keras.backend.clear_session()
    ordered = [records[key] for key in planned]
    write(ordered, bands(ordered))
    print(f"Written: {course.EXPERIMENTS.relative_to(course.ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted: run the same command again to train what is missing.")
