"""The study of privacy and compression: a sweep over modes, one run at a time, and what an iteration of each costs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindfl._version import __version__
from mindfl.data import fingerprint
from mindfl.errors import OptionError
from mindfl.experiments.mode_costs import Costs, measured_costs
from mindfl.experiments.mode_report import FILES, write_study
from mindfl.experiments.mode_results import EXPERIMENT, NAMES, ModeResult, Study, chosen_modes
from mindfl.experiments.runner import data_words, remove_reports, setting_words, with_defaults, written_up
from mindfl.files import make_dir, read_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.modes import PLAIN
from mindfl.notices import WARNING, announce, once
from mindfl.sim.artefacts import Artefacts, check_model
from mindfl.sim.compatibility import check_packages
from mindfl.sim.config import JobConfig, default_workers
from mindfl.sim.job_data import open_data, usable_users
from mindfl.sim.model_options import settled
from mindfl.sim.result import Result
from mindfl.sim.run_folder import locked, model_folders
from mindfl.sim.tables import json_text
from mindfl.sim.upload_mode import server_settings
from mindfl.spelling import counted, did_you_mean
from mindfl.sweeps.followed_runs import SweptRow
from mindfl.sweeps.sweep import Say, planned_runs, run_sweep
from mindfl.sweeps.sweep_folder import read_runs

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


def run_study(
    modes: Sequence[str] | None = None,
    *,
    say: Say = announce,
    row: Callable[[SweptRow], None] | None = None,
    **settings: Any,
) -> Study:
    """Run the experiment file ``privacy50.toml`` as a sweep, and write ``privacy.png``, ``.csv`` and ``.md``.

    Args:
        modes: keys of :data:`~mindfl.experiments.mode_results.NAMES`; None: all.
        say, row: as for :func:`mindfl.run_sweep`.
        settings: those of :class:`~mindfl.sim.JobConfig` named in :data:`SETTINGS`; None counts as not given. By
            default 50 writers, 20 iterations, 20 epochs, batch 32. Every writer takes part in every iteration.

    The runs take turns, as their times are compared, and begin with one model. What ended is not run again, and a mode
    that was made with other settings, data or another model is refused, as in any sweep. Raises :class:`OptionError`,
    and what :func:`mindfl.run_sweep` raises; the modes that ended by then are written up, also after Ctrl-C.
    """
    chosen = chosen_modes(modes)
    shared = {name: value for name, value in EXPERIMENT.items() if name != "sweep"}
    given = with_defaults({"work_dir": "mindfl_privacy", **shared}, settings)
    for name in given.keys() - set(SETTINGS) - shared.keys():
        raise OptionError(f"{name} is no setting of this study", hint=did_you_mean(name, SETTINGS))
    config, notes = settled(JobConfig(**given))
    say = once(say)
    for text in notes:
        say(f"{WARNING}{text}")
    folder, threads = config.work_dir, config.workers or default_workers()
    with locked(folder), model_folders(config):
        for mode in chosen.values():
            check_packages(config.derived(encrypt_type=mode.get("encrypt_type", PLAIN)))
        job = _MeasuredJob(config, say)
        experiment = {**job.experiment(), "sweep": {"mode": chosen}}
        for key, mode in chosen.items():
            job.check(key, mode)
        planned_runs(experiment, folder, overwrite=config.overwrite)  # refused before anything is replaced
        job.write_model()
        remove_reports(folder, FILES)
        costs = {key: job.costs(key, mode, folder / "costs") for key, mode in chosen.items()}

    def study() -> Study:
        swept = {run.varies["mode"]: run for run in read_runs(folder) if not run.dropped}
        done = [key for key in chosen if swept[key].status == "done"]
        return Study(
            setting=job.setting,
            data=data_words(job.dataset, len(job.users)),
            machine=f"{platform.machine()}, {os.cpu_count()} processors, {counted(threads, 'thread')}",
            results=tuple(ModeResult.of(key, Result.load(folder / swept[key].folder), costs[key]) for key in done),
            missing=tuple(NAMES[key] for key in chosen if key not in done),
        )

    with written_up(lambda: write_study(study(), folder)):
        run_sweep(experiment, work_dir=folder, jobs=1, workers=threads, overwrite=config.overwrite, say=say, row=row)
    return study()


class _MeasuredJob:
    """The job that all modes have: one model on one data set. The caller holds the folders of ``config``."""

    def __init__(self, config: JobConfig, say: Say) -> None:
        self._config = config
        self._say = say
        own = config.derived(work_dir=config.work_dir / "common")  # where a sweep has what its runs share
        say("preparing the model")
        model = Artefacts(own).starting_model()
        check_model(model, own)
        assert isinstance(model, LiteModel), "the modes are measured with the device runtime"
        self._model = model
        say("opening the data set")
        self.dataset = open_data(own, self._warn)
        self.users = [user.name for user in usable_users(self.dataset, config.client_num, self._warn)]
        self._data = fingerprint(self.dataset, self.users).sha256
        self._start = own.work_dir / f"start-{hashlib.sha256(model.content).hexdigest()[:12]}.ms"

    @property
    def setting(self) -> str:
        """The setting in words."""
        config = self._config
        return (
            f"{config.network_name if config.model else 'own network'}, "
            f"{setting_words(config, len(self.users), config.iterations)}, learning rate {config.rate:g}, "
            f"seed {config.seed}"
        )

    def experiment(self) -> dict[str, Any]:
        """Return the options of the job."""
        names = ("iterations", "epochs", "batch_size", "seed", "train_dataset", "model", "momentum", "optimizer")
        given = {name: getattr(self._config, name) for name in names}
        return {
            **EXPERIMENT,
            **{name: value for name, value in given.items() if value is not None},
            "client_num": len(self.users),
            "learning_rate": self._config.rate,
            "origin_train_model_path": str(self._start.absolute()),
        }

    def write_model(self) -> None:
        """Write the model that all runs begin with; another model has another name."""
        write_atomic(make_dir(self._start.parent) / self._start.name, self._model.content)

    def check(self, key: str, mode: Mapping[str, Any]) -> None:
        """Raise :class:`OptionError` where there can be no such job in a mode."""
        try:
            server_settings(self._in_mode(mode), len(self.users))
        except OptionError as error:
            hint = error.hint or "leave it out with --modes"
            raise OptionError(f"mode {NAMES.get(key, key)}: {error}", hint=hint) from None

    def costs(self, key: str, mode: Mapping[str, Any], folder: Path) -> Costs:
        """Return what an iteration costs, which ``folder`` keeps for the same job on the same machine."""
        config, path = self._config, folder / f"{key}.json"
        made_with = {
            **{"mindfl": __version__, "machine": platform.node(), "data": self._data, "model": self._start.stem},
            **{"learning_rate": config.rate, "seed": config.seed, **mode},
        }
        if path.exists() and not config.overwrite:
            with suppress(ValueError, TypeError, KeyError):  # measured again
                note = json.loads(read_file(path))
                if note["made_with"] == made_with:
                    return Costs(**note["costs"])
        self._say(f"{NAMES[key]}: measuring what an iteration costs")
        found = measured_costs(self._in_mode(mode), self._model, self.dataset, self.users)
        write_atomic(path, json_text({"made_with": made_with, "costs": asdict(found)}))
        return found

    def _in_mode(self, mode: Mapping[str, Any]) -> JobConfig:
        settings = {name: value for name, value in self.experiment().items() if name != "sweep"}
        return JobConfig(**{**settings, **mode})

    def _warn(self, text: str) -> None:
        self._say(f"{WARNING}{text}")
