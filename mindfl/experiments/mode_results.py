"""The modes of a study as settings of a job, and their results in memory and on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from mindfl.errors import OptionError, StorageError
from mindfl.experiments.mode_costs import Costs
from mindfl.files import read_file, write_atomic
from mindfl.sim.evaluation import Accuracy
from mindfl.sim.result import Result


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """A row of the study: ``key`` in options and folders, ``name`` in table and figure, ``settings`` of the job."""

    key: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_QUANT = {"download_compress_type": "QUANT"}
_SPARSE = {"upload_compress_type": "DIFF_SPARSE_QUANT"}

#: in the order of table and figure. Epsilons are those of one upload; why these: docs/privacy.md
MODES = (
    Mode("plain", "plain"),
    Mode("quant", "QUANT", _QUANT),
    Mode("sparse", "DIFF_SPARSE_QUANT", _SPARSE),
    Mode("both", "QUANT + DIFF_SPARSE_QUANT", {**_QUANT, **_SPARSE}),
    Mode("signds", "SIGNDS, epsilon 100", {"encrypt_type": "SIGNDS", "sign_eps": 100.0, "sign_global_lr": 2.0}),
    Mode("dp50", "DP_ENCRYPT, epsilon 50", {"encrypt_type": "DP_ENCRYPT", "dp_eps": 50.0, "dp_norm_clip": 8.0}),
    Mode("dp10", "DP_ENCRYPT, epsilon 10", {"encrypt_type": "DP_ENCRYPT", "dp_eps": 10.0, "dp_norm_clip": 1.0}),
    Mode("pw", "PW_ENCRYPT", {"encrypt_type": "PW_ENCRYPT"}),
    Mode("stable", "STABLE_PW_ENCRYPT", {"encrypt_type": "STABLE_PW_ENCRYPT"}),
    Mode("exact", "PW_EXACT", {"encrypt_type": "PW_EXACT"}),
)


def chosen_modes(keys: Sequence[str] | None = None) -> tuple[Mode, ...]:
    """Return the modes with these ``keys``, in the table's order; None: all.

    Raises :class:`OptionError` for a key that is none, or no key at all.
    """
    known = {mode.key: mode for mode in MODES}
    if keys is None:
        return tuple(known.values())
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        what = f"unknown mode {unknown[0]!r}" if unknown else "no mode is given"
        raise OptionError(what, hint=f"choose from {', '.join(known)}")
    return tuple(mode for key, mode in known.items() if key in keys)


#: accuracies are means of so many last iterations
WINDOW = 5
RESULT_FILE = "mode.json"
#: its name before a job wrote its card under it
_FORMER_FILE = "result.json"
_NUMBERS = ("avg", "top5", "low5", "loss", "epsilon", "seconds")


@dataclass(frozen=True, kw_only=True)
class ModeResult:
    """One mode's training. Accuracies 0..1 are means over the last :data:`WINDOW` iterations.

    ``avg_at`` is AVG after each iteration, ``epsilon`` what the whole run cost in privacy (NaN where nothing is counted
    or protected by noise), ``seconds`` the median wall time of an iteration with all of the job's threads,
    ``weights_sha256`` as in :func:`~mindfl.sim.weight_hash`.
    """

    key: str
    name: str
    avg: float
    top5: float
    low5: float
    loss: float
    epsilon: float
    seconds: float
    costs: Costs
    weights_sha256: str
    avg_at: tuple[float, ...]

    @classmethod
    def of(cls, key: str, name: str, result: Result, costs: Costs) -> ModeResult:
        """Return the result of a finished training."""
        history = result.history
        accuracies = {field: fmean(history.column(field)[-WINDOW:]) for field in Accuracy._fields}
        return cls(
            key=key,
            name=name,
            **accuracies,
            loss=history[-1].loss,
            epsilon=history[-1].epsilon,
            seconds=median(history.column("seconds")),
            costs=costs,
            weights_sha256=result.hash,
            avg_at=tuple(history.column("avg")),
        )

    def keep(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        """Write the result and the settings that it was ``made_with`` into ``folder``. Raises :class:`StorageError`."""
        note = {"made_with": made_with, "result": _without_nan(asdict(self))}
        text = json.dumps(note, indent=2, ensure_ascii=False)
        write_atomic(folder / RESULT_FILE, text + "\n")

    @staticmethod
    def file(folder: Path) -> Path | None:
        """Return the file that holds a mode's result; None if there is none."""
        if (folder / RESULT_FILE).exists():
            return folder / RESULT_FILE
        former = folder / _FORMER_FILE
        # A job's card has this name too.
        return former if former.exists() and b'"made_with"' in read_file(former) else None

    @classmethod
    def kept(cls, folder: Path, made_with: Mapping[str, Any]) -> ModeResult | None:
        """Return the result that :meth:`keep` wrote; None if it was made with other settings.

        Raises :class:`StorageError` if it cannot be read or is broken.
        """
        path = cls.file(folder) or folder / RESULT_FILE
        try:
            note = json.loads(read_file(path))
            fields = _with_nan(note["result"])
            avg_at = tuple(map(float, fields["avg_at"]))
            result = cls(**{**fields, "costs": Costs(**fields["costs"]), "avg_at": avg_at})
            return result if note["made_with"] == json.loads(json.dumps(made_with)) else None
        except (ValueError, TypeError, KeyError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise StorageError(
                f"{path} is broken: {reason}", hint="--overwrite replaces it, another --work_dir leaves it alone"
            ) from None


def _without_nan(fields: dict[str, Any]) -> dict[str, Any]:
    """Return ``fields`` as JSON can hold them: null for NaN, a word for infinity."""
    return {name: _in_json(value) for name, value in fields.items()}


def _in_json(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return [_in_json(item) for item in value] if isinstance(value, tuple) else value
    return None if math.isnan(value) else str(value)


def _with_nan(fields: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: _number(fields[name]) for name in _NUMBERS}
    return {**fields, **numbers, "avg_at": [_number(value) for value in fields["avg_at"]]}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


@dataclass(frozen=True, kw_only=True)
class Study:
    """The results of the modes that ended, in the table's order, and ``missing``, the names of those that did not.

    ``setting``, ``data`` and ``machine`` describe the training, its data and the machine that it ran on.
    """

    setting: str
    data: str
    machine: str
    results: Sequence[ModeResult]
    missing: Sequence[str] = ()

    @property
    def title(self) -> str:
        """Two lines for figure and terminal."""
        return f"privacy and compression: {self.setting}\ndata: {self.data}"
