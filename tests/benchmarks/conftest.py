"""Makes the modules of benchmarks/ importable: they are programs, not a package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """Return the folder of the benchmark programs."""
    return BENCHMARKS
