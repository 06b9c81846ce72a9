"""The study of privacy and compression: the same job once per mode, one after the other; what ended is kept."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mindfl._version import __version__
from mindfl.data import fingerprint
from mindfl.errors import OptionError, StorageError
from mindfl.experiments.mode_costs import measured_costs
from mindfl.experiments.mode_report import FILES, write_study
from mindfl.experiments.mode_results import Mode, ModeResult, Study, chosen_modes
from mindfl.experiments.runner import (
    PartReporter,
    PythonStudyReporter,
    StudyReporter,
    data_words,
    remove_reports,
    setting_words,
    with_defaults,
    written_up,
)
from mindfl.files import write_atomic
from mindfl.lite import LiteModel
from mindfl.modes import PLAIN
from mindfl.sim.artefacts import Artefacts, check_model
from mindfl.sim.compatibility import check_packages
from mindfl.sim.config import JobConfig
from mindfl.sim.job import FederatedJob
from mindfl.sim.job_data import open_data, usable_users
from mindfl.sim.run_folder import locked, model_folders
from mindfl.sim.upload_mode import server_settings
from mindfl.spelling import counted, did_you_mean

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
_DEFAULTS = {"work_dir": "mindfl_privacy", "client_num": 50, "iterations": 20, "epochs": 20}


def run_study(modes: Sequence[str] | None = None, *, reporter: StudyReporter | None = None, **settings: Any) -> Study:
    """Train the same job once per mode, and write ``privacy.png``, ``privacy.csv`` and ``privacy.md``.

    Args:
        modes: keys of :data:`~mindfl.experiments.mode_results.MODES`; None: all.
        settings: those of :class:`~mindfl.sim.JobConfig` named in :data:`SETTINGS`; None counts as not given. By
            default 50 writers, 20 iterations, 20 epochs, batch 32. Every writer takes part in every iteration.

    Each mode has a folder of its own in the work folder, with what a job writes. A mode whose result is there, made
    with the same settings from the same data and model, is not run again. Raises :class:`OptionError`, and what a job
    raises; the modes that ended by then are written up, also after Ctrl-C.
    """
    chosen = chosen_modes(modes)
    given = with_defaults(_DEFAULTS, settings)
    for name in given.keys() - set(SETTINGS):
        raise OptionError(f"{name} is no setting of this study", hint=did_you_mean(name, SETTINGS))
    reporter = reporter or PythonStudyReporter()
    config = FederatedJob(reporter=reporter, **given).config
    with locked(config.work_dir), model_folders(config):
        for mode in chosen:
            check_packages(config.derived(encrypt_type=mode.settings.get("encrypt_type", PLAIN)))
        return _Runner(config, chosen, reporter).run()


class _Runner:
    """Trains the modes of a study from one model on one data set. The caller holds the folders."""

    def __init__(self, config: JobConfig, modes: Sequence[Mode], reporter: StudyReporter) -> None:
        self._config = config
        self._modes = modes
        self._report = reporter
        reporter.stage("preparing the model")
        model = Artefacts(config).starting_model()
        check_model(model, config)
        assert isinstance(model, LiteModel), "the modes are measured with the device runtime"
        self._model = model
        reporter.stage("opening the data set")
        self._dataset = open_data(config, reporter.warning)
        self._users = [user.name for user in usable_users(self._dataset, config.client_num, reporter.warning)]
        self._ended: list[ModeResult] = []

    def run(self) -> Study:
        """Train the modes whose results are not there yet, and write up all."""
        folder = self._config.work_dir
        if not self._config.overwrite:
            self._check_folder()
        start = folder / "start.ms"
        jobs = {mode: self._job_settings(mode, start) for mode in self._modes}
        write_atomic(start, self._model.content)
        remove_reports(folder, FILES)
        with written_up(lambda: write_study(self._study(), folder)):
            for number, (mode, settings) in enumerate(jobs.items(), 1):
                result = self._kept(mode)
                self._report.mode(mode, number, len(jobs), kept=result is not None)
                self._ended.append(result or self._trained(mode, settings))
        return self._study()

    def _trained(self, mode: Mode, settings: dict[str, Any]) -> ModeResult:
        reporter = PartReporter(self._report)
        job = FederatedJob(reporter=reporter, **settings)
        reporter.prepared = True
        self._report.stage(f"{mode.name}: measuring what an iteration costs")
        costs = measured_costs(job.config, self._model, self._dataset, self._users)
        result = ModeResult.of(mode.key, mode.name, job.run(), costs)
        result.keep(self._folder(mode), self._made_with(mode))
        return result

    def _kept(self, mode: Mode) -> ModeResult | None:
        """Return the mode's result if there is one that was made with the same; a broken one is none with overwrite."""
        if ModeResult.file(self._folder(mode)) is None:
            return None
        try:
            return ModeResult.kept(self._folder(mode), self._made_with(mode))
        except StorageError:
            if not self._config.overwrite:
                raise
            return None

    def _check_folder(self) -> None:
        """Raise :class:`OptionError` where a mode's result would be replaced by one that is made otherwise."""
        for mode in self._modes:
            folder = self._folder(mode)
            if ModeResult.file(folder) is not None and self._kept(mode) is None:
                raise OptionError(
                    f"{folder} holds a result that was made with other settings, data or model",
                    hint="--overwrite replaces it, another --work_dir leaves it alone",
                )

    def _job_settings(self, mode: Mode, start: Path) -> dict[str, Any]:
        """Return those of the mode's job. Raises :class:`OptionError` where there can be no such job."""
        settings = {
            **{name: getattr(self._config, name) for name in SETTINGS},
            "work_dir": self._folder(mode),
            "train_model_path": None,
            "init": None,
            "converter": None,
            "train_dataset": self._dataset,
            "client_num": len(self._users),
            "origin_train_model_path": start,
            "per_client_models": False,
            "overwrite": True,
            **mode.settings,
        }
        try:
            server_settings(JobConfig(**settings), len(self._users))
        except OptionError as error:
            raise OptionError(f"mode {mode.name}: {error}", hint=error.hint or "leave it out with --modes") from None
        return settings

    def _folder(self, mode: Mode) -> Path:
        return self._config.work_dir / mode.key

    def _made_with(self, mode: Mode) -> dict[str, Any]:
        return {**self._facts, **mode.settings}

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What a result depends on, beside the mode."""
        config = self._config
        return {
            "mindfl": __version__,
            "data": fingerprint(self._dataset, self._users).sha256,
            "model": hashlib.sha256(self._model.content).hexdigest(),
            "clients": len(self._users),
            "iterations": config.iterations,
            "epochs": config.epochs,
            "learning_rate": config.rate,
            "seed": config.seed,
            "workers": config.threads,
        }

    def _study(self) -> Study:
        config, clients = self._config, len(self._users)
        ended = {one.key for one in self._ended}
        return Study(
            setting=f"{config.network_name if config.model else 'own network'}, "
            f"{setting_words(config, clients, config.iterations)}, learning rate {config.rate:g}, seed {config.seed}",
            data=data_words(self._dataset, clients),
            machine=f"{platform.machine()}, {os.cpu_count()} processors, {counted(config.threads, 'thread')}",
            results=tuple(self._ended),
            missing=tuple(mode.name for mode in self._modes if mode.key not in ended),
        )
