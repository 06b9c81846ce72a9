"""Converters from MINDIR to ``.ms``, and the order in which they are searched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mindfl.convert import child
from mindfl.convert.library import fetch_library, find_library, offline
from mindfl.errors import ConverterCrashedError, ConverterMissingError, ConvertError
from mindfl.files import PathLike
from mindfl.lite.model import GRADIENT_NAME, UNCONVERTED
from mindfl.spelling import checked_arguments
from mindfl.system import process_group, signal_name

PROGRAM = "converter_lite"
TIME_LIMIT = 120.0  # seconds; a LeNet takes one

#: places of the program in a given folder: directly, or as in the unpacked MindSpore Lite tarball
_PLACES = (PROGRAM, f"converter/{PROGRAM}", f"tools/converter/converter/{PROGRAM}")
#: text in a converter_lite that calls this package; it must not be called from here
_OWN_MARK = b"mindfl.cli"


class Backend(Protocol):
    """Converts ``model.mindir`` in a folder to ``model.ms`` in the same folder."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def takes_any_version(self) -> bool:
        """Whether it may support the MINDIR version that MindSpore exported."""

    def run(self, folder: Path, train: bool) -> str:
        """Convert and return the log. Raises :class:`ConvertError`, or :class:`ConverterCrashedError` if the process
        was killed by a signal or did not end in time."""


@dataclass(frozen=True)
class ProgramBackend:
    """A ``converter_lite`` of a MindSpore Lite release."""

    program: Path
    takes_any_version: bool = True

    @property
    def name(self) -> str:
        return str(self.program)

    def run(self, folder: Path, train: bool) -> str:
        command = [str(self.program), "--fmk=MINDIR", f"--trainModel={str(train).lower()}"]
        command += ["--modelFile=model.mindir", "--outputFile=model"]
        libraries = [str(self.program.parent.parent / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        return _run(command, folder, {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))})


@dataclass(frozen=True)
class LibraryBackend:
    """The converter library of the MindSpore Lite 2.0.0 wheel, run in a child process."""

    libraries: Path
    takes_any_version: bool = False

    @property
    def name(self) -> str:
        return f"mindspore-lite 2.0.0 library in {self.libraries}"

    def run(self, folder: Path, train: bool) -> str:
        command = [sys.executable, "-I", "-S", child.__file__]
        return _run([*command, str(self.libraries), "model.mindir", "model", str(int(train))], folder, {})


@checked_arguments
def find_backend(converter: PathLike | None = None) -> Backend:
    """Return the back end to use: ``converter`` if given, else ``converter_lite`` on PATH, else the library.

    ``converter`` is the program, its folder, or the root of the unpacked MindSpore Lite tarball. The library is fetched
    if it is not in the cache. Raises :class:`ConverterMissingError` if there is none, and the errors of
    :func:`mindfl.convert.library.fetch_library`.
    """
    if converter is not None:
        return ProgramBackend(_program_at(Path(converter)))
    if (installed := installed_backend()) is not None:
        return installed
    if offline():
        raise ConverterMissingError(
            "no converter: none on PATH, the library is not in the cache, and MINDFL_OFFLINE is set",
            hint="give --converter PATH, or run mindfl convert --fetch once with the network",
        )
    return LibraryBackend(fetch_library())


def installed_backend() -> Backend | None:
    """Return the installed back end: ``converter_lite`` on PATH, else the fetched library; None without one."""
    if (program := _program_on_path()) is not None:
        return ProgramBackend(program)
    libraries = find_library()
    return LibraryBackend(libraries) if libraries is not None else None


def _program_at(path: Path) -> Path:
    places = [path / place for place in _PLACES] if path.is_dir() else [path]
    for program in places:
        if program.is_file():
            if not os.access(program, os.X_OK):
                raise ConverterMissingError(f"converter {program} is not executable", hint=f"chmod +x {program}")
            return program.absolute()
    what = f"holds no {PROGRAM}" if path.is_dir() else "does not exist"
    raise ConverterMissingError(
        f"converter {path} {what}", hint="name the program, its folder or the unpacked MindSpore Lite tarball"
    )


def _program_on_path() -> Path | None:
    for folder in os.get_exec_path():
        found = shutil.which(PROGRAM, path=folder)
        if found is not None and not _is_own(Path(found)):
            return Path(found).absolute()
    return None


def _is_own(program: Path) -> bool:
    try:
        with program.open("rb") as file:
            return _OWN_MARK in file.read(4096)
    except OSError:
        return True


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    log = folder / "log"
    # Its warnings name the node that it fails at; a MindSpore in this process has switched them off.
    environment = {"GLOG_v": min(os.environ.get("GLOG_v", "2"), "2"), **environment}  # noqa: SIM112 - it is spelt so
    with log.open("wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        try:
            with process_group(command, cwd=folder, env={**os.environ, **environment}, **streams) as process:
                status: int | None = process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            status = None
        except OSError as error:
            raise ConverterMissingError(f"converter {command[0]} cannot be started: {error.strerror}") from None
    text = log.read_text(encoding="utf-8", errors="replace")
    if status is None:
        raise ConverterCrashedError(f"the converter did not end within {TIME_LIMIT:.0f} seconds", log=text)
    if status < 0:
        what = f"the converter was killed by {signal_name(-status)}{_refused(text)}"
        raise ConverterCrashedError(f"{what}: {_reason(text)}", hint=UNCONVERTED, log=text)
    if status == child.EXIT_NO_LIBRARY and command[0] == sys.executable:
        raise ConverterMissingError(_reason(text), hint="the library needs Linux x86-64 with glibc", log=text)
    if status or not (folder / "model.ms").is_file():
        what = f"the converter refused the model (exit status {status}{_refused(text)})"
        raise ConvertError(f"{what}: {_reason(text)}", hint=UNCONVERTED, log=text)
    return text


#: lines of the converter's log that name a node
_NAMED_NODE = re.compile(r"(?:node infer shape failed, node is|primitive_c is nullptr:) *(\S+)")


def _refused(log: str) -> str:
    """Return the operator that the converter failed at, with its node; empty if the log does not name it.

    What follows on a node of unknown shape fails as well: of several the first of the forward part is the cause.
    """
    nodes = _NAMED_NODE.findall(log)
    forward = [node for node in nodes if not node.startswith(GRADIENT_NAME)]
    if not nodes:
        return ""
    node = (forward or nodes)[0]
    return f", operator {re.sub(r'-op[0-9]+$', '', node.rpartition('/')[2])} in node {node}"


#: a line of its log that names an operator, without the node
_NAMED_OPERATOR = re.compile(r"can not find MSOpsRegistry for op: *(\w+)")


def unknown_operator(log: str) -> str | None:
    """Return the operator that the converter's log last says it does not know; None: the log names none."""
    return next(iter(_NAMED_OPERATOR.findall(log)[::-1]), None)


def _reason(log: str) -> str:
    """Return the most informative line of a converter's log: the exception, the first error or the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    thrown = [line.partition("what():")[2].strip() for line in lines if line.startswith("what():")]
    errors = [line.rpartition("] ")[2] for line in lines if "ERROR" in line]
    last = [line.rpartition("] ")[2] for line in lines[-1:]]
    return (thrown or errors or last or ["it gave no reason"])[0]
