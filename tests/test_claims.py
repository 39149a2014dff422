"""A number in prose is printed beside it.

A number in a notebook's prose must be printed by a cell of its own section, or stand in
that section's code, or be one of CONSTANTS. A section runs from its heading to the next
one of the same or a higher level; the text above the first of them, and a section
without code, such as a summary, have what the whole notebook prints. A sentence that
names a chapter may quote what that chapter prints; one that says "above", the sections
before it. A paragraph or a row of a table in README and docs/*.md quotes the chapters
that it or its heading names; a sentence with a link to results.md, that page; a row of
results, the row of the same name there. Code that draws vouches for nothing.

Checked are decimals, percentages, ranges ("5 to 6") and integers from 10. Not checked are
numbers in words, single integers below 10, inline code and the texts of figures.

python -m tests.test_claims [FILE ...] lists the numbers that nothing vouches for.
"""

import functools
import re
import sys
from pathlib import Path

import nbformat
import pytest

import course

CHAPTERS = sorted((course.ROOT / "notebooks").glob("0[1-9]_*.ipynb"))
# docs/marking.md and the solutions name wrong answers on purpose;
# docs/performance.md holds for one machine and one day, docs/results.md is generated.
PAGES = [course.ROOT / "README.md"] + [
    course.ROOT / "docs" / f"{name}.md" for name in ("glossary", "mistakes", "teaching")
]
RESULTS = (course.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
CONSTANTS = {  # as written
    "784": "pixels in an image", "255": "the largest grey value",
    "10": "classes, and dimensions of the latent space", "18": "numbers in a code of 02",
    "512": "units of a layer", "256": "units of a layer", "64": "units of a layer",
    "32": "units of a layer", "128": "images in a batch", "50": "epochs of a training",
    "55,000": "training images", "5,000": "validation images", "10,000": "test images",
    "70,000": "images in all", "1.44": "bits in a nat",
    "171": "numbers in a covariance of 18 numbers", "134": "million, of 16,384",
    "16,384": "numbers in a code of Stable Diffusion",
    "0.18215": "Stable Diffusion's constant; its source is in 07",
    "10%": "steps without label, in course/flow.py", "1,000": "steps of a noise schedule",
    "0.01": "nats from which one is active",
    # What the sources that docs/mistakes.md names contain:
    "0.39": "784 / 2000", "3.07": "12,288 / 4000", "12,288": "values in a photograph",
    "500": "a factor", "2.05": "1024 / 500", "0.0005": "a factor", "12.25": "392 / 32",
    "225": "15 x 15 codes", "56": "those of the edge", "200": "dimensions of a latent space",
}  # fmt: skip

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?"
# Neither part of a word, such as PCA-18, x_10 or 2-d, nor of a date or an address.
IN_PROSE = re.compile(rf"(?<![\w.,/#_-])(-?)({NUMBER})( ?%)?(?!\w|[.,/]\d|-\w+\b)")
IN_PRINT = re.compile(rf"(?<![\w.])(-?)((?:{NUMBER})(?:e[+-]?\d+)?)( ?%)?")
RANGE = re.compile(rf"({NUMBER})( ?%?)(?: to |–)({NUMBER})")
ROUNDED = re.compile(r"(about|around|roughly|nearly|almost|some) \W*$", re.I)
NAMED = re.compile(r"(?i)chapters? (0\d(?:(?:, |,? and | to )0\d)*)|\b(0\d)_\w+\.ipynb")
NOT_CLAIMS = [  # what says where something is, or how it is to be done
    r"<!--.*?-->", r"`[^`]*`", r"\]\([^)]*\)", r"\b(19[5-9]|20[0-2])\d\b(?![.,]\d)",
    r"\b(exercise|section|issue|request|seed|image|row|column|dimension)s? "
    r"\d+(\.\d+)?( (and|to|or) \d+(\.\d+)?)*(?![.,]?\d| ?%)", r"^(#+|) *\d+\.(?!\d)",
    r"^\| *\d+ to \d+ *\|", r"sessions of \d+ minutes", r"(?<![.,\d])0\d\b",
    r"(Python|pip|Keras) \d+\.\d+( to 3\.\d+)?", r"[\d.]+ [kMG]B\b",
    r"(arXiv|doi):[\w./()-]+", r"\(\d{4}\), \*.*", r"Science 313",  # references
]  # fmt: skip


def plain(text):
    """A sentence with numbers as Python writes them, without what claims nothing."""
    for pattern in NOT_CLAIMS:
        text = re.sub(pattern, " ", text, flags=re.I)
    for sign, digits in {"½": ".5", "¼": ".25", "¾": ".75"}.items():
        text = re.sub(rf"(?<!\d){sign}", "0" + sign, text).replace(sign, digits)
    text = text.replace("{,}", ",").replace("\\%", "%").replace("−", "-")
    return re.sub(r"\s+", " ", re.sub(r"(\d)\^\{?-?\w+\}?", r"\1", text))


def decimals(number):
    """How many digits a number, as text, has after its point; 1.2e-3 has four."""
    digits, _, exponent = number.partition("e")
    return len(digits.partition(".")[2]) - int(exponent or 0)


def numbers(sentence):
    """(as written, value, tolerance, is percentage) of each number to be checked."""
    text = plain(sentence)
    in_ranges = {i for m in RANGE.finditer(text) for i in (m.start(1), m.start(3))}
    for match in IN_PROSE.finditer(text):
        sign, number, percent = match.groups()
        value = float(number.replace(",", ""))
        is_exempt = value < 10 and not decimals(number) and not percent
        if is_exempt and match.start(2) not in in_ranges:
            continue
        tolerance = 0.5 * 10.0 ** -decimals(number)
        if not decimals(number) and ROUNDED.search(text[: match.start()]):  # about 240
            digits = number.replace(",", "")
            zeros = len(digits) - len(digits.rstrip("0"))
            tolerance = max(tolerance, min(0.5 * 10**zeros, 0.05 * value))
        yield match[0].strip(), -value if sign else value, tolerance, bool(percent)


def printed_values(text):
    """(value, decimals, is percentage) of the numbers in an output or in code."""
    return {
        (float(sign + number.replace(",", "")), decimals(number), bool(percent))
        for sign, number, percent in IN_PRINT.findall(text.replace("−", "-"))
    }


def is_vouched_for(claim, values):
    """Whether one of the `printed_values`, rounded as the claim is, equals it."""
    written, value, tolerance, percent = claim
    if written.replace(" ", "") in CONSTANTS:
        return True
    for printed, digits, in_percent in values:
        if percent and not in_percent:
            printed, digits = printed * 100, digits - 2
        if value > 0:  # "falls by 0.5" may quote -0.5
            printed = abs(printed)
        is_as_exact = 0.5 * 10.0**-digits <= tolerance * 1.01
        if is_as_exact and abs(value - printed) <= tolerance * (1 + 1e-9) + 1e-12:
            return True
    return False


def sentences(line):
    """The sentences of a paragraph; a row of a table is one."""
    return [line] if line[:1] == "|" else re.split(r"(?<=[.?!])\**\s+(?=[^a-z])", line)


def parts(notebook):
    """("heading", level), ("prose", sentence) or ("shown", values), in order."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            code = re.sub(
                r".*\b(axis|axes|plt|figure|xytext|[xy]lim)\b.*", "", cell.source
            )
            yield "set", printed_values(re.sub(r"(?<=\d)_(?=\d)", "", code))
            for output in cell.get("outputs", []):
                plain_text = output.get("data", {}).get("text/plain", "")
                text = output.get("text") or re.sub("<.*>", "", plain_text)
                yield "shown", printed_values(text)
        elif "navigation" not in cell.metadata.get("tags", []):
            text = re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S)
            for line in text.splitlines():
                heading = re.match(r"(#+) ", line)
                if heading:
                    yield "heading", len(heading[1])
                for sentence in sentences(line):
                    yield "prose", sentence


@functools.cache
def values_of_chapter(number):
    """All that the chapter whose file begins with `number` prints or sets."""
    return {
        value
        for path in CHAPTERS
        if path.name.startswith(number)
        for kind, part in parts(nbformat.read(path, as_version=4))
        if kind == "shown"
        for value in part
    }


def named_values(text):
    """The values of the chapters that a text names."""
    found = re.findall(r"0\d", " ".join(map("".join, NAMED.findall(text))))
    return set().union(*map(values_of_chapter, found))


def complaints_of(sentence, values):
    """["number: sentence"] of those that the values do not vouch for."""
    values = values | named_values(sentence)
    return [
        f"{claim[0]}: {sentence.strip()}"
        for claim in numbers(sentence)
        if not is_vouched_for(claim, values)
    ]


def complaints(notebook):
    """`complaints_of` each sentence of a notebook, in its section."""
    items, level, start, found = list(parts(notebook)), 0, 0, []
    for i, (kind, part) in enumerate(items):
        if kind == "heading":
            level, start = part, i
        elif kind == "prose":
            later = enumerate(items[i + 1 :], i + 1)
            ends = (j for j, (k, p) in later if k == "heading" and p <= level)
            section = items[start : next(ends, len(items))]
            if re.search(r"\babove[.,:;)?]", part):
                section = items[:i]
            elif not any(kind == "shown" for kind, _ in section):  # a summary
                section = [item for item in items if item[0] == "shown"]
            shown = [values for kind, values in section if kind in ("set", "shown")]
            found += complaints_of(part, set().union(*shown))
    return found


def quoted_results(sentence):
    """The values of results.md, if a sentence links to it; a row has its namesake's."""
    if "results.md" in sentence:
        return printed_values(RESULTS)
    name = re.match(r"\| \w[^|]+\| ", sentence)
    lines = [line for line in RESULTS.splitlines() if name and name[0] in line]
    return printed_values("\n".join(lines))


def complaints_of_page(text):
    """`complaints_of` each sentence or row of a page in Markdown."""
    found, text = [], re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for section in re.split(r"^(?=#)", text, flags=re.M):
        heading, *blocks = section.splitlines() or [""]
        for block in [heading, *blocks]:
            block = re.sub(r"\| \[?(0\d)\b", r"| chapter \1 ", block)  # "| 01: data |"
            values = named_values(f"{heading}\n{block}")
            for sentence in sentences(block):
                found += complaints_of(sentence, values | quoted_results(sentence))
    return found


def complaints_of_file(path):
    """The complaints of a notebook or a page in Markdown."""
    if Path(path).suffix == ".ipynb":
        return complaints(nbformat.read(path, as_version=4))
    return complaints_of_page(Path(path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda path: path.name)
def test_every_number_in_prose_is_printed_beside_it(path):
    assert complaints_of_file(path) == []


def made_up(claim):
    """A notebook of two sections that print numbers, with a claim in the first."""
    markdown = nbformat.v4.new_markdown_cell
    cells = [markdown(f"# Title\n\n## One\n\nIt is {claim}.")]
    for text in "238.71 0.634 of 1,136,932; -0.062, 5 to 7 units, 41%", "17.5 nats":
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        cells += [nbformat.v4.new_code_cell("show(n=2_000)", outputs=[output])]
        cells += [markdown("## Two\n\nIt is 17.5. As above, 238.7.")]
    return nbformat.v4.new_notebook(cells=cells[:-1])


RIGHT = [
    "238.7", "239", "about 240", "0.63", "63%", "63.4%", "1,136,932", "about 1,100,000",
    "−0.06", "falls by 0.06", "5 to 7", "2,000", "41%", "$784 = 784^2$", "10,000",
    "[arXiv:1312.6114](https://x)", "Section 17", "`x[42]`", "PCA-18 of 2024", "three",
]  # fmt: skip
WRONG = [
    "240", "238.8", "about 250", "237", "0.64", "64%", "63.5%", "1,136,933", "0.05 to 7",
    "−0.07", "−239", "5 to 8", "4–7", "2,100", "14%", "17.5", "18 to 19", "¾", "5.0",
    "63.41%", "$\\beta = 0.3$", "239 ± 12", "| a | 33 |", "1.1",
]  # fmt: skip


@pytest.mark.parametrize("claim", RIGHT + WRONG)
def test_just_the_numbers_that_their_section_does_not_print_are_named(claim):
    found = complaints(made_up(claim))
    assert bool(found) == (claim in WRONG) and all(claim in text for text in found)


def test_a_named_chapter_is_looked_up():
    assert complaints(made_up("In chapter 01, 50.2% are black.")) == []
    assert complaints(made_up("In chapter 01, 52.0% are black."))
    assert complaints(made_up("In chapter 02, 50.2% are black."))


def test_results_are_quoted_where_they_are_named():
    row = "| VAE, test KL (nats) | 12.14 | {} to 13.92 |"
    assert complaints_of_page(row.format("9.50")) == []
    assert complaints_of_page(row.format("222.2")), "another row has 222.2"
    assert complaints_of_page("Its KL is 29.5, of all results.")
    assert complaints_of_page("Its KL is 29.5 ([results](results.md)).") == []


if __name__ == "__main__":
    for name in sys.argv[1:] or [*CHAPTERS, *PAGES]:
        print(f"\n{name}", *complaints_of_file(name), sep="\n  ")
