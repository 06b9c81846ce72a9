"""The server's part of ``PW_ENCRYPT``: from the shares that survivors reveal to the noise in the sum."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.secagg.checks import by_id
from mindfl.privacy.secagg.ciphers import pbkdf2
from mindfl.privacy.secagg.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.keys import KeyPair
from mindfl.privacy.secagg.masks import FloatMasks, sign_of
from mindfl.privacy.secagg.revealed import RevealedShares
from mindfl.privacy.secagg.shamir import Shamir
from mindfl.privacy.secagg.shares import MOST_BYTES
from mindfl.protocol import ClientShare, RequestExchangeKeys

Noise = NDArray[np.float64]


def check_deposit(
    sender: str, shares: Iterable[ClientShare], receivers: Collection[str], most: int = MOST_BYTES
) -> None:
    """Refuse a shareSecrets request unless it has exactly one share of 1..``most`` bytes for each of ``receivers``.

    Raises :class:`SecureAggregationError`.
    """
    deposit = by_id(shares)
    if sender in deposit:
        raise SecureAggregationError(Fault.PEER_SELF, f"the shares of {sender}")
    if deposit.keys() != set(receivers) - {sender}:
        raise SecureAggregationError(Fault.PEER_UNKNOWN, f"the shares of {sender}", "not one for each other device")
    if any(not 0 < len(message.share or b"") <= most for message in deposit.values()):
        raise SecureAggregationError(Fault.SHARE_MALFORMED, f"the shares of {sender}", "wrong length")


class PairwiseUnmasking(RevealedShares):
    """Collects what survivors reveal, and computes the masks that are left in the sum of their uploads.

    Args:
        shamir: threshold and prime of the plan.
        published: what every device of ``sharers`` sent to exchangeKeys.
        sharers: the devices whose shares were given out (they carry pairwise masks).
        survivors: those of them whose uploads are in the sum.

    Which of a device's two secrets is recovered is decided by ``survivors`` alone, so never both.
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
        """Whether enough shares of every device are here."""
        return self.enough(self._owners)

    @property
    def checkable(self) -> bool:
        """Whether one share of each device could be spared, so that :meth:`noise` finds an altered one.

        Seeds need it: nothing else tells a wrong one. It takes one more device than :attr:`ready`.
        """
        return self.enough(self._owners, spare=1)

    def noise(self, length: int, workers: int = 1) -> Noise:
        """Return what to add to the sum of uploads (weights times data size), float64 (length,).

        Exact whatever the order and the number of threads: masks are multiples of 2**-31 not above 1, and float64
        holds sums of four million of them. Raises :class:`SecureAggregationError` where shares are missing, contradict
        each other, or do not give the private key of the public one.
        """
        jobs = [job for owner in self._owners for job in self._jobs(owner)]
        total = np.zeros(length)
        with ThreadPoolExecutor(workers, "mindfl-unmask") as pool:
            for part in pool.map(lambda start: _summed(jobs[start::workers], length), range(workers)):
                total += part
        return total

    def _jobs(self, owner: str) -> list[_Mask]:
        """Return the masks that ``owner`` leaves in the sum, with the sign that removes them."""
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
        # The sum holds the survivor's side of the pair; the dropped device's own side would have cancelled it.
        return _Mask(sign_of(dropped, survivor), partial(pbkdf2, agreed, smaller.pw_salt or b""), smaller.pw_iv or b"")


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask to be added or subtracted. ``key``: derives its key, in the thread that makes the mask."""

    sign: int
    key: Callable[[], bytes] = field(repr=False)
    iv: bytes


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
