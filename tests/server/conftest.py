"""The scripts of what the real server answers are played on this project's server too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "real_server"))
