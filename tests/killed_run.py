"""Runs a small job again and again, and kills the process each time at another of its operations on files.

Called with a JSON object: ``settings`` of the job, and ``moments``: pairs of work folder and number of the operation.
An operation opens, renames or removes a file, makes a folder, or is in the middle of writing one. A moment of 0 kills
nothing. Prints, for each process that was not killed, how many operations there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindfl.lite.kernels import load_machine
from mindfl.sim import FederatedJob, client_memory
from mindfl.sim.plot import load_matplotlib

COUNTED = ("open", "os.rename", "os.remove", "os.mkdir")


class Halved:
    """A file whose parts are written in two halves, between which ``tick`` is called."""

    def __init__(self, file: Any, tick: Callable[[], None]) -> None:
        self._file = file
        self._tick = tick

    def write(self, part: Any) -> None:
        content = bytes(part)
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        self._tick()
        self._file.write(content[len(content) // 2 :])


def run(settings: dict[str, object], moment: int) -> int:
    """Run the job; kill this process at the given operation. Returns how many there were."""
    seen = 0

    def tick() -> None:
        nonlocal seen
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in COUNTED and str(settings["work_dir"]) in str(arguments[0]):
            tick()

    def write_bytes(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            Halved(file, tick).write(content)
        return len(content)

    whole = client_memory.write_tensors
    client_memory.write_tensors = lambda file, *given: whole(Halved(file, tick), *given)  # type: ignore[arg-type]
    Path.write_bytes = write_bytes  # type: ignore[method-assign,assignment]
    sys.addaudithook(count)
    FederatedJob(**settings).run()
    return seen


def main() -> None:
    """Fork a process for each moment, so that what was imported or loaded is there already."""
    job = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    load_machine()
    load_matplotlib()
    for folder, moment in job["moments"]:
        child = os.fork()
        if child == 0:
            seen = run({**job["settings"], "work_dir": folder}, moment)
            print(seen, flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
