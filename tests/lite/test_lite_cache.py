"""The cache of compiled kernels. Small functions are compiled here, and a stand-in for the machine."""

from __future__ import annotations

import errno
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from numba import njit
from numba.core.bytecode import FunctionIdentity

import mindfl
from mindfl.errors import MindflWarning, OptionError
from mindfl.lite import kernels
from mindfl.lite.kernels import kept
from mindfl.lite.ops.registry import INSTRUCTIONS

_PACKAGE = Path(mindfl.__file__).parent


class _Function:
    """A stand-in for a compiled function that fails."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def __call__(self, *arguments: object) -> None:
        raise self.failure


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for kept functions, about which nothing was said yet."""
    monkeypatch.setattr(kept, "_told", set())
    monkeypatch.setattr(FunctionIdentity, "_unique_ids", FunctionIdentity._unique_ids)
    return tmp_path / "cache" / "kernels" / "sources"


def test_the_folder_is_named_after_the_sources(cache: Path) -> None:
    folder = kernels._folder()
    assert folder.parent == cache / "kernels"
    assert not kernels.is_cached()
    folder.mkdir(parents=True)
    (folder / "execute.kernel").write_bytes(b"")
    assert kernels.is_cached()


@pytest.mark.parametrize(
    ("name", "other"), [("NUMBA_OPT", True), ("NUMBA_CPU_NAME", True), ("NUMBA_NUM_THREADS", False)]
)
def test_settings_that_change_the_code_have_a_folder_of_their_own(
    name: str, other: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kernels._folder()
    monkeypatch.setenv(name, "1")
    kernels._compiler.cache_clear()
    try:
        assert (kernels._folder() != before) == other
    finally:
        kernels._compiler.cache_clear()


def test_versions_and_processors_have_folders_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = set()
    for number, (text, version) in enumerate(
        [
            ("model name\t: A\nflags\t\t: fma avx2\n\nmodel name\t: A\nflags: fma avx2\n", "1"),
            ("model name\t: A\nflags\t\t: fma avx2 new\n", "1"),  # the same to the compiler
            ("model name\t: A\nflags\t\t: fma avx2 avx512f\n", "1"),
            ("model name\t: B\nflags\t\t: fma avx2\n", "1"),
            ("model name\t: B\nflags\t\t: fma avx2\n", "2"),
        ]
    ):
        monkeypatch.setattr(Path, "read_text", lambda path, text=text, **options: text)
        monkeypatch.setattr(kernels, "package_version", lambda name, version=version: version)
        kernels._compiler.cache_clear()
        folders.add(kernels._folder())
        assert len(folders) == max(1, number)
    monkeypatch.undo()
    kernels._compiler.cache_clear()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _modules_in(function: FunctionType) -> Iterator[str]:
    """Give the modules of mindfl whose functions and constants a kernel is compiled with."""
    yield function.__module__
    source = inspect.getsource(sys.modules[function.__module__])
    homes = dict.fromkeys(_names(function.__code__), "")
    for module, names in re.findall(r"^from (mindfl\S+) import (\([^)]*\)|.*)$", source, re.M):
        homes.update({name: module for name in re.findall(r"\w+", names) if name in homes})
    yield from filter(None, homes.values())
    for name in homes:
        if isinstance(called := function.__globals__.get(name), FunctionType):
            yield from _modules_in(called)


@pytest.mark.parametrize("family", sorted({known.family or "" for known in INSTRUCTIONS.values()}))
def test_the_folders_name_covers_all_sources_that_kernels_are_made_of(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[Path] = set()

    def noted(path: Path) -> bytes:
        read.add(path)
        return b""

    monkeypatch.setattr(Path, "read_bytes", noted)
    kernels._folder(family or None)
    known = [known.kernel for known in INSTRUCTIONS.values() if (known.family or "") == family]
    modules = {module for kernel in known for module in _modules_in(kernel)}  # type: ignore[arg-type]
    files = {_PACKAGE.parent / f"{module.replace('.', '/')}.py" for module in modules}
    assert files and files <= read


def _adding(value: float) -> Callable[[float], float]:
    def add(x: float) -> float:
        return x + value

    return add


def _added(folder: Path, value: float = 1.0) -> tuple[float, bool]:
    """Return 1 plus the value from a function that is kept in ``folder``, and whether that held its code."""
    function: Any = njit(_adding(value))
    kept.keep(function, folder)
    return function(1.0), bool(function.stats.cache_hits)


def test_a_function_is_kept(folder: Path) -> None:
    assert _added(folder) == (2.0, False)
    assert _added(folder) == (2.0, True)


def _one_byte_at(part: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        place = int(part * (len(content) - 1))
        return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]

    return change


@pytest.mark.parametrize(
    "damage",
    [
        *map(_one_byte_at, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        *(lambda content: b"", lambda content: content[:20], lambda content: content[:-1]),
    ],
)
def test_damaged_code_is_made_anew(damage: Callable[[bytes], bytes], folder: Path) -> None:
    _added(folder)
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert _added(folder) == (2.0, False)
    assert _added(folder) == (2.0, True)
    assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize("what", ["numba.__version__", "llvmlite.__version__", "numba.config.USING_SVML"])
def test_code_of_another_compiler_is_made_anew(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(f"mindfl.lite.kernels.kept.{what}", "another")
        _added(folder)
    assert _added(folder) == (2.0, False)
    assert _added(folder) == (2.0, True)


def test_code_that_needs_what_is_missing_is_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(kept, "dumps", lambda reduced: b"not a pickle")
        _added(folder)
    assert _added(folder) == (2.0, False)


def test_a_folder_that_cannot_be_written_is_said_once(folder: Path) -> None:
    folder.parents[1].write_text("a file where the folder should be")
    with pytest.warns(MindflWarning, match="are not kept, .* anew: cannot create folder .*; set MINDFL_CACHE") as said:
        assert _added(folder) == (2.0, False)
        assert _added(folder) == (2.0, False)
    assert len(said) == 1


def test_a_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        os.truncate(path, len(content) // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(MindflWarning, match="cannot write .*: No space left on device"):
        assert _added(folder) == (2.0, False)
    assert list(folder.iterdir()) == []


def test_a_cache_that_can_only_be_read_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _added(folder)
    monkeypatch.setattr(kept, "write_atomic", lambda *arguments, **options: pytest.fail("written"))
    assert _added(folder) == (2.0, True)


#: two kernels, each of which calls a function ``inner``, which is too long to be made a part of its callers
_KERNELS = (
    """
import math, os, sys
from pathlib import Path
from numba import njit
from mindfl.lite.kernels.kept import keep

def adding(value):
    @njit
    def inner(x):
        y = x
"""
    + "        y += math.sin(y) + math.cos(y) + math.atan(y) + math.tanh(y)\n" * 20
    + """\
        return x + value + 0.0 * y
    return inner

one, two = adding(1.0), adding(2.0)

@njit
def a(x):
    return one(one(x))

@njit
def b(x):
    return two(two(x))

def use(name):
    keep(globals()[name], Path(__file__).parent / "kept")
    print(globals()[name](0.0), flush=True)

names, forked, before = sys.argv[1:]
if before:
    one(1.0)
for name in names:
    if not forked:
        use(name)
    elif not (child := os.fork()):
        use(name)
        os._exit(0)
    else:
        os.waitpid(child, 0)
"""
)


def _printed(folder: Path, kernels: str, *, forked: str = "", before: str = "", warning: str = "") -> list[str]:
    """Run a process that calls the kernels ``a`` and ``b``, which add 2 and 4 to 0."""
    program = folder / "kernels.py"
    program.write_text(_KERNELS)
    command = [sys.executable, str(program), kernels, forked, before]
    environment = {**os.environ, "PYTHONPATH": str(_PACKAGE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert warning in done.stderr if warning else not done.stderr
    return done.stdout.split()


def test_kernels_kept_by_two_processes_do_not_call_each_others_functions(tmp_path: Path) -> None:
    assert _printed(tmp_path, "a") == ["2.0"] and _printed(tmp_path, "b") == ["4.0"]
    changed = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    assert _printed(tmp_path, "ab") == ["2.0", "4.0"]
    assert changed == {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}, "compiled nothing"


def test_kernels_kept_by_two_forks_of_a_process_do_not_either(tmp_path: Path) -> None:
    assert _printed(tmp_path, "ab", forked="forked") == ["2.0", "4.0"]
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert _printed(tmp_path, "ab") == ["2.0", "4.0"]


def test_code_with_functions_that_were_compiled_before_is_not_kept(tmp_path: Path) -> None:
    """Their names count from 1, so that another process may give them to others."""
    assert _printed(tmp_path, "a", before="before", warning="other code of this process used numba before") == ["2.0"]
    assert not (tmp_path / "kept").exists()
    assert _printed(tmp_path, "b", before="before") == ["4.0"]
    assert len(list((tmp_path / "kept").iterdir())) == 1


LOAD = """
import resource
import sys
from pathlib import Path
from mindfl.errors import MindflError
from mindfl.lite import kernels

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + kernels.needed_bytes() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    kernels.load_machine()
except MindflError as error:
    print(error.line())
"""


@pytest.mark.parametrize(("more", "said"), [(4 << 20, ""), (-(4 << 20), "the memory does not suffice")])
def test_a_limit_that_is_too_low_is_refused_before_llvm_aborts(more: int, said: str) -> None:
    """And one that is high enough is not."""
    kernels.load_machine()
    done = subprocess.run([sys.executable, "-c", LOAD, str(more)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.partition(":")[0].strip() == said
    assert not said or re.search(r"\d+ MiB are allowed \(raise the limit \(ulimit -v \d+\)\)", done.stdout)


def test_a_fault_of_the_code_itself_is_not_hidden() -> None:
    with pytest.raises(TypeError):
        kernels._compile(kernels.Machine(_Function(TypeError()), print))


def test_settings_of_numba_are_named_where_compiling_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_OPT", "much")
    with pytest.raises(OptionError, match="cannot be compiled: no such level"):
        kernels._compile(kernels.Machine(_Function(ValueError("no such level\nat all")), print))
