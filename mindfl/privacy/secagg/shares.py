"""Shares of secrets: Shamir's secret sharing, how shares travel in ``PW_ENCRYPT``, and what survivors reveal.

In Shamir's scheme a polynomial over a prime field has the secret as its value at 0. The shares of one device's two
secrets travel to one other device through the server, encrypted. The plaintext is four length bytes, of the share of
the key, of the share of the seed and of the two places, then the two places, then the two shares; all numbers big
endian without leading zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Protocol, TypeVar

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes, random_below
from mindfl.privacy.secagg.ciphers import IV_BYTES, cbc_decrypt, cbc_encrypt
from mindfl.protocol import ClientShare

#: MindSpore Federated 0.1.0's prime has 264 bits: 33 bytes, so that every 32-byte secret is smaller
PRIME_BITS = 264
PRIME_BYTES = PRIME_BITS // 8
#: the smallest safe prime of that many bits. The server of 0.1.0 draws one at its start; any such prime works
PAIRWISE_PRIME = 2**263 + 14079
#: the smallest prime above 2**256
EXACT_PRIME = 2**256 + 297


#: secrets are 32 bytes, big endian, whatever their first bytes are
SECRET_BYTES = 32
_SECRET_LIMIT = 1 << 8 * SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Share:
    """The polynomial's value at ``x``."""

    x: int
    value: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shamir:
    """Sharing of 32-byte secrets: ``threshold`` shares recover a secret, fewer reveal nothing about it.

    ``prime`` exceeds 2**256.
    """

    prime: int
    threshold: int

    def split(self, secret: bytes, xs: Sequence[int], random: RandomBytes) -> list[Share]:
        """Return one share for each of ``xs``, in their order. Coefficients are uniform in 1..prime - 1 (as in 0.1.0).

        Raises :class:`SecureAggregationError` if there are fewer ``xs`` than the threshold, one occurs twice, or one
        is 0: the share there would be the secret.
        """
        self._check_places(xs, "the places of shares")
        coefficients = [random_below(self.prime, random) for _ in range(self.threshold - 1)]
        coefficients.append(int.from_bytes(secret, "big"))
        return [Share(x, self._at(coefficients, x)) for x in xs]

    def recover(self, shares: Iterable[Share], owner: str) -> bytes:
        """Return the secret of ``owner``, padded to 32 bytes.

        All shares are checked: with more than ``threshold`` of them, an altered one is detected. Raises
        :class:`SecureAggregationError`.
        """
        ordered = sorted(shares, key=lambda share: share.x)
        xs = tuple(share.x for share in ordered)
        self._check_places(xs, f"the shares of {owner}")
        if any(not 0 <= share.value < self.prime for share in ordered):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, f"the shares of {owner}")
        if not self._on_one_polynomial(ordered, xs):
            raise SecureAggregationError(Fault.SHARES_DIFFER, f"the shares of {owner}")
        secret = self.recover_unchecked(ordered[: self.threshold])
        if secret is None:
            raise SecureAggregationError(Fault.SHARES_DIFFER, f"the shares of {owner}", "no secret is that large")
        return secret

    def recover_unchecked(self, shares: Sequence[Share]) -> bytes | None:
        """Return the 32-byte secret of ``threshold`` shares of different places; None if the number is larger.

        For a secret that can be checked afterwards: altered shares give a different secret.
        """
        weights = _weights_at_zero(tuple(share.x for share in shares), self.prime)
        secret = sum(weight * share.value for weight, share in zip(weights, shares, strict=True)) % self.prime
        return secret.to_bytes(SECRET_BYTES, "big") if secret < _SECRET_LIMIT else None

    def _at(self, coefficients: Sequence[int], x: int) -> int:
        value = 0
        for coefficient in coefficients:
            value = value * x + coefficient
        return value % self.prime

    def _check_places(self, xs: Sequence[int], what: str) -> None:
        if not 1 <= self.threshold <= len(xs):
            detail = f"{len(xs)} of {self.threshold} that are needed"
            raise SecureAggregationError(Fault.TOO_FEW if self.threshold >= 1 else Fault.THRESHOLD, what, detail)
        if len(set(xs)) < len(xs) or not all(0 < x < self.prime for x in xs):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, what, "an index is 0, too large, or used twice")

    def _on_one_polynomial(self, shares: Sequence[Share], xs: tuple[int, ...]) -> bool:
        """Return whether all shares lie on one polynomial of degree below the threshold (dual code check)."""
        spare = len(shares) - self.threshold
        if not spare:
            return True
        terms = [weight * share.value for weight, share in zip(_dual_weights(xs, self.prime), shares, strict=True)]
        for _ in range(spare):
            if sum(terms) % self.prime:
                return False
            terms = [term * x % self.prime for term, x in zip(terms, xs, strict=True)]
        return True


@lru_cache(maxsize=1024)
def _weights_at_zero(xs: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """Return Lagrange's weights for the value at 0."""
    whole = prod(-x for x in xs)
    return tuple(
        whole // -x * pow(prod(x - other for other in xs if other != x) % prime, -1, prime) % prime for x in xs
    )


@lru_cache(maxsize=1024)
def _dual_weights(xs: tuple[int, ...], prime: int) -> tuple[int, ...]:
    return tuple(pow(prod(x - other for other in xs if other != x) % prime, -1, prime) for x in xs)


#: a place travels to the server as int32
MOST_PLACE_BYTES = 4
MAX_PLACE = 2**31 - 1
_LENGTHS = 4
#: initial vector and the longest plaintext, padded
MOST_BYTES = IV_BYTES + (_LENGTHS + 2 * MOST_PLACE_BYTES + 2 * PRIME_BYTES) // IV_BYTES * IV_BYTES + IV_BYTES


@dataclass(frozen=True, slots=True)
class SharePair:
    """One device's shares of another's private mask key and individual seed."""

    key: Share
    seed: Share


def seal_shares(pair: SharePair, key: bytes, random: RandomBytes) -> bytes:
    """Return ``pair`` encrypted under the key that owner and receiver agreed upon; at most 96 bytes."""
    numbers = (pair.key.x, pair.seed.x, pair.key.value, pair.seed.value)
    places_and_shares = [number_bytes(number) for number in numbers]
    key_place, seed_place, key_share, seed_share = places_and_shares
    lengths = bytes(map(len, (key_share, seed_share, key_place, seed_place)))
    return cbc_encrypt(key, random(IV_BYTES), lengths + b"".join(places_and_shares))


def open_shares(data: bytes, key: bytes, prime: int, owner: str) -> SharePair:
    """Return what :func:`seal_shares` encrypted. ``owner`` is named in errors.

    Raises :class:`SecureAggregationError` if it is too long, cannot be decrypted, or does not hold two places from 1 on
    and two shares below ``prime``. Wrong length and wrong padding are one fault, so that no padding oracle exists.
    """
    plain = cbc_decrypt(key, data) if len(data) <= MOST_BYTES else None
    if plain is None:
        raise SecureAggregationError(Fault.SHARE_UNREADABLE, f"a share from {owner}")
    key_share, seed_share, key_place, seed_place = _split(plain, owner)
    pair = SharePair(Share(key_place, key_share), Share(seed_place, seed_share))
    for share in (pair.key, pair.seed):
        if not (0 < share.x <= MAX_PLACE and share.value < prime):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, f"a share from {owner}")
    return pair


def number_bytes(number: int) -> bytes:
    """Return ``number`` big endian without leading zeros; 0 as one byte."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def _split(plain: bytes, owner: str) -> tuple[int, int, int, int]:
    """Return share of the key, share of the seed, and their places."""
    lengths, rest = plain[:_LENGTHS], plain[_LENGTHS:]
    most = (PRIME_BYTES, PRIME_BYTES, MOST_PLACE_BYTES, MOST_PLACE_BYTES)
    fits = len(lengths) == _LENGTHS and all(0 < length <= limit for length, limit in zip(lengths, most, strict=True))
    if not fits or sum(lengths) != len(rest):
        raise SecureAggregationError(Fault.SHARE_MALFORMED, f"a share from {owner}", "its lengths do not fit")
    shares_at = lengths[2] + lengths[3]
    places, shares = rest[:shares_at], rest[shares_at:]
    return (
        int.from_bytes(shares[: lengths[0]], "big"),
        int.from_bytes(shares[lengths[0] :], "big"),
        int.from_bytes(places[: lengths[2]], "big"),
        int.from_bytes(places[lengths[2] :], "big"),
    )


class _OfDevice(Protocol):
    @property
    def fl_id(self) -> str | None: ...


OfDeviceT = TypeVar("OfDeviceT", bound=_OfDevice)


def by_id(items: Iterable[OfDeviceT]) -> dict[str, OfDeviceT]:
    """Return ``items`` by their device. Raises :class:`SecureAggregationError` for a repeated or missing id."""
    found: dict[str, OfDeviceT] = {}
    for item in items:
        if not item.fl_id:
            raise SecureAggregationError(Fault.PEER_UNKNOWN, "a list of devices", "an entry without id")
        if item.fl_id in found:
            raise SecureAggregationError(Fault.PEER_TWICE, "a list of devices", item.fl_id)
        found[item.fl_id] = item
    return found


class RevealedShares:
    """Collects the shares that survivors reveal.

    Args:
        shamir: prime and threshold.
        holders: owner of a secret -> devices that hold its shares -> place of the share; None: the server does not know
            the place.
        survivors: the devices that uploaded, and so may reveal.
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

        Raises :class:`SecureAggregationError` if ``sender`` did not upload or has already revealed its shares, if a
        share that it holds is missing, or if a share belongs to a device of which it holds none, has an impossible
        value, a wrong place, or a place that another sender claimed.
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
        """Store the shares if :meth:`check` accepts them. Raises as it does, and then stores nothing."""
        for owner, share in self.check(sender, shares).items():
            self._shares[owner][sender] = share
        self._heard.add(sender)

    @property
    def heard(self) -> frozenset[str]:
        """The devices that have revealed their shares."""
        return frozenset(self._heard)

    def enough(self, owners: Iterable[str], spare: int = 0) -> bool:
        """Return whether each of ``owners``' secrets can be recovered, with ``spare`` further shares to check it."""
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
