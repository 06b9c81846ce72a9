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


def test_the_options_of_the_table_exist() -> None:
    from mindfl.cli.simulate import simulate_command

    table = _README.read_text().partition("## Options of `mindfl simulate`")[2].partition("\n## ")[0]
    known = {name for each in simulate_command.params for name in each.opts}
    named = set(re.findall(r"--\w+", table))
    assert len(named) > 12 and named <= known
