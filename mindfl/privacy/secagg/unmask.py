"""The server's part of secure aggregation: removing the masks from the sum of uploads."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.ciphers import FloatMasks, WordMask, WordMasks, pbkdf2, sign_of
from mindfl.privacy.secagg.exact import ExactKeys, ExactPlan, derive_key, mask_key, seed_fits
from mindfl.privacy.secagg.keys import KeyPair, Secret
from mindfl.privacy.secagg.shares import MOST_BYTES, RevealedShares, Shamir, by_id
from mindfl.protocol import ClientShare, RequestExchangeKeys

Noise = NDArray[np.float64]
MaskT = TypeVar("MaskT", bound=NDArray[Any])


def check_deposit(
    sender: str, shares: Iterable[ClientShare], receivers: Collection[str], most: int = MOST_BYTES
) -> None:
    """Check that a shareSecrets request has exactly one share of 1..``most`` bytes for each of ``receivers``.

    Raises :class:`SecureAggregationError` if not.
    """
    deposit = by_id(shares)
    if sender in deposit:
        raise SecureAggregationError(Fault.PEER_SELF, f"the shares of {sender}")
    if deposit.keys() != set(receivers) - {sender}:
        raise SecureAggregationError(Fault.PEER_UNKNOWN, f"the shares of {sender}", "not one for each other device")
    if any(not 0 < len(message.share or b"") <= most for message in deposit.values()):
        raise SecureAggregationError(Fault.SHARE_MALFORMED, f"the shares of {sender}", "wrong length")


class PairwiseUnmasking(RevealedShares):
    """Collects the shares that survivors reveal, and computes the masks left in the sum of their uploads.

    Args:
        shamir: threshold and prime of the plan.
        published: the exchangeKeys request of every device in ``sharers``.
        sharers: the devices whose shares were given out, which added pairwise masks.
        survivors: the sharers whose uploads are in the sum.

    ``survivors`` alone decides which of a device's two secrets is recovered, so never both are.
    """

    def __init__(
        self,
        shamir: Shamir,
        published: Mapping[str, RequestExchangeKeys],
        sharers: Collection[str],
        survivors: Collection[str],
    ) -> None:
        self._published = published
        self._owners = sorted(sharers)
        self._survivors = sorted(survivors)
        if not set(survivors) <= set(sharers):
            raise SecureAggregationError(Fault.PEER_UNKNOWN, "the list of survivors")
        holders = {owner: {other: None for other in self._owners if other != owner} for owner in self._owners}
        super().__init__(shamir, holders, survivors)

    @property
    def ready(self) -> bool:
        """Whether enough shares of every device have arrived."""
        return self.enough(self._owners)

    @property
    def checkable(self) -> bool:
        """Whether there is one more share of each device than needed, so that :meth:`noise` detects an altered one.

        Only this detects an altered share of a seed. It takes one more device than :attr:`ready`.
        """
        return self.enough(self._owners, spare=1)

    def noise(self, length: int, workers: int = 1) -> Noise:
        """Return the correction to add to the sum of uploads (weights times data size), float64 (length,).

        Exact in any order and for any number of threads: masks are multiples of 2**-31 up to 1, and float64 holds sums
        of four million of them exactly. Raises :class:`SecureAggregationError` if shares are missing, contradict each
        other, or do not give the private key of the public one.
        """
        jobs = [job for owner in self._owners for job in self._jobs(owner)]
        total = np.zeros(length)
        _add_in_threads(total, jobs, workers, partial(_summed, length=length))
        return total

    def _jobs(self, owner: str) -> list[_Mask]:
        """Return the masks of ``owner`` that are left in the sum, with the signs that remove them."""
        secret = self._shamir.recover(self.of(owner), owner)
        published = self._published[owner]
        if owner in self._survivors:
            return [_Mask(-1, lambda: secret, published.ind_iv or b"")]
        pair = KeyPair.from_private(secret)
        if not hmac.compare_digest(pair.public, published.s_pk or b""):
            raise SecureAggregationError(Fault.SHARES_DIFFER, f"the shares of {owner}")
        return [self._pair_mask(owner, pair, survivor) for survivor in self._survivors]

    def _pair_mask(self, dropped: str, pair: KeyPair, survivor: str) -> _Mask:
        smaller = self._published[min(dropped, survivor)]
        agreed = pair.agree(self._published[survivor].s_pk or b"")
        if agreed is None:
            raise SecureAggregationError(Fault.KEY_WEAK, survivor)
        # The sum holds the survivor's mask of the pair; the mask of the dropped device would have cancelled it.
        return _Mask(sign_of(dropped, survivor), partial(pbkdf2, agreed, smaller.pw_salt or b""), smaller.pw_iv or b"")


def _summed(masks: Sequence[_Mask], length: int) -> Noise:
    maker = FloatMasks(length)
    total = np.zeros(length)
    for mask in masks:
        values = maker.make(mask.key(), mask.iv)
        if mask.sign > 0:
            total += values
        else:
            total -= values
    return total


class ExactUnmasking(RevealedShares):
    """Collects the shares that survivors reveal, and removes the masks from the sum of their uploads.

    Args:
        plan: parameters of the iteration.
        published: the keys of every device in ``sharers``.
        neighbours: the neighbours of every device in ``sharers``, ascending, as the devices were told.
        sharers: the devices whose shares were given out, which added pairwise masks.
        survivors: the sharers whose uploads are in the sum.

    ``survivors`` alone decides which of a device's two secrets is recovered, so never both are.
    """

    def __init__(
        self,
        plan: ExactPlan,
        published: Mapping[str, ExactKeys],
        neighbours: Mapping[str, Sequence[str]],
        sharers: Collection[str],
        survivors: Collection[str],
    ) -> None:
        self._plan = plan
        self._published = published
        self._survivors = sorted(survivors)
        alive = frozenset(survivors)
        if not alive <= set(sharers):
            raise SecureAggregationError(Fault.PEER_UNKNOWN, "the list of survivors")
        # The masks of a device lost before its upload are left only in its neighbours' uploads.
        self._lost = {
            owner: beside
            for owner in sorted(set(sharers) - alive)
            if (beside := [other for other in neighbours[owner] if other in alive])
        }
        holders: dict[str, dict[str, int | None]] = {
            owner: {holder: place for place, holder in enumerate(neighbours[owner], 1)} for owner in sharers
        }
        super().__init__(plan.shamir, holders, survivors)
        self._recovered: dict[str, Secret] = {}

    @property
    def ready(self) -> bool:
        """Whether enough shares have arrived of every device whose masks are in the sum."""
        return self.enough([*self._survivors, *self._lost])

    def unmask(self, total: WordMask, workers: int = 1) -> WordMask:
        """Return the sum of the uploads, given that of the masked ones, as a new vector.

        Raises :class:`SecureAggregationError` if shares are missing, or do not give the secrets that their owners
        committed to.
        """
        masks = [self._individual(owner) for owner in self._survivors]
        masks += [mask for owner, beside in self._lost.items() for mask in self._pairs(owner, beside)]
        clear: WordMask = total.copy()
        _add_in_threads(clear, masks, workers, partial(self._summed, length=len(total)))
        return clear

    def _individual(self, owner: str) -> _Mask:
        published, context = self._published[owner], self._plan.context
        seed = self._recover(owner, lambda secret: seed_fits(secret, published, context))
        return _Mask(-1, partial(mask_key, seed, self._plan))

    def _pairs(self, owner: str, beside: Iterable[str]) -> list[_Mask]:
        public = self._published[owner].s_pk
        secret = self._recover(owner, lambda secret: hmac.compare_digest(KeyPair.from_private(secret).public, public))
        pair = KeyPair.from_private(secret)
        # The sum holds the survivor's mask of the pair; the mask of the lost device would have cancelled it.
        return [_Mask(sign_of(owner, other), partial(self._pair_key, pair, other)) for other in beside]

    def _pair_key(self, pair: KeyPair, survivor: str) -> bytes:
        agreed = pair.agree(self._published[survivor].s_pk)
        if agreed is None:
            raise SecureAggregationError(Fault.KEY_WEAK, survivor)
        return derive_key(agreed, self._plan.salt("mask"))

    def _recover(self, owner: str, fits: Callable[[bytes], bool]) -> bytes:
        """Return the secret that ``fits``. If it does not, some share was altered: leave out other shares in turn.

        With one share to spare, one altered share is corrected; several may not be. Recovered secrets are kept for
        another attempt, until the iteration is over.
        """
        if owner in self._recovered:
            return self._recovered[owner].reveal()
        shares, shamir = self.of(owner), self._plan.shamir
        spare = len(shares) - shamir.threshold
        if spare < 0:
            raise SecureAggregationError(Fault.TOO_FEW, f"the shares of {owner}", f"{-spare} are missing")
        for start in range(0, len(shares), max(1, spare)) if spare else (0,):
            chosen = [*shares[:start], *shares[start + spare :]][: shamir.threshold]
            secret = shamir.recover_unchecked(chosen)
            if secret is not None and fits(secret):
                self._recovered[owner] = Secret(secret)
                return secret
        raise SecureAggregationError(Fault.SHARES_DIFFER, f"the shares of {owner}")

    def _summed(self, masks: Sequence[_Mask], length: int) -> WordMask:
        maker = WordMasks(length, self._plan.bits)
        total: WordMask = np.zeros(length, f"<u{self._plan.bits // 8}")
        for mask in masks:
            maker.add(total, mask.key(), mask.sign)
        return total


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask to add or subtract. ``key`` derives its key in the thread that makes the mask."""

    sign: int
    key: Callable[[], bytes] = field(repr=False)
    iv: bytes = b""


def _add_in_threads(
    total: MaskT, masks: Sequence[_Mask], workers: int, summed: Callable[[Sequence[_Mask]], MaskT]
) -> None:
    """Add ``masks`` to ``total`` in place; each of ``workers`` threads adds up a part of them with ``summed``."""
    with ThreadPoolExecutor(workers, "mindfl-unmask") as pool:
        for part in pool.map(lambda start: summed(masks[start::workers]), range(workers)):
            np.add(total, part, out=total)
