"""The state of one iteration with secure aggregation: published keys, deposited shares, revealed shares.

A step has a quota and is closed once that is met, so that all clients agree on the participants of the next one:

1. exchangeKeys: ``config.exchange_quota`` devices publish keys. getKeys gives them away.
2. shareSecrets: ``config.share_quota`` of them deposit encrypted shares of their secrets. getSecrets gives them away,
   and a client that got some may upload.
3. updateModel: ``config.update_quota`` of these upload: the survivors, which do not change any more.
4. reconstructSecrets: survivors reveal the shares that take the masks out of the sum.

The state holds nothing beyond what the protocol shows to a server; a secret is recovered while the masks are computed,
and forgotten with them. Only events change it (:mod:`mindfl.server.events`).
"""

from __future__ import annotations

import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from mindfl.privacy.secagg import Fault, SecureAggregationError
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
from mindfl.server.aggregate import UploadSum
from mindfl.server.server_config import ServerConfig

EXCHANGE, SHARE, REVEAL = "exchangeKeys", "shareSecrets", "reconstructSecrets"


class Unmasking(Protocol):
    """Collects the shares that survivors reveal; :mod:`mindfl.privacy.secagg` has two implementations."""

    @property
    def heard(self) -> frozenset[str]: ...

    @property
    def ready(self) -> bool: ...

    def check(self, sender: str, shares: Iterable[ClientShare]) -> object: ...

    def add(self, sender: str, shares: Iterable[ClientShare]) -> None: ...


UnmaskingT = TypeVar("UnmaskingT", bound=Unmasking)


class Rounds(ABC, Generic[UnmaskingT]):
    """The steps of one iteration. ``survivors`` is None until the quota of uploads is met."""

    def __init__(self, config: ServerConfig, plan: FLPlan, iteration: int) -> None:
        self.config = config
        self.iteration = iteration
        self._exchange_quota, self._share_quota = config.exchange_quota, config.share_quota
        self.params = (plan.cipher and plan.cipher.pw_params) or PWParams()
        self.published: dict[str, RequestExchangeKeys] = {}
        self.deposits: dict[str, Mapping[str, ClientShare]] = {}
        self.given: set[str] = set()
        self.survivors: frozenset[str] | None = None
        self._began_ms: dict[str, int] = {}
        self._unmasking: UnmaskingT | None = None

    @property
    def exchanged(self) -> bool:
        """Whether enough keys are published."""
        return len(self.published) >= self._exchange_quota

    @property
    def shared(self) -> bool:
        """Whether enough shares are deposited, so that devices may upload."""
        return len(self.deposits) >= self._share_quota

    @property
    def sharers(self) -> Collection[str]:
        """The clients whose pairwise masks are in the uploads of others, once ``shared``."""
        return self.deposits.keys()

    def may_upload(self, fl_id: str) -> bool:
        """Whether the client has all it needs to mask its upload."""
        return fl_id in self.given

    @abstractmethod
    def check_published(self, request: RequestExchangeKeys) -> None:
        """Raise :class:`SecureAggregationError` for keys that no honest device publishes."""

    @abstractmethod
    def keys_for(self, fl_id: str) -> tuple[ClientPublicKeys, ...]:
        """Return the keys that ``fl_id`` receives."""

    @abstractmethod
    def check_deposited(self, request: RequestShareSecrets) -> None:
        """Raise :class:`SecureAggregationError` for a deposit that no honest device makes."""

    @abstractmethod
    def survivors_for(self, fl_id: str) -> tuple[str, ...]:
        """Return the survivors that ``fl_id`` is told, itself among them."""

    def check_revealed(self, request: SendReconstructSecret) -> None:
        """Raise :class:`SecureAggregationError` for shares that no honest device reveals."""
        self._unmasking_now.check(request.fl_id or "", request.reconstruct_secret_shares or ())

    def upload_name(self, fl_id: str) -> str:
        """Return the name of the array that ``fl_id`` uploads, in modes that do not upload weights."""
        raise NotImplementedError(f"{self.config.mode.name} uploads are weights")

    @property
    def heard(self) -> Collection[str]:
        """The survivors that have revealed their shares."""
        return self._unmasking.heard if self._unmasking else ()

    @property
    def ready(self) -> bool:
        """Whether the masks can be computed."""
        return self._unmasking is not None and self._unmasking.ready

    @property
    @abstractmethod
    def certain(self) -> bool:
        """Whether the masks can be computed and an altered share would be found."""

    @abstractmethod
    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """Return the new model without masks. Raises :class:`SecureAggregationError` where shares do not fit."""

    @abstractmethod
    def _make_unmasking(self, survivors: frozenset[str]) -> UnmaskingT | None: ...

    @property
    def _unmasking_now(self) -> UnmaskingT:
        if self._unmasking is None:
            raise SecureAggregationError(Fault.ORDER, "what survivors reveal")
        return self._unmasking

    def shares_for(self, fl_id: str) -> tuple[ClientShare, ...]:
        """Return the shares that were deposited for ``fl_id``, by ascending sender."""
        return tuple(
            ClientShare(fl_id=sender, share=deposit[fl_id].share)
            for sender, deposit in sorted(self.deposits.items())
            if fl_id in deposit
        )

    def publish(self, request: RequestExchangeKeys, draw: bytes, now_ms: int) -> None:
        """Take in an accepted exchangeKeys."""
        self._began_ms.setdefault(EXCHANGE, now_ms)
        self.published[request.fl_id or ""] = request

    @abstractmethod
    def bare(self, request: RequestExchangeKeys) -> RequestExchangeKeys:
        """Return an exchangeKeys with the fields alone that the mode uses."""

    def published_again(self, request: RequestExchangeKeys) -> bool:
        """Say whether the client published the same before."""
        known, again = self.bare(self.published[request.fl_id or ""]), self.bare(request)
        return hmac.compare_digest(known.s_pk or b"", again.s_pk or b"") and known == again

    def deposit(self, request: RequestShareSecrets, now_ms: int) -> None:
        """Take in an accepted shareSecrets."""
        self._began_ms.setdefault(SHARE, now_ms)
        shares = {share.fl_id or "": share for share in request.encrypted_shares or ()}
        self.deposits[request.fl_id or ""] = shares

    def give(self, request: GetShareSecrets) -> None:
        """Note that a device got the shares that were deposited for it."""
        self.given.add(request.fl_id or "")

    def freeze(self, survivors: Collection[str]) -> None:
        """Close the step of uploads: these are summed, and no others."""
        self.survivors = frozenset(survivors)
        self._unmasking = self._make_unmasking(self.survivors)

    def reveal(self, request: SendReconstructSecret, now_ms: int) -> None:
        """Take in an accepted reconstructSecrets. Raises :class:`SecureAggregationError` as ``check_revealed``."""
        self._unmasking_now.add(request.fl_id or "", request.reconstruct_secret_shares or ())
        self._began_ms.setdefault(REVEAL, now_ms)

    def forget(self) -> None:
        """Drop all shares: the iteration is over. Participants and their public keys stay known."""
        self.deposits.clear()
        self._unmasking = None

    def windows(self) -> list[tuple[str, int]]:
        """Return (endpoint, when it began) of each step that has begun and still waits for devices."""
        over = {EXCHANGE: self.exchanged, SHARE: self.shared, REVEAL: False}
        return [(endpoint, began) for endpoint, began in self._began_ms.items() if not over[endpoint]]

    def resume(self, pause_ms: int) -> None:
        """Let the windows end ``pause_ms`` later."""
        self._began_ms = {endpoint: began + pause_ms for endpoint, began in self._began_ms.items()}


def workers() -> int:
    """Return how many threads compute masks."""
    return os.cpu_count() or 1
