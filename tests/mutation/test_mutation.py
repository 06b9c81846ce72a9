"""The mutation run itself: what it changes, what it draws, and that it tells a killed mutant from one that lives."""

from __future__ import annotations

import ast
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command import MODULES
from mutants import draw, find_mutants, mutate
from recorded import FILE
from trial import ROOT

SOURCE = '''
"""A text."""
LIMIT = 3

def clip(value: int, low: int = 0) -> int:
    """Not changed."""
    if value > LIMIT and not low:
        raise ValueError("too large", value)
    return min(value, LIMIT - 1)

def again(value: int) -> int:
    return clamp(value, LIMIT, low=2)
'''


def mutations() -> list[tuple[str, str]]:
    return [(mutant.before.split(":")[0], mutant.after) for mutant in find_mutants("a.py", SOURCE)]


@pytest.mark.parametrize(
    "after",
    [
        "LIMIT = 4",
        "def clip(value: int, low: int=1) -> int:",
        "if value >= LIMIT and (not low):",
        "if value <= LIMIT and (not low):",
        "if value > LIMIT or not low:",
        "if value > LIMIT and low:",
        "pass",
        "return max(value, LIMIT - 1)",
        "return min(value, LIMIT + 1)",
        "return min(value, LIMIT - 0)",
        "return clamp(LIMIT, value, low=2)",
        "return clamp(value, LIMIT)",
    ],
)
def test_each_kind_of_fault_is_made(after: str) -> None:
    assert after in [made for _, made in mutations()]


def test_texts_and_types_stay() -> None:
    assert not any("text" in after or "Not changed" in after for _, after in mutations())
    assert all(": int" in after for _, after in mutations() if after.startswith("def"))


def test_a_mutant_keeps_its_name_where_other_lines_change() -> None:
    names = {mutant.key for mutant in find_mutants("a.py", SOURCE)}
    moved = {mutant.key for mutant in find_mutants("a.py", "import os\n\nOTHER = None\n" + SOURCE)}
    assert names == moved
    assert len(names) == len(find_mutants("a.py", SOURCE))


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    mutants = find_mutants("a.py", SOURCE)
    few, many = draw(mutants, 0.2), draw(mutants, 0.6)
    assert few == many[: len(few)] and 0 < len(few) < len(many) < len(mutants)


@pytest.mark.parametrize("module", ["mindfl/privacy/dp.py", "mindfl/server/iteration.py"])
def test_every_mutant_of_a_module_compiles_and_differs_in_one_statement(module: str) -> None:
    source = (ROOT / module).read_text("utf-8")
    original = ast.unparse(ast.parse(source)).splitlines()
    for mutant in draw(find_mutants(module, source), 0.05):
        tree = mutate(source, mutant)
        compile(tree, module, "exec")
        assert sum(one != other for one, other in zip(original, ast.unparse(tree).splitlines(), strict=True)) == 1


FAULT = """
from mutants import find_mutants
from trial import ROOT, run_trial
source = (ROOT / "mindfl/privacy/dp.py").read_text("utf-8")
found = find_mutants("mindfl/privacy/dp.py", source)
clipped = next(one for one in found if "max(1.0, bound.value / norm)" in one.after)
test = "tests/privacy/test_privacy_dp.py::test_an_update_keeps_its_direction"
assert run_trial([test], expected_s=10).passed == {test}
assert run_trial([test], mutant=clipped, expected_s=10).failed == test
assert (ROOT / "mindfl/privacy/dp.py").read_text("utf-8") == source
"""


def test_a_fault_reaches_the_test_and_no_file() -> None:
    """In a process of its own: what is imported here already has no fault."""
    path = os.pathsep.join((str(FILE.parent), str(ROOT)))
    subprocess.run([sys.executable, "-c", FAULT], env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, check=True)


def test_the_record_names_mutants_of_modules_that_exist() -> None:
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == len(rows) >= 200
    assert {row["module"] for row in rows} <= set(MODULES)
