"""Contender: ``mindfl experiment niid_bench``, with everything that it writes."""

from __future__ import annotations

import tempfile
from importlib.metadata import version

from niid_work import Clock, NiidWork
from work import contender_parser

import mindfl
from mindfl.experiments.niid_bench import run_niid_bench
from mindfl.experiments.runner import PythonStudyReporter
from mindfl.sim.callbacks import Progress
from mindfl.sim.history import IterationRow


class _Timer(PythonStudyReporter):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def stage(self, text: str) -> None:
        """Begin the time with the last stage before training."""
        self._clock.times, self._clock.processor = [], []
        self._clock.tick()

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def row(self, row: IterationRow) -> None:
        self._clock.tick()


def main() -> None:
    """Run the work."""
    parser = contender_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    settings, clock = NiidWork.load(arguments.work).settings, Clock()
    with tempfile.TemporaryDirectory() as folder:
        bench = run_niid_bench(
            cells=settings.cell,
            algorithms="fedavg",
            dataset=settings.dataset,
            rounds=settings.rounds,
            epochs=settings.epochs,
            workers=arguments.workers,
            work_dir=folder,
            reporter=_Timer(clock),
        )
    clock.accuracies.extend(bench.results[0].curve)
    clock.save(arguments.result, {"mindfl": mindfl.__version__, "numba": version("numba")})


if __name__ == "__main__":
    main()
