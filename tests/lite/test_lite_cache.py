"""The cache of compiled kernels. A small stand-in for the machine is compiled here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mindfl.errors import MindflWarning, StorageError
from mindfl.lite import kernels


def _machine(execute: _Function) -> kernels.Machine:
    return kernels.Machine(execute, lambda *arguments: None)


class _Function:
    """A stand-in for a compiled function: fails as told, call by call, then works."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self, *arguments: object) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_folder_is_named_after_the_sources_and_made(cache: Path) -> None:
    folder = Path(kernels._writable_folder())
    assert folder.is_dir() and folder.parent == cache / "kernels"
    assert not kernels.is_cached()
    (folder / "machine.nbc").write_bytes(b"")
    assert kernels.is_cached()


def test_a_cache_that_cannot_be_written_gives_a_folder_for_this_process(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.warns(MindflWarning, match=r"cannot be kept in \S+: each process compiles them anew; set MINDFL_CACHE"):
        folder = Path(kernels._writable_folder())
    assert folder.is_dir() and cache not in folder.parents
    assert Path(kernels._writable_folder()) == folder  # without another warning
    assert not kernels.is_cached()


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_that_folder_is_removed_in_the_end_or_by_the_next_process(
    end: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    place = tmp_path / "temporary"
    place.mkdir()
    code = f"import os; from mindfl.lite import kernels; print(kernels._writable_folder(), flush=True); {end}"
    environment = {**os.environ, "TMPDIR": str(place)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    left = Path(done.stdout.strip())
    assert left.parent == place and left.exists() == bool(end)

    monkeypatch.setattr(tempfile, "tempdir", str(place))
    own = Path(kernels._writable_folder())
    assert list(place.iterdir()) == [own]


def test_no_folder_at_all_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: str) -> str:
        raise OSError(28, "No space left on device")

    cache.write_text("a file where the folder should be")
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(StorageError, match="compiled kernels"):
        kernels._writable_folder()


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


def test_compiled_code_that_is_damaged_is_removed_and_made_anew(cache: Path) -> None:
    folder = Path(kernels._writable_folder())
    execute = _Function(EOFError("Ran out of input"))
    kernels._compile(_machine(execute))
    assert execute.calls == 2 and not folder.exists()


@pytest.mark.parametrize("failures", [1, 2])
def test_compiled_code_that_cannot_be_saved_is_used_all_the_same(failures: int, cache: Path) -> None:
    execute = _Function(*[OSError(28, "No space left on device")] * failures)
    kernels._compile(_machine(execute))
    assert execute.calls == failures + 1


def test_a_fault_of_the_code_itself_is_not_hidden(cache: Path) -> None:
    with pytest.raises(TypeError):
        kernels._compile(_machine(_Function(TypeError(), TypeError())))
