"""Trains the modes one after the other, and keeps what ended."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from mindfl._version import __version__
from mindfl.data import Dataset, fingerprint
from mindfl.errors import OptionError, StorageError
from mindfl.files import remove_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.modes import PLAIN
from mindfl.notices import logger
from mindfl.sim.artefacts import Artefacts, check_model
from mindfl.sim.callbacks import Progress
from mindfl.sim.config import JobConfig
from mindfl.sim.devices import usable_users
from mindfl.sim.experiment import data_words
from mindfl.sim.held_folders import locked, model_folders
from mindfl.sim.history import IterationRow
from mindfl.sim.job import FederatedJob
from mindfl.sim.model_options import settled
from mindfl.sim.option_warnings import unused_settings
from mindfl.sim.packages import check_packages
from mindfl.sim.plot import load_matplotlib
from mindfl.sim.pool import server_settings
from mindfl.sim.reporter import PythonReporter, Reporter
from mindfl.sim.study.costs import measured_costs
from mindfl.sim.study.report import FILES, write_study
from mindfl.sim.study.results import RESULT_FILE, Mode, ModeResult, Study, chosen_modes
from mindfl.spelling import counted, did_you_mean

_DEFAULT_DIR = "mindfl_privacy"
#: settings of a job that a study has too; the others belong to modes, or to parts that it does not measure
SETTINGS = (
    "batch_size",
    "client_num",
    "converter",
    "epochs",
    "init",
    "iterations",
    "learning_rate",
    "model",
    "momentum",
    "optimizer",
    "overwrite",
    "seed",
    "train_dataset",
    "train_model_path",
    "work_dir",
    "workers",
)
_DEFAULTS = {"work_dir": _DEFAULT_DIR, "client_num": 50, "iterations": 20, "epochs": 20}


class StudyReporter(Reporter, Protocol):
    """Is told how a study goes."""

    def mode(self, mode: Mode, number: int, modes: int, *, kept: bool) -> None:
        """Mode ``number`` of ``modes`` begins; or its result is there already."""


class _PythonReporter(PythonReporter):
    def mode(self, mode: Mode, number: int, modes: int, *, kept: bool) -> None:
        """Log it."""
        logger.info("mode %d of %d: %s%s", number, modes, mode.name, ", done already" if kept else "")


def run_study(modes: Sequence[str] | None = None, *, reporter: StudyReporter | None = None, **settings: Any) -> Study:
    """Train the same job once per mode, and write ``privacy.png``, ``privacy.csv`` and ``privacy.md``.

    Args:
        modes: keys of :data:`~mindfl.sim.study.MODES`; None: all.
        settings: those of :class:`~mindfl.sim.JobConfig` named in :data:`SETTINGS`; None counts as not given. By
            default 50 writers, 20 iterations, 20 epochs, batch 32. Every writer takes part in every iteration.

    Each mode has a folder of its own in the work folder, with what a job writes. A mode whose result is there, made
    with the same settings from the same data and model, is not run again. Raises :class:`OptionError`, and what a job
    raises; the modes that ended by then are written up, also after Ctrl-C.
    """
    chosen = chosen_modes(modes)
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given.keys() - set(SETTINGS):
        raise OptionError(f"{name} is no setting of this study", hint=did_you_mean(name, SETTINGS))
    reporter = reporter or _PythonReporter()
    asked = JobConfig(**{**_DEFAULTS, **given})
    config, notes = settled(asked)
    for text in (*notes, *unused_settings(asked)):
        reporter.warning(text)
    with locked(config.work_dir), model_folders(config):
        for mode in chosen:
            check_packages(config.derived(encrypt_type=mode.settings.get("encrypt_type", PLAIN)))
        load_matplotlib()
        return _Runner(config, chosen, reporter).run()


class _Runner:
    def __init__(self, config: JobConfig, modes: Sequence[Mode], reporter: StudyReporter) -> None:
        self._config = config
        self._modes = modes
        self._report = reporter
        self._ended: list[ModeResult] = []

    def run(self) -> Study:
        config, artefacts = self._config, Artefacts(self._config)
        self._report.stage("preparing the model")
        model = artefacts.starting_model()
        check_model(model, config)
        self._report.stage("opening the data set")
        dataset = artefacts.dataset()
        users = [user.name for user in usable_users(dataset, config.client_num, self._report.warning)]
        facts = self._facts(model, dataset, users)
        if not config.overwrite:
            self._check_folder(facts)
        start = config.work_dir / "start.ms"
        jobs = {mode: self._job_settings(mode, start, dataset, len(users)) for mode in self._modes}
        write_atomic(start, model.content)
        for file in FILES:
            remove_file(config.work_dir / file)
        with self._written_up(dataset, len(users)):
            for number, (mode, settings) in enumerate(jobs.items(), 1):
                folder = config.work_dir / mode.key
                made_with = {**facts, **mode.settings}
                result = self._kept(folder, made_with)
                self._report.mode(mode, number, len(self._modes), kept=result is not None)
                if result is None:
                    quieter = _Quieter(self._report)
                    job = FederatedJob(reporter=quieter, **settings)
                    quieter.is_prepared = True
                    self._report.stage(f"{mode.name}: measuring what an iteration costs")
                    costs = measured_costs(job.config, model, dataset, users)
                    result = ModeResult.of(mode.key, mode.name, job.run(), costs)
                    result.keep(folder, made_with)
                self._ended.append(result)
        return self._study(dataset, len(users))

    def _kept(self, folder: Path, made_with: Mapping[str, Any]) -> ModeResult | None:
        """Return the mode's result if there is one that was made with the same; a broken one is none with overwrite."""
        if not (folder / RESULT_FILE).exists():
            return None
        try:
            return ModeResult.kept(folder, made_with)
        except StorageError:
            if not self._config.overwrite:
                raise
            return None

    def _check_folder(self, facts: Mapping[str, Any]) -> None:
        """Raise :class:`OptionError` where a mode's result would be replaced by one that is made otherwise."""
        for mode in self._modes:
            folder = self._config.work_dir / mode.key
            if (folder / RESULT_FILE).exists() and self._kept(folder, {**facts, **mode.settings}) is None:
                raise OptionError(
                    f"{folder} holds a result that was made with other settings, data or model",
                    hint="--overwrite replaces it, another --work_dir leaves it alone",
                )

    def _job_settings(self, mode: Mode, start: Path, dataset: Dataset, clients: int) -> dict[str, Any]:
        """Return those of the mode's job. Raises :class:`OptionError` where there can be no such job."""
        settings = {
            **{name: getattr(self._config, name) for name in SETTINGS},
            "work_dir": self._config.work_dir / mode.key,
            "train_model_path": None,
            "init": None,
            "converter": None,
            "train_dataset": dataset,
            "client_num": clients,
            "origin_train_model_path": start,
            "per_client_models": False,
            "overwrite": True,
            **mode.settings,
        }
        try:
            server_settings(JobConfig(**settings), clients)
        except OptionError as error:
            raise OptionError(f"mode {mode.name}: {error}", hint=error.hint or "leave it out with --modes") from None
        return settings

    @contextmanager
    def _written_up(self, dataset: Dataset, clients: int) -> Iterator[None]:
        """Write up what ended, however the block is left."""
        try:
            yield
        except BaseException:
            # The cause is what the user must see.
            with suppress(Exception):
                write_study(self._study(dataset, clients), self._config.work_dir)
            raise
        write_study(self._study(dataset, clients), self._config.work_dir)

    def _facts(self, model: LiteModel, dataset: Dataset, users: Sequence[str]) -> dict[str, Any]:
        """Return what a result depends on, beside the mode."""
        config = self._config
        return {
            "mindfl": __version__,
            "data": fingerprint(dataset, users).sha256,
            "model": hashlib.sha256(model.content).hexdigest(),
            "clients": len(users),
            "iterations": config.iterations,
            "epochs": config.epochs,
            "learning_rate": config.rate,
            "seed": config.seed,
            "workers": config.threads,
        }

    def _study(self, dataset: Dataset, clients: int) -> Study:
        config = self._config
        ended = {one.key for one in self._ended}
        return Study(
            setting=f"{config.network_name if config.model else 'own network'}, {counted(clients, 'client')}, "
            f"{counted(config.iterations, 'iteration')}, "
            f"{counted(config.epochs, 'epoch')}, batch {config.network.batch_size}, "
            f"learning rate {config.rate:g}, seed {config.seed}",
            data=data_words(dataset, clients),
            machine=f"{platform.machine()}, {os.cpu_count()} processors, {counted(config.threads, 'thread')}",
            results=tuple(self._ended),
            missing=tuple(mode.name for mode in self._modes if mode.key not in ended),
        )


class _Quieter:
    """Passes on a mode's progress, but not what was said once for all modes."""

    def __init__(self, reporter: Reporter) -> None:
        self._report = reporter
        self.is_prepared = False

    def stage(self, text: str) -> None:
        """Ignore: preparations are done."""

    def warning(self, text: str) -> None:
        if self.is_prepared:
            self._report.warning(text)

    def progress(self, progress: Progress) -> None:
        self._report.progress(progress)

    def row(self, row: IterationRow) -> None:
        self._report.row(row)
