"""The Python environment of the real server, installed once into mindfl's cache folder.

MindSpore Federated 0.1.0 has wheels for Python 3.7 to 3.9 on x86-64 Linux only, so it needs an environment of its own.
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
    # Imported by the two wheels, which do not work with newer releases of the first three.
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
_PACKAGES = ("ensurepip", "venv", "mindspore_federated")
_QUESTION = f"""
import importlib.util, json, sys
found = [name for name in {_PACKAGES} if importlib.util.find_spec(name)]
print(json.dumps(["%d.%d" % sys.version_info[:2], found]))
"""
_ANSWER_SECONDS = 60.0
_SHOWN = ("Downloading ", "Using cached ", "Installing collected ")
_WORDS = {"Using cached": "taking from the cache", "Installing collected packages": "installing"}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its version, such as "3.9", and what it has of :data:`_PACKAGES`."""

    path: Path
    version: str
    packages: frozenset[str]

    @property
    def makes_environments(self) -> bool:
        """Whether it can make virtual environments; Debian has ``ensurepip`` in a package of its own."""
        return {"ensurepip", "venv"} <= self.packages


@checked_arguments
def install(python: PathLike | None = None, *, report: Report = announce) -> Path:
    """Install the environment if it is missing (3 GB, minutes), and return its interpreter.

    Several processes may call it: one installs, the others wait for it. Downloads survive an interruption.

    Args:
        python: a Python 3.7 to 3.9 to install with, or one that has MindSpore Federated, which is then used itself;
            None: the newest Python on PATH or under pyenv.
        report: called with lines of progress; by default they are logged.

    Raises:
        OptionError: ``python`` cannot be used.
        SimulationError: there is no such Python, or the machine is not x86-64 Linux.
        FetchError: ``MINDFL_OFFLINE`` is set, or pip failed.
        StorageError: the cache folder cannot be written.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SimulationError(f"{PACKAGE} has wheels for x86-64 Linux only")
    base = find_python(python)
    if python is not None and "mindspore_federated" in base.packages:
        return base.path
    key = hashlib.sha256("\n".join(PINS).encode()).hexdigest()[:8]
    folder = cache_dir() / "real_server" / f"python{base.version}-{key}"
    if not _is_complete(folder):
        _install_once(base, folder, report)
    return folder / "bin" / "python"


def find_python(python: PathLike | None = None) -> Interpreter:
    """Return the interpreter that :func:`install` begins with.

    Raises :class:`OptionError` where ``python`` cannot be used, :class:`SimulationError` where there is none.
    """
    return _named(python) if python is not None else _found()


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
    # A Path has lost the "./" that would name a file in the current folder.
    program = shutil.which(python) or shutil.which(Path(python).absolute())
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
    """Return version and packages of an interpreter; None if it does not run, as some shims of pyenv."""
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
    """Make the environment in ``folder``; downloads of an interrupted attempt are used again."""
    downloads = folder.with_name(f"{folder.name}.downloads")
    python = folder / "bin" / "python"
    report(f"installing {PACKAGE} with {base.path} into {folder} (3 GB, once)")
    _step([base.path, "-m", "venv", "--clear", folder], lock)
    options = ("--no-input", "--disable-pip-version-check", "--cache-dir", downloads)
    _step([python, "-m", "pip", "install", *options, *PINS], lock, lambda line: _report_pip(line, report))
    report("trying it")
    _step([python, "-I", "-c", "import mindspore_federated"], lock)
    (folder / "complete").touch()
    shutil.rmtree(downloads, ignore_errors=True)


def _report_pip(line: str, report: Report) -> None:
    text = line.strip()
    if text.startswith(_SHOWN) and ".metadata" not in text:
        for pips, ours in _WORDS.items():
            text = text.replace(pips, ours)
        report(text[:1].lower() + text[1:])


def _step(command: Sequence[str | Path], lock: int, tell: Report = lambda line: None) -> None:
    """Run ``command``. It inherits the lock: if it outlives a killed mindfl, no other process starts to install."""
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
