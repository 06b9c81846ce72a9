"""How fast this machine trains: a short federated job on synthetic writers, with one worker and with all."""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mindfl.files import PathLike, cache_dir, make_dir, scratch_folder
from mindfl.notices import WARNING, announce
from mindfl.options import declared_arguments
from mindfl.options.command_options import BenchOptions
from mindfl.sim.config import default_workers
from mindfl.sim.history import IterationRow
from mindfl.sim.job import FederatedJob, Silent
from mindfl.sim.run_folder import locked

#: enough clients that no worker waits long for the last one, few enough that an iteration takes about a second
_CLIENTS_PER_WORKER = 8
_FEWEST_CLIENTS, _MOST_CLIENTS = 16, 256
_EPOCHS = 2
#: iterations that are counted, at least; the first one of a run is not
_FEWEST_ITERATIONS = 2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Speed:
    """What ``workers`` threads did: median steps of one batch a second over ``iterations`` federated iterations,
    aggregation and evaluation included; ``ms_per_step`` is what one thread takes for a step, in milliseconds."""

    workers: int
    steps_per_s: float
    ms_per_step: float
    iterations: int


@dataclass(frozen=True)
class BenchResult:
    """Outcome of :func:`bench`. ``ratio`` is the last speed over the first, None where there is only one."""

    processor: str
    processors: int
    clients: int
    epochs: int
    batch_size: int
    speeds: tuple[Speed, ...]
    ratio: float | None


@declared_arguments(BenchOptions)
def bench(
    *, seconds: float = 8.0, workers: int | None = None, work_dir: PathLike | None = None, say: Say = announce
) -> BenchResult:
    """Measure training speed with one worker and with ``workers`` (None: one per processor), about ``seconds`` each.

    LeNet is exported and converted, and the synthetic writers are drawn, as by ``mindfl simulate``; both are kept in
    ``work_dir`` (None: ``bench`` in the cache folder) for the next time. ``say`` is told of each stage, and of
    warnings, which begin with "warning: "; by default stages are logged, and warnings go through ``warnings``. Raises
    :class:`OptionError` for values out of range, and what exporting and converting raise.
    """
    most = workers or default_workers()
    clients = min(max(_CLIENTS_PER_WORKER * most, _FEWEST_CLIENTS), _MOST_CLIENTS)
    with _artefacts(Path(work_dir) if work_dir is not None else cache_dir() / "bench", clients, say) as settings:
        speeds = []
        for count in sorted({1, most}):
            say(f"training with {count} worker{'s' if count > 1 else ''}")
            # the first run finds out how many iterations fill the time
            rate = 1 / median(_train(settings, count, _FEWEST_ITERATIONS, say).seconds)
            speeds.append(_speed(settings, count, max(_FEWEST_ITERATIONS, math.ceil(rate * seconds)), say))
    ratio = speeds[-1].steps_per_s / speeds[0].steps_per_s if len(speeds) > 1 else None
    batch = int(settings["batch_size"])
    return BenchResult(processor_name(), default_workers(), clients, _EPOCHS, batch, tuple(speeds), ratio)


def processor_name() -> str:
    """Return what the system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


@contextmanager
def _artefacts(folder: Path, clients: int, say: Say) -> Iterator[dict[str, Any]]:
    """Yield the settings of a job whose model and data are made, and whose work folder is removed in the end."""
    settings: dict[str, Any] = {"client_num": clients, "epochs": _EPOCHS, "batch_size": 32}
    with locked(make_dir(folder)):
        say("preparing the model and the data")
        job = FederatedJob(reporter=_BenchRows(say), work_dir=folder, **settings)
        model, data = Path(job.convert()), job.prepare_data()
        with scratch_folder("mindfl-bench") as temporary:
            models = make_dir(Path(temporary, "ms"))
            shutil.copy(model, models / model.name)
            yield {
                **settings,
                "work_dir": temporary,
                "overwrite": True,
                "train_model_path": models,
                "train_dataset": data,
            }


class _BenchRows(Silent):
    """Keeps the seconds of each iteration but the first, and the steps in each."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.seconds: list[float] = []
        self.steps = 0

    def warning(self, text: str) -> None:
        self._say(WARNING + text)

    def row(self, row: IterationRow) -> None:
        if row.iteration > 1:
            self.seconds.append(row.seconds)
        self.steps = row.steps


def _train(settings: dict[str, Any], workers: int, iterations: int, say: Say) -> _BenchRows:
    rows = _BenchRows(say)
    FederatedJob(reporter=rows, workers=workers, iterations=iterations + 1, **settings).run()
    return rows


def _speed(settings: dict[str, Any], workers: int, iterations: int, say: Say) -> Speed:
    rows = _train(settings, workers, iterations, say)
    rate = rows.steps / median(rows.seconds)
    return Speed(workers, round(rate, 1), round(1000 * workers / rate, 3), len(rows.seconds))
