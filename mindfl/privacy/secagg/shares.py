"""How the shares of one device's two secrets travel to one other device in ``PW_ENCRYPT``, through the server.

The plaintext is four length bytes, of the share of the key, of the share of the seed and of the two places, then the
two places, then the two shares; all numbers big endian without leading zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindfl.privacy.secagg.ciphers import IV_BYTES, cbc_decrypt, cbc_encrypt
from mindfl.privacy.secagg.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.primes import PRIME_BYTES
from mindfl.privacy.secagg.randomness import RandomBytes
from mindfl.privacy.secagg.shamir import Share

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

    Raises :class:`SecureAggregationError` where it is too long, cannot be decrypted, or holds anything but two places
    from 1 on and two shares below ``prime``. One fault covers length and padding: what the padding was is nobody's
    business.
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
