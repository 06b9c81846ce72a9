"""``config.json``: how the run in a work folder was made, and how it ended."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from mindfl._version import __version__
from mindfl.algorithms import learning_rates, naming, sampler
from mindfl.algorithms.algorithm import Algorithm
from mindfl.data import Dataset
from mindfl.errors import OptionError
from mindfl.extensions import code_digest, code_files, object_reference, recorded
from mindfl.files import PathLike, read_file, write_atomic
from mindfl.imports import package_version
from mindfl.lite.own import recorded_operators
from mindfl.modes import UploadMode, recorded_mode
from mindfl.server.server_config import MODE_SETTINGS
from mindfl.sim import callbacks
from mindfl.sim.config import LEARNING_RATES, JobConfig
from mindfl.sim.result import Result
from mindfl.sim.tables import json_text
from mindfl.work_files import RECORD

NAME = RECORD
#: version of the file's form; a reader refuses a newer one
FORM = 1
#: settings that the weights follow from, beside the data, the starting model and the number of iterations
DECIDING = (
    *(
        "model",
        "loss",
        "init",
        "optimizer",
        "momentum",
        "weight_decay",
        "learning_rate",
        "lr_schedule",
        "algorithm",
        "client_num",
        "clients_per_iteration",
        "sampler",
        "epochs",
        "shuffle",
    ),
    *("batch_size", "seed", "engine", "operator", "train_weight_name", "name_regex", "stack", "clients", "server_mode"),
    *MODE_SETTINGS,
)
#: settings that name files whose content decides, which is compared instead of the path
FILES = (
    "train_dataset",
    "test_dataset",
    "init_from",
    "origin_train_model_path",
    "init_from",
    "train_model_path",
    "train_ms_name",
)
#: settings of one call, which a repetition does not take over
OF_ONE_CALL = ("work_dir", "resume", "overwrite", "train_model_path", "infer_model_path")
#: settings that may be an object which no text names
_OBJECTS = ("model", "train_dataset", "test_dataset", "infer_dataset")
#: settings that may name Python files of the user's which the result follows from; of data the content is compared
_WITH_CODE = ("model", "algorithm", "sampler", "lr_schedule", "encrypt_type", "operator", "callbacks")
_PACKAGES = ("mindspore", "numpy", "numba", "llvmlite", "scipy")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What ``config.json`` holds.

    Args:
        settings: every setting of :class:`~mindfl.sim.config.JobConfig` by name; paths are absolute texts.
        command: the command line, or the Python program's.
        versions: of mindfl, Python and the packages that compute, by name.
        data: the values of the data's :class:`~mindfl.data.Fingerprint`.
        model: ``path`` and ``sha256`` of the file that training began with, whether it is the user's ``own``, and the
            ``name`` that the model files have in common.
        files: SHA-256 of the user's files that the settings name, by path: Python files, and ``init_from``.
        began, ended: times in UTC, ISO 8601; ``ended`` is None while the run continues, and after it was killed.
        iterations: finished ones, None until the end.
        weights_sha256: of the final weights (:func:`mindfl.sim.weight_hash`), None until the end.
    """

    settings: Mapping[str, Any]
    command: Sequence[str]
    versions: Mapping[str, str]
    data: Mapping[str, int | str]
    model: Mapping[str, Any]
    began: str
    ended: str | None = None
    iterations: int | None = None
    weights_sha256: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, config: JobConfig, data: Mapping[str, int | str], model: Mapping[str, Any]) -> RunRecord:
        """Return the record of a run that begins now."""
        settings = recorded_settings(config)
        return cls(
            settings=settings,
            command=list(sys.orig_argv if sys.argv[:1] in ([""], ["-c"]) else sys.argv),
            versions=installed_versions(),
            data=data,
            model={**model, "name": config.model_name},
            began=_now(),
            files={path: code_digest(path) for path in _named_files(settings)},
        )

    @classmethod
    def load(cls, path: PathLike) -> RunRecord:
        """Read a ``config.json``. Raises :class:`OptionError` for other content, :class:`StorageError`."""
        content = read_file(path)
        try:
            found = json.loads(content)
            form = found.pop("form")
            if form == FORM:
                record = cls(**found)
                record._check_types()
                return record
        except (ValueError, TypeError, KeyError, AttributeError):
            raise OptionError(f"{path} is not the config.json of a mindfl run") from None
        raise OptionError(f"{path} has form {form!r}, this mindfl reads {FORM}", hint="use the mindfl that wrote it")

    def write(self, folder: Path) -> None:
        """Write ``config.json`` into ``folder``."""
        write_atomic(folder / NAME, json_text({"form": FORM, **asdict(self)}))

    def finished(self, iterations: int, weights_sha256: str) -> RunRecord:
        """Return the record of the run that ended now after ``iterations``."""
        return replace(self, ended=_now(), iterations=iterations, weights_sha256=weights_sha256)

    @property
    def model_name(self) -> str:
        """Common part of the model files' names."""
        return str(self.model.get("name") or self.settings["train_ms_name"])

    def repeatable(self) -> dict[str, Any]:
        """Return the settings that make the same run elsewhere: those that are not as by default today.

        Folders that the run wrote to are not among them; a model of the user's own is named by its file.

        Raises :class:`OptionError` for a setting that this version does not have.
        """
        defaults = default_settings()
        if unknown := self.settings.keys() - defaults.keys():
            raise OptionError(
                f"config.json has a setting {min(unknown)!r}, which this mindfl does not know",
                hint=f"it was written by mindfl {self.versions.get('mindfl', '?')}",
            )
        own = {"origin_train_model_path": self.model["path"]} if self.model["own"] else {}
        taken = {name: value for name, value in self.settings.items() if name not in OF_ONE_CALL}
        return {name: value for name, value in {**taken, **own}.items() if value != defaults[name]}

    def own_settings(self) -> dict[str, Any]:
        """Return the settings that resume the run in its own folder: those of :meth:`repeatable`, and its folders."""
        folders = {name: self.settings.get(name) for name in ("train_model_path", "infer_model_path")}
        given = {name: value for name, value in folders.items() if value is not None}
        repeated = self.repeatable()
        if self.settings.get("origin_train_model_path") is None:
            repeated.pop("origin_train_model_path", None)
        return {**repeated, **given}

    def differences(self, other: RunRecord) -> dict[str, tuple[Any, Any]]:
        """Return those of the settings :data:`DECIDING` that are not as in ``other``: the values here and there.

        Settings that an earlier version of mindfl did not know have their defaults. Where the default is None they
        follow from the starting model, and are not compared.
        """
        known = {name: value for name, value in default_settings().items() if value is not None}
        there = {**known, **other.settings}
        pairs = {name: (self.settings[name], there[name]) for name in DECIDING if name in there}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def changed_versions(self) -> dict[str, tuple[str, str | None]]:
        """Return the packages that have another version now, by name: the recorded one, and that of now."""
        now = installed_versions()
        pairs = {name: (version, now.get(name)) for name, version in self.versions.items()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def changed_files(self) -> list[str]:
        """Return which of the user's files have another content now; those that are gone are not among them."""
        return [path for path, digest in self.files.items() if code_digest(path) not in (digest, "")]

    def _check_types(self) -> None:
        parts = (self.settings, self.data, self.versions, self.model, self.files)
        if not all(isinstance(part, dict) for part in parts) or not {"path", "sha256", "own"} <= self.model.keys():
            raise TypeError("not the fields of a record")


def _named_files(settings: Mapping[str, Any]) -> list[str]:
    paths = [path for name in _WITH_CODE for path in code_files(settings[name])]
    return [str(Path(path).absolute()) for path in (*paths, settings["init_from"]) if path]


def default_settings() -> dict[str, Any]:
    """Return the default of each setting, as ``config.json`` would have it."""
    return {item.name: setting_text(item.name, item.default) for item in fields(JobConfig)}


def recorded_settings(config: JobConfig) -> dict[str, Any]:
    """Return every setting of ``config`` by name, as ``config.json`` has it."""
    return {item.name: setting_text(item.name, getattr(config, item.name)) for item in fields(config)}


def recorded_rate(settings: Mapping[str, Any]) -> float | None:
    """Return the learning rate of a run with these ``settings``: where none was given, its optimizer's default.

    None if that is not known, as of a model file with an optimizer of its own.
    """
    given: float | None = settings.get("learning_rate")
    return LEARNING_RATES.get(settings.get("optimizer") or "momentum") if given is None else given


def setting_text(name: str, value: Any) -> Any:
    """Return what stands for a setting in ``config.json``.

    A class or function is named, so that it is found again; an object that only this program has is described in angle
    brackets.
    """
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Algorithm):
        return naming.recorded(value)
    if isinstance(value, UploadMode):
        return recorded_mode(value)
    if name == "lr_schedule":
        return learning_rates.recorded(value)
    if name == "sampler" and value is not None:
        return recorded(value, sampler.REGISTERED, sampler.GROUP, name)
    if name == "operator":
        return recorded_operators(value)
    if name == "callbacks":
        return [recorded(each, {}, callbacks.GROUP, "callback") for each in value]
    if isinstance(value, Dataset):
        return f"<data set {value.name!r}>"
    if isinstance(value, str | int | float | bool | None):
        return value
    named = object_reference(value)
    return f"<{getattr(value, '__qualname__', type(value).__qualname__)}>" if named is None else named


def check_recorded(settings: Mapping[str, Any], path: Path) -> None:
    """Raise :class:`OptionError` for a setting of the run in ``path`` that was an object, and must be given again."""
    for name, value in settings.items():
        if name in _OBJECTS and isinstance(value, str) and value.startswith("<"):
            raise OptionError(
                f"{name} of the run in {path} was an object of its program: {value}",
                hint=f"give {name} again, in Python; or name it as file.py:attribute from the beginning",
            )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@cache
def installed_versions() -> Mapping[str, str]:
    """Return the versions of mindfl, Python and the packages that compute, by name."""
    installed = {name: package_version(name) for name in _PACKAGES}
    known = {name: text for name, text in installed.items() if text is not None}
    return {"mindfl": __version__, "python": platform.python_version(), **known}


_DATA = ("train_dataset", "test_dataset")
_MODEL = tuple(name for name in FILES if name not in _DATA)


@dataclass(frozen=True)
class Repetition:
    """Repeats the run recorded in ``path`` with other values for the settings ``given``."""

    path: Path
    earlier: RunRecord
    given: Set[str]

    def check(self, now: RunRecord, warn: Callable[[str], None]) -> None:
        """Raise :class:`OptionError` where data or model are not the earlier ones though no others were given."""
        if now.data != self.earlier.data and not self._changed(*_DATA, "client_num", "seed"):
            raise OptionError(
                f"the data are not those of {self.path}",
                hint="restore them, or name others with --train_dataset",
            )
        same_model = now.model["sha256"] == self.earlier.model["sha256"]
        if not same_model and not self._changed(*_MODEL, *DECIDING):
            if self.earlier.model["own"]:
                raise OptionError(
                    f"the model to start from is not that of {self.path}",
                    hint="restore it, or name another with --origin_train_model_path",
                )
            warn(f"the exported model is not that of {self.path}: {self._reasons()}")

    def compare(self, result: Result) -> str | None:
        """Return a warning where the weights are not those of the earlier run though the settings are."""
        asked = (*DECIDING, *FILES, "iterations")
        if self._changed(*asked) or self.earlier.iterations != len(result.history):
            return None
        if result.hash == self.earlier.weights_sha256:
            return None
        return f"the weights are not those of {self.path} ({self.earlier.weights_sha256}): {self._reasons()}"

    def _changed(self, *names: str) -> bool:
        return not self.given.isdisjoint(names)

    def _reasons(self) -> str:
        changed = self.earlier.changed_versions()
        other = [f"{name} {there} there, {here} here" for name, (there, here) in changed.items()]
        other += [f"{path} has changed" for path in self.earlier.changed_files()]
        return "; ".join(other) or "the versions are the same, so something else differs"
