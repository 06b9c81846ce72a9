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

import command
from command import MODULES, check_modules
from mutants import draw, find_mutants, mutate
from recorded import FILE
from trial import ROOT

#: of a process of its own: modules imported here already have no fault
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), str(ROOT)))}
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

# The tests' conftest imports it: nothing is collected then.
source = (ROOT / "mindfl/server/iteration.py").read_text("utf-8")
found = find_mutants("mindfl/server/iteration.py", source)
broken = next(one for one in found if "sent_away" in one.before and one.after.endswith("field()"))
assert run_trial([test], mutant=broken, expected_s=10).failed == f"{test.split('::')[0]} (imported)"
"""


@pytest.mark.slow
def test_a_fault_reaches_the_test_and_no_file() -> None:
    subprocess.run([sys.executable, "-c", FAULT], env=ENVIRONMENT, cwd=ROOT, check=True)


SPREAD = """
import os, tempfile
from pathlib import Path
from spread import spread
here = os.getpid()
found = dict(spread(lambda item: (os.getpid(), Path(tempfile.mkdtemp()), here + item), range(8), 2))
assert [found[item][2] for item in range(8)] == [here + item for item in range(8)]
assert all(process != here and not folder.exists() for process, folder, _ in found.values())
assert list(spread(lambda item: item, [], 2)) == []
"""


def test_work_is_spread_over_processes_and_its_leftovers_are_removed() -> None:
    subprocess.run([sys.executable, "-c", SPREAD], env=ENVIRONMENT, check=True)


MEASURED = """
import sys
from pathlib import Path
from baseline import Baseline, measure, unmeasured
folder = Path(sys.argv[1])
places, modules = ["tests/privacy/test_privacy_dp.py", "tests/test_spelling.py"], ["mindfl/privacy/dp.py"]
file = folder / "baseline.json"
assert unmeasured(file, places) == places
measure(file, places, modules, 2)
assert unmeasured(file, places) == []
baseline = Baseline.read(file)
assert {test.split("::")[0] for test in baseline.seconds} == set(places)
executed = baseline.lines["mindfl/privacy/dp.py"]
assert executed and all(test.startswith(places[0]) for test in executed)
"""


@pytest.mark.slow
def test_files_are_measured_one_by_one_and_once(tmp_path: Path) -> None:
    pytest.importorskip("coverage", reason="coverage is not installed (pip install -e '.[dev]')")
    subprocess.run([sys.executable, "-c", MEASURED, tmp_path], env=ENVIRONMENT, cwd=ROOT, check=True)


def test_a_module_that_was_moved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_modules()
    monkeypatch.setattr(command, "MODULES", [*MODULES, "mindfl/gone.py"])
    with pytest.raises(
        SystemExit, match=r"no such module: mindfl/gone\.py: correct NAMES in tests/mutation/command\.py"
    ):
        check_modules()


def test_the_record_names_mutants_of_modules_that_exist() -> None:
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == len(rows) >= 200
    assert {row["module"] for row in rows} <= set(MODULES)
