"""A job's figure is saved empty where no test looks at it: rendering its texts takes half the time of a small job.

Nothing is imported before it is needed: commands in processes of their own use it too (``tests/startup``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: dots per inch of an empty figure
_COARSE = 10


def emptied(drawn: Callable[..., None]) -> Callable[..., None]:
    """Return a ``save_figure`` that saves ``accuracy.png`` and ``confusion.png`` empty."""

    def save(figure: Any, path: Any, *, dpi: int) -> None:
        if Path(path).name in ("accuracy.png", "confusion.png"):
            from matplotlib.figure import Figure

            figure, dpi = Figure(figsize=figure.get_size_inches()), _COARSE
        drawn(figure, path, dpi=dpi)

    save.drawn = drawn  # type: ignore[attr-defined]
    return save


@contextmanager
def figures_left_empty() -> Iterator[None]:
    """Do all that mindfl does for ``accuracy.png`` and ``confusion.png``, and save an empty figure."""
    import pytest

    from mindfl.sim import plot

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "save_figure", emptied(plot.save_figure))
        yield


@contextmanager
def figures_drawn() -> Iterator[None]:
    """Draw it whole, for tests that look at it."""
    import pytest

    from mindfl.sim import plot

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "save_figure", plot.save_figure.drawn)  # type: ignore[attr-defined]
        yield
