"""What this machine has for mindfl, and what each missing thing would enable."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mindfl.files import cache_dir

_NEEDED_DISK = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing looked for: whether it is there, what was found, and, where it is not, what it would enable."""

    name: str
    present: bool
    found: str
    enables: str = ""


def examine() -> list[Finding]:
    """Look at everything. Never raises; changes nothing and downloads nothing."""
    return [look() for look in _CHECKS]


def _python() -> Finding:
    return Finding(
        "Python", sys.version_info >= (3, 10), platform.python_version(), "mindfl needs Python 3.10 or newer"
    )


def _mindspore() -> Finding:
    try:
        return Finding("MindSpore", True, version("mindspore"))
    except PackageNotFoundError:
        return Finding("MindSpore", False, "not installed", "exporting, and --engine mindspore: pip install mindspore")


def _cpu() -> Finding:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    known = [name for name in ("avx2", "fma", "avx512f") if name in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{platform.machine()}, {cores} usable cores, {' '.join(known) or 'no AVX2'}"
    return Finding("Processor", "fma" in flags or platform.machine() == "aarch64", found, "the device runtime at speed")


def _onednn() -> Finding:
    from mindfl.models import has_avx512

    chosen = os.environ.get("ONEDNN_MAX_CPU_ISA")
    if chosen is not None:
        found = f"ONEDNN_MAX_CPU_ISA={chosen}, as the environment says"
    elif has_avx512():
        found = "ONEDNN_MAX_CPU_ISA=AVX2 is set before MindSpore starts: 12 times as fast on AVX-512 processors"
    else:
        found = "left as it is: no AVX-512"
    return Finding("oneDNN", True, found)


def _converter() -> Finding:
    from mindfl.convert import installed_backend

    backend = installed_backend()
    if backend is None:
        return Finding("Converter", False, "not fetched yet", "mindfl convert: fetched on first use (169 MB)")
    return Finding("Converter", True, backend.name)


def _program(name: str, command: str, enables: str) -> Callable[[], Finding]:
    def look() -> Finding:
        path = shutil.which(command)
        found = _version_of(path) if path else ""
        return Finding(name, bool(found), found or f"{command} is not on PATH", enables)

    return look


def _version_of(path: str) -> str:
    for option in ("--version", "-version"):
        try:
            done = subprocess.run([path, option], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        lines = (done.stdout or done.stderr).splitlines()
        if done.returncode == 0 and lines:
            return f"{lines[0].strip()} ({path})"
    return ""


def _old_pythons() -> Finding:
    found = {f"3.{minor}": shutil.which(f"python3.{minor}") for minor in (7, 8, 9)}
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for minor in (7, 8, 9):
        candidates = sorted(root.glob(f"3.{minor}.*/bin/python")) if root.is_dir() else []
        if candidates and _starts(candidates[-1]):
            found[f"3.{minor}"] = str(candidates[-1])
        elif not _starts(found[f"3.{minor}"]):
            found[f"3.{minor}"] = None
    present = [f"{name} ({path})" for name, path in found.items() if path]
    return Finding(
        "Python 3.7-3.9", bool(present), ", ".join(present) or "none", "the real MindSpore Federated 0.1.0 server"
    )


def _starts(interpreter: str | Path | None) -> bool:
    return bool(interpreter) and bool(_version_of(str(interpreter)))


def _kernels() -> Finding:
    from mindfl.lite.kernels import is_cached

    cached = is_cached()
    return Finding(
        "Compiled kernels", cached, "cached" if cached else "none yet", "compiled on first use, half a minute"
    )


def _cache() -> Finding:
    folder = cache_dir()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    writable = os.access(existing, os.W_OK)
    return Finding("Cache folder", writable, str(folder), "keeping downloads and compiled kernels: set MINDFL_CACHE")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding(
        "Disk", free >= _NEEDED_DISK, f"{free / 1024**3:.1f} GiB free here", "3,500 clients with model files (2 GiB)"
    )


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _mindspore,
    _cpu,
    _onednn,
    _converter,
    _kernels,
    _program("Java", "java", "the real Java clients of MindSpore Federated"),
    _program("Redis", "redis-server", "the real MindSpore Federated server's shared state"),
    _old_pythons,
    _disk,
    _cache,
)
