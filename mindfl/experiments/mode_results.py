"""The modes of a study as settings of a job, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from mindfl.errors import OptionError
from mindfl.experiments.mode_costs import Costs
from mindfl.experiments.runner import shipped_experiment
from mindfl.sim.evaluation import Accuracy
from mindfl.sim.result import Result

#: the experiment; its modes are in the order of table and figure
EXPERIMENT = shipped_experiment("privacy50")
#: mode -> its name in table and figure
NAMES = {
    "plain": "plain",
    "quant": "QUANT",
    "sparse": "DIFF_SPARSE_QUANT",
    "both": "QUANT + DIFF_SPARSE_QUANT",
    "signds": "SIGNDS, epsilon 100",
    "dp50": "DP_ENCRYPT, epsilon 50",
    "dp10": "DP_ENCRYPT, epsilon 10",
    "pw": "PW_ENCRYPT",
    "stable": "STABLE_PW_ENCRYPT",
    "exact": "PW_EXACT",
}


def chosen_modes(keys: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the settings of the modes ``keys``, in the table's order; None: all.

    Raises :class:`OptionError` for a key that is none, or no key at all.
    """
    known: dict[str, dict[str, Any]] = EXPERIMENT["sweep"]["mode"]
    if keys is None:
        return known
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        what = f"unknown mode {unknown[0]!r}" if unknown else "no mode is given"
        raise OptionError(what, hint=f"choose from {', '.join(known)}")
    return {key: settings for key, settings in known.items() if key in keys}


#: accuracies are means of so many last iterations
WINDOW = 5


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
    def of(cls, key: str, result: Result, costs: Costs) -> ModeResult:
        """Return the result of a finished training."""
        history = result.history
        accuracies = {field: fmean(history.column(field)[-WINDOW:]) for field in Accuracy._fields}
        return cls(
            key=key,
            name=NAMES[key],
            **accuracies,
            loss=history[-1].loss,
            epsilon=history[-1].epsilon,
            seconds=median(history.column("seconds")),
            costs=costs,
            weights_sha256=result.hash,
            avg_at=tuple(history.column("avg")),
        )


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
