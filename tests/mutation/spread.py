"""Work spread over processes that are forked from this one, and fork their trials in turn."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
#: of a forked process
_work: Callable[[Any], Any]


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def spread(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[tuple[Item, Result]]:
    """Yield each of ``items`` with what ``work`` returns for it, as they are done.

    ``work`` is run in forked processes: it may be any function, and changes nothing here. Its temporary files are
    removed in the end, those of killed processes too.
    """
    if not items:
        return
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, _unmounted(folder):
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(min(processes, len(items)), forked, _begin, (work, folder)) as pool:
            futures = {pool.submit(_do, item): item for item in items}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BaseException:
                for child in multiprocessing.active_children():
                    child.kill()
                raise


@contextmanager
def _unmounted(folder: str) -> Iterator[None]:
    """Unmount in the end the small file systems below ``folder`` that killed tests had made."""
    try:
        yield
    finally:
        places = (line.split()[1] for line in Path("/proc/self/mounts").read_text("utf-8").splitlines())
        for place in places:
            if place.startswith(folder):
                subprocess.run(["umount", "--lazy", place], check=False)


def _begin(work: Callable[[Any], Any], folder: str) -> None:
    """Keep ``work``, which need not be pickled where processes are forked."""
    global _work
    _work = work
    tempfile.tempdir = folder
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback of each
    die_with_parent()


def _do(item: Any) -> Any:
    return _work(item)


def die_with_parent() -> None:
    """Let this process be killed when the thread ends that forked it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def replace_text(file: Path, text: str) -> None:
    """Write ``text`` into ``file`` so that one that is stopped leaves the old text."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(file)
