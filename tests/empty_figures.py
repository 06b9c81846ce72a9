"""A job's figure is saved empty where no test looks at it: rendering its texts takes half the time of a small job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mindfl.sim import plot

_drawn = plot.save_figure


def _empty(figure: Any, path: Any, *, dpi: int) -> None:
    if Path(path).name in ("accuracy.png", "confusion.png"):
        figure.clear()
    _drawn(figure, path, dpi=dpi)


@contextmanager
def figures_left_empty() -> Iterator[None]:
    """Do all that mindfl does for ``accuracy.png`` and ``confusion.png``, and save an empty figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "save_figure", _empty)
        yield


@contextmanager
def figures_drawn() -> Iterator[None]:
    """Draw it whole, for tests that look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "save_figure", _drawn)
        yield
