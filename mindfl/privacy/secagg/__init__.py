"""Secure aggregation: the arithmetic of ``PW_ENCRYPT``, ``STABLE_PW_ENCRYPT`` and our own ``PW_EXACT``.

No sockets, no clocks, no coordinator. A device's part of an iteration is :class:`PairwiseDevice` or
:class:`ExactDevice`; the server's is :func:`check_keys` or :func:`check_exact_keys`, :func:`check_deposit`, and
:class:`PairwiseUnmasking` or :class:`ExactUnmasking`. What a peer sent wrongly raises :class:`SecureAggregationError`.

Needs the package cryptography.
"""

from __future__ import annotations

from mindfl.imports import lacks

try:
    import cryptography  # noqa: F401 - the modules below need it
except ModuleNotFoundError:
    raise lacks("secure aggregation", "cryptography") from None

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes, SeededRandom
from mindfl.privacy.secagg.exact import ExactDevice, ExactKeys, ExactPlan, check_exact_keys, exact_keys
from mindfl.privacy.secagg.fixed import FixedPoint
from mindfl.privacy.secagg.graph import GraphPlan, plan_graph
from mindfl.privacy.secagg.keys import KeyPair, PairKeys, Peer, Secret
from mindfl.privacy.secagg.pairwise import PairwiseDevice, check_keys, check_params, pairwise_keys
from mindfl.privacy.secagg.shares import Shamir, Share
from mindfl.privacy.secagg.unmask import ExactUnmasking, PairwiseUnmasking, check_deposit

__all__ = [
    "ExactDevice",
    "ExactKeys",
    "ExactPlan",
    "ExactUnmasking",
    "Fault",
    "FixedPoint",
    "GraphPlan",
    "KeyPair",
    "PairKeys",
    "PairwiseDevice",
    "PairwiseUnmasking",
    "Peer",
    "RandomBytes",
    "Secret",
    "SecureAggregationError",
    "SeededRandom",
    "Shamir",
    "Share",
    "check_deposit",
    "check_exact_keys",
    "check_keys",
    "check_params",
    "exact_keys",
    "pairwise_keys",
    "plan_graph",
]
