"""One way to show progress: a bar on standard error, where that is a terminal."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress_bar(title: str, total: int, unit: str, *, shown: bool) -> tqdm[Any]:
    """Return a bar of ``total`` units that leaves no trace when ``shown`` is false."""
    return tqdm(
        total=total, desc=title, unit=unit, unit_scale=unit == "B", disable=None if shown else True, dynamic_ncols=True
    )
