"""Extras: one table for setup.cfg, the doctor and the hints."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from mindfl.doctor import examine
from mindfl.errors import OptionError
from mindfl.extras import EXTRAS
from mindfl.sim import FederatedLeNetJob

ROOT = Path(__file__).parents[1]


def test_the_table_is_that_of_setup_cfg() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    listed = {
        name: tuple(re.split(r"[<>=]", line)[0] for line in setup["options.extras_require"][name].split())
        for name in EXTRAS
    }
    assert listed == {name: extra.packages for name, extra in EXTRAS.items()}


def test_no_hint_names_mindfl_itself() -> None:
    files = [*(ROOT / "mindfl").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    assert [str(path) for path in files if re.search(r"pip install ['\"]?mindfl", path.read_text())] == []


def test_the_doctor_lists_version_and_extras() -> None:
    names = [finding.name for finding in examine()]
    assert names[0] == "mindfl" and [f"Extra {name}" for name in EXTRAS] == [n for n in names if n.startswith("Extra")]


def test_ray_is_looked_for_before_work_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mindfl.sim.job.missing", lambda extra: ("ray",))
    with pytest.raises(OptionError, match="--executor ray needs the package ray") as caught:
        FederatedLeNetJob(executor="ray", work_dir=tmp_path).run()
    assert caught.value.hint == "pip install ray"
    assert list(tmp_path.rglob("*.mindir")) == []
