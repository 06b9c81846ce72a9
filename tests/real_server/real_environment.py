"""A Python environment that holds MindSpore Federated 0.1.0, made once and kept in mindfl's cache folder.

The package has wheels for Python 3.7 to 3.9 on x86-64 Linux only, so it cannot live in the environment of the tests.
Whatever is missing is said in one sentence by :class:`UnavailableError`, which the fixtures turn into a skip.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mindfl.convert.library import offline
from mindfl.files import cache_dir

VERSIONS = ("3.9", "3.8", "3.7")
PINS = (
    "mindspore==2.0.0",
    "mindspore_federated==0.1.0",
    # What the two wheels import; newer releases of the first three no longer work with them.
    "numpy<1.25",
    "pillow<10",
    "protobuf<4",
    "PyYAML",
    "mmh3",
    "PyMySQL",
    "joblib",
    "pandas",
    "scipy",
)
INSTALL_LIMIT_S = 1500


class UnavailableError(Exception):
    """The real server cannot be had on this machine, and why."""


def real_python() -> Path:
    """Return the interpreter of the environment, which is made first where it is missing (about 1.5 GB, minutes)."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UnavailableError("MindSpore Federated 0.1.0 has wheels for x86-64 Linux only")
    base, version = _interpreter()
    key = hashlib.sha256("\n".join(PINS).encode()).hexdigest()[:8]
    folder = cache_dir() / "real_server" / f"python{version}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _build(base, folder)
    return folder / "bin" / "python"


def redis_server() -> str:
    """Return the path of redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        raise UnavailableError("there is no redis-server on this machine (Debian: apt-get install redis-server)")
    return program


def _interpreter() -> tuple[Path, str]:
    for version in VERSIONS:
        for candidate in _candidates(version):
            if _says_version(candidate, version):
                return candidate, version
    raise UnavailableError(f"there is no Python {', '.join(VERSIONS)} on this machine (PATH and pyenv were searched)")


def _candidates(version: str) -> Iterator[Path]:
    found = shutil.which(f"python{version}")
    if found:
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)


def _says_version(candidate: Path, version: str) -> bool:
    """Tell whether it runs and can make environments: a pyenv shim may refuse, and Debian splits off ``ensurepip``."""
    program = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([candidate, "-c", program], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def _build(base: Path, folder: Path) -> None:
    if offline():
        raise UnavailableError("MindSpore Federated 0.1.0 is not in the cache and MINDFL_OFFLINE is set")
    shutil.rmtree(folder, ignore_errors=True)
    _step([base, "-m", "venv", folder])
    _step([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input", *PINS])
    _step([folder / "bin" / "python", "-c", "import mindspore_federated"])
    (folder / "complete").touch()


def _step(command: list[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"installing the real server took over {INSTALL_LIMIT_S} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise UnavailableError(f"the real server cannot be installed: {lines[-1]}")
