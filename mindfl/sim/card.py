"""The result card of a run, ``result.json``: what ran, on which data, who was evaluated, and what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mindfl._version import __version__
from mindfl.algorithms.naming import describe, make_algorithm
from mindfl.extensions import word
from mindfl.sim.config import JobConfig
from mindfl.sim.confusion import Confusion
from mindfl.sim.history import IterationRow, measured_clients, measured_iterations
from mindfl.sim.metrics import ACCURACY
from mindfl.sim.model_options import own_model
from mindfl.work_files import CARD

if TYPE_CHECKING:
    from mindfl.sim.result import Result
    from mindfl.sim.run_record import RunRecord

NAME = CARD
#: version of the file's form
FORM = 1
#: settings that are repeated from ``config.json``, which has all
SETTINGS = ("epochs", "lr_schedule", "seed", "clients_per_iteration", "sampler", "encrypt_type", "engine", "stack")
#: what :func:`about_run` returns
ABOUT = ("mindfl", "network", "starting_model_sha256", "algorithm", "clients", "settings", "data")
_COLUMNS = ("iteration", "avg", "top5", "low5", "weighted_avg", "test_samples", "evaluated", "measured", "loss")


def about_run(config: JobConfig, record: RunRecord, clients: int) -> dict[str, Any]:
    """Return what the card of a run of so many ``clients`` says of it before its first round."""
    network, algorithm, own = config.network, make_algorithm(config.algorithm), own_model(config)
    chosen = {name: record.settings[name] for name in SETTINGS}
    resolved = {
        "optimizer": network.optimizer,
        "momentum": network.momentum if network.optimizer == "momentum" else None,
        "weight_decay": network.weight_decay,
        "learning_rate": config.rate,
        "batch_size": network.batch_size,
    }
    return {
        "mindfl": __version__,
        "network": own.stem if own is not None and config.model is None else config.network_name,
        "starting_model_sha256": record.model["sha256"],
        "algorithm": {
            "name": describe(algorithm).partition(" ")[0],
            "settings": {name: _plain(value) for name, value in vars(algorithm).items()},
        },
        "clients": clients,
        "settings": {**resolved, **chosen},
        "data": dict(record.data),
    }


def result_card(result: Result) -> dict[str, Any]:
    """Return the card of ``result``; its values can be written as JSON."""
    history = result.history
    evaluated = history.evaluated
    return {
        "form": FORM,
        "title": result.title,
        **result.about,
        "iterations": len(history),
        "iterations_asked": result.iterations,
        "aggregated": history.aggregated,
        "stopped": result.stopped or None,
        "seconds": _finite(round(math.fsum(history.column("seconds")), 3)),
        "steps": sum(row.steps for row in history),
        **({} if history.metric == ACCURACY else {"metric": history.metric.name}),
        f"{history.metric.name}_of": measured_clients(history, untested=result.untested),
        "untested": result.untested,
        "evaluated_after": measured_iterations(history) if len(history) else None,
        "last": _evaluation(evaluated[-1], result.confusion) if evaluated else None,
        "best": _evaluation(history.best, result.best_confusion) if history.best is not None else None,
        "privacy": result.privacy or None,
        "weights_sha256": result.hash,
    }


def _evaluation(row: IterationRow, confusion: Confusion | None) -> dict[str, Any]:
    known = confusion is not None and confusion.iteration == row.iteration
    per_class = confusion.per_class.items() if confusion is not None and known else ()
    return {
        **{name: _finite(getattr(row, name)) for name in _COLUMNS},
        "per_class": {name: _finite(accuracy) for name, accuracy in per_class} or None,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    return _finite(value) if isinstance(value, bool | int | float | str | None) else word(value)
