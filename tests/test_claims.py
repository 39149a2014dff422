"""The chapters' prose quotes decimal numbers only as their outputs show them.

A sentence that names a source may quote the source's numbers; one that names another
chapter, that chapter's. Settings that stand in a chapter's code count as shown.
"""

import copy
import functools
import json
import re

import nbformat
import pytest

import course

CHAPTERS = sorted((course.ROOT / "notebooks").glob("0[1-9]_*.ipynb"))
DECIMAL = re.compile(r"(?<![\w.:/])\d+\.\d+(?![\w.]*[\d/])")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
NUMBER_WITH_COMMAS = re.compile(r"\d[\d,]*(?:\.\d+)?")
SOURCE = re.compile(r"\]\(http|\b(?:19|20)\d\d\)")  # a link, or a year in parentheses


def cells(notebook, cell_type):
    return [cell for cell in notebook.cells if cell.cell_type == cell_type]


def output_text(cell):
    return "\n".join(
        output.get("text", output.get("data", {}).get("text/plain", ""))
        for output in cell.outputs
    )


def printed_text(notebook):
    return "\n".join(output_text(cell) for cell in cells(notebook, "code"))


def claims(notebook):
    """(number, sentence) of the decimal numbers in sentences that name no source."""
    for cell in cells(notebook, "markdown"):
        without_formulas = re.sub(r"\$[^$]*\$", "", cell.source)
        for sentence in re.split(r"(?<=[.?!])\s|\n", without_formulas):
            if not SOURCE.search(sentence):
                for number in DECIMAL.findall(sentence):
                    yield number, sentence


def agrees(number, value):
    """Whether a number in prose, as text, is `value` rounded to its digits."""
    digits = len(number.split(".")[1])
    return abs(float(number) - value) <= 0.5 * 10**-digits + 1e-9


@functools.cache
def values_of_chapter(number):
    """What `shown_values` finds in the chapter whose file begins with `number`."""
    return [
        value
        for path in CHAPTERS
        if path.name.startswith(number)
        for value in shown_values(nbformat.read(path, as_version=4))
    ]


def shown_values(notebook):
    """All numbers that a notebook prints, or sets in its code."""
    code = "\n".join(cell.source for cell in cells(notebook, "code"))
    numbers = NUMBER_WITH_COMMAS.findall(printed_text(notebook))
    numbers += re.findall(r"\d+\.\d+", code)
    return [float(number.replace(",", "")) for number in numbers]


def unsupported_claims(notebook):
    """The claims whose number no output shows."""
    own = shown_values(notebook)
    unsupported = []
    for number, sentence in claims(notebook):
        values = list(own)
        for named in re.findall(r"chapters? (0\d)", sentence, flags=re.I):
            values += values_of_chapter(named)
        if not any(agrees(number, value) for value in values):
            unsupported.append(f"{number}: {sentence}")
    return unsupported


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_decimal_number_in_prose_was_printed(path):
    notebook = nbformat.read(path, as_version=4)
    assert list(claims(notebook))
    assert unsupported_claims(notebook) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_another_number_in_prose_is_noticed(path):
    notebook = nbformat.read(path, as_version=4)
    number, sentence = next(iter(claims(notebook)))
    cell = next(c for c in cells(notebook, "markdown") if sentence in c.source)
    cell.source = cell.source.replace(number, "87654.321")
    assert any("87654.321" in claim for claim in unsupported_claims(notebook))


@pytest.mark.parametrize("number", ["05", "06"])
def test_changed_numbers_in_outputs_are_noticed(number):
    chapter = read(number)
    before = len(list(claims(chapter)))
    for cell in cells(chapter, "code"):
        for output in cell.outputs:
            if "text" in output:
                output.text = re.sub(
                    r"\d+\.\d+",
                    lambda match: f"{float(match[0]) * 1.37 + 7:.4f}",
                    output.text,
                )
    assert len(unsupported_claims(chapter)) > before / 2


# The main claims, by chapter: {words of the prose: where each of their numbers was
# printed}, as (a phrase in the output, how its line begins, which number after that).
FLOOR, NOISE, CHAIN = "real training images   ", "typical sigma", "reconstructed"
STEPS, RULERS, PLANE = "by the means", "mixture = 1", "-ELBO by noise level"
BOUND, PARTS, PRIOR = "K = 500", "divergence", "N(0, I)         gain"
SPREAD, COPIES, PATHS = "median rank", "closest 1%", "largest step"
AUC, PRIOR_SEEDS = "minus entropy", "5 seeds each"
LABELS, NEIGHBOURS = "linear probe   ", "five nearest neighbours   "
MAIN_CLAIMS = {
    "05": {
        "score 0.09 with 10,000 images each, and 1.67 with 1,000": [
            (FLOOR, "real training images", 0),
            (FLOOR, "the same, 1,000 of each", 0),
        ],
        "almost nothing beside a spread of 3.16": [(NOISE, "with noise", 0)],
        "shrinking all codes to a spread of 0.19": [
            (NOISE, "with KL, without noise", 0),
        ],
        "from 0.0125 to 0.0108; ten linear units in place of 18 with ReLU bring 0.0112": [
            (CHAIN, "chapter 02", 1),
            (CHAIN, "+ width", 1),
            (CHAIN, "+ code: 10 linear", 1),
        ],
        "with 11.5 for the baseline VAE": [(CHAIN, "+ KL: baseline VAE", 4)],
        "with 11.0 against 20.8 for the wide autoencoder": [
            (CHAIN, "+ KL: baseline VAE", 6),
            (CHAIN, "+ loss: wide AE", 6),
        ],
        "Width improves the score from 1.3 to 0.8": [
            (CHAIN, "chapter 02", 10),
            (CHAIN, "+ width", 10),
        ],
        "(the wide autoencoder has 0.8), and KL makes it worse, 3.0": [
            (CHAIN, "+ loss: wide AE", 10),
            (CHAIN, "+ KL: baseline VAE", 10),
        ],
        "is at 2.1 already, the wide autoencoder's at 0.6": [
            (CHAIN, "+ KL: baseline VAE", 2),
            (CHAIN, "+ loss: wide AE", 2),
        ],
        "1.3 on average over seeds against 3.0": [
            ("over seeds  ", "+ GELU", 4),
            ("over seeds  ", "baseline ", 4),
        ],
        "seed 2 is a tie, 0.001;": [("dimensions survive", "seed 2:", 1)],
        "divides the squared distance by three (0.31), and so does speckle (0.30)": [
            (RULERS, "baseline VAE, contrast × 1.25", 0),
            (RULERS, "baseline VAE, thrown", 0),
        ],
        "first (0.18 to 0.57), the better VAE second (0.49 to 0.66;": [
            (RULERS, "wide autoencoder, mixture", 0),
            (RULERS, "wide autoencoder, mixture", 2),
            (RULERS, "better VAE, mixture", 0),
            (RULERS, "better VAE, mixture", 1),
        ],
        "*reconstructions* are at 0.61 to 0.89": [
            (RULERS, "baseline VAE, restored", 0),
            (RULERS, "baseline VAE, restored", 1),
        ],
        "above that of real images (1.74 against 1.00 by the classifier)": [
            ("density / coverage", "baseline VAE, restored", 0),
            ("density / coverage", "real training images", 0),
        ],
        "(0.90 against 0.97 by the classifier)": [
            ("density / coverage", "baseline VAE, N(0, I)", 1),
            ("density / coverage", "wide autoencoder, mixture", 1),
        ],
        "from 239.03 to 237.95 nats; the falling rate brings 237.13, GELU 235.78": [
            (STEPS, "baseline ", 1),
            (STEPS, "+ warm-up", 1),
            (STEPS, "+ cosine", 1),
            (STEPS, "+ GELU", 1),
        ],
        "pays 5.6 nats more distortion": [
            (PLANE, "against wide autoencoder, noisy: β = 1,", 2),
        ],
        "1.4 ahead, the better one 3.5": [
            (PLANE, "against wide autoencoder, noisy: + warm-up,", 2),
            (PLANE, "against wide autoencoder, noisy: better VAE,", 2),
        ],
        "come to 237.9 and 234.7": [
            (PLANE, "baseline VAE, fitted prior:", 1),
            (PLANE, "better VAE, fitted prior:", 1),
        ],
        "does not come below 248.4 nats. The wide one reaches 238.0": [
            (PLANE, "chapter 02, noisy, -ELBO by noise level:", 1),
            (PLANE, "wide autoencoder, noisy, -ELBO by noise level:", 2),
        ],
    },
    "06": {
        "by 2.32 nats for the baseline VAE and 1.56 for the better one": [
            (BOUND, "baseline  K = 500", 1),
            (BOUND, "better    K = 500", 1),
        ],
        "only in the divergence, 31.2 in place of 36.6": [
            (PARTS, "better", 2),
            (PARTS, "baseline", 2),
        ],
        "0.52 of 239, while the squared distance of the samples falls from 12.8 to 3.2": [
            (PRIOR, "mixture of 50", 0),
            (PRIOR, "N(0, I)", 2),
            (PRIOR, "mixture of 50", 2),
        ],
        "by the gain (1.09 against 1.23), has the same score (14.45 and 14.34)": [
            (PRIOR_SEEDS, "better VAE", 6),
            (PRIOR_SEEDS, "warm-up", 6),
            (PRIOR_SEEDS, "better VAE", 10),
            (PRIOR_SEEDS, "warm-up", 10),
        ],
        "a rank correlation of 0.50 with the score, within each model −0.06": [
            (PRIOR_SEEDS, "rank correlation with squared Frechet, all 15 runs", 2),
            (PRIOR_SEEDS, "rank correlation with squared Frechet, within each", 2),
        ],
        "0.30 for $q$ and 0.20 for the coin": [
            (SPREAD, "standard deviation under q", 1),
            (SPREAD, "standard deviation of a coin", 1),
        ],
        "test images are: 2.88 against 3.52": [
            (COPIES, "baseline VAE, N(0, I)", 0),
            (COPIES, "real test images", 0),
        ],
        "the largest is 1.79 to 1.85 times": [
            (PATHS, "wide autoencoder", 0),
            (PATHS, "chapter 02", 0),
        ],
        "surer of the middles (0.84 against 0.77)": [
            (PATHS, "baseline VAE, spherical", 6),
            (PATHS, "baseline VAE, linear", 6),
        ],
        "AUC 0.182, and an image that is black all over gets 32.8 nats": [
            (AUC, "binarised", 0),
            (AUC, "black: -ELBO", 0),
        ],
        "AUC is 0.894 or more for all seven kinds, 0.962 for binarised garments": [
            (AUC, "upside down", 1),
            (AUC, "binarised", 1),
        ],
        "the pixels reach 0.846, 18 principal components 0.806": [
            (LABELS, "784 pixels", 4),
            (LABELS, "18 principal components", 4),
        ],
        "error bars (0.711, 0.705 and 0.700)": [
            (LABELS, "784 pixels", 0),
            (LABELS, "18 principal components", 0),
            (LABELS, "wide autoencoder, 10", 0),
        ],
        "with 100 labels at 0.640 and 0.603, below ten principal components, 0.674": [
            (LABELS, "baseline VAE, 10", 0),
            (LABELS, "better VAE, 10", 0),
            (LABELS, "10 principal components", 0),
        ],
        "0.664 with 100 labels, where the next, 18 principal components, has 0.633, and "
        "0.842 with 10,000, where the better VAE has 0.827": [
            (NEIGHBOURS, "wide autoencoder, 10", 0),
            (NEIGHBOURS, "18 principal components", 0),
            (NEIGHBOURS, "wide autoencoder, 10", 4),
            (NEIGHBOURS, "better VAE, 10", 4),
        ],
        "are at 1.42 in features, hardly nearer than test images treated in the same "
        "way, 1.44": [
            (COPIES, "training images, reconstructed", 2),
            (COPIES, "reconstructed by the baseline VAE", 2),
        ],
    },
}


def read(number):
    [path] = [path for path in CHAPTERS if path.name.startswith(number)]
    return nbformat.read(path, as_version=4)


def locate(chapter, phrase, line_start, k):
    """Number `k` after `line_start` in an output, in or after the line with `phrase`.

    Returns the output, and where in its text the number begins and ends.

    Raises:
        LookupError: there is no such output, line or number.
    """
    for cell in cells(chapter, "code"):
        for output in cell.outputs:
            text = output.get("text", "")
            begin = text.rfind("\n", 0, text.find(phrase) + 1) + 1
            pattern = re.compile(rf"^ *({re.escape(line_start)}).*", re.MULTILINE)
            line = pattern.search(text, begin)
            if line and phrase in text:
                number = list(NUMBER.finditer(text, line.end(1), line.end()))[k]
                return output, *number.span()
    raise LookupError(f"No output with '{phrase}' has a line '{line_start}'.")


def is_supported(number, chapter, words):
    """Whether each number in these words of the prose is the one that was printed."""
    numbers = re.findall(r"\d+\.\d+", words)
    places = [locate(chapter, *place) for place in MAIN_CLAIMS[number][words]]
    values = [float(output.text[start:end]) for output, start, end in places]
    return len(numbers) == len(values) and all(map(agrees, numbers, values))


@pytest.mark.parametrize(
    "number, words", [(k, words) for k in MAIN_CLAIMS for words in MAIN_CLAIMS[k]]
)
def test_a_main_claim_depends_on_each_number_behind_it(number, words):
    chapter = read(number)
    assert any(words in cell.source for cell in cells(chapter, "markdown"))
    assert is_supported(number, chapter, words)
    for place in MAIN_CLAIMS[number][words]:
        changed = copy.deepcopy(chapter)
        output, start, end = locate(changed, *place)
        text, value = output.text, float(output.text[start:end])
        output.text = f"{text[:start]}{value * 1.1 + 0.1:.4f}{text[end:]}"
        assert not is_supported(number, changed, words), place


@pytest.mark.parametrize(
    "result, digits, lines",
    [
        (
            "squared Frechet, mixture of 50",
            1,
            {
                "chapter 02 ": "autoencoder",
                "+ width": "wide autoencoder, 18 ReLU",
                "+ code: 10 linear": "wide autoencoder, 10 linear",
                "+ loss: wide AE": "no noise, no KL",
                "+ noise": "noise, no KL",
                "+ KL: baseline VAE": "vae",
            },
        ),
        (
            "validation -ELBO (nats)",
            2,
            {
                "baseline  ": "vae",
                "+ warm-up": "warm-up",
                "+ cosine": "warm-up, cosine",
                "+ GELU": "warm-up, cosine, GELU",
            },
        ),
    ],
)
def test_tables_over_seeds_show_the_means_of_experiments_json(result, digits, lines):
    runs = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    printed = printed_text(read("05")).splitlines()
    for label, name in lines.items():
        values = [run["results"][result] for run in runs if run["name"] == name]
        line = next(line for line in printed if line.startswith(label) and "±" in line)
        assert f" {sum(values) / len(values):.{digits}f} ± " in line, label
