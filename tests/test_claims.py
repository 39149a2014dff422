"""Every decimal number in chapter 05's prose is one that the chapter printed, or has its source beside it."""

import copy
import json
import re

import nbformat
import pytest

import course

CHAPTER = course.ROOT / "notebooks" / "05_how_good_is_it.ipynb"
NUMBER = re.compile(r"(?<![\w.:/])\d+\.\d+(?![\w.]*[\d/])")
NUMBER_OR_COUNT = re.compile(r"\d+(?:\.\d+)?")
SOURCE = re.compile(r"\]\(http|\b(?:19|20)\d\d\)")


def text_of(cell):
    return "\n".join(
        output.get("text", output.get("data", {}).get("text/plain", ""))
        for output in cell.outputs
    )


def printed(notebook):
    """All numbers in the outputs."""
    said = "\n".join(
        text_of(cell) for cell in notebook.cells if cell.cell_type == "code"
    )
    return [
        float(found.replace(",", ""))
        for found in re.findall(r"\d[\d,]*(?:\.\d+)?", said)
    ]


def claims(notebook):
    """The decimal numbers of the prose, but for sentences that name a source."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for sentence in re.split(
                r"(?<=[.?!])\s|\n", re.sub(r"\$[^$]*\$", "", cell.source)
            ):
                if not SOURCE.search(sentence):
                    yield from (
                        (number, sentence) for number in NUMBER.findall(sentence)
                    )


def untraced(notebook):
    """Claims that no output bears out, rounded as the claim is."""
    known = printed(notebook)
    for number, sentence in claims(notebook):
        reach = 0.5 * 10 ** -len(number.split(".")[1]) + 1e-9
        if not any(abs(float(number) - value) <= reach for value in known):
            yield f"{number}: {sentence}"


@pytest.fixture
def chapter():
    return copy.deepcopy(nbformat.read(CHAPTER, as_version=4))


def test_every_number_in_prose_was_printed(chapter):
    assert len(list(claims(chapter))) > 40
    assert list(untraced(chapter)) == []


# The outputs behind the main claims, by words in their first lines.
@pytest.mark.parametrize(
    "mark", ["spread of the means", "50 mixed", "closest 1%", "active   by the means", "K = 500", "divergence",
             "Frechet, N(0, I)", "recognised", "rank correlation", "largest step"]
)  # fmt: skip
def test_a_changed_number_is_noticed(chapter, mark):
    cells = [
        cell
        for cell in chapter.cells
        if cell.cell_type == "code" and mark in text_of(cell)
    ]
    assert cells, mark
    for cell in cells:
        for output in cell.outputs:
            if "text" in output:
                output.text = re.sub(
                    r"\d+\.\d+",
                    lambda found: f"{float(found[0]) * 1.37 + 7:.4f}",
                    output.text,
                )
    assert list(untraced(chapter)), (
        f"nothing in the prose depends on the output with '{mark}'"
    )


# The main claims: words of the prose, with each of their numbers taken from the output where it stands: words of that
# output, how its line begins, and which number after that.
SCORED, LADDER, BOUND = "seeds  restored", "active   by the means", "K = 500"
MAIN_CLAIMS = {
    "after 50 epochs its σ is next to zero beside a spread of 3.04": [("typical sigma", "noise, no KL", 0)],
    "by shrinking all codes to a spread of 0.18": [("typical sigma", "KL, no noise", 0)],
    "score 0.09 with 10,000 images each, and 1.67 with 1,000": [
        ("every pixel", "real training images", 0), ("every pixel", "the same, 1,000 of each", 0)],
    "at β = 1: 0.8 on average, against 11.5 for the VAE with its own prior and 3.0 for the VAE with the same mixture": [
        (SCORED, "plain autoencoder", 9), (SCORED, "both: the VAE", 3), (SCORED, "both: the VAE", 9)],
    "The better VAE of section 4 reaches 1.3": [(SCORED, "a better VAE", 9)],
    "Its worst seed, 1.10, is better than the best of theirs, 1.19": [
        (SCORED, "plain autoencoder, of its seeds", 2), (SCORED, "a better VAE, of its seeds", 0)],
    "in its range, 0.58 to 1.10,": [
        (SCORED, "plain autoencoder, of its seeds", 0), (SCORED, "plain autoencoder, of its seeds", 2)],
    "(1.02), which pays a tenth": [(SCORED, "the lowest of all 28 VAEs", 1)],
    "in pixels: 2.88 against 3.52": [("closest 1%", "samples of the VAE", 0), ("closest 1%", "real test images", 0)],
    "improves the bound from 239.03 to 237.94 nats": [(LADDER, "as specified", 1), (LADDER, "+ warm-up", 1)],
    "falls from 0.0150 to 0.0124": [(LADDER, "as specified", 5), (LADDER, "+ warm-up", 5)],
    ", to 235.78. Each step": [(LADDER, "+ GELU", 1)],
    "by 2.45 nats for the specified VAE and 1.56 for the better one": [
        (BOUND, "specified  K = 500", 1), (BOUND, "better     K = 500", 1)],
    "all in the divergence, 31.2 in place of 36.7": [("divergence", "better", 2), ("divergence", "specified", 2)],
    "239.6 at 1.": [("Frechet, N(0, I)", "1 ", 0)],
    "nearly every second shirt (53.4% recognised, 70.4% before)": [
        ("recognised", "Shirt", 2), ("recognised", "Shirt", 1)],
    "0.30 for the cloud and 0.20 for the coin": [
        ("rank correlation with the error", "spread of the cloud", 1),
        ("rank correlation with the error", "coin-throw spread", 1)],
    "equally evenly: the largest step is 1.79 to 1.86": [
        ("largest step", "plain autoencoder", 0), ("largest step", "chapter 02's", 0)],
    "clearer to the classifier (0.85 against 0.78)": [
        ("largest step", "VAE, spherical", 4), ("largest step", "VAE, linear", 4)],
}  # fmt: skip


def place(chapter, mark, begins, k):
    """The output that has `mark`, and where in its text is number `k` of the line that begins so."""
    for output in (
        output
        for cell in chapter.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ):
        line = re.search(
            rf"^{re.escape(begins)}.*", output.get("text", ""), re.MULTILINE
        )
        if line and mark in output.text:
            number = list(
                NUMBER_OR_COUNT.finditer(
                    output.text, line.start() + len(begins), line.end()
                )
            )[k]
            return output, *number.span()


def is_borne_out(chapter, words):
    """Whether the numbers in these words of the prose are those of the outputs, rounded as they are there."""
    said = re.findall(r"\d+\.\d+", words)
    places = (place(chapter, *one) for one in MAIN_CLAIMS[words])
    found = [float(output.text[start:end]) for output, start, end in places]
    reach = [0.5 * 10 ** -len(number.split(".")[1]) + 1e-9 for number in said]
    return len(said) == len(found) and all(
        abs(float(a) - b) <= r for a, b, r in zip(said, found, reach)
    )


@pytest.mark.parametrize("words", MAIN_CLAIMS)
def test_a_main_claim_stands_or_falls_with_each_number_behind_it(chapter, words):
    assert any(
        words in cell.source for cell in chapter.cells if cell.cell_type == "markdown"
    )
    assert is_borne_out(chapter, words)
    for one in MAIN_CLAIMS[words]:
        changed = copy.deepcopy(chapter)
        output, start, end = place(changed, *one)
        output.text = f"{output.text[:start]}{float(output.text[start:end]) * 1.1:.4f}{output.text[end:]}"
        assert not is_borne_out(changed, words), one


def test_quoted_numbers_are_those_of_the_experiments(chapter):
    """The tables over seeds, computed here from experiments.json once more."""
    runs = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    said = "\n".join(
        text_of(cell) for cell in chapter.cells if cell.cell_type == "code"
    )
    for result, digits, lines in [
        ("squared Frechet, mixture of 50", 1, {"plain autoencoder": "no noise, no KL", "both: the VAE": "vae",
                                               "with warm-up": "warm-up", "a better VAE": "warm-up, cosine, GELU"}),
        ("validation -ELBO (nats)", 2, {"as specified": "vae", "+ warm-up": "warm-up", "+ cosine": "warm-up, cosine",
                                        "+ GELU": "warm-up, cosine, GELU"}),
    ]:  # fmt: skip
        for label, run in lines.items():
            values = [
                found["results"][result] for found in runs if found["name"] == run
            ]
            line = next(
                line
                for line in said.splitlines()
                if line.startswith(label) and "±" in line
            )
            assert f" {sum(values) / len(values):.{digits}f} ± " in line, label
