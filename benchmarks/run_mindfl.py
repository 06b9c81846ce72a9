"""Contender: mindfl, through its public interface, with everything that a job writes."""

from __future__ import annotations

import tempfile
from importlib.metadata import version

from work import Recorder, Work, contender_parser

import mindfl
from mindfl import FederatedJob
from mindfl.sim.history import IterationRow
from mindfl.sim.job import Silent

#: where compare.py leaves the data set's path and the converted model, in the work's folder
DATASET_NOTE = "dataset.txt"
MODEL = "initial.ms"


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
        FederatedJob(
            reporter=_Clock(recorder),
            model=settings.network,
            work_dir=folder,
            train_dataset=(work.folder / DATASET_NOTE).read_text(),
            origin_train_model_path=work.folder / MODEL,
            client_num=len(work.clients),
            iterations=settings.iterations,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            workers=arguments.workers,
            engine=arguments.engine,
        ).run()
    others = {name: version(name) for name in ("numba", "numpy", "mindspore")}
    recorder.save(arguments.result, {"mindfl": mindfl.__version__, **others})


if __name__ == "__main__":
    main()
