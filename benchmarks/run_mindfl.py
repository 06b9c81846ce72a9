"""Contender: mindfl, through its public interface, with everything that a job writes."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from work import Recorder, Work, contender_parser

from mindfl import FederatedLeNetJob
from mindfl.sim.history import IterationRow
from mindfl.sim.job import Silent

#: where compare.py leaves the data set's path and the converted model, in the work's folder
DATASET_NOTE = "dataset.txt"
MODEL = "lenet_train.ms"


class _Clock(Silent):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def row(self, row: IterationRow) -> None:
        self._recorder.iteration_ended(loss=row.loss, accuracy=row.avg)


def main() -> None:
    """Run the work."""
    parser = contender_parser(__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--engine", default="lite")
    arguments = parser.parse_args()
    work, recorder = Work.load(arguments.work), Recorder()
    settings = work.settings
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "ms")
        models.mkdir()
        shutil.copy(work.folder / MODEL, models / MODEL)
        FederatedLeNetJob(
            reporter=_Clock(recorder),
            work_dir=folder,
            train_dataset=(work.folder / DATASET_NOTE).read_text(),
            train_model_path=models,
            client_num=len(work.clients),
            iterations=settings.iterations,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            workers=arguments.workers,
            engine=arguments.engine,
        ).run()
    recorder.save(arguments.result, {name: version(name) for name in ("mindfl", "numba", "numpy", "mindspore")})


if __name__ == "__main__":
    main()
