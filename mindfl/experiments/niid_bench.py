"""The benchmark of label skew: a job for each division of the samples, algorithm and seed; what ended is kept."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindfl.data.arrays import ArrayDataset
from mindfl.data.idx import read_idx_folder
from mindfl.data.without_users import Division, Part, divided
from mindfl.errors import AlgorithmError, DataError, SimulationError
from mindfl.experiments import niid_published as setting
from mindfl.experiments.niid_report import FILES, Bench, CellResult, write_bench
from mindfl.experiments.runner import PartReporter, PythonStudyReporter, StudyReporter, remove_reports, written_up
from mindfl.files import PathLike, local_path
from mindfl.options import declared_arguments
from mindfl.options.command_options import NiidBenchOptions, NiidDataName
from mindfl.sim import run_record
from mindfl.sim.artefacts import Artefacts
from mindfl.sim.config import JobConfig
from mindfl.sim.history import IterationRow
from mindfl.sim.job import FederatedJob
from mindfl.sim.run_folder import locked, model_folders
from mindfl.sim.run_record import RunRecord
from mindfl.spelling import counted

_WANTED = (
    "the Debian package dataset-fashion-mnist has them; or --dataset a folder with train-images-idx3-ubyte, "
    "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, .gz or not"
)


@dataclass(frozen=True)
class _Job:
    """A job of the benchmark."""

    cell: str
    algorithm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.cell} {self.algorithm} seed {self.seed}"

    @property
    def key(self) -> tuple[str, str, int]:
        return self.cell, self.algorithm, self.seed

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.=,-]+", "_", f"{self.cell}-{self.algorithm}-seed{self.seed}")


@declared_arguments(NiidBenchOptions)
def run_niid_bench(
    *,
    cells: str | Sequence[str] | None = None,
    algorithms: str | Sequence[str] | None = None,
    seeds: str | Sequence[int] = "0",
    dataset: PathLike = NiidBenchOptions.dataset,
    data: NiidDataName | None = None,
    work_dir: PathLike = NiidBenchOptions.work_dir,
    rounds: int = setting.ROUNDS,
    epochs: int = setting.EPOCHS,
    workers: int | None = None,
    converter: PathLike | None = None,
    overwrite: bool = False,
    reporter: StudyReporter | None = None,
) -> Bench:
    """Train LeNet on divided images, once per cell, algorithm and seed, and write :data:`FILES`.

    The setting is the published one (:mod:`mindfl.experiments.niid_published`): 10 clients, all of them in each round,
    batches of 64, learning rate .01, momentum .9, weight decay 1e-5. The accuracy is the best over the rounds on the
    whole test set.

    Args:
        cells: keys of :data:`~mindfl.experiments.niid_published.CELLS`, as a list or as text with commas; None: iid,
            dirichlet and classes:3.
        algorithms: likewise names with settings; None: fedavg, fedprox (with the published mu) and fednova.
        seeds: likewise; of the division, and of the initial weights.
        dataset: folder with the IDX files of training and test images and labels.
        data: the data set that the files must be; None: any.
        work_dir: folder of the reports, and of a folder for each job.
        rounds, epochs: to shorten; the table then says that it is not the published setting.
        workers: threads; None: one per processor.
        converter: as for a job.
        overwrite: run jobs anew that are there.
        reporter: observes; None: warnings and log.

    Returns:
        The results of all jobs.

    A job that is there is not run again, one that was interrupted goes on: the same command continues, also after
    Ctrl-C or a kill. Raises :class:`OptionError`, :class:`DataError`, and
    :class:`SimulationError` that names each job that failed, after the others have ended.
    """
    divisions, names = setting.chosen_cells(cells), setting.chosen_algorithms(algorithms)
    jobs = [_Job(cell, name, seed) for seed in setting.chosen_seeds(seeds) for name in names for cell in divisions]
    given: dict[str, Any] = {
        "client_num": setting.CLIENTS,
        "iterations": rounds,
        "epochs": epochs,
        "batch_size": setting.BATCH_SIZE,
        "learning_rate": setting.LEARNING_RATE,
        "momentum": setting.MOMENTUM,
        "workers": workers,
        "converter": converter,
        "work_dir": local_path(work_dir),
    }
    JobConfig(**given)
    train, test = _read(local_path(dataset), data)
    with locked(given["work_dir"]):
        return _CellRunner(jobs, given, train, test, reporter or PythonStudyReporter(), overwrite=overwrite).run()


def _read(folder: Path, data: NiidDataName | None) -> tuple[Part, Part]:
    """Return training and test samples. Raises :class:`DataError` where they are missing, or not those of ``data``."""
    try:
        parts = read_idx_folder(folder)
    except DataError as error:
        raise DataError(f"no Fashion-MNIST in {folder}: {error}", hint=_WANTED) from None
    if "test" not in parts:
        raise DataError(f"no Fashion-MNIST in {folder}: the test files are missing", hint=_WANTED)
    found = setting.known_data(parts["train"][1], parts["test"][1])
    if data not in (None, found):
        raise DataError(
            f"{folder} does not hold {setting.TITLES[data]}, but {setting.TITLES[found]}",
            hint="name the folder of its files with --dataset",
        )
    return parts["train"], parts["test"]


class _CellRunner:
    """Trains the jobs one after the other. The caller holds the work folder."""

    def __init__(
        self,
        jobs: Sequence[_Job],
        given: dict[str, Any],
        train: Part,
        test: Part,
        reporter: StudyReporter,
        *,
        overwrite: bool,
    ) -> None:
        self._jobs = jobs
        self._given = given
        self._train, self._test = train, test
        self._report = reporter
        self._overwrite = overwrite
        self._folder: Path = given["work_dir"]
        self._ended: list[CellResult] = []
        #: job -> why it failed
        self._failed: dict[str, str] = {}

    def run(self) -> Bench:
        """Train what is not there yet, and write up all after each job; one that fails does not end the others."""
        remove_reports(self._folder, FILES)
        with written_up(self._write):
            for number, job in enumerate(self._jobs, 1):
                self._report.mode(job, number, len(self._jobs), kept=self._is_done(job))
                try:
                    self._ended.append(self._trained(job))
                except (SimulationError, AlgorithmError) as error:
                    self._failed[job.name] = str(error)
                    self._report.warning(f"{job.name} failed: {error}")
                self._write()
        if self._failed:
            listed = "; ".join(f"{name}: {reason}" for name, reason in self._failed.items())
            raise SimulationError(
                f"{len(self._failed)} of {counted(len(self._jobs), 'job')} failed: {listed}",
                hint="the others ended and are written up; the same command tries these again",
            )
        return self._bench()

    def _write(self) -> None:
        write_bench(self._bench(), self._folder)

    def _trained(self, job: _Job) -> CellResult:
        division = Division(setting.CELLS[job.cell], setting.CLIENTS, job.seed)
        data = divided(self._train, self._test, division, name=job.cell)
        reporter = PartReporter(self._report)
        settings = {
            **self._given,
            "work_dir": self._folder / job.folder,
            "converter": None,
            "train_dataset": data,
            "origin_train_model_path": self._starting_model(job.seed, data),
            "algorithm": job.algorithm,
            "seed": job.seed,
            "shuffle": True,
            "evaluate_every": 1,
            "per_client_models": False,
            "overwrite": self._overwrite,
            "resume": not self._overwrite,
        }
        made = FederatedJob(reporter=reporter, **settings)
        reporter.prepared = True
        result = made.run()
        sizes = {user.name: user.test.size for user in data}
        return CellResult(
            cell=job.cell,
            algorithm=job.algorithm,
            seed=job.seed,
            curve=tuple(_correct(row, sizes) / len(self._test[1]) for row in result.history),
            seconds=sum(result.history.column("seconds")),
            weights_sha256=result.hash,
        )

    def _starting_model(self, seed: int, data: ArrayDataset) -> Path:
        """Return the file of the network with the initial weights of ``seed``."""
        models = self._folder / "ms" / f"seed{seed}"
        own = {"train_model_path": models, "train_dataset": data, "seed": seed, "weight_decay": setting.WEIGHT_DECAY}
        config = JobConfig(**{**self._given, **own})
        self._report.stage("preparing the model")
        with model_folders(config):
            return Artefacts(config).convert()

    def _is_done(self, job: _Job) -> bool:
        path = self._folder / job.folder / run_record.NAME
        if self._overwrite or not path.exists():
            return False
        return bool((RunRecord.load(path).iterations or 0) >= self._given["iterations"])

    def _bench(self) -> Bench:
        threads = JobConfig(**self._given).threads
        ended = {(one.cell, one.algorithm, one.seed) for one in self._ended}
        return Bench(
            data=setting.known_data(self._train[1], self._test[1]),
            train=len(self._train[1]),
            test=len(self._test[1]),
            rounds=self._given["iterations"],
            epochs=self._given["epochs"],
            machine=f"{platform.machine()}, {os.cpu_count()} processors, {counted(threads, 'thread')}",
            results=tuple(self._ended),
            missing=tuple(job.name for job in self._jobs if job.key not in ended and job.name not in self._failed),
            failed=self._failed,
        )


def _correct(row: IterationRow, sizes: dict[str, int]) -> int:
    """Return how many test samples of all clients together the model of a round predicts."""
    return sum(round(row.accuracies[name] * size) for name, size in sizes.items() if size)
