"""One job of growth.py: runs it through mindfl's public interface and watches time and memory."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindfl import FederatedLeNetJob
from mindfl.lite import Session
from mindfl.sim.callbacks import Progress
from mindfl.sim.history import IterationRow
from mindfl.sim.job import Silent

_STATUS = Path("/proc/self/status")


class KernelClock:
    """Adds up the time that all threads spend in :meth:`Session.train` and :meth:`Session.predict`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    def watch(self, name: str) -> None:
        """Time a method of every session."""
        timed: Callable[..., Any] = getattr(Session, name)

        def method(*arguments: Any, **keywords: Any) -> Any:
            begin = time.perf_counter()
            try:
                return timed(*arguments, **keywords)
            finally:
                with self._lock:
                    self.seconds += time.perf_counter() - begin

        setattr(Session, name, method)


class Watcher(Silent):
    """Notes each iteration's end, steps, kernel time and memory; memory also whenever a client is done."""

    def __init__(self, clock: KernelClock) -> None:
        self._clock = clock
        self.ends: list[float] = []
        self.steps = 0
        self.kernel_seconds: list[float] = []
        self.anonymous: list[int] = []
        self.peak_anonymous = 0

    def progress(self, progress: Progress) -> None:
        self.peak_anonymous = max(self.peak_anonymous, resident("RssAnon"))

    def row(self, row: IterationRow) -> None:
        self.ends.append(time.time())
        self.steps = row.steps
        self.kernel_seconds.append(self._clock.seconds)
        self.anonymous.append(resident("RssAnon"))


def resident(name: str) -> int:
    """Return one of the process's memory figures in bytes: RssAnon (without mapped files), VmHWM (peak, with them)."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    for name in ("data", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("clients", "iterations", "workers", "epochs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def main() -> None:
    """Run the job."""
    arguments = _arguments()
    clock = KernelClock()
    clock.watch("batches")
    clock.watch("train")
    clock.watch("predict")
    watcher = Watcher(clock)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "ms")
        models.mkdir()
        shutil.copy(arguments.model, models / "lenet_train.ms")
        FederatedLeNetJob(
            reporter=watcher,
            work_dir=folder,
            train_dataset=arguments.data,
            train_model_path=models,
            client_num=arguments.clients,
            iterations=arguments.iterations,
            epochs=arguments.epochs,
            workers=arguments.workers,
            per_client_models=False,
        ).run()
    if not clock.seconds:
        raise SystemExit("no time in Session.batches, train or predict: the engine goes another way now")
    noted = {
        "ends": watcher.ends,
        "steps": watcher.steps,
        "kernel_seconds": watcher.kernel_seconds,
        "anonymous_bytes": watcher.anonymous,
        "peak_anonymous_bytes": watcher.peak_anonymous,
        "peak_bytes": resident("VmHWM"),
    }
    arguments.result.write_text(json.dumps(noted) + "\n")


if __name__ == "__main__":
    main()
