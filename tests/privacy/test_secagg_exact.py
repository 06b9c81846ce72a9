"""PW_EXACT: bit-equality, uniform uploads, dropouts at every step, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.stats import chi2
from secagg_rounds import CONTEXT, EXACT_KEYS, LENGTH, ExactRound, Leaves, delivered, names

from mindfl.errors import OptionError
from mindfl.privacy.secagg import (
    ExactDevice,
    ExactKeys,
    ExactPlan,
    ExactUnmasking,
    Fault,
    FixedPoint,
    KeyPair,
    SecureAggregationError,
    SeededRandom,
    Share,
    check_exact_keys,
    plan_graph,
)
from mindfl.privacy.secagg.exact import commit
from mindfl.privacy.secagg.shares import EXACT_PRIME, MAX_PLACE, SharePair
from mindfl.protocol import ClientShare

STAY = Leaves.NEVER


def refused(call: Callable[[], object]) -> Fault:
    with pytest.raises(SecureAggregationError) as caught:
        call()
    return caught.value.fault


def right(played: ExactRound) -> bool | None:
    """Tell whether the unmasked sum has the plain one's bits; None where the iteration is declared failed."""
    if not played.survivors:
        return None
    try:
        total = played.total(played.uploads())
        return played.unmasking().unmask(total).tobytes() == played.plain().tobytes()
    except SecureAggregationError as error:
        assert error.fault is Fault.TOO_FEW
        return None


def can_succeed(played: ExactRound) -> bool:
    revealing = set(played.before(Leaves.REVEAL))
    needed = {*played.survivors}
    needed |= {lost for lost in played.sharers if set(played.beside[lost]) & set(played.survivors)}
    near_sharers = (set(played.beside[name]) & set(played.sharers) for name in played.sharers)
    return (
        all(len(near) >= played.threshold for near in near_sharers)
        and all(len(played.near(name)) >= played.threshold for name in revealing)
        and all(len(set(played.beside[owner]) & revealing) >= played.threshold for owner in needed)
    )


@pytest.mark.parametrize(("count", "bits"), [(3, 32), (3, 64), (4, 32), (4, 64), (5, 64)])
def test_the_sum_is_exact_or_the_iteration_fails(count: int, bits: int) -> None:
    seen = set()
    for leaves in product(Leaves, repeat=count):
        played = ExactRound(leaves, threshold=(count + 1) // 2 + (count == 2), bits=bits)
        expected = bool(played.survivors) and can_succeed(played)
        assert right(played) is (True if expected else None), leaves
        seen.add(expected)
    assert seen == {True, False}


@settings(max_examples=3, deadline=None)
@given(st.randoms(use_true_random=False))
def test_thirty_percent_of_fifty_may_be_lost(random: Any) -> None:
    plan = plan_graph(50, 2, 15)
    leaves = [STAY] * 35 + [random.choice(list(Leaves)[1:]) for _ in range(15)]
    random.shuffle(leaves)
    neighbours = plan.neighbours(names(50), random.randbytes)

    assert plan.degree < 49 and right(ExactRound(leaves, plan.threshold, neighbours=neighbours)) is True


def test_more_losses_than_planned_fail_the_iteration_and_never_spoil_it() -> None:
    plan = plan_graph(30, 1, 3)
    random = np.random.default_rng(1)
    results = []
    for _ in range(12):
        leaves = random.permutation([Leaves.UPLOAD] * 9 + [Leaves.REVEAL] * 3 + [STAY] * 18)
        neighbours = plan.neighbours(names(30), random.bytes)
        results.append(right(ExactRound([Leaves(step) for step in leaves], plan.threshold, neighbours=neighbours)))

    assert set(results) <= {True, None} and None in results


def uniform(values: np.ndarray[Any, Any], cells: int) -> bool:
    """Chi-square test against the uniform distribution, at 1 in a million."""
    counts = np.bincount(values, minlength=cells)
    statistic = ((counts - values.size / cells) ** 2 / (values.size / cells)).sum()
    return float(chi2.sf(statistic, cells - 1)) > 1e-6


@pytest.mark.parametrize("bits", [32, 64])
def test_masked_uploads_are_uniform_in_every_byte_and_bit(bits: int) -> None:
    length, size = 20_000, bits // 8
    plan = ExactPlan(CONTEXT, 2, bits)
    devices = [ExactDevice(name, plan, random=SeededRandom(6, name), pairs=EXACT_KEYS) for name in "abc"]
    for device in devices:
        device.meet(other.keys for other in devices if other is not device)
    deposits = {device.fl_id: device.shares() for device in devices}
    plain = np.zeros(length, f"<u{size}")

    for device in devices:
        device.receive(delivered(deposits, device.fl_id))
        masked = device.hide(plain).view(np.uint8).reshape(length, size)
        for byte in range(size):
            assert uniform(masked[:, byte], 256)
        for bit in np.unpackbits(masked, axis=1).T:
            assert uniform(bit, 2)
    assert not uniform(plain.view(np.uint8), 256)


def test_masked_uploads_do_not_follow_the_weights() -> None:
    played = ExactRound([STAY] * 3, threshold=2)
    masks = {name: upload - played.words(name) for name, upload in played.uploads().items()}
    again = ExactRound([STAY] * 3, threshold=2)
    again.fixed = replace(again.fixed, fraction_bits=again.fixed.fraction_bits - 1)

    # The same seeds and other weights: the same masks, whose distribution is uniform whatever the weights are.
    for name, upload in again.uploads().items():
        np.testing.assert_array_equal(upload - again.words(name), masks[name])


def test_the_server_gets_one_secret_of_each_device_and_never_both() -> None:
    played = ExactRound([STAY, STAY, STAY, STAY, Leaves.UPLOAD], threshold=3)
    played.uploads()
    answers = [share for name in played.survivors for share in played.devices[name].reveal(played.survivors)]

    for owner in played.ids:
        values = [
            Share(share.index, int.from_bytes(share.share or b"", "big")) for share in answers if share.fl_id == owner
        ]
        secret = played.plan.shamir.recover(values, owner)
        keys = played.keys[owner]
        assert (KeyPair.from_private(secret).public == keys.s_pk) == (owner not in played.survivors)
        assert (commit(secret, owner, CONTEXT) == keys.commitment) == (owner in played.survivors)


def test_a_device_does_not_change_its_answer() -> None:
    played = ExactRound([STAY] * 5, threshold=3)
    played.uploads()
    device = played.devices[played.ids[0]]
    answer = device.reveal(played.ids)

    assert device.reveal([*played.ids, "no neighbour"]) == answer
    assert refused(lambda: device.reveal(played.ids[:4])) is Fault.REVEAL_CHANGED


def test_survivors_that_cannot_be_are_refused() -> None:
    played = ExactRound([STAY] * 5, threshold=3)
    played.uploads()
    first, *others = played.ids
    device = played.devices[first]

    assert refused(lambda: device.reveal(others)) is Fault.PEER_UNKNOWN
    assert refused(lambda: device.reveal([*played.ids, first])) is Fault.PEER_TWICE
    assert refused(lambda: device.reveal([first, others[0], "no neighbour"])) is Fault.TOO_FEW
    device.wipe()
    assert refused(lambda: device.reveal(played.ids)) is not None


@pytest.mark.parametrize("step", [Leaves.UPLOAD, STAY], ids=["of a key", "of a seed"])
@pytest.mark.parametrize("liar", range(4))
def test_an_altered_share_is_found_and_done_without(step: Leaves, liar: int) -> None:
    played = ExactRound([STAY, STAY, STAY, STAY, step], threshold=3)
    total = played.total(played.uploads())
    unmasking = ExactUnmasking(played.plan, played.keys, played.beside, played.sharers, played.survivors)
    for place, name in enumerate(played.survivors):
        shares = list(played.devices[name].reveal(played.survivors))
        if place == liar:
            shares = [replace(share, share=bytes(33)) if share.fl_id == played.ids[4] else share for share in shares]
        unmasking.add(name, shares)

    assert unmasking.unmask(total).tobytes() == played.plain().tobytes()


def test_missing_shares_are_counted_in_the_refusal() -> None:
    played = ExactRound([STAY] * 5, threshold=3)
    total = played.total(played.uploads())
    unmasking = played.unmasking(silent=played.ids[1:])

    assert not unmasking.ready
    with pytest.raises(SecureAggregationError, match=r"\(2 are missing\)|\(3 are missing\)"):
        unmasking.unmask(total)


def test_too_many_altered_shares_fail_the_iteration() -> None:
    played = ExactRound([STAY, STAY, STAY, STAY, Leaves.UPLOAD], threshold=3)
    total = played.total(played.uploads())
    unmasking = ExactUnmasking(played.plan, played.keys, played.beside, played.sharers, played.survivors)
    for name in played.survivors:
        shares = played.devices[name].reveal(played.survivors)
        forged = [replace(share, share=b"\1") if share.fl_id == played.ids[4] else share for share in shares]
        unmasking.add(name, forged)

    assert unmasking.ready and refused(lambda: unmasking.unmask(total)) is Fault.SHARES_DIFFER


def test_another_attempt_does_without_the_altered_shares_of_the_first() -> None:
    """And keeps the secrets that the first one found: shares that are altered afterwards do not matter to them."""
    sent = sorted(names(8))
    lost, late = sent[7], sent[2:4]
    played = ExactRound([Leaves.UPLOAD if name == lost else STAY for name in names(8)], threshold=4)
    total = played.total(played.uploads())
    # The first two alter what they know of the lost device, those who come late what they know of the first one.
    altered = {**dict.fromkeys(sent[:2], lost), **dict.fromkeys(late, sent[0])}

    def reveal(unmasking: ExactUnmasking, name: str) -> None:
        shares = played.devices[name].reveal(played.survivors)
        wrong = [replace(share, share=bytes(33)) if share.fl_id == altered.get(name) else share for share in shares]
        unmasking.add(name, wrong)

    unmasking = played.unmasking(silent=sent)
    for name in (*sent[:2], *sent[4:7]):
        reveal(unmasking, name)
    assert unmasking.ready and refused(lambda: unmasking.unmask(total)) is Fault.SHARES_DIFFER
    for name in late:
        reveal(unmasking, name)
    assert unmasking.unmask(total).tobytes() == played.plain().tobytes()

    all_at_once = played.unmasking(silent=sent)
    for name in sent[:7]:
        reveal(all_at_once, name)
    assert refused(lambda: all_at_once.unmask(total)) is Fault.SHARES_DIFFER


def test_an_altered_upload_or_a_garbage_mask_changes_only_the_sum_it_is_in() -> None:
    """What no masking can prevent: a device may lie about its own weights."""
    played = ExactRound([STAY] * 3, threshold=2)
    uploads = played.uploads()
    uploads[played.ids[0]] = uploads[played.ids[0]] + np.uint64(5)

    clear = played.unmasking().unmask(played.total(uploads))

    np.testing.assert_array_equal(clear, played.plain() + np.uint64(5))


def met(context: bytes = CONTEXT, threshold: int = 3) -> list[ExactDevice]:
    plan = ExactPlan(context, threshold)
    return [ExactDevice(name, plan, random=SeededRandom(4, name, 1), pairs=EXACT_KEYS) for name in names(5)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda me, keys: [me, *keys], Fault.PEER_SELF),
        (lambda me, keys: [keys[0], *keys], Fault.PEER_TWICE),
        (lambda me, keys: keys[:2], Fault.THRESHOLD),
        (lambda me, keys: [*keys, replace(keys[0], fl_id="more"), replace(keys[0], fl_id="most")], Fault.THRESHOLD),
        (lambda me, keys: [replace(keys[0], c_pk=b""), *keys[1:]], Fault.KEY_LENGTH),
        (lambda me, keys: [replace(keys[0], s_pk=bytes(33)), *keys[1:]], Fault.KEY_LENGTH),
        (lambda me, keys: [replace(keys[0], fl_id=""), *keys[1:]], Fault.PEER_UNKNOWN),
    ],
)
def test_neighbours_that_cannot_be_are_refused(
    change: Callable[[ExactKeys, list[ExactKeys]], list[ExactKeys]], fault: Fault
) -> None:
    me, *others = met()

    assert refused(lambda: me.meet(change(me.keys, [other.keys for other in others]))) is fault


def test_a_threshold_of_half_with_which_two_lists_give_both_secrets_is_refused() -> None:
    keys = [device.keys for device in met()[1:]]

    assert refused(lambda: met(threshold=2)[0].meet(keys)) is Fault.THRESHOLD
    met(threshold=3)[0].meet(keys)


def test_an_upload_has_a_name_of_its_own() -> None:
    first, second = met()[:2]
    names_of = {first.upload_name, second.upload_name, met(context=b"another instance")[0].upload_name}

    assert len(names_of) == 3 and first.upload_name == met()[0].upload_name
    assert all(name.startswith("PW_EXACT ") and len(name) == 41 for name in names_of)


def test_a_share_fits_only_its_sender_its_receiver_and_its_iteration() -> None:
    def after(
        change: Callable[[dict[str, Sequence[ClientShare]], str], list[ClientShare]], context: bytes = CONTEXT
    ) -> Fault:
        senders, receivers = met(), met(context)
        for devices in (senders, receivers):
            for device in devices:
                device.meet(other.keys for other in devices if other is not device)
        deposits: dict[str, Sequence[ClientShare]] = {device.fl_id: device.shares() for device in senders}
        receivers[0].shares()
        return refused(lambda: receivers[0].receive(change(deposits, receivers[0].fl_id)))

    def redirected(deposits: dict[str, Sequence[ClientShare]], me: str) -> list[ClientShare]:
        got = delivered(deposits, me)
        return [replace(got[0], share=got[1].share), *got[1:]]

    def returned(deposits: dict[str, Sequence[ClientShare]], me: str) -> list[ClientShare]:
        """What this device sent itself, handed back as its neighbour's."""
        return list(deposits[me])

    def flipped(deposits: dict[str, Sequence[ClientShare]], me: str) -> list[ClientShare]:
        first, *others = delivered(deposits, me)
        share = bytearray(first.share or b"")
        share[20] ^= 1
        return [replace(first, share=bytes(share)), *others]

    assert after(redirected) is Fault.SHARE_UNREADABLE
    assert after(returned) is Fault.SHARE_UNREADABLE
    assert after(flipped) is Fault.SHARE_UNREADABLE
    assert after(delivered, b"job of tests, iteration 2") is Fault.SHARE_UNREADABLE
    assert after(lambda deposits, me: [replace(delivered(deposits, me)[0], share=bytes(9999))] * 1) is Fault.TOO_FEW
    oversized = after(lambda deposits, me: [replace(share, share=bytes(9999)) for share in delivered(deposits, me)])
    assert oversized is Fault.SHARE_UNREADABLE
    strangers = after(
        lambda deposits, me: [replace(share, fl_id=f"{share.fl_id}!") for share in delivered(deposits, me)]
    )
    assert strangers is Fault.PEER_UNKNOWN


@pytest.mark.parametrize(
    ("key", "seed", "fault"),
    [
        (Share(1, 0), Share(1, EXACT_PRIME - 1), None),
        (Share(MAX_PLACE, EXACT_PRIME - 1), Share(MAX_PLACE, 0), None),
        (Share(0, 5), Share(0, 5), Fault.SHARE_MALFORMED),
        (Share(MAX_PLACE + 1, 5), Share(MAX_PLACE + 1, 5), Fault.SHARE_MALFORMED),
        (Share(1, EXACT_PRIME), Share(1, 5), Fault.SHARE_MALFORMED),
        (Share(1, 5), Share(1, EXACT_PRIME), Fault.SHARE_MALFORMED),
    ],
)
def test_a_neighbour_may_send_any_number_below_the_prime_at_any_place_and_no_other(
    key: Share, seed: Share, fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = met()
    for device in devices:
        device.meet(other.keys for other in devices if other is not device)
    me, liar, *others = devices
    deposits: dict[str, Sequence[ClientShare]] = {device.fl_id: device.shares() for device in (me, *others)}
    monkeypatch.setattr("mindfl.privacy.secagg.holder.SharePair", lambda *_: SharePair(key, seed))
    deposits[liar.fl_id] = liar.shares()
    monkeypatch.undo()

    if fault:
        assert refused(lambda: me.receive(delivered(deposits, me.fl_id))) is fault
    else:
        me.receive(delivered(deposits, me.fl_id))


def test_only_who_shared_can_have_uploaded() -> None:
    played = ExactRound([STAY] * 4, threshold=3)
    played.uploads()

    for sharers, survivors in ((played.ids[:3], played.ids), (played.ids, [*played.ids, "stranger"])):
        assert refused(
            lambda s=sharers, u=survivors: ExactUnmasking(played.plan, played.keys, played.beside, s, u)
        ) is (Fault.PEER_UNKNOWN)


def test_shares_are_in_the_order_of_their_places_whoever_revealed_first() -> None:
    played = ExactRound([STAY] * 5, threshold=3)
    played.uploads()
    unmasking = ExactUnmasking(played.plan, played.keys, played.beside, played.sharers, played.survivors)
    for name in sorted(played.survivors, reverse=True):
        unmasking.add(name, played.devices[name].reveal(played.survivors))

    for owner in played.ids:
        assert [share.x for share in unmasking.of(owner)] == [1, 2, 3, 4]


def test_a_revealed_share_must_be_at_its_place() -> None:
    played = ExactRound([STAY] * 5, threshold=3)
    played.uploads()
    unmasking = ExactUnmasking(played.plan, played.keys, played.beside, played.sharers, played.survivors)
    first, *others = played.devices[played.ids[0]].reveal(played.ids)

    moved = replace(first, index=first.index % 4 + 1)
    assert refused(lambda: unmasking.add(played.ids[0], [moved, *others])) is Fault.SHARE_MALFORMED
    assert refused(lambda: unmasking.add(played.ids[0], [replace(first, fl_id=played.ids[0])])) is Fault.PEER_UNKNOWN
    assert refused(lambda: unmasking.add("stranger", [first])) is Fault.PEER_UNKNOWN


@pytest.mark.parametrize("field", ["c_pk", "s_pk", "commitment"])
def test_the_server_refuses_keys_that_cannot_be(field: str) -> None:
    keys = met()[0].keys

    check_exact_keys(keys)
    for value in (b"", bytes(31), bytes(100_000)):
        assert refused(lambda value=value: check_exact_keys(replace(keys, **{field: value}))) is Fault.KEY_LENGTH
    if field != "commitment":
        assert refused(lambda: check_exact_keys(replace(keys, **{field: bytes(32)}))) is Fault.KEY_WEAK


def test_unmasking_is_the_same_with_any_number_of_threads() -> None:
    played = ExactRound([STAY, STAY, STAY, STAY, Leaves.UPLOAD], threshold=3)
    total = played.total(played.uploads())
    unmasking = played.unmasking()

    assert len({unmasking.unmask(total, workers).tobytes() for workers in (1, 2, 5)}) == 1


finite = st_numpy.arrays(np.float32, st.integers(1, 30), elements=st.floats(-128, 128, width=32))


@given(weights=finite, data_size=st.integers(1, 65_535))
def test_fixed_point_comes_back_within_half_a_step(weights: np.ndarray[Any, Any], data_size: int) -> None:
    fixed = FixedPoint.for_job(1000, 65_535)

    average = fixed.decode(fixed.encode(weights, data_size, "x"), data_size)

    step = 2.0**-fixed.fraction_bits
    error = np.abs(average.astype(np.float64) - weights)
    assert fixed.fraction_bits == 30 and (error <= step / 2 + np.spacing(np.abs(weights))).all()


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_does_not_wrap_around(bits: int, sign: int) -> None:
    uploads, data_size = (50, 500) if bits == 32 else (1000, 65_535)
    fixed = FixedPoint.for_job(uploads, data_size, bits=bits, range_bits=3)
    words = fixed.encode(np.array([sign * 8.0], np.float32), data_size, "x")

    total = np.sum([words] * uploads, axis=0, dtype=fixed.dtype)

    assert fixed.decode(total, uploads * data_size) == np.float32(sign * 8)


def test_eight_bits_behind_the_point_are_the_fewest() -> None:
    assert FixedPoint.for_job(1, 2**16 - 1, bits=32).fraction_bits == 8
    with pytest.raises(OptionError, match="leave 7 fraction bits, and 8 are needed") as caught:
        FixedPoint.for_job(1, 2**16, bits=32)
    assert "64 bits" in (caught.value.hint or "")


def test_the_documented_precisions() -> None:
    assert FixedPoint.for_job(1000, 65_535).fraction_bits == 30
    assert FixedPoint.for_job(100_000, 65_535).fraction_bits == 23
    assert FixedPoint.for_job(50, 500, range_bits=3, bits=32).fraction_bits == 13


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 128.01, -1e30])
def test_weights_out_of_range_are_refused(value: float) -> None:
    fixed = FixedPoint.for_job(10, 100)

    assert refused(lambda: fixed.encode(np.array([0.5, value], np.float32), 1, "device x")) is Fault.OUT_OF_RANGE


@pytest.mark.parametrize(
    "arguments", [(0, 5), (5, 0), (10**9, 10**9), (5, 5, {"bits": 16}), (5, 5, {"range_bits": -1})]
)
def test_jobs_without_fixed_point_are_refused(arguments: tuple[Any, ...]) -> None:
    *counts, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})

    with pytest.raises(OptionError):
        FixedPoint.for_job(*counts, **options)


@pytest.mark.parametrize("data_size", [1, 2, 1000])
def test_data_sizes_from_one_to_the_planned_total_are_decoded(data_size: int) -> None:
    fixed = FixedPoint.for_job(10, 100)

    assert fixed.decode(fixed.encode(np.array([0.5], np.float32), 1, "x") * np.uint64(data_size), data_size) == 0.5


@pytest.mark.parametrize("data_size", [0, -1, 1001])
def test_a_total_that_was_not_planned_is_refused(data_size: int) -> None:
    fixed = FixedPoint.for_job(10, 100)

    with pytest.raises(OptionError):
        fixed.decode(np.zeros(3, fixed.dtype), data_size)


@pytest.mark.parametrize("bits", [32, 64])
def test_words_travel_as_bytes_and_other_lengths_are_refused(bits: int) -> None:
    fixed = FixedPoint.for_job(5, 5, bits=bits)
    words = np.arange(LENGTH, dtype=fixed.dtype) << (bits - 7)
    data = fixed.pack(words)

    np.testing.assert_array_equal(fixed.unpack(data, LENGTH, "x"), words)
    for wrong in (b"", data[:-1], data + b"\0", data * 2):
        assert refused(lambda wrong=wrong: fixed.unpack(wrong, LENGTH, "x")) is Fault.UPLOAD_LENGTH


def test_one_sample_and_no_range_bits_are_the_least_of_a_fixed_point() -> None:
    assert FixedPoint.for_job(1, 1, range_bits=0).max_total == 1
    for uploads, samples, bits in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(OptionError, match="no fixed point of 64 bits"):
            FixedPoint.for_job(uploads, samples, range_bits=bits)
