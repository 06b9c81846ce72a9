"""Secret sharing and the form in which shares travel: properties, and everything that is refused."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.privacy.secagg import Fault, SecureAggregationError, SeededRandom, Shamir, Share
from mindfl.privacy.secagg.ciphers import cbc_encrypt
from mindfl.privacy.secagg.shares import (
    EXACT_PRIME,
    MOST_BYTES,
    PAIRWISE_PRIME,
    SharePair,
    number_bytes,
    open_shares,
    seal_shares,
)

KEY, IV = bytes(range(32)), bytes(range(16))
SECRET = bytes(range(1, 33))

secrets = st.binary(min_size=32, max_size=32)


def refused(call: object) -> Fault:
    assert callable(call)
    with pytest.raises(SecureAggregationError) as caught:
        call()
    return caught.value.fault


@settings(deadline=None)
@given(secret=secrets, threshold=st.integers(1, 6), spare=st.integers(0, 3), seed=st.integers(), exact=st.booleans())
def test_any_threshold_of_shares_gives_the_secret(
    secret: bytes, threshold: int, spare: int, seed: int, exact: bool
) -> None:
    shamir = Shamir(EXACT_PRIME if exact else PAIRWISE_PRIME, threshold)
    shares = shamir.split(secret, range(1, threshold + spare + 1), SeededRandom(seed))

    for chosen in combinations(shares, threshold):
        assert shamir.recover(reversed(chosen), "x") == secret
    assert shamir.recover(shares, "x") == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\0" + b"\xff" * 31, b"\xff" * 32, bytes(31) + b"\1"])
def test_leading_zeros_and_the_largest_secret_survive(secret: bytes) -> None:
    shamir = Shamir(PAIRWISE_PRIME, 3)

    assert shamir.recover(shamir.split(secret, [5, 1, 9], SeededRandom(1)), "x") == secret


def test_known_answer() -> None:
    # 1234 + 166 x + 94 x**2: the textbook's example, here with its coefficients drawn from a stand-in generator
    numbers = iter([94, 166])
    shamir = Shamir(PAIRWISE_PRIME, 3)
    shares = shamir.split((1234).to_bytes(32, "big"), range(1, 7), lambda count: next(numbers).to_bytes(count, "big"))

    assert [share.value for share in shares] == [1494, 1942, 2578, 3402, 4414, 5614]


def test_fewer_shares_fit_any_secret() -> None:
    shamir = Shamir(EXACT_PRIME, 3)
    known = shamir.split(SECRET, [1, 2, 3], SeededRandom(1))[:2]

    others = {shamir.recover_unchecked([*known, Share(3, value)]) for value in range(1, 200)}

    assert len(others - {None}) > 150


@pytest.mark.parametrize("xs", [[0, 1, 2], [1, 1, 2], [1, 2, -3], [1, 2, PAIRWISE_PRIME]])
def test_places_that_cannot_be_are_refused(xs: list[int]) -> None:
    shamir = Shamir(PAIRWISE_PRIME, 2)

    assert refused(lambda: shamir.split(SECRET, xs, SeededRandom(1))) is Fault.SHARE_MALFORMED
    assert refused(lambda: shamir.recover([Share(x, 5) for x in xs], "x")) is Fault.SHARE_MALFORMED


def test_too_few_shares_are_refused() -> None:
    shamir = Shamir(PAIRWISE_PRIME, 3)

    assert refused(lambda: shamir.recover([Share(1, 1), Share(2, 2)], "x")) is Fault.TOO_FEW
    assert refused(lambda: shamir.split(SECRET, [1, 2], SeededRandom(1))) is Fault.TOO_FEW
    assert refused(lambda: Shamir(PAIRWISE_PRIME, 0).recover([Share(1, 1)], "x")) is Fault.THRESHOLD


@given(changed=st.integers(0, 4), by=st.integers(1, 2**64))
def test_one_altered_share_among_more_than_needed_is_found(changed: int, by: int) -> None:
    shamir = Shamir(PAIRWISE_PRIME, 3)
    shares = shamir.split(SECRET, range(1, 6), SeededRandom(1))
    shares[changed] = Share(shares[changed].x, (shares[changed].value + by) % PAIRWISE_PRIME)

    assert refused(lambda: shamir.recover(shares, "x")) is Fault.SHARES_DIFFER
    assert refused(lambda: shamir.recover(shares[:4] if changed < 4 else shares[1:], "x")) is Fault.SHARES_DIFFER


def test_values_outside_the_field_are_refused() -> None:
    shamir = Shamir(PAIRWISE_PRIME, 1)

    for value in (PAIRWISE_PRIME, -1):
        assert refused(lambda value=value: shamir.recover([Share(1, value)], "x")) is Fault.SHARE_MALFORMED
    assert refused(lambda: shamir.recover([Share(1, 1 << 256)], "x")) is Fault.SHARES_DIFFER


def test_shares_are_not_shown() -> None:
    assert "424242" not in repr(Share(1, 424242))


numbers = st.integers(0, PAIRWISE_PRIME - 1)
places = st.integers(1, 2**31 - 1)


@settings(deadline=None)
@given(place=places, key=numbers, seed=numbers)
def test_sealed_shares_are_opened_by_their_receiver(place: int, key: int, seed: int) -> None:
    pair = SharePair(Share(place, key), Share(place, seed))

    sealed = seal_shares(pair, KEY, SeededRandom(1))

    assert len(sealed) <= MOST_BYTES == 96
    assert open_shares(sealed, KEY, PAIRWISE_PRIME, "x") == pair


def test_the_plaintext_is_that_of_the_reference() -> None:
    pair = SharePair(Share(0x102, 0xABCDEF), Share(3, 0))
    plain = bytes([3, 1, 2, 1]) + bytes([1, 2]) + bytes([3]) + bytes([0xAB, 0xCD, 0xEF]) + bytes([0])

    assert seal_shares(pair, KEY, lambda count: IV[:count]) == cbc_encrypt(KEY, IV, plain)


def plain_of(lengths: list[int], *parts: bytes) -> bytes:
    return cbc_encrypt(KEY, IV, bytes(lengths) + b"".join(parts))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", Fault.SHARE_UNREADABLE),
        (bytes(16), Fault.SHARE_UNREADABLE),
        (bytes(47), Fault.SHARE_UNREADABLE),
        (bytes(96), Fault.SHARE_UNREADABLE),
        (cbc_encrypt(KEY, IV, bytes(80)), Fault.SHARE_UNREADABLE),  # 112 bytes: longer than any share
        (plain_of([]), Fault.SHARE_MALFORMED),
        (plain_of([1, 1]), Fault.SHARE_MALFORMED),
        (plain_of([1, 1, 1, 1]), Fault.SHARE_MALFORMED),
        (plain_of([1, 1, 1, 1], b"abc"), Fault.SHARE_MALFORMED),
        (plain_of([1, 1, 1, 1], b"abcde"), Fault.SHARE_MALFORMED),
        (plain_of([34, 1, 1, 1], bytes(37)), Fault.SHARE_MALFORMED),
        (plain_of([1, 1, 5, 1], bytes(8)), Fault.SHARE_MALFORMED),
        (plain_of([0, 1, 1, 1], b"\1\1\1"), Fault.SHARE_MALFORMED),
        (plain_of([1, 1, 1, 1], b"\0\1\5\5"), Fault.SHARE_MALFORMED),  # place 0
        (plain_of([1, 1, 1, 4], b"\1\xff\xff\xff\xff\5\5"), Fault.SHARE_MALFORMED),  # a place beyond int32
        (plain_of([33, 1, 1, 1], b"\1\1" + b"\xff" * 33 + b"\5"), Fault.SHARE_MALFORMED),  # not in the field
    ],
)
def test_malformed_shares_are_refused_by_name(data: bytes, fault: Fault) -> None:
    assert refused(lambda: open_shares(data, KEY, PAIRWISE_PRIME, "device x")) is fault


@given(st.binary(max_size=200))
def test_any_plaintext_is_read_or_refused(plain: bytes) -> None:
    try:
        pair = open_shares(cbc_encrypt(KEY, IV, plain), KEY, PAIRWISE_PRIME, "x")
    except SecureAggregationError as error:
        assert error.fault in (Fault.SHARE_MALFORMED, Fault.SHARE_UNREADABLE)
    else:
        assert 0 < pair.key.x < 2**31 and pair.key.value < PAIRWISE_PRIME and pair.seed.value < PAIRWISE_PRIME


@given(st.integers(0, 1 << 300))
def test_numbers_have_no_leading_zeros(number: int) -> None:
    raw = number_bytes(number)

    assert int.from_bytes(raw, "big") == number and (raw[0] or raw == b"\0")


@pytest.mark.parametrize("place", [62, 2**24, 2**31 - 1])
def test_places_of_up_to_four_bytes_are_opened(place: int) -> None:
    pair = SharePair(Share(place, 5), Share(place, 6))
    assert open_shares(seal_shares(pair, KEY, SeededRandom(1)), KEY, PAIRWISE_PRIME, "x") == pair
