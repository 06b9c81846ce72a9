"""The server's part of ``PW_EXACT``: from the sum of masked uploads to the sum of the uploads, to the bit."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mindfl.privacy.secagg.exact import ExactKeys, Round, derive_key, mask_key, seed_fits
from mindfl.privacy.secagg.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.keys import KeyPair
from mindfl.privacy.secagg.masks import WordMask, WordMasks, sign_of
from mindfl.privacy.secagg.revealed import RevealedShares
from mindfl.privacy.secagg.secret import Secret


class ExactUnmasking(RevealedShares):
    """Collects what survivors reveal, and takes the masks out of the sum of their uploads.

    Args:
        plan: of the iteration.
        published: the keys of every device of ``sharers``.
        neighbours: those of every device of ``sharers``, ascending, as the devices were told.
        sharers: the devices whose shares were given out (they carry pairwise masks).
        survivors: those of them whose uploads are in the sum.

    Which of a device's two secrets is recovered is decided by ``survivors`` alone, so never both.
    """

    def __init__(
        self,
        plan: Round,
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
        # A device that was lost before it uploaded matters only to survivors beside it.
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
        """Whether enough shares of every device that matters are here."""
        return self.enough([*self._survivors, *self._lost])

    def unmask(self, total: WordMask, workers: int = 1) -> WordMask:
        """Return the sum of the uploads, given that of the masked ones, as a new vector.

        Raises :class:`SecureAggregationError` where shares are missing, or the secrets that they give are not those
        that their owners committed to.
        """
        masks = [self._individual(owner) for owner in self._survivors]
        masks += [mask for owner, beside in self._lost.items() for mask in self._pairs(owner, beside)]
        clear: WordMask = total.copy()
        with ThreadPoolExecutor(workers, "mindfl-unmask") as pool:
            for part in pool.map(lambda start: self._summed(masks[start::workers], len(total)), range(workers)):
                np.add(clear, part, out=clear)
        return clear

    def _individual(self, owner: str) -> _Mask:
        published, context = self._published[owner], self._plan.context
        seed = self._recover(owner, lambda secret: seed_fits(secret, published, context))
        return _Mask(-1, partial(mask_key, seed, self._plan))

    def _pairs(self, owner: str, beside: Iterable[str]) -> list[_Mask]:
        public = self._published[owner].s_pk
        secret = self._recover(owner, lambda secret: hmac.compare_digest(KeyPair.from_private(secret).public, public))
        pair = KeyPair.from_private(secret)
        # The sum holds the survivor's side of the pair; the lost device's own side would have cancelled it.
        return [_Mask(sign_of(owner, other), partial(self._pair_key, pair, other)) for other in beside]

    def _pair_key(self, pair: KeyPair, survivor: str) -> bytes:
        agreed = pair.agree(self._published[survivor].s_pk)
        if agreed is None:
            raise SecureAggregationError(Fault.KEY_WEAK, survivor)
        return derive_key(agreed, self._plan.salt("mask"))

    def _recover(self, owner: str, fits: Callable[[bytes], bool]) -> bytes:
        """Return the secret that ``fits``. Where it does not, some share was altered: leave out others in turn.

        One altered share is made up for by one that can be spared; of several that is not certain. What was found is
        kept for another attempt, until the iteration is over.
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
    """A mask to be added or subtracted. ``key``: derives its key, in the thread that makes the mask."""

    sign: int
    key: Callable[[], bytes] = field(repr=False)
