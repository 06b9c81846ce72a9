"""Contender: a run of ``mindfl experiment niid_bench``, with everything that it writes."""

from __future__ import annotations

import tempfile
from importlib.metadata import version

from niid_work import Clock, NiidWork
from work import contender_parser

import mindfl
from mindfl import FederatedJob
from mindfl.data.idx import read_idx_folder
from mindfl.data.without_users import Division, divided
from mindfl.experiments.niid_published import CELLS
from mindfl.experiments.runner import shipped_experiment
from mindfl.sim.callbacks import Progress, PythonReporter
from mindfl.sim.history import IterationRow


class _Timer(PythonReporter):
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
    setting = shipped_experiment("niid_bench")
    del setting["sweep"]
    parts = read_idx_folder(settings.dataset)
    data = divided(parts["train"], parts["test"], Division(CELLS[settings.cell], setting["client_num"], 0), name="cell")
    with tempfile.TemporaryDirectory() as folder:
        own = {"iterations": settings.rounds, "epochs": settings.epochs, "train_dataset": data, "work_dir": folder}
        job = FederatedJob(**{**setting, **own}, workers=arguments.workers, reporter=_Timer(clock))
        clock.accuracies.extend(job.run().history.column("weighted_avg"))
    clock.save(arguments.result, {"mindfl": mindfl.__version__, "numba": version("numba")})


if __name__ == "__main__":
    main()
