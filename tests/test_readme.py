"""The README's Python examples run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_README = Path(__file__).parents[1] / "README.md"


def test_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, own = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(first, str(_README), "exec"), {})
    assert "weights sha256" in capsys.readouterr().out
    exec(compile(own, str(_README), "exec"), {"__name__": "readme"})
    assert "readme:FedProx" in (tmp_path / "fedprox" / "config.json").read_text()
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_the_options_of_the_table_exist() -> None:
    from mindfl.cli.simulate import simulate_command

    table = _README.read_text().partition("## Options of `mindfl simulate`")[2].partition("\n## ")[0]
    known = {name for each in simulate_command.params for name in each.opts}
    named = set(re.findall(r"--\w+", table))
    assert len(named) > 12 and named <= known
