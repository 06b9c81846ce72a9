"""The table of operators says what the runtime has."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from mindfl.cli.inspect import inspect_command
from mindfl.lite.operator_table import operator_table

FILE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_table_in_the_docs_is_current() -> None:
    """``python -m mindfl.lite.operator_table > docs/operators.md`` writes it."""
    assert FILE.read_text() == operator_table()


def test_the_runtime_has_most_training_operators() -> None:
    assert operator_table().count("| yes |") >= 75


def test_inspect_lists_the_operators_of_the_table() -> None:
    said = CliRunner().invoke(inspect_command, ["--operators"])
    rows = [line.split() for line in said.output.splitlines()[1:]]
    assert [f"| {tag} | {name} | {done} |" for tag, name, done in rows] == operator_table().splitlines()[-len(rows) :]
    told = json.loads(CliRunner().invoke(inspect_command, ["--operators", "--json"]).output)
    assert [each["name"] for each in told if not each["executed"]] == [name for _, name, done in rows if done == "no"]
    for arguments in ([], ["x.ms", "--operators"]):
        assert CliRunner().invoke(inspect_command, arguments).exit_code == 2
