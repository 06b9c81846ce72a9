"""What runs of a sweep share: starting models and data, made once and kept in the sweep's folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from mindfl.files import make_dir, read_file, write_atomic
from mindfl.locks import awaited
from mindfl.options import options_of
from mindfl.options.job_options import JobOptions, reads_texts
from mindfl.sim.artefacts import Artefacts
from mindfl.sim.config import JobConfig
from mindfl.sim.job_data import training_data
from mindfl.sim.model_options import settled

#: options beside those of the group "Model" on which the model that a run begins with depends
_OF_MODEL = (
    *("batch_size", "learning_rate", "seed", "train_dataset", "fl_name", "vocal_file", "ids_file"),
    *("engine", "device_target"),
)
#: the same of data that are drawn or converted
_OF_DATA = ("client_num", "seed", "data_format", "train_dataset", "fl_name", "vocal_file", "ids_file", "clients")


class Shared:
    """What the runs with these ``settings`` share with others: equal ``key``, equal files, in the folder ``common``."""

    def __init__(self, settings: Mapping[str, Any], common: Path) -> None:
        self._settings = settings
        self._common = common

    @cached_property
    def _models(self) -> Path:
        model = {name for name, option in options_of(JobOptions).items() if option.group == "Model"}
        return self._common / "models" / self._digest(model.union(_OF_MODEL))

    @property
    def key(self) -> tuple[str, str]:
        """Equal for runs that share all files."""
        return self._models.name, self._digest(_OF_DATA)

    def _digest(self, names: set[str] | tuple[str, ...]) -> str:
        given = {name: self._settings[name] for name in sorted(names) if self._settings.get(name) is not None}
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:12]

    @cached_property
    def _config(self) -> JobConfig:
        folders = {"work_dir": self._common, "train_model_path": self._models, "resume": False, "overwrite": False}
        return settled(JobConfig(**{**self._settings, **folders}))[0]

    @property
    def _makes_data(self) -> bool:
        return self._config.train_dataset is None or reads_texts(self._config.fl_name)

    @property
    def is_given(self) -> bool:
        """Whether there is nothing to make: data and model are the user's."""
        return not self._makes_data and self._config.origin_train_model_path is not None

    @property
    def runs_files(self) -> bool:
        """Whether the runs train with the device runtime."""
        return self._config.client_side.simulated and self._config.client_side.engine.executes_files

    @property
    def resumable(self) -> bool:
        """Whether an interrupted run goes on, and need not begin anew."""
        return self._config.resumable

    def make(self, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Draw or convert the data, and export and convert the model, unless they are there.

        ``say`` and ``warn`` are told what is made.
        """
        if self._makes_data:
            with awaited(make_dir(self._common) / ".drawing"):  # other models are made for the same data
                training_data(self._config, warn)
        if self._config.origin_train_model_path is None:
            make_dir(self._models)
            Artefacts(self._config, say, warn).starting_model()

    def give(self, work_dir: Path) -> None:
        """Let the run in ``work_dir`` find the files: its model is copied, its folder ``data`` is a link."""
        if self._makes_data:
            place = work_dir / "data"
            with suppress(OSError):  # a file system without links: the run makes data of its own
                if not place.exists():
                    place.symlink_to(os.path.relpath(make_dir(self._common / "data"), work_dir))
        if self._config.origin_train_model_path is not None:
            return
        # A file without its note would be taken for the user's own.
        for path in sorted(self._models.iterdir(), key=lambda path: path.suffix != ".json"):
            target = work_dir / "ms" / path.name
            if not path.name.startswith(".") and not target.exists():
                write_atomic(target, read_file(path))
