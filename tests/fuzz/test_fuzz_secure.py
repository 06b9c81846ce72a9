"""Secure aggregation is told nonsense: it is taken or refused by name, and both secrets of a device never come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar, get_args

import numpy as np
import pytest
from fuzz_budget import budget, fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st
from protocol_messages import messages, same
from secagg_rounds import (
    EXACT_KEYS,
    LENGTH,
    PAIRWISE_KEYS,
    ExactRound,
    Leaves,
    PairwiseRound,
    delivered,
    params,
    published,
)

from mindfl.privacy.secagg import (
    ExactDevice,
    ExactKeys,
    FixedPoint,
    PairwiseDevice,
    SecureAggregationError,
    SeededRandom,
    Shamir,
    Share,
    check_deposit,
    check_exact_keys,
    check_keys,
)
from mindfl.privacy.secagg.ciphers import cbc_encrypt
from mindfl.privacy.secagg.shares import (
    MAX_PLACE,
    PAIRWISE_PRIME,
    RevealedShares,
    SharePair,
    by_id,
    open_shares,
    seal_shares,
)
from mindfl.protocol import ClientPublicKeys, ClientShare, decode, encode
from mindfl.protocol.flatbuf import BrokenBufferError
from mindfl.protocol.secure import SecureRequest, SecureResponse

Item = TypeVar("Item")
Result = TypeVar("Result")

TABLES: tuple[type[Any], ...] = (*get_args(SecureRequest), *get_args(SecureResponse))
for _table in TABLES:
    decode(encode(_table()), _table)  # the layout is made once, and is no part of what an input costs

IDS = ("", "a", "b", "device-0-é", "device-7-é", "device-99", "\N{SNOWMAN}" * 40, "\0")
INTEGERS = (0, 1, 2, -1, 3, 2**31 - 1, -(2**31))


def _read(body: bytes, kind: type[Any]) -> Any:
    with budget(memory=12 * len(body) + 16_384, calls=8 * len(body) + 2000):
        try:
            return decode(body, kind)
        except BrokenBufferError as error:
            assert str(error) and "\n" not in str(error)
            return None


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
@fuzz(25)
@given(data=st.data())
def test_changed_tables(kind: type[Any], data: st.DataObject) -> None:
    body = data.draw(changed(encode(data.draw(messages(kind)))))
    message = _read(body, kind)
    assert message is None or same(decode(encode(message), kind), message)


def _taken(step: Callable[[], Result], memory: int = 2**18, calls: int = 20_000) -> Result | None:
    """Return what ``step`` returns, or None where it refuses, in one line and at a bounded price."""
    with budget(memory=memory, calls=calls):
        try:
            return step()
        except SecureAggregationError as error:
            assert "\n" not in error.line() and len(error.line()) < 1000
            return None


@st.composite
def bent(draw: st.DrawFn, value: Any) -> Any:
    """Draw something else for a field of this value."""
    if isinstance(value, int):
        return draw(st.sampled_from(INTEGERS) | st.integers(-(2**31), 2**31 - 1))
    if isinstance(value, str):
        return draw(st.sampled_from(IDS))
    if not value or draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=200))
    return draw(changed(value, most=2))


@st.composite
def disturbed(draw: st.DrawFn, items: Sequence[Item], most: int = 3) -> list[Item]:
    """Draw a list with up to ``most`` entries that are gone, doubled, exchanged or changed in one field."""
    listed = list(items)
    for _ in range(draw(st.integers(0, most))):
        if not listed:
            break
        at, other = (draw(st.integers(0, len(listed) - 1)) for _ in range(2))
        match draw(st.sampled_from(["gone", "doubled", "exchanged", "changed", "changed"])):
            case "gone":
                del listed[at]
            case "doubled":
                listed.append(listed[at])
            case "exchanged":
                listed[at], listed[other] = _exchanged(listed[at], listed[other])
            case _:
                listed[at] = draw(_changed_field(listed[at]))
    return listed


def _exchanged(one: Any, other: Any) -> tuple[Any, Any]:
    if isinstance(one, str):
        return other, one
    return replace(one, fl_id=other.fl_id), replace(other, fl_id=one.fl_id)


@st.composite
def _changed_field(draw: st.DrawFn, item: Any) -> Any:
    if isinstance(item, str):
        return draw(st.sampled_from(IDS))
    names = [field.name for field in fields(item) if isinstance(getattr(item, field.name), (int, str, bytes))]
    name = draw(st.sampled_from(names))
    absent = not isinstance(item, ExactKeys) and not isinstance(getattr(item, name), int)
    return replace(item, **{name: None if absent and draw(st.booleans()) else draw(bent(getattr(item, name)))})


KEY = bytes(range(32))
PAIR = SharePair(Share(3, 2**255 + 7), Share(3, 5))
SEALED = seal_shares(PAIR, KEY, SeededRandom("seal"))


def _check_pair(data: bytes) -> None:
    pair = _taken(lambda: open_shares(data, KEY, PAIRWISE_PRIME, "owner"))
    if pair is not None:
        for share in (pair.key, pair.seed):
            assert 0 < share.x <= MAX_PLACE and 0 <= share.value < PAIRWISE_PRIME


@fuzz(200)
@given(data=changed(SEALED) | st.binary(max_size=300) | st.just(SEALED))
def test_changed_sealed_shares(data: bytes) -> None:
    _check_pair(data)


@fuzz(200)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 4, 5, 32, 33, 34, 255]), max_size=5).map(bytes),
    rest=st.binary(max_size=80) | st.integers(0, 80).map(lambda size: b"\xff" * size),
)
def test_sealed_shares_of_any_content(lengths: bytes, rest: bytes) -> None:
    _check_pair(cbc_encrypt(KEY, bytes(16), lengths + rest))


def test_a_sealed_share_of_a_million_bytes() -> None:
    data = bytes(2**20)
    assert _taken(lambda: open_shares(data, KEY, PAIRWISE_PRIME, "owner"), memory=2**14) is None


_VALUES = st.sampled_from([b"\1", b"", bytes(33), b"\xff" * 33, b"\xff" * 34, bytes(2000)]) | st.binary(max_size=34)
_REVEALED = st.builds(
    ClientShare,
    fl_id=st.sampled_from(["a", "b", "c", "d", "", "x"]) | st.none(),
    share=_VALUES | st.none(),
    index=st.sampled_from([1, 2, 3, 4, 1, 2]) | st.integers(-(2**31), 2**31 - 1),
)


@fuzz(150)
@given(
    told=st.lists(st.tuples(st.sampled_from("abcdx"), st.lists(_REVEALED, max_size=4)), max_size=10),
    places=st.booleans(),
)
def test_revealed_shares_of_any_kind(told: list[tuple[str, list[ClientShare]]], places: bool) -> None:
    owners = "abcd"
    holders: dict[str, dict[str, int | None]] = {
        owner: {other: owners.index(other) + 1 if places else None for other in owners if other != owner}
        for owner in owners
    }
    revealed = RevealedShares(Shamir(PAIRWISE_PRIME, 2), holders, "abc")
    for sender, shares in told:
        before = {owner: revealed.of(owner) for owner in owners}
        heard = revealed.heard
        if _taken(lambda: revealed.add(sender, shares) or True) is None:  # noqa: B023 - called at once
            assert revealed.heard == heard and all(revealed.of(owner) == before[owner] for owner in owners)
        else:
            assert sender in "abc" and sender not in heard
    for owner in owners:
        xs = [share.x for share in revealed.of(owner)]
        assert len(set(xs)) == len(xs) <= len(revealed.heard - {owner})
        assert all(0 < share.x <= MAX_PLACE and share.value < PAIRWISE_PRIME for share in revealed.of(owner))


@fuzz(150)
@given(shares=st.lists(_REVEALED, max_size=6), receivers=st.sets(st.sampled_from("abcd")))
def test_deposits_of_any_kind(shares: list[ClientShare], receivers: set[str]) -> None:
    found = _taken(lambda: by_id(shares))
    accepted = _taken(lambda: check_deposit("a", shares, receivers) or True)
    if accepted:
        assert found is not None and set(found) == receivers - {"a"}
        assert all(0 < len(share.share or b"") <= 96 for share in shares)


@fuzz(100)
@given(data=st.binary(max_size=100), length=st.integers(0, 14), bits=st.sampled_from([32, 64]))
def test_words_of_any_length(data: bytes, length: int, bits: int) -> None:
    words = _taken(lambda: FixedPoint(bits, 7, 20, 10).unpack(data, length, "a"))
    if words is not None:
        assert words.size == length and words.tobytes() == data


THRESHOLD = 3
PLAIN = PairwiseRound([Leaves.NEVER] * 5, THRESHOLD)
EXACT = ExactRound([Leaves.NEVER] * 5, THRESHOLD)
ME = PLAIN.ids[0]
PLAIN_SEALED = delivered({name: device.shares() for name, device in PLAIN.devices.items()}, ME)
EXACT_SEALED = delivered({name: device.shares() for name, device in EXACT.devices.items()}, ME)
PLAIN_KEYS = [published(request) for request in PLAIN.requests.values()]
EXACT_KEYS_OF_OTHERS = [keys for name, keys in EXACT.keys.items() if name != ME]
_SURVIVORS = st.lists(disturbed(PLAIN.ids), min_size=1, max_size=4)


def _taken_by_a_device(step: Callable[[], Result]) -> Result | None:
    return _taken(step, memory=2**20, calls=200_000)


def _check_reveals(reveal: Callable[[Iterable[str]], Iterable[ClientShare]], lists: Iterable[list[str]]) -> None:
    """Name several lists of survivors; fail where two shares of one device come out, which were of both secrets."""
    shown: dict[str, set[bytes]] = {}
    for survivors in lists:
        revealed = _taken_by_a_device(partial(reveal, survivors))
        assert revealed is None or (ME in survivors and len(set(survivors)) >= THRESHOLD)
        for share in revealed or ():
            shown.setdefault(share.fl_id or "", set()).add(share.share or b"")
    assert all(len(shares) == 1 for shares in shown.values())


@fuzz(80)
@given(keys=disturbed(PLAIN_KEYS, 1), sealed=disturbed(PLAIN_SEALED, 1), survivors=_SURVIVORS)
def test_a_device_of_pw_encrypt_is_told_nonsense(
    keys: list[ClientPublicKeys], sealed: list[ClientShare], survivors: list[list[str]]
) -> None:
    device = PairwiseDevice(ME, params(THRESHOLD), random=SeededRandom(3, ME, 1), pairs=PAIRWISE_KEYS)
    steps = (lambda: device.meet(keys), device.shares, lambda: device.receive(sealed), lambda: device.mask(LENGTH))
    for step in steps:
        if _taken_by_a_device(lambda: (step(),)) is None:  # noqa: B023 - called at once
            break
    else:
        _check_reveals(device.reveal, survivors)
        return
    # What was refused is not passed over: nothing goes out any more. Found: an upload without masks of pairs.
    for late in (lambda: device.mask(LENGTH), lambda: device.reveal(PLAIN.ids)):
        assert _taken_by_a_device(late) is None


@fuzz(80)
@given(keys=disturbed(EXACT_KEYS_OF_OTHERS, 1), sealed=disturbed(EXACT_SEALED, 1), survivors=_SURVIVORS)
def test_a_device_of_pw_exact_is_told_nonsense(
    keys: list[ExactKeys], sealed: list[ClientShare], survivors: list[list[str]]
) -> None:
    device = ExactDevice(ME, EXACT.plan, random=SeededRandom(4, ME, 1), pairs=EXACT_KEYS)
    words = np.zeros(LENGTH, np.uint64)
    steps = (lambda: device.meet(keys), device.shares, lambda: device.receive(sealed), lambda: device.hide(words))
    for step in steps:
        if _taken_by_a_device(lambda: (step(),)) is None:  # noqa: B023 - called at once
            break
    else:
        _check_reveals(device.reveal, survivors)
        return
    for late in (lambda: device.hide(words), lambda: device.reveal(EXACT.ids)):
        assert _taken_by_a_device(late) is None


def test_devices_that_are_told_no_nonsense_go_on_to_the_end() -> None:
    test_a_device_of_pw_encrypt_is_told_nonsense.hypothesis.inner_test(PLAIN_KEYS, PLAIN_SEALED, [PLAIN.ids])
    test_a_device_of_pw_exact_is_told_nonsense.hypothesis.inner_test(EXACT_KEYS_OF_OTHERS, EXACT_SEALED, [EXACT.ids])


@fuzz(150)
@given(data=st.data())
def test_changed_keys_are_checked(data: st.DataObject) -> None:
    request = data.draw(_changed_field(PLAIN.requests[ME]))
    if _taken(lambda: check_keys(request) or True):
        assert len(request.s_pk) == len(request.c_pk) == len(request.pw_salt) == 32
        assert len(request.pw_iv) == len(request.ind_iv) == 16
    exact = data.draw(_changed_field(EXACT.keys[ME]))
    if _taken(lambda: check_exact_keys(exact) or True):
        assert len(exact.s_pk) == len(exact.c_pk) == len(exact.commitment) == 32
