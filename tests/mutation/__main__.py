"""``python tests/mutation``: do the tests notice small faults in the code? See docs/testing.md."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before anything imports numpy: many threads in a process that forks are of no use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

from command import main

sys.exit(main())
