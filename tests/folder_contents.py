"""What lies in a folder, to see what a call has changed."""

from __future__ import annotations

from pathlib import Path


def contents(folder: Path) -> dict[Path, bytes]:
    """Return what the files below ``folder`` hold, by their paths in it."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
