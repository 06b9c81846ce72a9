"""A history as a pandas DataFrame. pandas is imported when a frame is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindfl.imports import require

if TYPE_CHECKING:
    from pandas import DataFrame

    from mindfl.sim.history import IterationRow


def row_frame(rows: Sequence[IterationRow], columns: Sequence[str]) -> DataFrame:
    """Return a frame of ``rows`` with these fields of theirs, and their metrics."""
    require("to_pandas", "pandas")
    from pandas import DataFrame

    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    values = {name: [getattr(row, name) for row in rows] for name in columns}
    values |= {name: [row.metrics.get(name, math.nan) for row in rows] for name in metrics}
    return DataFrame(values)


def client_frame(rows: Sequence[IterationRow], metric: str) -> DataFrame:
    """Return a frame with a row for each client that was evaluated in each of ``rows``."""
    require("to_pandas", "pandas")
    from pandas import DataFrame

    cells = [(name, row.iteration, value) for row in rows for name, value in row.accuracies.items()]
    return DataFrame(cells, columns=["client", "iteration", metric])
