"""One range of Pythons, wherever it is named."""

import re

import yaml

import course


def test_the_range_of_pythons_is_the_same_everywhere():
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    requirements = (course.ROOT / "requirements.txt").read_text(encoding="utf-8")
    workflow = (course.ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    [(low, high), *others] = re.findall(r"Python (3\.\d+) to (3\.\d+)", readme)
    assert others == [(low, high)]
    above = f"3.{int(high.split('.')[1]) + 1}"
    assert f'python_version < "{low}" or python_version >= "{above}"' in requirements
    matrix = yaml.safe_load(workflow)["jobs"]["quick"]["strategy"]["matrix"]
    tested = {*matrix["python"], *(row["python"] for row in matrix["include"])}
    assert {min(tested), max(tested)} == {low, high}
