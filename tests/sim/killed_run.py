"""Runs a small job again and again, and kills the process each time at another of its file operations.

Called with a JSON object: ``settings`` of the job, and ``moments``: work folder -> number of the file operation. A
moment of 0 counts the operations of a whole run instead, and prints how many there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings

from mindfl.sim import FederatedLeNetJob

COUNTED = ("open", "os.rename", "os.remove", "os.mkdir")


def run(settings: dict[str, object], moment: int) -> int:
    """Run the job; kill this process at the given file operation. Returns how many there were."""
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in COUNTED and str(settings["work_dir"]) in str(arguments[0]):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    FederatedLeNetJob(**settings).run()
    return seen


def main() -> None:
    """Fork a process for each moment, so that what was imported is there already."""
    job = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    for folder, moment in job["moments"].items():
        child = os.fork()
        if child == 0:
            seen = run({**job["settings"], "work_dir": folder}, moment)
            print(seen, flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
