"""Compiled functions in files of mindfl's cache folder, instead of numba's own cache.

Each file is whole in itself and begins with a checksum, of what compiled it too. So a damaged file, half of one, or one
of another processor or version counts as missing. numba's cache checks nothing, so that a changed byte can end the
process; and it has an index of several files, so that two processors at one folder can get each other's code.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import secrets
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.bytecode import FunctionIdentity
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from mindfl.errors import StorageError
from mindfl.files import read_file, write_atomic
from mindfl.notices import warn

_DIGEST = hashlib.sha256().digest_size
#: numbers of functions that are compiled here begin between this one and its double; numba's begin at 1
_FIRST = 1 << 60
#: a function's number in its name: the length of the text, and the text
_NUMBER = re.compile(r"B(\d+)v(\d+)")


def keep(compiled: Any, folder: Path) -> None:
    """Let numba keep a function in ``folder``: what ``njit`` returned, or a C callback that is not yet compiled."""
    compiled._cache = _Kept(folder, compiled.__name__)


class _Kept:
    """The cache of one function, with the methods that numba calls.

    numba numbers functions from 1 in each process. The code of one holds those that it calls too, and LLVM takes two of
    one name for the same: kernels kept by two processes would call each other's. So what is compiled here gets numbers
    that no other process gives, drawn anew each time, also in forks. Numbers made of a family's name would not do:
    families share functions, and the first one of a process compiles and numbers these.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.cache_path = str(folder)
        self._begin = folder / name

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the kept code for these types of arguments. Else None, and numba compiles it."""
        context.refresh()
        with suppress(StorageError):
            content = read_file(self._path(signature))
            body = content[_DIGEST:]
            if content[:_DIGEST] == _digest(context, body):
                with suppress(Exception):  # whole, but of something that this process lacks
                    return CompileResult._rebuild(context, *pickle.loads(body))
        FunctionIdentity._unique_ids = count(_FIRST + secrets.randbelow(_FIRST))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep compiled code, unless it holds what other processes may take for something else."""
        if compiled.library.has_dynamic_globals or _numbered_elsewhere(compiled.library):
            _warn_once("other code of this process used numba before", "create a session or an engine before that")
            return
        body = dumps(compiled._reduce())
        try:
            write_atomic(self._path(signature), _digest(compiled.target_context, body) + body, durable=False)
        except StorageError as error:
            _warn_once(str(error), "set MINDFL_CACHE to a folder that can be written")

    def _path(self, signature: Any) -> Path:
        types = hashlib.sha256(str(signature).encode()).hexdigest()[:8]
        return self._begin.with_name(f"{self._begin.name}-{types}.kernel")


def _digest(context: Any, body: bytes) -> bytes:
    """Return the checksum of code with all that it was compiled by and for."""
    compiler = numba.__version__, llvmlite.__version__, context.codegen().magic_tuple(), numba.config.USING_SVML
    return hashlib.sha256(repr(compiler).encode() + body).digest()


def _numbered_elsewhere(library: Any) -> bool:
    """Return whether the code holds functions that were not numbered here."""
    found = [_NUMBER.search(function.name) for function in library.get_defined_functions()]
    return any(int(number[2]) < _FIRST for number in found if number and int(number[1]) == len(number[2]) + 1)


def _warn_once(reason: str, remedy: str) -> None:
    if remedy not in _told:
        _told.add(remedy)
        warn(f"compiled kernels are not kept, so that each process compiles them anew: {reason}; {remedy}")


_told: set[str] = set()
