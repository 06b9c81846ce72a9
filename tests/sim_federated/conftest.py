"""A machine with stand-ins for the real stack's programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from federated_standins import standin_python, standin_redis


@pytest.fixture
def standins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for Redis first on PATH; return one for the environment's Python."""
    folder = tmp_path / "bin"
    standin_redis(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    return standin_python(folder / "federated-python")
