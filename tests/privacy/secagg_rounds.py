"""Iterations of secure aggregation with real devices and real unmasking; a stand-in for the server between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.secagg import (
    ExactDevice,
    ExactKeys,
    ExactPlan,
    ExactUnmasking,
    FixedPoint,
    PairwiseDevice,
    PairwiseUnmasking,
    SeededRandom,
    check_deposit,
    check_exact_keys,
    check_keys,
    check_params,
    exact_keys,
    pairwise_keys,
)
from mindfl.privacy.secagg.exact import SEALED_BYTES
from mindfl.privacy.secagg.shares import PAIRWISE_PRIME
from mindfl.protocol import ClientPublicKeys, ClientShare, PWParams, RequestExchangeKeys

LENGTH = 40
CONTEXT = b"job of tests, iteration 1"
#: shared by all rounds: the same seeds give the same keys, which are derived once
PAIRWISE_KEYS = pairwise_keys()
EXACT_KEYS = exact_keys()


class Leaves(IntEnum):
    """The step before which a device is lost."""

    NEVER = 0
    SHARE = 1
    UPLOAD = 2
    REVEAL = 3


@cache
def params(threshold: int) -> PWParams:
    """Return the plan of a server; one prime for all tests."""
    return PWParams(t=threshold, p=bytes(32), g=1, prime=PAIRWISE_PRIME.to_bytes(33, "big"))


def weights(place: int) -> NDArray[np.float32]:
    """Return what the device at ``place`` uploads but for the masks: weights times data size."""
    return np.random.default_rng(place).normal(0, 8, LENGTH).astype(np.float32)


def names(count: int) -> list[str]:
    """Return ids whose order in bytes is not that of their numbers."""
    return [f"device-{(7 * place) % 101}-é" for place in range(count)]


def published(request: RequestExchangeKeys) -> ClientPublicKeys:
    """Return what getKeys tells of a device."""
    return ClientPublicKeys(
        fl_id=request.fl_id, c_pk=request.c_pk, s_pk=request.s_pk, pw_iv=request.pw_iv, pw_salt=request.pw_salt
    )


def delivered(deposits: Mapping[str, Sequence[ClientShare]], receiver: str) -> list[ClientShare]:
    """Return what getSecrets gives to ``receiver``."""
    return [
        replace(share, fl_id=sender)
        for sender, shares in deposits.items()
        for share in shares
        if share.fl_id == receiver
    ]


@dataclass
class PairwiseRound:
    """An iteration of PW_ENCRYPT up to the uploads. ``leaves``: when each device is lost, by place."""

    leaves: Sequence[Leaves]
    threshold: int

    def __post_init__(self) -> None:
        plan = params(self.threshold)
        self.ids = names(len(self.leaves))
        self.devices = {
            name: PairwiseDevice(name, plan, random=SeededRandom(3, name, 1), pairs=PAIRWISE_KEYS) for name in self.ids
        }
        self.requests = {name: device.request for name, device in self.devices.items()}
        for request in self.requests.values():
            check_keys(request)
        for device in self.devices.values():
            device.meet(published(request) for request in self.requests.values())
        self.sharers = self.before(Leaves.SHARE)
        self.survivors = self.before(Leaves.UPLOAD)

    def before(self, step: Leaves) -> list[str]:
        """Return who takes ``step``."""
        return [name for name, leaves in zip(self.ids, self.leaves, strict=True) if not 0 < leaves <= step]

    def uploads(self) -> dict[str, NDArray[np.float32]]:
        """Exchange the shares and return the masked uploads."""
        deposits = {name: self.devices[name].shares() for name in self.sharers}
        for name, shares in deposits.items():
            check_deposit(name, shares, self.ids)
        for name in self.sharers:
            self.devices[name].receive(delivered(deposits, name))
        return {name: weights(self.ids.index(name)) + self.devices[name].mask(LENGTH) for name in self.survivors}

    def unmasking(self) -> PairwiseUnmasking:
        """Return the server's unmasking, with everything revealed that will be."""
        unmasking = PairwiseUnmasking(check_params(params(self.threshold)), self.requests, self.sharers, self.survivors)
        for name in self.before(Leaves.REVEAL):
            unmasking.add(name, self.devices[name].reveal(self.survivors))
        return unmasking

    def plain(self) -> NDArray[np.float64]:
        """Return the sum of the survivors' uploads without masks."""
        return np.sum([weights(self.ids.index(name)).astype(np.float64) for name in self.survivors], axis=0)


@dataclass
class ExactRound:
    """An iteration of PW_EXACT up to the uploads; all are neighbours, or those of ``neighbours``."""

    leaves: Sequence[Leaves]
    threshold: int
    bits: int = 64
    neighbours: Mapping[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        self.ids = names(len(self.leaves))
        self.plan = ExactPlan(CONTEXT, self.threshold, self.bits)
        self.fixed = FixedPoint.for_job(len(self.ids), 500, bits=self.bits)
        self.devices = {
            name: ExactDevice(name, self.plan, random=SeededRandom(4, name, 1), pairs=EXACT_KEYS) for name in self.ids
        }
        self.keys: dict[str, ExactKeys] = {name: device.keys for name, device in self.devices.items()}
        self.beside = self.neighbours or {name: sorted(set(self.ids) - {name}) for name in self.ids}
        for name, device in self.devices.items():
            check_exact_keys(self.keys[name])
            device.meet(self.keys[other] for other in self.beside[name])
        self.sharers = self.before(Leaves.SHARE)
        self.survivors = self.before(Leaves.UPLOAD)

    def before(self, step: Leaves) -> list[str]:
        """Return who takes ``step``."""
        return [name for name, leaves in zip(self.ids, self.leaves, strict=True) if not 0 < leaves <= step]

    def words(self, name: str) -> NDArray[np.uint64]:
        """Return what ``name`` uploads but for the masks."""
        return self.fixed.encode(weights(self.ids.index(name)), 3, name)

    def uploads(self) -> dict[str, NDArray[np.uint64]]:
        """Exchange the shares and return the masked uploads."""
        deposits = {name: self.devices[name].shares() for name in self.sharers}
        for name, shares in deposits.items():
            check_deposit(name, shares, self.beside[name], SEALED_BYTES)
        for name in self.sharers:
            self.devices[name].receive(delivered(deposits, name))
        return {name: self.devices[name].hide(self.words(name)) for name in self.survivors}

    def near(self, name: str) -> list[str]:
        """Return the survivors as ``name`` is told of them."""
        return [other for other in self.survivors if other == name or other in self.beside[name]]

    def unmasking(self, silent: Collection[str] = ()) -> ExactUnmasking:
        """Return the server's unmasking, with everything revealed that will be, but for what ``silent`` ones hold."""
        unmasking = ExactUnmasking(self.plan, self.keys, self.beside, self.sharers, self.survivors)
        for name in self.before(Leaves.REVEAL):
            if name not in silent:
                unmasking.add(name, self.devices[name].reveal(self.near(name)))
        return unmasking

    def total(self, uploads: Mapping[str, NDArray[np.uint64]]) -> NDArray[np.uint64]:
        """Return the sum of ``uploads``, modulo the word."""
        return np.sum(list(uploads.values()), axis=0, dtype=self.fixed.dtype)

    def plain(self) -> NDArray[np.uint64]:
        """Return the sum of the survivors' uploads without masks."""
        return self.total({name: self.words(name) for name in self.survivors})
