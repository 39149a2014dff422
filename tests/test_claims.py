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
CHAPTER = course.ROOT / "notebooks" / "05_how_good_is_it.ipynb"
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


@pytest.fixture
def chapter():
    return copy.deepcopy(nbformat.read(CHAPTER, as_version=4))


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


# Each phrase finds the outputs behind one of the main claims.
PHRASES = [
    "spread of the means",
    "50 mixed",
    "closest 1%",
    "active   by the means",
    "K = 500",
    "divergence",
    "Frechet, N(0, I)",
    "recognised",
    "rank correlation",
    "largest step",
]


@pytest.mark.parametrize("phrase", PHRASES)
def test_changed_numbers_in_an_output_are_noticed(chapter, phrase):
    changed = [cell for cell in cells(chapter, "code") if phrase in output_text(cell)]
    assert changed, phrase
    for cell in changed:
        for output in cell.outputs:
            if "text" in output:
                output.text = re.sub(
                    r"\d+\.\d+",
                    lambda match: f"{float(match[0]) * 1.37 + 7:.4f}",
                    output.text,
                )
    assert unsupported_claims(chapter), f"no claim depends on the output of '{phrase}'"


SCORES, LADDER, BOUND = "seeds  restored", "active   by the means", "K = 500"
PLAIN_SEEDS = "plain autoencoder, of its seeds"
BETTER_SEEDS = "a better VAE, of its seeds"
RECOGNISED, RANKS = "recognised", "rank correlation with the error"
# The main claims: {words of the prose: where each of their numbers was printed}, as
# (a phrase in the output, how its line begins, which number after that).
MAIN_CLAIMS = {
    "after 50 epochs its σ is next to zero beside a spread of 3.04": [
        ("typical sigma", "noise, no KL", 0),
    ],
    "by shrinking all codes to a spread of 0.18": [
        ("typical sigma", "KL, no noise", 0),
    ],
    "score 0.09 with 10,000 images each, and 1.67 with 1,000": [
        ("every pixel", "real training images", 0),
        ("every pixel", "the same, 1,000 of each", 0),
    ],
    "at β = 1: 0.8 on average, against 11.5 for the VAE with its own prior "
    "and 3.0 for the VAE with the same mixture": [
        (SCORES, "plain autoencoder", 9),
        (SCORES, "both: the VAE", 3),
        (SCORES, "both: the VAE", 9),
    ],
    "The better VAE of section 4 reaches 1.3": [(SCORES, "a better VAE", 9)],
    "Its worst seed, 1.10, is better than the best of theirs, 1.19": [
        (SCORES, PLAIN_SEEDS, 2),
        (SCORES, BETTER_SEEDS, 0),
    ],
    "in its range, 0.58 to 1.10,": [
        (SCORES, PLAIN_SEEDS, 0),
        (SCORES, PLAIN_SEEDS, 2),
    ],
    "(1.02), which pays a tenth": [(SCORES, "the lowest of all 28 VAEs", 1)],
    "in pixels: 2.88 against 3.52": [
        ("closest 1%", "samples of the VAE", 0),
        ("closest 1%", "real test images", 0),
    ],
    "improves the bound from 239.03 to 237.94 nats": [
        (LADDER, "as specified", 1),
        (LADDER, "+ warm-up", 1),
    ],
    "falls from 0.0150 to 0.0124": [
        (LADDER, "as specified", 5),
        (LADDER, "+ warm-up", 5),
    ],
    ", to 235.78. Each step": [(LADDER, "+ GELU", 1)],
    "by 2.45 nats for the specified VAE and 1.56 for the better one": [
        (BOUND, "specified  K = 500", 1),
        (BOUND, "better     K = 500", 1),
    ],
    "all in the divergence, 31.2 in place of 36.7": [
        ("divergence", "better", 2),
        ("divergence", "specified", 2),
    ],
    "239.6 at 1.": [("Frechet, N(0, I)", "1 ", 0)],
    "nearly every second shirt (53.4% recognised, 70.4% before)": [
        (RECOGNISED, "Shirt", 2),
        (RECOGNISED, "Shirt", 1),
    ],
    "0.30 for the cloud and 0.20 for the coin": [
        (RANKS, "spread of the cloud", 1),
        (RANKS, "coin-throw spread", 1),
    ],
    "equally evenly: the largest step is 1.79 to 1.86": [
        ("largest step", "plain autoencoder", 0),
        ("largest step", "chapter 02's", 0),
    ],
    "clearer to the classifier (0.85 against 0.78)": [
        ("largest step", "VAE, spherical", 4),
        ("largest step", "VAE, linear", 4),
    ],
}


def locate(chapter, phrase, line_start, k):
    """Number `k` after `line_start` in the output that contains `phrase`.

    Returns the output, and where in its text the number begins and ends.
    """
    for cell in cells(chapter, "code"):
        for output in cell.outputs:
            text = output.get("text", "")
            line = re.search(rf"^{re.escape(line_start)}.*", text, re.MULTILINE)
            if line and phrase in text:
                start = line.start() + len(line_start)
                number = list(NUMBER.finditer(text, start, line.end()))[k]
                return output, *number.span()


def is_supported(chapter, words):
    """Whether each number in these words of the prose is the one that was printed."""
    numbers = re.findall(r"\d+\.\d+", words)
    places = [locate(chapter, *place) for place in MAIN_CLAIMS[words]]
    values = [float(output.text[start:end]) for output, start, end in places]
    return len(numbers) == len(values) and all(map(agrees, numbers, values))


@pytest.mark.parametrize("words", MAIN_CLAIMS)
def test_a_main_claim_depends_on_each_number_behind_it(chapter, words):
    assert any(words in cell.source for cell in cells(chapter, "markdown"))
    assert is_supported(chapter, words)
    for place in MAIN_CLAIMS[words]:
        changed = copy.deepcopy(chapter)
        output, start, end = locate(changed, *place)
        text, number = output.text, float(output.text[start:end])
        output.text = f"{text[:start]}{number * 1.1:.4f}{text[end:]}"
        assert not is_supported(changed, words), place


@pytest.mark.parametrize(
    "result, digits, lines",
    [
        (
            "squared Frechet, mixture of 50",
            1,
            {
                "plain autoencoder": "no noise, no KL",
                "both: the VAE": "vae",
                "with warm-up": "warm-up",
                "a better VAE": "warm-up, cosine, GELU",
            },
        ),
        (
            "validation -ELBO (nats)",
            2,
            {
                "as specified": "vae",
                "+ warm-up": "warm-up",
                "+ cosine": "warm-up, cosine",
                "+ GELU": "warm-up, cosine, GELU",
            },
        ),
    ],
)
def test_tables_over_seeds_show_the_means_of_experiments_json(
    chapter, result, digits, lines
):
    runs = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    printed = printed_text(chapter).splitlines()
    for label, name in lines.items():
        values = [run["results"][result] for run in runs if run["name"] == name]
        line = next(line for line in printed if line.startswith(label) and "±" in line)
        assert f" {sum(values) / len(values):.{digits}f} ± " in line, label
