"""Compiled kernels. Get them through :func:`load_machine`, which keeps the compiled code in mindfl's cache folder."""

from __future__ import annotations

import atexit
import hashlib
import os
import resource
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import MindflError, OptionError, StorageError
from mindfl.files import cache_dir, scratch_folder
from mindfl.notices import warn
from mindfl.system import ProcessLock


@dataclass(frozen=True)
class Machine:
    """Compiled functions of :mod:`mindfl.lite.kernels.machine`, by their names there.

    ``addresses`` holds those of instructions whose family is compiled on first use (:meth:`prepare`), else 0.
    """

    execute: Callable[..., None]
    pack: Callable[..., None]
    addresses: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    def prepare(self, code: NDArray[np.int64]) -> None:
        """Load the families of kernels that ``code`` uses; compile those that the cache does not hold."""
        from mindfl.lite.ops.registry import INSTRUCTIONS

        known = list(INSTRUCTIONS.values())
        with _loading:
            for family in {known[number].family for number in code[:, 0] if number >= 0} - {None}:
                members = [each.number for each in known if each.family == family]
                if not self.addresses[members[0]]:
                    self.addresses[members] = _load_family(family or "")


_loading = ProcessLock()

#: address space, measured with numba 0.68 and SciPy 1.17: 332 MiB with two processors, 107 more to compile
_LOADED, _COMPILED, _STACK = 360 << 20, 128 << 20, 10 << 20


def load_machine() -> Machine:
    """Return the compiled machine; compiles it (about 15 s, once per computer and version) if it is not cached."""
    with _loading:
        return _machine()


def is_cached(family: str | None = None) -> bool:
    """Return whether the cache folder holds compiled kernels of this version: the machine, or a family of kernels."""
    return any(_folder(family).rglob("*.nbc"))


def uncached_families(codes: Iterable[NDArray[np.int64]]) -> list[str]:
    """Return the names of the families of kernels that ``codes`` use and the cache folder does not hold."""
    from mindfl.lite.ops.registry import INSTRUCTIONS

    known = list(INSTRUCTIONS.values())
    families = {known[number].family for code in codes for number in np.unique(code[:, 0]) if number >= 0}
    return sorted(family for family in families if family is not None and not is_cached(family))


@cache
def _machine() -> Machine:
    _check_address_space()
    import numba

    _check_settings(numba.config.DISABLE_JIT)
    with _cached_in(_writable_folder()):
        from mindfl.lite.kernels import machine as compiled
    from mindfl.lite.ops.registry import INSTRUCTIONS

    machine = Machine(compiled.execute, compiled.pack, np.zeros(len(INSTRUCTIONS), np.int64))
    _compile(machine)
    return machine


def _load_family(family: str) -> int:
    """Return the address of a family of kernels, which is compiled if the cache does not hold it, or not whole."""
    from mindfl.lite.kernels.machine import family_address

    with _cached_in(_writable_folder(family)):
        with suppress(Exception):
            return family_address(family)
        shutil.rmtree(_folder(family), ignore_errors=True)
        with suppress(OSError):
            return family_address(family)
    with scratch_folder("mindfl-kernels") as temporary, _cached_in(str(temporary)):
        return family_address(family)


@contextmanager
def _cached_in(folder: str) -> Iterator[None]:
    """Let numba keep what is compiled within in ``folder``."""
    import numba

    _number_apart()
    settings = {"CACHE_DIR": folder, "CACHE_LOCATOR_CLASSES": "mindfl.lite.kernels.machine.AnyPlace"}
    before = {name: getattr(numba.config, name, "") for name in settings}
    vars(numba.config).update(settings)
    try:
        yield
    finally:
        vars(numba.config).update(before)


def _number_apart() -> None:
    """Let functions that are compiled from now on have names that no other process gives.

    numba numbers functions from 1 in each process. What it keeps of one function holds those that it calls too, and
    LLVM takes two of one name for the same: kernels kept by two processes would call each other's.
    """
    from numba.core.bytecode import FunctionIdentity

    FunctionIdentity._unique_ids = count(secrets.randbits(60))


def needed_bytes() -> int:
    """Return the address space for loading the machine: LLVM, numba, SciPy, a stack for each processor."""
    return _LOADED + (0 if is_cached() else _COMPILED) + _STACK * (os.cpu_count() or 1)


def _check_address_space() -> None:
    """Raise an error if the address space is too small: LLVM would abort, OpenBLAS retry forever, both silently."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    needed = used + needed_bytes()
    if needed > limit:
        raise MindflError(
            f"the memory does not suffice: the device runtime needs {needed >> 20} MiB of address space,"
            f" {limit >> 20} MiB are allowed",
            hint=f"raise the limit (ulimit -v {needed >> 10})",
        )


def _check_settings(disabled: bool) -> None:
    if disabled:
        raise OptionError("NUMBA_DISABLE_JIT is set: the device runtime cannot be compiled", hint="unset it")


def _compile(machine: Machine) -> None:
    """Run an empty program, so that compiling never happens in a worker thread."""
    with suppress(Exception):
        _run_empty(machine)
        return
    # The cached code is damaged (power cut), or the new code could not be saved (disk full) but is loaded anyway.
    shutil.rmtree(_folder(), ignore_errors=True)
    with suppress(OSError):
        _run_empty(machine)
        return
    try:
        _run_empty(machine)
    except Exception as error:
        settings = [name for name in os.environ if name.startswith("NUMBA_")]
        if not settings:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise OptionError(
            f"the device runtime cannot be compiled: {reason}", hint=f"unset {', '.join(sorted(settings))}"
        ) from error


def _run_empty(machine: Machine) -> None:
    from mindfl.lite.ops.registry import ROW

    floats, table, labels = np.zeros(64, np.float32), np.zeros(1, np.int32), np.zeros(1, np.int32)
    code, place = np.zeros((0, ROW), np.int64), np.array([0, 1, 1, 16, 0, 0, 1, 0], np.int64)
    numbers = np.zeros((1, 0), np.int32)
    images, batches, results = (np.zeros(shape, np.float32) for shape in ((1, 1), (1, 1, 16), (1, 1)))
    machine.pack(images, batches, 1)
    machine.execute(floats, table, code, machine.addresses, batches, numbers, labels, place, 1, results)


def _folder(family: str | None = None) -> Path:
    """Return the cache folder of the machine, or of a family of kernels, for exactly the sources that it is made of.

    numba itself notices changes of one file only.
    """
    from mindfl.lite.ops.registry import CHAINED, HELPERS, INSTRUCTIONS

    here = Path(__file__).parent
    sources = {path.stem for path in (here.parent / "ops").glob("*.py")} - {"__init__"}
    shared = sources - set(CHAINED) - {known.family for known in INSTRUCTIONS.values()}
    helpers = {helper.__module__.rpartition(".")[2] for helper in HELPERS}
    modules = shared | (set(CHAINED) if family is None else {family, *helpers})
    keys = [(name, known.key) for name, known in INSTRUCTIONS.items() if known.family == family]
    digest = hashlib.sha256(repr(keys).encode())
    for source in (*sorted(here.glob("*.py")), *(here.parent / "ops" / f"{name}.py" for name in sorted(modules))):
        digest.update(source.read_bytes())
    return cache_dir() / "kernels" / digest.hexdigest()[:16]


def _writable_folder(family: str | None = None) -> str:
    """Return the cache folder, or a temporary one for this process, with a warning, if that is not writable."""
    folder = _folder(family)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
    except OSError:
        pass
    return _folder_of_this_process(folder.parent)


@cache
def _folder_of_this_process(folder: Path) -> str:
    process = ExitStack()
    try:
        temporary = process.enter_context(scratch_folder("mindfl-kernels"))
    except OSError as error:
        raise StorageError.from_os_error(error, "keep compiled kernels in", folder) from None
    atexit.register(process.close)
    warn(
        f"compiled kernels cannot be kept in {folder}: each process compiles them anew; "
        "set MINDFL_CACHE to a folder that can be written"
    )
    return str(temporary)


__all__ = ["Machine", "is_cached", "load_machine", "uncached_families"]
