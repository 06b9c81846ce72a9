"""A result read from a run's work folder; its model and confusion matrices are read when they are first used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import DataError, ModelFormatError, OptionError
from mindfl.files import PathLike, local_path, read_file
from mindfl.models import Model, NetworkSizes
from mindfl.options.job_options import reads_texts
from mindfl.sim import card, run_record
from mindfl.sim.confusion import Confusion
from mindfl.sim.history import History
from mindfl.sim.network_model import JobModel, load_model
from mindfl.sim.result import Result, weight_hash
from mindfl.sim.result_files import CONFUSION, CONFUSION_BEST, TrainingNote
from mindfl.sim.run_record import RunRecord
from mindfl.spelling import counted
from mindfl.work_files import HISTORY, SWEEP


@dataclass(frozen=True)
class StoredResult(Result):
    """See :meth:`mindfl.Result.load`. ``folder`` is the run's, ``record`` its ``config.json``, ``known`` its card."""

    folder: Path = field(default=Path(), repr=False)
    record: RunRecord | None = field(default=None, repr=False)
    known: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def hash(self) -> str:
        """Hash of the final weights, as the run wrote it down; of one that has not ended, of its latest model."""
        return str(self.known["weights_sha256"]) if self.known else weight_hash(self.weights)

    @cached_property
    def _model_file(self) -> Path:
        assert self.record is not None
        name = f"{self.record.model_name}_trained{Path(self.record.model['path']).suffix}"
        return _models(self.folder, self.settings) / name

    # A frozen dataclass writes its fields past __setattr__: where one is missing there, these are asked, once.

    @cached_property  # type: ignore[misc]
    def model(self) -> JobModel:
        """The model file that the run left, with the trained weights."""
        return load_model(self._model_file, NetworkSizes())

    @cached_property  # type: ignore[misc]
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The final weights that clients exchanged, of the model file.

        Raises :class:`ModelFormatError` where they are not those that the run ended with.
        """
        assert self.record is not None
        there = self.model.weights
        note = TrainingNote(self._model_file.parent, self.record.model_name)
        names = [name for name in note.exchanged or there if name in there]
        weights = {name: np.array(there[name], np.float32).reshape(-1) for name in names}
        if self.known and weight_hash(weights) != self.known["weights_sha256"]:
            raise ModelFormatError(
                f"{self._model_file} does not hold the weights that the run in {self.folder} ended with",
                hint="a later run into the same model folder moves the earlier models into a folder *_earlier_*",
            )
        return weights

    @cached_property  # type: ignore[misc]
    def confusion(self) -> Confusion | None:
        """The confusion matrix of the last evaluation."""
        return self._confusion(CONFUSION, "last")

    @cached_property  # type: ignore[misc]
    def best_confusion(self) -> Confusion | None:
        """That of the best evaluation."""
        return self._confusion(CONFUSION_BEST, "best") or self.confusion

    def _confusion(self, name: str, kind: str) -> Confusion | None:
        path, evaluation = self.folder / name, self.known.get(kind)
        return Confusion.load(path, evaluation.get("iteration", 0)) if evaluation and path.exists() else None


#: settings without which a record cannot be used
_NEEDED = {"iterations", "train_ms_name", "work_dir"}
#: names in a card -> the types that their values have, as far as a result is made of them
_TYPES: dict[str, tuple[type, ...]] = {
    "title": (str,),
    "iterations": (int,),
    "iterations_asked": (int,),
    "stopped": (str, NoneType),
    "untested": (int,),
    "last": (dict, NoneType),
    "best": (dict, NoneType),
    "privacy": (str, NoneType),
    "weights_sha256": (str,),
}
_LAZY = ("weights", "model", "confusion", "best_confusion")


def load_result(folder: PathLike) -> StoredResult:
    """Read the run in ``folder``, as :meth:`mindfl.Result.load` says."""
    place = local_path(folder)
    if not (place / run_record.NAME).exists():
        raise OptionError(f"{place} holds no run: it has no {run_record.NAME}", hint=_hint(place))
    known = _card(place / card.NAME)
    record = RunRecord.load(place / run_record.NAME)
    rows = place / HISTORY
    history = History.load(rows) if rows.exists() else History()
    if missing := sorted(_NEEDED - record.settings.keys()):
        raise DataError(f"{place / run_record.NAME} does not have the settings of a run: {', '.join(missing)}")
    if known and len(history) != known["iterations"]:
        raise DataError(
            f"{rows} has {counted(len(history), 'iteration')}, and the run ended with {known['iterations']}",
            hint="copy the file again from where the run was made, or run the job again",
        )
    result = StoredResult(
        title=known.get("title") or place.name,
        iterations=known.get("iterations_asked") or record.settings["iterations"],
        history=history,
        weights={},
        privacy=known.get("privacy") or "",
        untested=known.get("untested", 0),
        network=_network(record.settings),
        stopped=known.get("stopped") or "",
        about={name: known[name] for name in card.ABOUT if name in known} or _about(record),
        settings=record.settings,
        ended=bool(known),
        folder=place,
        record=record,
        known=known,
    )
    for name in _LAZY:
        del vars(result)[name]
    return result


def _hint(place: Path) -> str:
    if not place.is_dir():
        return "give the work folder of a run (--work_dir of mindfl simulate)"
    if (place / SWEEP).exists():
        return f"it is the folder of a sweep: its runs are {place / 'runs'}/NAME"
    old = "; mindfl 0.1.0 left none" if (place / HISTORY).exists() else ""
    return f"give the --work_dir of a run{old}"


def _card(path: Path) -> dict[str, Any]:
    """Return the card in ``path``, empty if there is none."""
    if not path.exists():
        return {}
    try:
        found = json.loads(read_file(path))
        form = found["form"]
        if form == card.FORM:
            if not all(isinstance(found[name], types) for name, types in _TYPES.items()):
                raise TypeError("a value of another type")
            return dict(found)
    except (ValueError, TypeError, KeyError):
        raise DataError(f"{path} is not the {card.NAME} of a mindfl run") from None
    raise DataError(f"{path} has form {form!r}, this mindfl reads {card.FORM}", hint="use the mindfl that wrote it")


def _network(settings: Mapping[str, Any]) -> Model:
    return settings.get("model") or ("albert" if reads_texts(settings.get("fl_name", "")) else "lenet")


def _models(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Return the folder of the models of the run in ``folder``, which may have been moved with its models since."""
    there = settings.get("train_model_path")
    if there is None:
        return folder / "ms"
    try:
        return folder / Path(there).relative_to(settings["work_dir"])
    except ValueError:
        return Path(there)


def _about(record: RunRecord) -> dict[str, Any]:
    """Return what is known of a run that has not ended."""
    return {
        "mindfl": record.versions.get("mindfl"),
        "network": record.settings.get("model"),
        "starting_model_sha256": record.model["sha256"],
        "clients": record.data.get("users"),
        "settings": {name: record.settings[name] for name in card.SETTINGS if name in record.settings},
        "data": dict(record.data),
    }
