"""What the server of an iteration with secure aggregation knows: who published keys, deposited shares, and revealed.

A step has a quota and is closed once that is met, so that all devices agree on who takes part in the next one:

1. exchangeKeys: ``config.exchange_quota`` devices publish keys. getKeys gives them away.
2. shareSecrets: ``config.share_quota`` of them deposit encrypted shares of their secrets. getSecrets gives them away,
   and whoever got some may upload.
3. updateModel: ``config.update_quota`` of these upload: the survivors, who do not change any more.
4. reconstructSecrets: survivors reveal the shares that take the masks out of the sum.

What is kept here is what the protocol lets a server see; a secret is recovered while the masks are computed, and
forgotten with them. State changes by events only (:mod:`mindfl.server.events`); everything else asks.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from mindfl.privacy.secagg import (
    PairwiseUnmasking,
    Shamir,
    check_deposit,
    check_keys,
    check_params,
)
from mindfl.protocol import (
    ClientPublicKeys,
    ClientShare,
    FLPlan,
    GetShareSecrets,
    PWParams,
    RequestExchangeKeys,
    RequestShareSecrets,
    SendReconstructSecret,
    Weights,
)
from mindfl.server.config import STABLE_PW, ServerConfig
from mindfl.server.secure.sums import UploadSum

EXCHANGE, SHARE, REVEAL = "exchangeKeys", "shareSecrets", "reconstructSecrets"


class Rounds(ABC):
    """The steps of one iteration. ``survivors`` is None until the quota of uploads is met."""

    def __init__(self, config: ServerConfig, plan: FLPlan, iteration: int) -> None:
        self.config = config
        self.iteration = iteration
        self.params = (plan.cipher and plan.cipher.pw_params) or PWParams()
        self.published: dict[str, RequestExchangeKeys] = {}
        self.deposits: dict[str, Mapping[str, ClientShare]] = {}
        self.given: set[str] = set()
        self.survivors: frozenset[str] | None = None
        self._began_ms: dict[str, int] = {}

    @property
    def exchanged(self) -> bool:
        """Whether enough keys are published."""
        return len(self.published) >= self.config.exchange_quota

    @property
    def shared(self) -> bool:
        """Whether enough shares are deposited, so that devices may upload."""
        return len(self.deposits) >= self.config.share_quota

    @property
    def sharers(self) -> Collection[str]:
        """The devices whose masks of pairs others have in their uploads, once ``shared``."""
        return self.deposits.keys()

    def may_upload(self, fl_id: str) -> bool:
        """Whether the device has what it needs to mask its upload."""
        return fl_id in self.given

    @abstractmethod
    def check_published(self, request: RequestExchangeKeys) -> None:
        """Raise :class:`SecureAggregationError` for keys that no honest device publishes."""

    @abstractmethod
    def keys_for(self, fl_id: str) -> tuple[ClientPublicKeys, ...]:
        """Return what is published by the devices that ``fl_id`` is to know."""

    @abstractmethod
    def check_deposited(self, request: RequestShareSecrets) -> None:
        """Raise :class:`SecureAggregationError` for a deposit that no honest device makes."""

    @abstractmethod
    def survivors_for(self, fl_id: str) -> tuple[str, ...]:
        """Return the survivors that ``fl_id`` is to know, itself among them."""

    @abstractmethod
    def check_revealed(self, request: SendReconstructSecret) -> None:
        """Raise :class:`SecureAggregationError` for shares that no honest device reveals."""

    @property
    @abstractmethod
    def heard(self) -> Collection[str]:
        """The survivors that have revealed their shares."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether the masks can be computed."""

    @property
    @abstractmethod
    def certain(self) -> bool:
        """Whether they can be computed in such a way that an altered share is found."""

    @abstractmethod
    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """Return the new model without masks. Raises :class:`SecureAggregationError` where shares do not fit."""

    @abstractmethod
    def _begin_unmasking(self, survivors: frozenset[str]) -> None: ...

    @abstractmethod
    def _forget_unmasking(self) -> None: ...

    @abstractmethod
    def _reveal(self, sender: str, shares: tuple[ClientShare, ...]) -> None: ...

    def shares_for(self, fl_id: str) -> tuple[ClientShare, ...]:
        """Return what was deposited for ``fl_id``, by ascending sender."""
        return tuple(
            ClientShare(fl_id=sender, share=deposit[fl_id].share)
            for sender, deposit in sorted(self.deposits.items())
            if fl_id in deposit
        )

    def publish(self, request: RequestExchangeKeys, draw: bytes, now_ms: int) -> None:
        """Take in an accepted exchangeKeys."""
        self._began_ms.setdefault(EXCHANGE, now_ms)
        self.published[request.fl_id or ""] = request

    def deposit(self, request: RequestShareSecrets, now_ms: int) -> None:
        """Take in an accepted shareSecrets."""
        self._began_ms.setdefault(SHARE, now_ms)
        shares = {share.fl_id or "": share for share in request.encrypted_shares or ()}
        self.deposits[request.fl_id or ""] = shares

    def give(self, request: GetShareSecrets) -> None:
        """Note that a device got the shares that were deposited for it."""
        self.given.add(request.fl_id or "")

    def freeze(self, survivors: Collection[str]) -> None:
        """Let these uploads, and no others, be those that are summed."""
        self.survivors = frozenset(survivors)
        self._begin_unmasking(self.survivors)

    def reveal(self, request: SendReconstructSecret, now_ms: int) -> None:
        """Take in an accepted reconstructSecrets. Raises :class:`SecureAggregationError` as ``check_revealed``."""
        self._reveal(request.fl_id or "", request.reconstruct_secret_shares or ())
        self._began_ms.setdefault(REVEAL, now_ms)

    def forget(self) -> None:
        """Drop keys and shares: the iteration is over."""
        self.deposits.clear()
        self._forget_unmasking()

    def windows(self) -> list[tuple[str, int]]:
        """Return (endpoint, when it began) of each step that has begun and still waits for devices."""
        over = {EXCHANGE: self.exchanged, SHARE: self.shared, REVEAL: False}
        return [(endpoint, began) for endpoint, began in self._began_ms.items() if not over[endpoint]]

    def resume(self, pause_ms: int) -> None:
        """Let the windows end so much later."""
        self._began_ms = {endpoint: began + pause_ms for endpoint, began in self._began_ms.items()}


class PairwiseRounds(Rounds):
    """``PW_ENCRYPT``."""

    def __init__(self, config: ServerConfig, plan: FLPlan, iteration: int) -> None:
        super().__init__(config, plan, iteration)
        self._unmasking: PairwiseUnmasking | None = None

    def check_published(self, request: RequestExchangeKeys) -> None:
        """See :meth:`Rounds.check_published`."""
        check_keys(request)

    def keys_for(self, fl_id: str) -> tuple[ClientPublicKeys, ...]:
        """Return everybody's, by ascending id."""
        return tuple(
            ClientPublicKeys(fl_id=owner, c_pk=keys.c_pk, s_pk=keys.s_pk, pw_iv=keys.pw_iv, pw_salt=keys.pw_salt)
            for owner, keys in sorted(self.published.items())
        )

    def check_deposited(self, request: RequestShareSecrets) -> None:
        """See :meth:`Rounds.check_deposited`."""
        check_deposit(request.fl_id or "", request.encrypted_shares or (), self.published.keys())

    def survivors_for(self, fl_id: str) -> tuple[str, ...]:
        """Return all."""
        return tuple(sorted(self.survivors or ()))

    def check_revealed(self, request: SendReconstructSecret) -> None:
        """See :meth:`Rounds.check_revealed`."""
        self._open.check(request.fl_id or "", request.reconstruct_secret_shares or ())

    @property
    def heard(self) -> Collection[str]:
        """See :attr:`Rounds.heard`."""
        return self._unmasking.heard if self._unmasking else ()

    @property
    def ready(self) -> bool:
        """See :attr:`Rounds.ready`."""
        return self._unmasking is not None and self._unmasking.ready

    @property
    def certain(self) -> bool:
        """Seeds are checked by a share that could be spared, which takes one device more."""
        return self._unmasking is not None and self._unmasking.checkable

    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """See :meth:`Rounds.average`."""
        return total.average(previous, self._open.noise(total.layout.size, workers()))

    def _begin_unmasking(self, survivors: frozenset[str]) -> None:
        self._unmasking = PairwiseUnmasking(self._shamir, self.published, self.sharers, survivors)

    def _forget_unmasking(self) -> None:
        self._unmasking = None

    def _reveal(self, sender: str, shares: tuple[ClientShare, ...]) -> None:
        self._open.add(sender, shares)

    @property
    def _shamir(self) -> Shamir:
        return check_params(self.params)

    @property
    def _open(self) -> PairwiseUnmasking:
        assert self._unmasking is not None
        return self._unmasking


class StableRounds(PairwiseRounds):
    """``STABLE_PW_ENCRYPT``: the masks of pairs alone, which cancel where everybody uploads who published keys."""

    @property
    def shared(self) -> bool:
        """No shares are asked for."""
        return self.exchanged

    @property
    def sharers(self) -> Collection[str]:
        """Who published keys."""
        return self.published.keys()

    def may_upload(self, fl_id: str) -> bool:
        """Whether the keys of all are known, its own among them."""
        return self.exchanged and fl_id in self.published

    def check_published(self, request: RequestExchangeKeys) -> None:
        """See :meth:`Rounds.check_published`."""
        check_keys(request, stable=True)

    @property
    def ready(self) -> bool:
        """Whether all have uploaded."""
        return self.survivors is not None

    @property
    def certain(self) -> bool:
        """There is nothing that could be altered."""
        return self.ready

    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """Return what the sum gives: its masks have cancelled."""
        return total.average(previous)

    def _begin_unmasking(self, survivors: frozenset[str]) -> None:
        """Nothing is left to be taken out."""


def make_rounds(config: ServerConfig, plan: FLPlan, iteration: int) -> Rounds:
    """Return the steps of ``iteration`` in a job with one of the :data:`mindfl.server.config.MASKED_TYPES`."""
    from mindfl.server.secure.exact import ExactRounds

    kinds: dict[str, Any] = {STABLE_PW: StableRounds, "PW_EXACT": ExactRounds}
    made: Rounds = kinds.get(config.encrypt_type, PairwiseRounds)(config, plan, iteration)
    return made


def workers() -> int:
    """Return how many threads compute masks."""
    return os.cpu_count() or 1
