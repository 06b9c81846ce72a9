"""The steps of an iteration with ``PW_ENCRYPT`` and ``STABLE_PW_ENCRYPT``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mindfl.privacy.secagg import PairwiseUnmasking, check_deposit, check_keys, check_params
from mindfl.protocol import ClientPublicKeys, RequestExchangeKeys, RequestShareSecrets, Weights
from mindfl.server.aggregate import UploadSum
from mindfl.server.secagg.rounds import Rounds, workers


class PairwiseRounds(Rounds[PairwiseUnmasking]):
    """``PW_ENCRYPT``."""

    def bare(self, request: RequestExchangeKeys) -> RequestExchangeKeys:
        """See :meth:`Rounds.bare`."""
        return replace(request, timestamp=None, signature=None, certificate_chain=None)

    def check_published(self, request: RequestExchangeKeys) -> None:
        """See :meth:`Rounds.check_published`."""
        check_keys(request)

    def keys_for(self, fl_id: str) -> tuple[ClientPublicKeys, ...]:
        """Return the keys of all clients, by ascending id."""
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

    @property
    def certain(self) -> bool:
        """Seeds are checked by a redundant share, which takes one more client."""
        return self._unmasking is not None and self._unmasking.checkable

    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """See :meth:`Rounds.average`."""
        return total.average(previous, self._unmasking_now.noise(total.layout.size, workers()))

    def _make_unmasking(self, survivors: frozenset[str]) -> PairwiseUnmasking | None:
        return PairwiseUnmasking(check_params(self.params), self.published, self.sharers, survivors)


class StableRounds(PairwiseRounds):
    """``STABLE_PW_ENCRYPT``: pairwise masks alone, which cancel if all clients that published keys upload."""

    @property
    def shared(self) -> bool:
        """No shares are asked for."""
        return self.exchanged

    @property
    def sharers(self) -> Collection[str]:
        """The clients that published keys."""
        return self.published.keys()

    def may_upload(self, fl_id: str) -> bool:
        """Whether the keys of all are known, its own among them."""
        return self.exchanged and fl_id in self.published

    def check_published(self, request: RequestExchangeKeys) -> None:
        """See :meth:`Rounds.check_published`."""
        check_keys(request, stable=True)

    def bare(self, request: RequestExchangeKeys) -> RequestExchangeKeys:
        """See :meth:`Rounds.bare`."""
        return replace(super().bare(request), c_pk=None, ind_iv=None)

    @property
    def ready(self) -> bool:
        """Whether all have uploaded."""
        return self.survivors is not None

    @property
    def certain(self) -> bool:
        """Nothing could be altered."""
        return self.ready

    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """Return the average of the sum, whose masks have cancelled."""
        return total.average(previous)

    def _make_unmasking(self, survivors: frozenset[str]) -> None:
        """No mask is left to remove."""
