"""Compiled kernels. Get them through :func:`load_machine`, which keeps the compiled code in mindfl's cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import MindflError, OptionError
from mindfl.files import cache_dir
from mindfl.imports import package_version
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
    return any(_folder(family).glob("*.kernel"))


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
    from mindfl.lite.kernels import machine as compiled
    from mindfl.lite.kernels.kept import keep
    from mindfl.lite.ops.registry import INSTRUCTIONS

    for function in (compiled.execute, compiled.pack):
        keep(function, _folder())
    machine = Machine(compiled.execute, compiled.pack, np.zeros(len(INSTRUCTIONS), np.int64))
    _compile(machine)
    return machine


def _load_family(family: str) -> int:
    """Return the address of a family of kernels, which is compiled if the cache does not hold it."""
    from mindfl.lite.kernels.machine import family_address

    return family_address(family, _folder(family))


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
    try:
        _run_empty(machine)
    except Exception as error:
        settings = _settings()
        if not settings:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        hint = f"unset {', '.join(sorted(settings))}"
        raise OptionError(f"the device runtime cannot be compiled: {reason}", hint=hint) from error


def _run_empty(machine: Machine) -> None:
    from mindfl.lite.ops.registry import ROW

    floats, table, labels = np.zeros(64, np.float32), np.zeros(1, np.int32), np.zeros(1, np.int32)
    code, place = np.zeros((0, ROW), np.int64), np.array([0, 1, 1, 16, 0, 0, 1, 0], np.int64)
    numbers = np.zeros((1, 0), np.int32)
    images, batches, results = (np.zeros(shape, np.float32) for shape in ((1, 1), (1, 1, 16), (1, 1)))
    machine.execute(floats, table, code, machine.addresses, batches, numbers, labels, place, 1, results)
    machine.pack(images, batches, 1)


def _folder(family: str | None = None) -> Path:
    """Return the cache folder of the machine, or of a family of kernels.

    Its name stands for exactly the sources that the kernels are made of, and for what compiles them, so that versions
    and processors can share a cache. The place of the package is no part of it: virtual environments share the code.
    """
    from mindfl.lite.ops.registry import CHAINED, HELPERS, INSTRUCTIONS

    here = Path(__file__).parent
    sources = {path.stem for path in (here.parent / "ops").glob("*.py")} - {"__init__"}
    shared = sources - set(CHAINED) - {known.family for known in INSTRUCTIONS.values()}
    helpers = {helper.__module__.rpartition(".")[2] for helper in HELPERS}
    modules = shared | (set(CHAINED) if family is None else {family, *helpers})
    keys = [(name, known.key) for name, known in INSTRUCTIONS.items() if known.family == family]
    digest = hashlib.sha256(repr((keys, _compiler())).encode())
    for source in (*sorted(here.glob("*.py")), *(here.parent / "ops" / f"{name}.py" for name in sorted(modules))):
        digest.update(source.read_bytes())
    return cache_dir() / "kernels" / digest.hexdigest()[:16]


@cache
def _compiler() -> tuple[object, ...]:
    """Return what compiled code depends on besides its sources: versions, the processor, settings of numba.

    LLVM's own view of the processor is in the checksum of each file: here its import would take memory and time.
    """
    versions = sys.implementation.cache_tag, package_version("numba"), package_version("llvmlite")
    text = ""
    with suppress(OSError):
        text, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")
    processor = re.findall(r"^model name.*|\b(?:avx|fma)\w*", text, re.MULTILINE)
    return versions, sorted(processor), sorted(_settings().items())


def _settings() -> dict[str, str]:
    """Return the settings of numba in the environment that change code."""
    unchanging = ("NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_CACHE_DIR")
    return {name: value for name, value in os.environ.items() if name.startswith("NUMBA_") and name not in unchanging}


__all__ = ["Machine", "is_cached", "load_machine", "uncached_families"]
