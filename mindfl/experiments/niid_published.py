"""The benchmark of label skew that Flower publishes as ``baselines/niid_bench``: its setting, and its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.naming import make_algorithm
from mindfl.errors import OptionError
from mindfl.experiments.runner import shipped_experiment
from mindfl.options.command_options import NiidDataName
from mindfl.spelling import did_you_mean

SOURCE = "Flower, baselines/niid_bench/README.md (https://github.com/adap/flower): mean and spread over its seeds"
#: the published setting, and what the experiment runs by default
EXPERIMENT = shipped_experiment("niid_bench")
#: FedProx's mu in the published configuration; the published values are those of the best of .001, .01, .1 and 1
FEDPROX = "fedprox:mu=0.01"

#: cell -> how samples are divided (:func:`mindfl.data.partition`)
CELLS = {
    "iid": "iid",
    "dirichlet": "balanced_dirichlet:alpha=0.5,least=10",
    "classes:1": "classes:1",
    "classes:2": "classes:2",
    "classes:3": "classes:3",
}


class PublishedAccuracy(NamedTuple):
    """A published accuracy in percent: mean and spread over seeds."""

    mean: float
    spread: float


#: the SCAFFOLD of the published table is a variant, which has another name here
_COLUMNS = ("fedavg", "scaffold_niid", "fedprox", "fednova")
#: data -> cell -> mean and spread of each of :data:`_COLUMNS`
_TABLE: Mapping[NiidDataName, Mapping[str, Sequence[float]]] = {
    "fashion_mnist": {
        "iid": (89.23, 0.45, 89.33, 0.27, 89.42, 0.09, 89.36, 0.09),
        "dirichlet": (88.09, 0.29, 88.44, 0.25, 88.15, 0.42, 88.22, 0.12),
        "classes:1": (28.39, 17.09, 10.00, 0.00, 32.65, 6.68, 16.86, 9.30),
        "classes:2": (78.10, 2.51, 33.80, 41.22, 78.05, 0.99, 71.67, 2.34),
        "classes:3": (82.43, 1.52, 80.32, 5.03, 82.99, 0.48, 81.97, 1.34),
    },
    "mnist": {
        "iid": (99.09, 0.05, 99.06, 0.15, 99.16, 0.04, 99.05, 0.06),
        "dirichlet": (98.89, 0.07, 99.07, 0.06, 99.02, 0.02, 98.03, 0.06),
        "classes:1": (19.33, 11.82, 9.93, 0.12, 51.79, 26.75, 52.58, 14.08),
        "classes:2": (96.86, 0.30, 96.92, 0.52, 96.85, 0.15, 96.65, 0.39),
        "classes:3": (97.86, 0.34, 97.91, 0.10, 97.85, 0.06, 97.62, 0.07),
    },
}
TITLES: Mapping[NiidDataName | None, str] = {
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    None: "images without a published table",
}
#: first labels of the training files, by which a data set is known
_FIRST_LABELS: Mapping[NiidDataName, Sequence[int]] = {
    "fashion_mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
    "mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
}
_TRAIN, _TEST = 60_000, 10_000


def published(data: NiidDataName | None, cell: str, algorithm: str) -> PublishedAccuracy | None:
    """Return the published accuracy; None where there is none.

    Args:
        data: the data set; None: one without a published table.
        cell: a key of :data:`CELLS`.
        algorithm: name, with settings behind a colon or not.

    Example:
        >>> published("fashion_mnist", "iid", "fedprox:mu=0.01").mean
        89.42
    """
    name = algorithm.partition(":")[0]
    if data is None or name not in _COLUMNS:
        return None
    place = 2 * _COLUMNS.index(name)
    return PublishedAccuracy(*_TABLE[data][cell][place : place + 2])


def known_data(train: NDArray[Any], test: NDArray[Any]) -> NiidDataName | None:
    """Return which data set has these labels, in the order of its files; None: none that has a published table."""
    if (len(train), len(test)) != (_TRAIN, _TEST):
        return None
    return next((name for name, first in _FIRST_LABELS.items() if np.array_equal(train[: len(first)], first)), None)


def chosen_cells(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the cells with these names; None: those of the experiment file. Raises :class:`OptionError`."""
    cells = _chosen(given, EXPERIMENT["sweep"]["cell"], "cell")
    for name in cells:
        if name not in CELLS:
            raise OptionError(f"unknown cell {name!r}", hint=did_you_mean(name, CELLS))
    return cells


def chosen_algorithms(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return these algorithms, with the published setting of one that is named without any.

    None: those of the experiment file. Settings may hold commas too.

    Raises:
        OptionError: none is given, or one cannot be made.

    Example:
        >>> chosen_algorithms("fedprox,fedadam:eta=0.1,tau=0.01,fedavg")
        ('fedprox:mu=0.01', 'fedadam:eta=0.1,tau=0.01', 'fedavg')
    """
    names: list[str] = []
    for part in _chosen(given, EXPERIMENT["sweep"]["algorithm"], "algorithm"):
        if names and "=" in part and ":" not in part:
            names[-1] += f",{part}"
        else:
            names.append(FEDPROX if part == "fedprox" else part)
    for name in names:
        make_algorithm(name)
    return tuple(dict.fromkeys(names))


def chosen_seeds(given: str | Sequence[int]) -> tuple[int, ...]:
    """Return these seeds. Raises :class:`OptionError` if one is not a whole number of at least 0."""
    seeds = _chosen(given, EXPERIMENT["sweep"]["seed"], "seed")
    if wrong := [seed for seed in seeds if not (type(seed) is int or str(seed).isdecimal())]:
        raise OptionError(f"a seed must be a whole number of at least 0, got {wrong[0]!r}", hint="--seeds 0,1,2")
    whole = tuple(map(int, seeds))
    if min(whole) < 0:
        raise OptionError(f"a seed must not be negative, got {min(whole)}", hint="--seeds 0,1,2")
    return whole


def _chosen(given: str | Sequence[Any] | None, default: Iterable[Any], what: str) -> tuple[Any, ...]:
    """Return what is ``given`` as a list or as text with commas, each once; None: ``default``."""
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",") if part.strip()]
    if given is not None and not given:
        raise OptionError(f"no {what} is given", hint=f"leave it out for {','.join(map(str, default))}")
    return tuple(dict.fromkeys(default if given is None else given))
