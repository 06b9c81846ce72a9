"""The comparison with NumPy tells mindfl's algorithms from those with faults of public implementations.

:mod:`test_algorithms_oracle` compares weights to 1e-5. An implementation with one of these faults would be a hundred
times that away, on the same job.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import FAULTS
from oracle import ROUNDS
from small_job import cohorts, distance, server

from mindfl.lite import LiteModel

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "algorithms.md"


@pytest.mark.parametrize("fault", FAULTS)
def test_an_implementation_with_this_fault_is_told_apart(fault: str, small_model: Callable[[str], Path]) -> None:
    model = LiteModel.load(small_model("momentum"))
    right, wrong, name = server(model, 0.9, 0.05), server(model, 0.9, 0.05), fault.partition("_")[0]
    for cohort in cohorts(5):
        ROUNDS[name](right, cohort)
        FAULTS[fault](wrong, cohort)
    models = (
        [(wrong.x, right.x)] if name not in ("ditto", "apfl") else [(wrong.own[i], right.own[i]) for i in right.own]
    )
    assert max(distance(found, expected) for found, expected in models) > 1e-3


def test_the_page_names_each_fault_and_tests_that_exist() -> None:
    _, _, part = PAGE.read_text("utf-8").partition("## Where others differ")
    rows = [re.split(r"(?<!\\)\|", line) for line in part.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`(\w+)[`\[]", row[-2])}
    tests = "\n".join(path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    assert named & FAULTS.keys() == FAULTS.keys()
    assert [name for name in named - FAULTS.keys() if f"def {name}(" not in tests] == []
