"""docs/algorithms.md: its comparison and its attack on own arrays print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
def test_the_examples_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    shown = re.findall(r"```python\n([^`]*)```\n\n```text\n([^`]*)```", TEXT)
    assert len(shown) == 2
    for code, output in shown:
        exec(compile(code, "docs/algorithms.md", "exec"), names)
        assert capsys.readouterr().out == output
