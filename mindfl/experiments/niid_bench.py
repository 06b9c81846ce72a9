"""The benchmark of label skew: a sweep over divisions of the samples, algorithms and seeds, beside published values."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mindfl.data.idx import read_idx_folder
from mindfl.data.without_users import Division, Part, divided
from mindfl.errors import DataError
from mindfl.experiments import niid_published as setting
from mindfl.experiments.niid_report import FILES, Bench, CellResult, write_bench
from mindfl.experiments.runner import remove_reports, written_up
from mindfl.files import PathLike, local_path
from mindfl.notices import announce
from mindfl.options import declared_arguments
from mindfl.options.command_options import NiidBenchOptions, NiidDataName
from mindfl.sim.config import default_workers
from mindfl.sim.result import Result
from mindfl.sim.run_folder import locked
from mindfl.spelling import counted
from mindfl.sweeps.followed_runs import SweptRow
from mindfl.sweeps.sweep import Say, planned_runs, run_sweep
from mindfl.sweeps.sweep_folder import SweptRun, read_runs

_WANTED = (
    "the Debian package dataset-fashion-mnist has them; or --dataset a folder with train-images-idx3-ubyte, "
    "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, .gz or not"
)


@declared_arguments(NiidBenchOptions)
def run_niid_bench(
    *,
    cells: str | Sequence[str] | None = None,
    algorithms: str | Sequence[str] | None = None,
    seeds: str | Sequence[int] = "0",
    dataset: PathLike = NiidBenchOptions.dataset,
    data: NiidDataName | None = None,
    work_dir: PathLike = NiidBenchOptions.work_dir,
    rounds: int = NiidBenchOptions.rounds,
    epochs: int = NiidBenchOptions.epochs,
    workers: int | None = None,
    converter: PathLike | None = None,
    overwrite: bool = False,
    say: Say = announce,
    row: Callable[[SweptRow], None] | None = None,
) -> Bench:
    """Run the experiment file ``niid_bench.toml`` on divided images as a sweep, and write :data:`FILES`.

    The setting is the published one: LeNet, 10 clients, all of them in each round, batches of 64, learning rate .01,
    momentum .9, weight decay 1e-5. The accuracy is the best over the rounds on the whole test set.

    Args:
        cells: keys of :data:`~mindfl.experiments.niid_published.CELLS`, as a list or as text with commas; None: iid,
            dirichlet and classes:3.
        algorithms: likewise names with settings; None: fedavg, fedprox (with the published mu) and fednova.
        seeds: likewise; of the division, and of the initial weights.
        dataset: folder with the IDX files of training and test images and labels.
        data: the data set that the files must be; None: any.
        work_dir: folder of the reports, and of the sweep.
        rounds, epochs: to shorten; the table then says that it is not the published setting.
        workers: threads; None: one per processor. So many runs train side by side; fewer have more threads each.
        converter: as for a job.
        overwrite: run jobs anew that are there.
        say, row: as for :func:`mindfl.run_sweep`.

    Returns:
        The results of all runs.

    What ended is not run again, and what was interrupted goes on, as in any sweep. Raises :class:`OptionError`,
    :class:`DataError`, and :class:`SimulationError` that names each run that failed, after the others have ended.
    """
    divisions, names = setting.chosen_cells(cells), setting.chosen_algorithms(algorithms)
    folder, threads, whole = local_path(work_dir), workers or default_workers(), setting.chosen_seeds(seeds)
    train, test = _read(local_path(dataset), data)
    content = _digest(*train, *test)
    drawn = {
        (cell, seed): folder
        / "samples"
        / f"{cell.replace(':', '_')}-seed{seed}-{content}"  # other images: another name
        for seed in whole
        for cell in divisions
    }
    experiment = {
        **setting.EXPERIMENT,
        "iterations": rounds,
        "epochs": epochs,
        **({} if converter is None else {"converter": converter}),
        "sweep": [
            {
                "cell": {cell: {"train_dataset": drawn[cell, seed].absolute()} for cell in divisions},
                "algorithm": list(names),
                "seed": [seed],
            }
            for seed in whole
        ],
    }
    jobs = min(len(drawn) * len(names), threads)
    planned_runs(experiment, folder, overwrite=overwrite)  # refused before anything is replaced
    with locked(folder):
        remove_reports(folder, FILES)
        for (cell, seed), place in drawn.items():
            if not place.exists():
                say(f"dividing the samples: {place.name}")
                division = Division(setting.CELLS[cell], setting.EXPERIMENT["client_num"], seed)
                divided(train, test, division, name=cell).save(place)

    def bench() -> Bench:
        swept = [run for run in read_runs(folder) if not run.dropped]
        return Bench(
            data=setting.known_data(train[1], test[1]),
            train=len(train[1]),
            test=len(test[1]),
            rounds=rounds,
            epochs=epochs,
            machine=f"{platform.machine()}, {os.cpu_count()} processors, {counted(jobs, 'run')} side by side with "
            f"{counted(threads // jobs, 'thread')}",
            results=tuple(_result(run, folder, len(test[1])) for run in swept if run.status == "done"),
            missing=tuple(run.name for run in swept if run.status in ("waiting", "running")),
            failed={run.name: run.error or "" for run in swept if run.status == "failed"},
        )

    with written_up(lambda: write_bench(bench(), folder)):
        run_sweep(
            experiment, work_dir=folder, jobs=jobs, workers=threads // jobs, overwrite=overwrite, say=say, row=row
        )
    return bench()


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()[:8]


def _result(run: SweptRun, folder: Path, tests: int) -> CellResult:
    result = Result.load(folder / run.folder)
    return CellResult(
        cell=run.varies["cell"],
        algorithm=run.settings["algorithm"],
        seed=run.settings["seed"],
        # whole numbers of samples, of which the mean by samples is the last bit off
        curve=tuple(round(value * tests) / tests for value in result.history.column("weighted_avg")),
        seconds=sum(result.history.column("seconds")),
        weights_sha256=result.hash,
    )


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
