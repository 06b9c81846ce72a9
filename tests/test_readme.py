"""The README's Python example runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_README = Path(__file__).parents[1] / "README.md"


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(_README), "exec"), {})
    assert "weights sha256" in capsys.readouterr().out
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_every_simulate_option_is_in_the_table() -> None:
    from mindfl.cli.simulate import simulate_command

    table = _README.read_text().partition("## Options of `mindfl simulate`")[2].partition("\n## ")[0]
    named = {option.opts[0] for option in simulate_command.params}
    assert {name for name in named if f"`{name}" not in table} == set()
