"""What survivors reveal to the server, sorted by whose secret it belongs to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mindfl.privacy.secagg.checks import by_id
from mindfl.privacy.secagg.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.primes import PRIME_BYTES
from mindfl.privacy.secagg.shamir import Shamir, Share
from mindfl.privacy.secagg.shares import MAX_PLACE
from mindfl.protocol import ClientShare


class RevealedShares:
    """Collects the shares that survivors reveal.

    Args:
        shamir: prime and threshold.
        holders: for each owner of a secret, who holds shares of it, each with the place of its share; None: a place
            that the server does not know.
        survivors: the devices that may reveal, for they uploaded.
    """

    def __init__(
        self, shamir: Shamir, holders: Mapping[str, Mapping[str, int | None]], survivors: Collection[str]
    ) -> None:
        self._shamir = shamir
        self._holders = holders
        self._may_reveal = frozenset(survivors)
        self._shares: dict[str, dict[str, Share]] = {owner: {} for owner in holders}
        self._heard: set[str] = set()

    def check(self, sender: str, shares: Iterable[ClientShare]) -> dict[str, Share]:
        """Return the shares of a reconstructSecrets request by their owner.

        Raises :class:`SecureAggregationError` where ``sender`` did not upload or was heard before, a share that it
        holds is missing, or one is of a device of which it holds none, has an impossible value, or another place than
        it was given, or one that another sender claimed.
        """
        if sender not in self._may_reveal:
            raise SecureAggregationError(Fault.PEER_UNKNOWN, f"the revealed shares of {sender}", "it did not upload")
        if sender in self._heard:
            raise SecureAggregationError(Fault.ORDER, f"the revealed shares of {sender}")
        parsed = {owner: self._share(sender, owner, message) for owner, message in by_id(shares).items()}
        missing = [owner for owner, holders in self._holders.items() if sender in holders and owner not in parsed]
        if missing:
            raise SecureAggregationError(Fault.TOO_FEW, f"the revealed shares of {sender}", f"none of {missing[0]}")
        return parsed

    def add(self, sender: str, shares: Iterable[ClientShare]) -> None:
        """Take in what :meth:`check` finds good; raises as that does, and then takes nothing."""
        for owner, share in self.check(sender, shares).items():
            self._shares[owner][sender] = share
        self._heard.add(sender)

    @property
    def heard(self) -> frozenset[str]:
        """Who has revealed its shares."""
        return frozenset(self._heard)

    def enough(self, owners: Iterable[str], spare: int = 0) -> bool:
        """Whether the secret of each of ``owners`` can be recovered, with ``spare`` shares to check it."""
        return all(len(self._shares[owner]) >= self._shamir.threshold + spare for owner in owners)

    def of(self, owner: str) -> list[Share]:
        """Return the shares of ``owner``'s secret, by ascending place."""
        return sorted(self._shares[owner].values(), key=lambda share: share.x)

    def _share(self, sender: str, owner: str, message: ClientShare) -> Share:
        what = f"the revealed shares of {sender}"
        places = self._holders.get(owner, {})
        if sender not in places:
            raise SecureAggregationError(Fault.PEER_UNKNOWN, what, owner)
        raw = message.share or b""
        share = Share(message.index, int.from_bytes(raw, "big"))
        if not (0 < len(raw) <= PRIME_BYTES and 0 < share.x <= MAX_PLACE and share.value < self._shamir.prime):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, what, f"of {owner}")
        claimed = any(other.x == share.x for other in self._shares[owner].values())
        if claimed or places[sender] not in (None, share.x):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, what, f"of {owner}: not at its place")
        return share
