"""``mindfl doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import click

from mindfl._version import __version__
from mindfl.cli.declared import json_option
from mindfl.cli.reporting import echo_json
from mindfl.errors import MindflError
from mindfl.files import cache_dir
from mindfl.imports import EXTRAS, missing

_NEEDED_DISK = 2 * 1024**3


@click.command("doctor", short_help="Check this machine for everything that mindfl can use.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Check this machine for everything that mindfl can use, and say which features each missing item would enable.

    Changes nothing, downloads nothing, and always exits with 0, as missing items may not be needed."""
    findings = examine()
    if as_json:
        echo_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        mark = click.style("ok ", fg="green") if finding.present else click.style("-- ", fg="yellow")
        wanted = "" if finding.present or not finding.enables else f"; would enable: {finding.enables}"
        click.echo(f"{mark} {finding.name:<17} {finding.found}{wanted}")


@dataclass(frozen=True)
class Finding:
    """Result of one check: whether the item is present, details, and the features that it enables."""

    name: str
    present: bool
    found: str
    enables: str = ""


def examine() -> list[Finding]:
    """Run all checks. Never raises; changes nothing and downloads nothing."""
    return [Finding(name, *_looked(check.look), check.enables) for name, check in _CHECKS.items()]


class _Check(NamedTuple):
    look: Callable[[], tuple[bool, str]]
    enables: str = ""


def _looked(look: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    try:
        return look()
    except (OSError, RuntimeError, MindflError) as error:  # no home folder, a current folder that is gone, ...
        return False, f"cannot be examined: {error}"


def _python() -> tuple[bool, str]:
    return sys.version_info >= (3, 10), f"{platform.python_version()} ({sys.executable})"


def _mindspore() -> tuple[bool, str]:
    from mindfl.export.process import try_import

    try:
        installed = version("mindspore")
    except PackageNotFoundError:
        return False, "not installed"
    try:
        return True, try_import()
    except MindflError as error:
        return False, f"{installed} is installed, but fails: {error.advice()}"


def _cpu() -> tuple[bool, str]:
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="replace").split()
    except OSError:
        flags = []
    known = [name for name in ("avx2", "fma", "avx512f") if name in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{platform.machine()}, {cores} usable cores, {' '.join(known) or 'no AVX2'}"
    return "fma" in flags or platform.machine() == "aarch64", found


def _onednn() -> tuple[bool, str]:
    from mindfl.models import has_avx512

    chosen = os.environ.get("ONEDNN_MAX_CPU_ISA")
    if chosen is not None:
        return True, f"ONEDNN_MAX_CPU_ISA={chosen}, as the environment says"
    if has_avx512():
        return True, "ONEDNN_MAX_CPU_ISA=AVX2 is set before MindSpore starts: 12 times as fast on AVX-512 processors"
    return True, "left as it is: no AVX-512"


def _converter() -> tuple[bool, str]:
    from mindfl.convert import installed_backend

    backend = installed_backend()
    return (False, "not fetched yet") if backend is None else (True, backend.name)


def _kernels() -> tuple[bool, str]:
    from mindfl.lite.kernels import is_cached

    return (True, "cached") if is_cached() else (False, "none yet")


def _program(command: str) -> Callable[[], tuple[bool, str]]:
    def look() -> tuple[bool, str]:
        path = shutil.which(command)
        if path is None:
            return False, f"{command} is not on PATH"
        found = _version_of(path)
        return bool(found), found or f"{path} does not start"

    return look


def _version_of(path: str) -> str:
    for option in ("--version", "-version"):
        try:
            done = subprocess.run([path, option], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            return ""
        lines = (done.stdout or done.stderr).splitlines()
        if done.returncode == 0 and lines:
            return f"{lines[0].strip()} ({path})"
    return ""


def _old_pythons() -> tuple[bool, str]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    present = []
    for minor in (7, 8, 9):
        candidates = [str(path) for path in sorted(root.glob(f"3.{minor}.*/bin/python"))[-1:]]
        candidates += filter(None, [shutil.which(f"python3.{minor}")])
        present += [f"3.{minor} ({path})" for path in candidates if _version_of(path)][:1]
    return bool(present), ", ".join(present) or "none"


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return free >= _NEEDED_DISK, f"{free / 1024**3:.1f} GiB free here"


def _cache() -> tuple[bool, str]:
    folder = cache_dir()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return False, f"{folder} cannot be written to"
    return True, str(folder)


def _extra(name: str) -> Callable[[], tuple[bool, str]]:
    def look() -> tuple[bool, str]:
        absent = missing(name)
        return not absent, f"not installed: {', '.join(absent)}" if absent else ", ".join(EXTRAS[name].packages)

    return look


_CHECKS = {
    "mindfl": _Check(lambda: (True, __version__)),
    "Python": _Check(_python, "mindfl needs Python 3.10 or newer"),
    "MindSpore": _Check(_mindspore, "exporting, and --engine mindspore: pip install mindspore"),
    "Processor": _Check(_cpu, "the device runtime at speed"),
    "oneDNN": _Check(_onednn),
    "Converter": _Check(_converter, "mindfl convert: fetched on first use (169 MB)"),
    "Compiled kernels": _Check(_kernels, "a quick start: compiled on first use, about a quarter of a minute"),
    "Java": _Check(_program("java"), "the real Java clients of MindSpore Federated"),
    "Redis": _Check(_program("redis-server"), "the real MindSpore Federated server's shared state"),
    "Python 3.7-3.9": _Check(_old_pythons, "the real MindSpore Federated 0.1.0 server"),
    "Disk": _Check(_disk, "3,500 clients with model files (2 GiB)"),
    "Cache folder": _Check(_cache, "keeping downloads and compiled kernels: set MINDFL_CACHE to a folder you own"),
    **{
        f"Extra {name}": _Check(_extra(name), f"{extra.enables}: pip install {' '.join(extra.packages)}")
        for name, extra in EXTRAS.items()
    },
}
