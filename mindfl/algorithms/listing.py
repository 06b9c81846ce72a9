"""What mindfl's own algorithms need, and with which parts of a job they go."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Upload, replaced
from mindfl.algorithms.checks import Checked
from mindfl.algorithms.local_optimizer import LINEAR, LocalOptimizer
from mindfl.algorithms.naming import REGISTERED, describe, make_algorithm
from mindfl.errors import OptionError
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.modes import UploadMode


@dataclass(frozen=True)
class Listing:
    """One algorithm of mindfl's.

    Args:
        name: what ``--algorithm`` takes.
        summary: one sentence.
        settings: its settings with their defaults.
        travels: what travels beside the weights, both ways; empty: nothing.
        remembers: what each client keeps between its iterations; empty: nothing.
        needs: what it needs of client and server; empty: nothing but training and sums.
        optimizers: the local optimizers with which it works.
        engines: the engines with which it works.
        upload_modes: the values of ``--encrypt_type`` with which it works.
        servers: the servers with which it works.
        clients: the clients with which it works.
        executors: the executors with which it works.
    """

    name: str
    summary: str
    settings: Mapping[str, Any]
    travels: str
    remembers: str
    needs: str
    optimizers: tuple[str, ...]
    engines: tuple[str, ...]
    upload_modes: tuple[str, ...]
    servers: tuple[str, ...]
    clients: tuple[str, ...]
    executors: tuple[str, ...]


def list_algorithms() -> list[Listing]:
    """Return all algorithms of mindfl's.

    Example:
        >>> [each.name for each in list_algorithms()][:3]
        ['fedavg', 'fedavgm', 'fedadagrad']
    """
    return [describe_algorithm(name) for name in REGISTERED]


def describe_algorithm(name: str) -> Listing:
    """Describe the algorithm that ``name`` names, as ``--algorithm`` takes it.

    Raises :class:`OptionError` for an unknown name, and for one of the user's own that fails.

    Example:
        >>> describe_algorithm("scaffold").remembers
        "1 x the weights' size"
    """
    from mindfl.modes import MODES
    from mindfl.options.mode_options import ModeOptions

    algorithm = make_algorithm(name)
    methods = replaced(algorithm)
    served, local = methods & {"extras", "state", "step"}, methods - {"state", "step"}
    return Listing(
        name=name,
        summary=" ".join((inspect.getdoc(type(algorithm)) or "").partition("\n\n")[0].split()),
        settings=vars(algorithm),
        travels=amount(asked(algorithm, "extras", _MODEL, Mapping)),
        remembers=amount(asked(algorithm, "end", probe(algorithm), Upload).memory),
        needs="; ".join(_needs(algorithm)),
        optimizers=LINEAR if algorithm.needs_linear_optimizer else (*LINEAR, "adam", "adam_weight_decay"),
        engines=("lite",) if methods & {"begin", "personal_training"} else ("lite", "mindspore"),
        upload_modes=tuple(name for name, mode in MODES.items() if _carries(mode.of(ModeOptions()), algorithm)),
        servers=(
            "embedded",
            *(() if served and local else ("mindfl server",)),
            *(() if served else ("MindSpore Federated",)),
        ),
        clients=("simulated", *(() if local else ("Java",))),
        executors=("local", "ray"),
    )


_MODEL: Arrays = {"a.weight": np.zeros(9, np.float32), "b.gamma": np.zeros(90, np.float32), "b.weight": np.zeros(1)}


#: layers of the small model; most have no weights, so that an algorithm of some of the last layers finds others
_LAYERS = ("a", *map(str, range(1000)), "b")


def _carries(mode: UploadMode, algorithm: Algorithm) -> bool:
    extras = "extras" in replaced(algorithm) and mode.extras_fault
    uploads = algorithm.needs_uploads and mode.uploads_fault
    return not extras and not uploads


def probe(algorithm: Algorithm) -> Client:
    """Return a client of a small model in its first round, after training; to find out what ``algorithm`` returns."""
    return Client(
        name="",
        iteration=1,
        received=_MODEL,
        extras=asked(algorithm, "extras", _MODEL, Mapping),
        memory={},
        learning_rate=1.0,
        batch_size=1,
        epochs=1,
        samples=1,
        population=1,
        optimizer=LocalOptimizer(name="sgd"),
        initial_loss=1.0,
        layers=_LAYERS,
        trained=_MODEL,
        personal=_MODEL,
        steps=1,
        loss=1.0,
    )


def asked(algorithm: Algorithm, method: str, given: Any, result: type[Any], *, optional: bool = False) -> Any:
    """Return ``algorithm.method(given)``, which is about the small model of :func:`probe`.

    Raises :class:`OptionError` if it fails, or returns no ``result``; None is one if it is ``optional``.
    """
    return Checked(algorithm).call(method, given, result, partial(_failure, describe(algorithm)), optional=optional)


def _failure(name: str, cause: str, hint: str) -> OptionError:
    small = f"it is asked about a small network with the weights {', '.join(_MODEL)}; it must take those of any"
    return OptionError(f"algorithm {name}: {cause}", hint=hint or small)


def _needs(algorithm: Algorithm) -> Iterator[str]:
    methods = replaced(algorithm)
    if methods & {"begin", "personal_training"}:
        yield "corrected steps"
    if "personal_training" in methods:
        yield "a second training"
    if "personal" in methods or "start" in methods:
        yield "evaluation with personal weights"
    if algorithm.needs_uploads:
        yield "single uploads at the server"
    if algorithm.needs_initial_loss:
        yield "the loss of the received model on the training samples"


def amount(arrays: Arrays) -> str:
    """Return the size of what an algorithm returned for :func:`probe`, in words."""
    weights = [name for name in arrays if name in _MODEL]
    parts = [("1 x the weights' size" if len(weights) == len(_MODEL) else "some of the weights")] if weights else []
    numbers = sum(np.size(values) for name, values in arrays.items() if name not in _MODEL)
    if numbers:
        parts.append(counted(numbers, "number"))
    return " and ".join(parts)
