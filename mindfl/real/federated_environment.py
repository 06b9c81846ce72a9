"""The Python environment of the real server, made once and kept in mindfl's cache folder.

MindSpore Federated 0.1.0 has wheels for Python 3.7 to 3.9 on x86-64 Linux only, so it cannot live in the environment
of mindfl.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mindfl.convert.library import offline, pip_failure
from mindfl.errors import FetchError, OptionError, SimulationError, StorageError
from mindfl.files import PathLike, cache_dir, make_dir
from mindfl.locks import Lock, acquire, awaited, holder
from mindfl.notices import announce
from mindfl.spelling import checked_arguments
from mindfl.system import process_group

Report = Callable[[str], None]

PACKAGE = "MindSpore Federated 0.1.0"
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
_QUESTION = """
import importlib.util, json, sys
found = [name for name in ("ensurepip", "venv", "mindspore_federated") if importlib.util.find_spec(name)]
print(json.dumps(["%d.%d" % sys.version_info[:2], found]))
"""
_ANSWER_SECONDS = 60.0
_SHOWN = ("Downloading ", "Using cached ", "Installing collected ")
_WORDS = {"Using cached": "taking from the cache", "Installing collected packages": "installing"}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its version, such as "3.9", and which of the packages asked for it has."""

    path: Path
    version: str
    packages: frozenset[str]

    @property
    def makes_environments(self) -> bool:
        """Whether it can make virtual environments; Debian splits ``ensurepip`` off."""
        return {"ensurepip", "venv"} <= self.packages


def silent(text: str) -> None:
    """Report nothing."""


@checked_arguments
def install(python: PathLike | None = None, *, report: Report = announce) -> Path:
    """Return the interpreter of the environment, which is made first where it is missing (3 GB, minutes).

    ``python`` is a Python 3.7 to 3.9 to make it with, or one that has MindSpore Federated already and is then used
    itself; None: the newest of them on PATH or under pyenv. Safe under several processes: one installs, the others
    wait for it. What was downloaded survives an interruption.

    Raises :class:`OptionError` for an unusable ``python``, :class:`SimulationError` where there is none and on other
    machines than x86-64 Linux, :class:`FetchError` where ``MINDFL_OFFLINE`` is set or pip fails, and
    :class:`StorageError` where the cache folder cannot be written.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SimulationError(f"{PACKAGE} has wheels for x86-64 Linux only")
    base = _named(python) if python is not None else _found()
    if python is not None and "mindspore_federated" in base.packages:
        return base.path
    key = hashlib.sha256("\n".join(PINS).encode()).hexdigest()[:8]
    folder = cache_dir() / "real_server" / f"python{base.version}-{key}"
    if not _is_complete(folder):
        _install_once(base, folder, report)
    return folder / "bin" / "python"


def _install_once(base: Interpreter, folder: Path, report: Report) -> None:
    if offline():
        raise FetchError(f"{PACKAGE} is not in the cache and MINDFL_OFFLINE is set", hint="unset it once")
    try:
        with _locked(make_dir(folder.parent) / f"{folder.name}.lock", report) as lock:
            if not _is_complete(folder):
                _build(base, folder, lock.handle, report)
    except OSError as error:
        raise StorageError.from_os_error(error, "write", error.filename or folder) from None


def _is_complete(folder: Path) -> bool:
    return (folder / "complete").exists()


def _named(python: PathLike) -> Interpreter:
    program = shutil.which(python)
    if program is None:
        raise OptionError(f"python: {python} is no program", hint="name a Python 3.7, 3.8 or 3.9")
    found = _asked(Path(program).absolute())
    if found is None:
        raise OptionError(f"python: {python} is no Python that runs", hint="name a Python 3.7, 3.8 or 3.9")
    if found.version not in VERSIONS:
        raise OptionError(f"python: {python} is Python {found.version}, but {PACKAGE} needs 3.7, 3.8 or 3.9")
    if not found.makes_environments and "mindspore_federated" not in found.packages:
        raise OptionError(f"python: {python} has no ensurepip", hint=f"apt-get install python{found.version}-venv")
    return found


def _found() -> Interpreter:
    for version in VERSIONS:
        for candidate in _candidates(version):
            found = _asked(candidate)
            if found is not None and found.version == version and found.makes_environments:
                return found
    raise SimulationError(
        f"there is no Python {', '.join(VERSIONS)} on this machine (PATH and pyenv were searched)",
        hint="install one, such as `pyenv install 3.9`, or name one with --python",
    )


def _candidates(version: str) -> Iterator[Path]:
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield Path(on_path)
    with suppress(RuntimeError):  # no home folder
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)


def _asked(candidate: Path) -> Interpreter | None:
    """Return what the interpreter says of itself; None where it does not run, as a shim of pyenv may not."""
    try:
        answer = subprocess.run(
            [candidate, "-I", "-c", _QUESTION],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_ANSWER_SECONDS,
        )
        version, packages = json.loads(answer.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError):
        return None
    return Interpreter(candidate, version, frozenset(packages))


def _locked(path: Path, report: Report) -> Lock:
    lock = acquire(path)
    if lock is None:
        report(f"waiting: {holder(path)} installs {PACKAGE}")
        lock = awaited(path)
    return lock


def _build(base: Interpreter, folder: Path, lock: int, report: Report) -> None:
    """Make the environment in ``folder``. What an interrupted attempt left is made anew; its downloads are kept."""
    downloads = folder.with_name(f"{folder.name}.downloads")
    python = folder / "bin" / "python"
    report(f"installing {PACKAGE} with {base.path} into {folder} (3 GB, once)")
    _step([base.path, "-m", "venv", "--clear", folder], lock, silent)
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--cache-dir",
        downloads,
    ]
    _step([*pip, *PINS], lock, lambda line: _report_pip(line, report))
    report("trying it")
    _step([python, "-I", "-c", "import mindspore_federated"], lock, silent)
    (folder / "complete").touch()
    shutil.rmtree(downloads, ignore_errors=True)


def _report_pip(line: str, report: Report) -> None:
    text = line.strip()
    if text.startswith(_SHOWN) and ".metadata" not in text:
        for pips, ours in _WORDS.items():
            text = text.replace(pips, ours)
        report(text[:1].lower() + text[1:])


def _step(command: Sequence[str | Path], lock: int, tell: Report) -> None:
    """Run ``command``; it holds the lock as well, so that nobody else begins while it outlives a killed mindfl."""
    lines: deque[str] = deque(maxlen=200)
    with process_group(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        pass_fds=(lock,),
    ) as process:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                lines.append(line.strip())
                tell(line)
        process.wait()
    if process.returncode:
        raise FetchError(
            f"{PACKAGE} cannot be installed: {pip_failure(lines)}",
            hint="check network and disk space, then: mindfl server install",
        )
