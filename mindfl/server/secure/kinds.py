"""Which kind of rounds a job has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mindfl.protocol import FLPlan
from mindfl.protocol.encryption import PW, PW_EXACT, STABLE_PW
from mindfl.server.config import ServerConfig
from mindfl.server.secure.exact import ExactRounds
from mindfl.server.secure.pairwise import PairwiseRounds, StableRounds
from mindfl.server.secure.rounds import Rounds

_KINDS: Mapping[str, Callable[[ServerConfig, FLPlan, int], Rounds[Any]]] = {
    PW: PairwiseRounds,
    STABLE_PW: StableRounds,
    PW_EXACT: ExactRounds,
}


def make_rounds(config: ServerConfig, plan: FLPlan, iteration: int) -> Rounds[Any]:
    """Return the steps of ``iteration`` in a job with one of the :data:`mindfl.protocol.encryption.MASKED_TYPES`."""
    return _KINDS[config.encrypt_type](config, plan, iteration)
