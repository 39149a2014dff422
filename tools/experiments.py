"""Train what the chapters quote, measure it, and write course/assets/experiments.json.

usage: python -m tools.experiments
           train and measure what the file lacks; about three hours on 2 cores in all
       python -m tools.experiments --reproduce [NAME SEED]
           train a stored run again, by default another each week, and compare

- Several seeds of the models of chapters 02, 03 and 04. The bands that `expect`
  compares with are the mean +- 4 standard deviations over these seeds.
- For chapters 05 and 06: autoencoders of the VAE's widths; the VAE's network without
  noise, without KL and without both; the improvements to the VAE, added one at a time;
  other weights of KL. Three seeds of three models are scored by four feature sets.
- For chapter 07: flows on the codes of the reference autoencoder, with and without
  classes.

The first seeds of "wide", "better", the 2-d VAE and the flow are the reference models.
To train a run again, delete its line in experiments.json. Trained weights and curves
are saved in build/experiments/, so that a second call resumes where the first one
stopped; they do not notice changed code: delete them if it changed.
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
from course.files import atomic_write, write_text

AE_SEEDS, SEEDS, FIVE_SEEDS, FEW_SEEDS = (range(1, 1 + n) for n in (8, 6, 5, 3))
RUNS = course.BUILD / "experiments"


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


# Scored by all feature sets: three seeds each.
FEATURES = ("vae", "no noise, no KL", "warm-up, cosine, GELU")
FLOWS = ("flow", "flow, no classes", "flow, clusters")


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


def path_of_run(name, seed, ending):
    """The file of a run in build/experiments that has this ending."""
    return RUNS / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}{ending}"


def read_json(path):
    """The content of a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(
            f"{path} is damaged: delete it and run the same command again."
        ) from None


def load_or_train(name, seed, data):
    """`train`, or its result as an earlier call saved it: the model and its record.

    The record holds the curves, and "seconds", the time that the training took.
    """
    path = path_of_run(name, seed, ".weights.h5")
    about = path_of_run(name, seed, ".curves.json")
    if path.is_file() and about.is_file():
        model, _ = PLAN[name][1]()
        model(keras.Input((784,)))  # builds it, so that it has all its variables
        model.load_weights(path)
        return model, read_json(about)
    print(f"{name}, seed {seed}", flush=True)
    start = time.perf_counter()
    model, curves = train(name, seed, data)
    record = {"seconds": round(time.perf_counter() - start), **curves}
    with atomic_write(path) as [temporary]:
        model.save_weights(temporary)
    write_text(about, json.dumps(record))
    return model, record


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


def measure_features(model, data, sets):
    """Squared Frechet distances by each feature set: {source: {set: [one a draw]}}.

    New images from N(0, I) and from a mixture of 50 fitted to the codes, three draws
    each; of the latter's first draw also with more contrast and with speckle; and the
    test images' reconstructions.
    """
    predict = evaluation.predict_in_batches
    codes, log_var = predict(model.encoder, data.x_train)
    if not isinstance(model, evaluation.Noiseless):
        noise = np.random.default_rng(0).normal(size=codes.shape).astype("float32")
        codes = codes + np.exp(0.5 * log_var) * noise
    test_mean, _ = predict(model.encoder, data.x_test)
    images = {"test images, restored": [predict(model.decoder, test_mean)]}
    for source in ("N(0, I)", "mixture of 50"):
        draws = (
            evaluation.sample_codes(codes, sources=[source], seed=seed)[source]
            for seed in range(3)
        )
        images[source] = [predict(model.decoder, z) for z in draws]
    mixed = images["mixture of 50"][0]
    images["more contrast"] = [(0.5 + 1.25 * (mixed - 0.5)).clip(0, 1)]
    images["speckle"] = [evaluation.binarised(mixed)]
    return {
        source: {
            name: [
                rounded(evaluation.squared_frechet(of(x), of(data.x_test)))
                for x in parts
            ]
            for name, of in sets.items()
        }
        for source, parts in images.items()
    }


def train_flow(codes, labels, seed):
    """Chapter 07's flow, trained on codes (n, 18) and labels (n,)."""
    keras.utils.set_random_seed(seed)
    model = flow.Flow(flow.build_velocity(width=192), scale=float(1 / codes.std()))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, 100 * -(-len(codes) // 256))
    model.compile(optimizer=keras.optimizers.Adam(rate))
    vh.fit(model, codes, labels, epochs=100, batch_size=256)
    return model


def load_or_measure_flow(name, seed, data, classifier):
    """The record of a flow on the codes of the reference autoencoder, one of `FLOWS`.

    Its classes are those of the images, or clusters of the codes in their place, or it
    saw none. The first seed's, with classes, is saved as the reference model.
    """
    path = path_of_run(name, seed, ".record.json")
    if path.is_file():
        return read_json(path)
    autoencoder = vh.load(course.REFERENCE / "autoencoder.keras")
    encoder, decoder = vh.split_autoencoder(autoencoder)
    codes = evaluation.predict_in_batches(encoder, data.x_train)
    labels, asked = data.y_train, data.y_test
    if name == "flow, no classes":
        labels, asked = np.full(len(codes), flow.ANY), flow.ANY
    elif name == "flow, clusters":
        labels = KMeans(10, random_state=0).fit(codes).labels_
        asked = np.random.default_rng(0).choice(labels, evaluation.IMAGES)
    model = train_flow(codes, labels, seed)
    if name == "flow" and not flow.REFERENCE.is_file():
        model.save(flow.REFERENCE, include_optimizer=False)
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
    record = {"name": name, "seed": seed, "results": results, "curves": {}}
    write_text(path, json.dumps(record))
    return record


def load_or_measure(name, seed, data, classifier):
    """The record of a run for experiments.json: its results and curves.

    It is saved in build/experiments as the weights are.
    """
    path = path_of_run(name, seed, ".record.json")
    if not path.is_file():
        model, curves = load_or_train(name, seed, data)
        results = {}
        if "val_kl" in curves:
            negative_elbo = curves["val_reconstruction"][-1] + curves["val_kl"][-1]
            results["validation -ELBO (nats)"] = negative_elbo
        else:
            results["validation MSE"] = curves["val_loss"][-1]
        results |= measure(model, data, classifier)
        seconds = curves.pop("seconds")
        if name not in ("vae", "warm-up"):  # chapter 05 draws these two
            curves.pop("kl_per_dimension", None)
        record = {
            "name": name,
            "seed": seed,
            "seconds": seconds,
            "results": results,
            "curves": curves,
        }
        if name in FEATURES and seed in FEW_SEEDS:
            sets = evaluation.feature_sets(classifier, data.x_train)
            record["features"] = measure_features(model, data, sets)
        write_text(path, json.dumps(record))
        keras.backend.clear_session()
    return read_json(path)


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


def save_references(data):
    """Save the reference VAEs of chapters 04 and 06, if missing: the first seeds'."""
    for name, run in {
        "vae2d": "vae, 2 dimensions",
        "wide": "no noise, no KL",
        "better": "warm-up, cosine, GELU",
    }.items():
        if not (course.REFERENCE / f"{name}_decoder.keras").is_file():
            model, _ = load_or_train(run, 1, data)
            parts = {f"{name}_encoder": model.encoder, f"{name}_decoder": model.decoder}
            vh.save(course.REFERENCE, **parts)


def baselines(data):
    """Chapter 01's results, which depend on no seed: {name: value}."""
    mean_image = np.broadcast_to(data.x_train.mean(axis=0), data.x_test.shape)
    return {
        "pixel entropy, test (nats)": vh.pixel_entropy(data.x_test),
        "mean image, test MSE": vh.mse(data.x_test, mean_image),
        **{
            f"PCA-{k}, test MSE": vh.mse(
                data.x_test, vh.pca_reconstruct(data.x_train, data.x_test, k)
            )
            for k in (10, 18)
        },
    }


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
# The results that have a band: {name of a run: (the model's name in the chapters,
# the names of the results)}.
COMPARED = {
    "autoencoder": (
        "autoencoder",
        ["validation MSE", "test MSE", "unused code units"],
    ),
    "vae": (
        "VAE",
        [
            "validation -ELBO (nats)",
            "active latent dimensions",
            "test -ELBO (nats)",
            "test reconstruction (nats)",
            "test KL (nats)",
            "test MSE from z_mean",
            *FRECHET,
        ],
    ),
    "vae, 2 dimensions": ("2-d VAE", ["validation -ELBO (nats)"]),
    "no noise, no KL": ("wide autoencoder", FRECHET),
    "warm-up, cosine, GELU": (
        "better VAE",
        [
            "validation -ELBO (nats)",
            "test -ELBO (nats)",
            "active latent dimensions",
            "test MSE from z_mean",
            *FRECHET,
        ],
    ),
    "flow": ("flow", ["squared Frechet, our classifier", "recognised as asked"]),
}


def tolerances(records):
    """{name: [low, high]} of the results that depend on no seed: +- 0.1%."""
    [record] = [record for record in records if record["name"] == "baselines"]
    return {
        name: [float(f"{value * (1 + share):.6g}") for share in (-1e-3, 1e-3)]
        for name, value in record["results"].items()
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


def choose_run(arguments):
    """The run (name, seed) that --reproduce asks for; by default another each week."""
    choices = [(name, seed) for name, (seeds, _) in PLAN.items() for seed in seeds]
    if not arguments:
        return choices[datetime.date.today().isocalendar().week % len(choices)]
    for name, seed in choices:
        if [name, str(seed)] == arguments:
            return name, seed
    known = ", ".join(
        f'"{name}" 1' + f" to {len(seeds)}" * (len(seeds) > 1)
        for name, (seeds, _) in PLAN.items()
    )
    sys.exit(
        f"--reproduce takes no arguments, or one of these names and seeds: {known}."
    )


def reproduce(name, seed, data):
    """Train a stored run again; exit with an error unless the loss is reproduced."""
    stored_losses = {
        run["seed"]: run["curves"]["val_loss"][-1]
        for run in read_json(course.EXPERIMENTS)["runs"]
        if run["name"] == name
    }
    if seed not in stored_losses:
        raise ValueError(
            f"{course.EXPERIMENTS} lacks {name}, seed {seed}: restore it with git."
        )
    stored = stored_losses[seed]
    loss = train(name, seed, data)[1]["val_loss"][-1]
    # On the same kind of machine all digits agree. On another, rounding errors grow
    # until the two runs differ as two seeds do.
    if len(stored_losses) > 2:
        margin = 4 * np.std(list(stored_losses.values()), ddof=1)
    else:
        margin = 0.005 * stored
    print(
        f"{name}, seed {seed}: last validation loss {loss}, stored {stored}, "
        f"difference of up to {margin:.2g} allowed"
    )
    if not abs(loss - stored) <= margin:  # NaN fails this comparison
        sys.exit(
            "The run was not reproduced: see what has changed in the code and in the "
            "versions since experiments.json was written."
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reproduce", nargs="*", metavar="NAME SEED")
    options = parser.parse_args()
    run = choose_run(options.reproduce) if options.reproduce is not None else None
    data = vh.load_data()
    if not data.is_full_run:
        sys.exit(
            "The experiments need the full data set: run make data, "
            "and unset VAE_COURSE_QUICK."
        )
    if run:
        return reproduce(*run, data)
    classifier = load_or_train_classifier(data)
    runs = read_json(course.EXPERIMENTS)["runs"] if course.EXPERIMENTS.is_file() else []
    stored = {(run["name"], run["seed"]): run for run in runs}
    records = [
        stored.get((name, seed)) or load_or_measure(name, seed, data, classifier)
        for name, (seeds, _) in PLAN.items()
        for seed in seeds
    ]
    save_references(data)
    records += [
        stored.get((name, seed)) or load_or_measure_flow(name, seed, data, classifier)
        for name in FLOWS
        for seed in FIVE_SEEDS
    ]
    records.append(
        {"name": "baselines", "seed": 0, "results": baselines(data), "curves": {}}
    )
    packages = {"tensorflow": tf, "keras": keras, "numpy": np, "scikit-learn": sklearn}
    origin = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "epochs": evaluation.EPOCHS,
        **{name: package.__version__ for name, package in packages.items()},
    }
    lines = ",\n  ".join(json.dumps(record) for record in records)
    parts = {
        "last_written": origin,
        "tolerances": tolerances(records),
        "bands": bands(records),
    }
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
