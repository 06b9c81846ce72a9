"""Algorithms by name, and in words."""

from __future__ import annotations

from contextlib import suppress

from mindfl import extensions
from mindfl.algorithms.algorithm import Algorithm
from mindfl.algorithms.apfl import APFL
from mindfl.algorithms.baselines import Centralized, Local
from mindfl.algorithms.ditto import Ditto
from mindfl.algorithms.fedcm import FedCM
from mindfl.algorithms.feddyn import FedDyn
from mindfl.algorithms.fedexp import FedExP
from mindfl.algorithms.fednova import FedNova
from mindfl.algorithms.fedprox import FedProx
from mindfl.algorithms.local_parts import FedBN, FedPer
from mindfl.algorithms.qfedavg import QFedAvg
from mindfl.algorithms.robust import Krum, Median, MultiKrum, TrimmedMean
from mindfl.algorithms.scaffold import Scaffold, ScaffoldNIID
from mindfl.algorithms.server_optimizers import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from mindfl.errors import OptionError
from mindfl.extensions import make_object, word

#: mindfl's own algorithms
REGISTERED: dict[str, type[Algorithm]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedexp": FedExP,
    "fedprox": FedProx,
    "scaffold": Scaffold,
    "scaffold_niid": ScaffoldNIID,
    "fednova": FedNova,
    "feddyn": FedDyn,
    "qfedavg": QFedAvg,
    "fedcm": FedCM,
    "ditto": Ditto,
    "apfl": APFL,
    "fedper": FedPer,
    "fedbn": FedBN,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "krum": Krum,
    "multikrum": MultiKrum,
}
#: what they are compared with
BASELINES: dict[str, type[Algorithm]] = {"local": Local, "centralized": Centralized}
_NAMED = {**REGISTERED, **BASELINES}
#: entry points of installed packages
GROUP = "mindfl.algorithms"
_OPTION = "algorithm"


def make_algorithm(given: str | Algorithm) -> Algorithm:
    """Return the algorithm that ``given`` is or names.

    Args:
        given: an object, or ``name``, ``module:attribute`` or ``file.py:attribute``, with its settings behind a colon.

    Raises:
        OptionError: there is none of that name, it does not take the settings, or it is no :class:`Algorithm`.

    Example:
        >>> make_algorithm("fedprox:mu=0.5").mu
        0.5
    """
    if isinstance(given, Algorithm):
        return given
    if not isinstance(given, str):
        hint = "make an object of the class, as in FedProx(0.1)" if isinstance(given, type) else ""
        raise OptionError(f"{_OPTION} must be a text or an Algorithm, not {type(given).__name__}", hint=hint)
    made = make_object(given, _NAMED, GROUP, _OPTION)
    if not isinstance(made, Algorithm):
        raise OptionError(
            f"{_OPTION} {given} is no Algorithm, but {type(made).__name__}",
            hint="name a subclass of mindfl.algorithms.Algorithm, or an object of one",
        )
    return made


def canonical(text: str) -> str:
    """Return one text for all that name the same algorithm of mindfl with the same settings; other texts as they are.

    Example:
        >>> canonical("fedprox:mu=.5"), canonical("mine.py:Mine")
        ('fedprox:mu=0.5', 'mine.py:Mine')
    """
    if text.partition(":")[0] in _NAMED:
        with suppress(OptionError):
            return recorded(make_algorithm(text))
    return text


def pools_data(text: str) -> bool:
    """Return whether ``text`` names an algorithm of mindfl that trains on all data in one place."""
    kind = _NAMED.get(text.partition(":")[0])
    return kind is not None and kind.pools_data


def federates(text: str) -> bool:
    """Return whether ``text`` names none of the baselines, whose clients and server have nothing to send."""
    return text.partition(":")[0] not in BASELINES


def describe(algorithm: Algorithm) -> str:
    """Return class and settings in words.

    Example:
        >>> describe(Algorithm())
        'FedAvg'
    """
    if algorithm.is_fedavg:
        return "FedAvg"
    name = type(algorithm).__name__
    return " ".join((name, *(f"{key}={word(value)}" for key, value in vars(algorithm).items())))


def recorded(given: Algorithm) -> str:
    """Return the text by which :func:`make_algorithm` makes the algorithm again, in another process too.

    For an object that no text can make, a description in angle brackets, which :func:`make_algorithm` refuses.

    Example:
        >>> recorded(Algorithm())
        'fedavg'
    """
    if given.is_fedavg:
        return "fedavg"
    return extensions.recorded(given, _NAMED, GROUP, _OPTION)
