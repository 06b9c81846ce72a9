"""The contenders' virtual environments, and what machine this is."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from mindfl.sim.benchmark import processor_name

_HERE = Path(__file__).parent


def interpreter(name: str | None, folder: Path) -> Path:
    """Return the interpreter of a contender's environment, making it from requirements-``name``.txt if need be.

    None is the interpreter that runs this.
    """
    if name is None:
        return Path(sys.executable)
    requirements = _HERE / f"requirements-{name}.txt"
    environment = folder.absolute() / name
    python, stamp = environment / "bin" / "python", environment / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {requirements.name} into {environment}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)], check=True)
        stamp.write_text(wanted)
    return python


def machine() -> dict[str, Any]:
    """Return what a reader of the figures must know about this machine."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return {
        "processor": processor_name(),
        "usable processors": len(os.sched_getaffinity(0)),
        "instructions": [name for name in ("avx2", "fma", "avx512f") if name in flags],
        "memory, GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
