"""Which federated algorithms go with the other parts of a job: one table, one refusal each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mindfl.algorithms.base import Algorithm, replaced
from mindfl.algorithms.naming import describe, make_algorithm
from mindfl.errors import OptionError
from mindfl.modes import mode_of

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig


@dataclass(frozen=True)
class _Rule:
    """Algorithms that replace one of ``methods`` do not go with jobs for which ``applies`` is true."""

    methods: tuple[str, ...]
    applies: Callable[[JobConfig], bool]
    reason: str
    hint: str


_SERVER_ONLY = "an algorithm that replaces step alone works"
_RULES = (
    _Rule(
        ("extras", "state", "step"),
        lambda config: not config.server_side.embedded,
        "a server of its own process makes the next model itself",
        "an algorithm that replaces begin and end alone works; `mindfl server start --algorithm` has the others",
    ),
    _Rule(
        ("extras", "begin", "end"),
        lambda config: not config.client_side.simulated,
        "Java clients train and upload as MindSpore Federated does",
        f"{_SERVER_ONLY}, or embedded clients",
    ),
    _Rule(
        ("begin",),
        lambda config: not config.client_side.engine.executes_files,
        "MindSpore's training step cannot be corrected",
        "use --engine lite",
    ),
)


def check_algorithm(config: JobConfig) -> None:
    """Raise :class:`OptionError` where there is no such algorithm, or another part of the job does not go with it."""
    algorithm = make_algorithm(config.algorithm)
    methods = replaced(algorithm)
    for rule in _RULES:
        if methods.intersection(rule.methods) and rule.applies(config):
            raise _refusal(algorithm, rule.reason, rule.hint)
    if "extras" in methods and (fault := mode_of(config).extras_fault):
        raise _refusal(algorithm, fault, "use plain uploads or secure aggregation, or an algorithm without extras")


def _refusal(algorithm: Algorithm, reason: str, hint: str) -> OptionError:
    return OptionError(f"algorithm {describe(algorithm)} does not work here: {reason}", hint=hint)
