"""Fuzz targets borrow the makers of valid messages, models and secure rounds from the tests of those parts."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("protocol", "lite", "privacy", "server")]
