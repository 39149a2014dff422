"""Every decimal number in chapter 05's prose is one that the chapter printed, or has its source beside it."""

import copy
import json
import re

import nbformat
import pytest

import vae_helpers as vh

CHAPTER = vh.ROOT / "notebooks" / "05_how_good_is_it.ipynb"
NUMBER = re.compile(r"(?<![\w.:/])\d+\.\d+(?![\w.]*[\d/])")
SOURCE = re.compile(r"\]\(http|\b(?:19|20)\d\d\)")


def text_of(cell):
    return "\n".join(output.get("text", "") for output in cell.outputs)


def printed(notebook):
    """All numbers in the outputs."""
    said = "\n".join(text_of(cell) for cell in notebook.cells if cell.cell_type == "code")
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", said)]


def claims(notebook):
    """The decimal numbers of the prose, but for sentences that name a source."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for sentence in re.split(r"(?<=[.?!])\s|\n", re.sub(r"\$[^$]*\$", "", cell.source)):
                if not SOURCE.search(sentence):
                    yield from ((number, sentence) for number in NUMBER.findall(sentence))


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
    cells = [cell for cell in chapter.cells if cell.cell_type == "code" and mark in text_of(cell)]
    assert cells, mark
    for cell in cells:
        for output in cell.outputs:
            if "text" in output:
                output.text = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]) * 1.37 + 7:.4f}", output.text)
    assert list(untraced(chapter)), f"nothing in the prose depends on the output with '{mark}'"


def test_quoted_numbers_are_those_of_the_experiments(chapter):
    """The tables over seeds, computed here from experiments.json once more."""
    runs = json.loads(vh.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
    said = "\n".join(text_of(cell) for cell in chapter.cells if cell.cell_type == "code")
    for result, digits, lines in [
        ("squared Frechet, mixture of 50", 1, {"plain autoencoder": "no noise, no KL", "both: the VAE": "vae",
                                               "with warm-up": "warm-up", "a better VAE": "warm-up, cosine, GELU"}),
        ("validation -ELBO (nats)", 2, {"as specified": "vae", "+ warm-up": "warm-up", "+ cosine": "warm-up, cosine",
                                        "+ GELU": "warm-up, cosine, GELU"}),
    ]:  # fmt: skip
        for label, run in lines.items():
            values = [found["results"][result] for found in runs if found["name"] == run]
            line = next(line for line in said.splitlines() if line.startswith(label) and "±" in line)
            assert f" {sum(values) / len(values):.{digits}f} ± " in line, label
