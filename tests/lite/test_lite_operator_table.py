"""The table of operators says what the runtime has."""

from __future__ import annotations

from pathlib import Path

from mindfl.lite.operator_table import operator_table

FILE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_table_in_the_docs_is_current() -> None:
    """``python -m mindfl.lite.operator_table > docs/operators.md`` writes it."""
    assert FILE.read_text() == operator_table()


def test_the_runtime_has_most_training_operators() -> None:
    assert operator_table().count("| yes |") >= 75
