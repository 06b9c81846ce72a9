"""PW_ENCRYPT and STABLE_PW_ENCRYPT from both ends: dropouts at every step, refusals, a recorded iteration."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_rounds import (
    LENGTH,
    PAIRWISE_KEYS,
    Leaves,
    PairwiseRound,
    delivered,
    names,
    params,
    published,
    weights,
)

from mindfl.privacy.secagg import (
    Fault,
    KeyPair,
    PairwiseDevice,
    PairwiseUnmasking,
    SecureAggregationError,
    SeededRandom,
    Shamir,
    Share,
    check_deposit,
    check_keys,
    check_params,
)
from mindfl.privacy.secagg.ciphers import FloatMasks
from mindfl.privacy.secagg.shares import PAIRWISE_PRIME
from mindfl.protocol import ClientShare, PWParams, RequestExchangeKeys

GOLDEN = Path(__file__).parents[1] / "golden" / "secagg" / "pairwise.json"
STAY = Leaves.NEVER


def refused(call: Callable[[], object]) -> Fault:
    with pytest.raises(SecureAggregationError) as caught:
        call()
    return caught.value.fault


def outcome(leaves: Sequence[Leaves], threshold: int) -> float | None:
    """Return the largest error of the unmasked sum; None where the iteration is declared failed."""
    played = PairwiseRound(leaves, threshold)
    if not played.survivors:
        return None
    try:
        uploads = played.uploads()
        noise = played.unmasking().noise(LENGTH)
    except SecureAggregationError as error:
        assert error.fault is Fault.TOO_FEW
        return None
    total = np.sum([upload.astype(np.float64) for upload in uploads.values()], axis=0)
    return float(np.abs(total + noise - played.plain()).max())


def can_succeed(leaves: Sequence[Leaves], threshold: int) -> bool:
    played = PairwiseRound(leaves, threshold)
    revealing = played.before(Leaves.REVEAL)
    return (
        len(played.sharers) > threshold
        and len(played.survivors) >= threshold
        and all(len(set(revealing) - {owner}) >= threshold for owner in played.sharers)
    )


@pytest.mark.parametrize(
    ("count", "threshold"),
    [
        *((count, threshold) for count in (2, 3, 4) for threshold in range(1, count)),
        *(pytest.param(5, threshold, marks=pytest.mark.slow) for threshold in (1, 2, 3)),
    ],
)
def test_the_sum_is_right_or_the_iteration_fails(count: int, threshold: int) -> None:
    for leaves in product(Leaves, repeat=count):
        error = outcome(leaves, threshold)
        assert (error is not None) == can_succeed(leaves, threshold), leaves
        assert error is None or error < 1e-5, leaves


@settings(max_examples=2, deadline=None)
@given(st.randoms(use_true_random=False))
def test_thirty_percent_of_fifty_may_be_lost(random: Any) -> None:
    leaves = [STAY] * 35 + [random.choice(list(Leaves)[1:]) for _ in range(15)]
    random.shuffle(leaves)

    error = outcome(leaves, threshold=26)

    assert error is not None and error < 1e-4


def test_the_server_gets_one_secret_of_each_device_and_never_both() -> None:
    played = PairwiseRound([STAY, STAY, STAY, STAY, Leaves.UPLOAD], threshold=2)
    played.uploads()
    answers = {name: played.devices[name].reveal(played.survivors) for name in played.survivors}

    for owner in played.ids:
        shares = [share for answer in answers.values() for share in answer if share.fl_id == owner]
        values = [Share(share.index, int.from_bytes(share.share or b"", "big")) for share in shares]
        secret = Shamir(PAIRWISE_PRIME, 2).recover(values, owner)
        is_key = KeyPair.from_private(secret).public == played.requests[owner].s_pk
        assert is_key == (owner not in played.survivors)


def test_a_device_does_not_change_its_answer() -> None:
    played = PairwiseRound([STAY] * 4, threshold=2)
    played.uploads()
    device = played.devices[played.ids[0]]
    answer = device.reveal(played.ids)

    assert device.reveal(reversed(played.ids)) == answer
    assert refused(lambda: device.reveal(played.ids[:3])) is Fault.REVEAL_CHANGED


def test_survivors_that_cannot_be_are_refused() -> None:
    played = PairwiseRound([STAY] * 4, threshold=3)
    played.uploads()
    first, *others = played.ids
    device = played.devices[first]

    assert refused(lambda: device.reveal(others)) is Fault.PEER_UNKNOWN
    assert refused(lambda: device.reveal([*played.ids, "stranger"])) is Fault.PEER_UNKNOWN
    assert refused(lambda: device.reveal([*played.ids, first])) is Fault.PEER_TWICE
    assert refused(lambda: device.reveal([first, others[0]])) is Fault.TOO_FEW


def test_masks_hide_the_weights() -> None:
    played = PairwiseRound([STAY] * 3, threshold=1)

    for name, upload in played.uploads().items():
        assert np.abs(upload - weights(played.ids.index(name))).max() > 0.1


def test_masks_do_not_depend_on_the_order_of_messages() -> None:
    masks = []
    for turned in (False, True):
        played = PairwiseRound([STAY] * 4, threshold=2)
        deposits = {name: device.shares() for name, device in played.devices.items()}
        device = played.devices[played.ids[0]]
        received = delivered(deposits, played.ids[0])
        device.receive(received[::-1] if turned else received)
        masks.append(device.mask(LENGTH).tobytes())

    assert masks[0] == masks[1]


def test_stable_masks_cancel_without_shares() -> None:
    ids = names(4)
    devices = [
        PairwiseDevice(name, PWParams(), random=SeededRandom(5, name), pairs=PAIRWISE_KEYS, stable=True) for name in ids
    ]
    for device in devices:
        check_keys(device.request, stable=True)
        assert device.request.c_pk is None and device.request.ind_iv is None
        device.meet(published(other.request) for other in devices)

    masks = [device.mask(LENGTH) for device in devices]

    assert np.abs(np.sum(masks, axis=0)).max() < 1e-6 < np.abs(masks[0]).max()
    with pytest.raises(SecureAggregationError):
        devices[0].shares()


def met() -> tuple[PairwiseDevice, list[Any]]:
    devices = [
        PairwiseDevice(name, params(2), random=SeededRandom(3, name, 1), pairs=PAIRWISE_KEYS) for name in names(4)
    ]
    return devices[0], [published(device.request) for device in devices]


def test_only_who_shared_can_have_uploaded() -> None:
    played = PairwiseRound([STAY] * 4, threshold=3)
    played.uploads()
    plan = check_params(params(3))

    for sharers, survivors in ((played.ids[:3], played.ids), (played.ids, [*played.ids, "stranger"])):
        assert refused(lambda s=sharers, u=survivors: PairwiseUnmasking(plan, played.requests, s, u)) is (
            Fault.PEER_UNKNOWN
        )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda keys: keys[1:], Fault.KEYS_NOT_MINE),
        (lambda keys: [replace(keys[0], s_pk=keys[1].s_pk), *keys[1:]], Fault.KEYS_NOT_MINE),
        (lambda keys: [*keys, keys[1]], Fault.PEER_TWICE),
        (lambda keys: [*keys, replace(keys[1], fl_id=None)], Fault.PEER_UNKNOWN),
        (lambda keys: keys[:2], Fault.TOO_FEW),
        (lambda keys: [*keys[:3], replace(keys[3], c_pk=bytes(31))], Fault.KEY_LENGTH),
        (lambda keys: [*keys[:3], replace(keys[3], s_pk=None)], Fault.KEY_LENGTH),
        (lambda keys: [*keys[:3], replace(keys[3], pw_iv=bytes(15))], Fault.KEY_LENGTH),
        (lambda keys: [*keys[:3], replace(keys[3], pw_salt=bytes(33))], Fault.KEY_LENGTH),
    ],
)
def test_a_list_of_keys_that_cannot_be_is_refused(change: Callable[[list[Any]], list[Any]], fault: Fault) -> None:
    device, keys = met()

    assert refused(lambda: device.meet(change(keys))) is fault
    assert refused(device.shares) is not None, "a device that was refused something goes no further"


def test_a_weak_key_is_found_by_the_device_too() -> None:
    device, keys = met()
    device.meet([*keys[:3], replace(keys[3], c_pk=bytes(32))])

    assert refused(device.shares) is Fault.KEY_WEAK


def test_steps_out_of_order_are_refused() -> None:
    device, keys = met()

    for step in (device.shares, lambda: device.receive([]), lambda: device.mask(3), lambda: device.reveal([])):
        assert refused(step) is Fault.ORDER
    device.meet(keys)
    assert refused(lambda: device.meet(keys)) is Fault.ORDER


def test_after_a_step_that_failed_none_is_taken() -> None:
    """What was half taken in is not trusted: not even the same step with good input."""
    device, keys = met()

    assert refused(lambda: device.meet(keys[1:])) is not Fault.ORDER
    for step in (lambda: device.meet(keys), device.shares, lambda: device.reveal([])):
        assert refused(step) is Fault.ORDER


def test_shares_for_others_of_others_or_altered_are_refused() -> None:
    def after(change: Callable[[list[ClientShare]], list[ClientShare]]) -> Fault:
        played = PairwiseRound([STAY] * 4, threshold=2)
        deposits = {name: device.shares() for name, device in played.devices.items()}
        device = played.devices[played.ids[0]]
        return refused(lambda: device.receive(change(delivered(deposits, played.ids[0]))))

    assert after(lambda got: [*got, got[0]]) is Fault.PEER_TWICE
    assert after(lambda got: [replace(got[0], fl_id="stranger"), *got[1:]]) is Fault.PEER_UNKNOWN
    assert after(lambda got: got[:1]) is Fault.TOO_FEW
    assert after(lambda got: [replace(got[0], share=None), *got[1:]]) is Fault.SHARE_UNREADABLE
    swapped = after(lambda got: [replace(got[0], share=got[1].share), replace(got[1], share=got[0].share), got[2]])
    assert swapped in (Fault.SHARE_UNREADABLE, Fault.SHARE_MALFORMED)


@pytest.mark.parametrize(
    "plan", [PWParams(), PWParams(t=1), PWParams(t=0, prime=b"\xff" * 33), PWParams(t=1, prime=b"\xff" * 34)]
)
def test_a_plan_without_field_is_refused(plan: PWParams) -> None:
    assert refused(lambda: check_params(plan)) is Fault.THRESHOLD


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        *((field, None, Fault.KEY_LENGTH) for field in ("c_pk", "s_pk", "ind_iv", "pw_iv", "pw_salt")),
        ("c_pk", bytes(32), Fault.KEY_WEAK),
        ("s_pk", b"\1" + bytes(31), Fault.KEY_WEAK),
        ("s_pk", bytes(10_000), Fault.KEY_LENGTH),
        ("pw_salt", b"", Fault.KEY_LENGTH),
    ],
)
def test_the_server_refuses_keys_that_cannot_be(field: str, value: bytes | None, fault: Fault) -> None:
    request = met()[0].request

    assert refused(lambda: check_keys(replace(request, **{field: value}))) is fault


def test_the_server_refuses_deposits_that_are_not_one_share_for_each_other_device() -> None:
    played = PairwiseRound([STAY] * 3, threshold=1)
    me, *others = played.ids
    shares = played.devices[me].shares()

    check_deposit(me, shares, played.ids)
    assert refused(lambda: check_deposit(me, shares[:1], played.ids)) is Fault.PEER_UNKNOWN
    assert refused(lambda: check_deposit(me, (*shares, shares[0]), played.ids)) is Fault.PEER_TWICE
    assert refused(lambda: check_deposit(others[0], shares, played.ids)) is Fault.PEER_SELF
    for size in (0, 97, 1 << 20):
        bad = (replace(shares[0], share=bytes(size)), shares[1])
        assert refused(lambda bad=bad: check_deposit(me, bad, played.ids)) is Fault.SHARE_MALFORMED


def collecting() -> tuple[PairwiseRound, PairwiseUnmasking, tuple[ClientShare, ...]]:
    played = PairwiseRound([STAY, STAY, STAY, STAY, Leaves.UPLOAD], threshold=2)
    played.uploads()
    unmasking = PairwiseUnmasking(check_params(params(2)), played.requests, played.sharers, played.survivors)
    return played, unmasking, played.devices[played.ids[0]].reveal(played.survivors)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda me, got: [replace(got[0], share=b""), *got[1:]], Fault.SHARE_MALFORMED),
        (lambda me, got: [replace(got[0], share=bytes(34)), *got[1:]], Fault.SHARE_MALFORMED),
        (lambda me, got: [replace(got[0], share=b"\xff" * 33), *got[1:]], Fault.SHARE_MALFORMED),
        (lambda me, got: [replace(got[0], index=0), *got[1:]], Fault.SHARE_MALFORMED),
        (lambda me, got: [replace(got[0], index=-1), *got[1:]], Fault.SHARE_MALFORMED),
        (lambda me, got: [replace(got[0], fl_id="stranger"), *got[1:]], Fault.PEER_UNKNOWN),
        (lambda me, got: [replace(got[0], fl_id=me), *got[1:]], Fault.PEER_UNKNOWN),
        (lambda me, got: [got[0], *got], Fault.PEER_TWICE),
    ],
)
def test_the_server_refuses_revealed_shares_that_cannot_be_and_keeps_nothing_of_them(
    change: Callable[[str, Sequence[ClientShare]], list[ClientShare]], fault: Fault
) -> None:
    played, unmasking, shares = collecting()
    me = played.ids[0]

    assert refused(lambda: unmasking.add(me, change(me, shares))) is fault
    unmasking.add(me, shares)
    assert refused(lambda: unmasking.add(me, shares)) is Fault.ORDER
    assert refused(lambda: unmasking.add(played.ids[4], shares)) is Fault.PEER_UNKNOWN
    assert not unmasking.ready and refused(lambda: unmasking.noise(LENGTH)) is Fault.TOO_FEW


def test_a_place_belongs_to_one_holder() -> None:
    played, unmasking, shares = collecting()
    unmasking.add(played.ids[0], shares)
    other = played.devices[played.ids[1]].reveal(played.survivors)
    claimed = {share.fl_id: share.index for share in shares}
    stolen = [replace(share, index=claimed.get(share.fl_id, share.index)) for share in other]

    assert refused(lambda: unmasking.add(played.ids[1], stolen)) is Fault.SHARE_MALFORMED


@pytest.mark.parametrize("owner", [2, 4], ids=["of a seed", "of a key"])
def test_an_altered_share_fails_the_iteration(owner: int) -> None:
    played, unmasking, _ = collecting()
    for name in played.survivors:
        shares = list(played.devices[name].reveal(played.survivors))
        if name == played.ids[0]:
            at = [share.fl_id for share in shares].index(played.ids[owner])
            value = int.from_bytes(shares[at].share or b"", "big") ^ 1
            shares[at] = replace(shares[at], share=value.to_bytes(33, "big"))
        unmasking.add(name, shares)

    assert unmasking.checkable and refused(lambda: unmasking.noise(LENGTH)) is Fault.SHARES_DIFFER


def test_with_no_share_to_spare_an_altered_one_would_not_be_seen() -> None:
    played, unmasking, _ = collecting()
    for name in played.survivors[:3]:
        unmasking.add(name, played.devices[name].reveal(played.survivors))

    assert unmasking.ready and not unmasking.checkable


def test_an_altered_share_of_a_key_is_found_without_a_spare_one() -> None:
    played, unmasking, _ = collecting()
    for name in played.survivors[:3]:  # three holders of the key of the lost device, two of them needed
        shares = played.devices[name].reveal(played.survivors)
        lost = [share.fl_id == played.ids[4] for share in shares]
        forged = [
            replace(share, share=b"\5") if is_lost else share for share, is_lost in zip(shares, lost, strict=True)
        ]
        unmasking.add(name, forged)

    # All three say 5, so they agree upon a polynomial; its secret is not the published key's.
    assert refused(lambda: unmasking.noise(LENGTH)) is Fault.SHARES_DIFFER


def test_noise_is_the_same_with_any_number_of_threads() -> None:
    played = PairwiseRound([STAY, STAY, STAY, Leaves.UPLOAD, Leaves.UPLOAD], threshold=2)
    played.uploads()
    unmasking = played.unmasking()

    assert len({unmasking.noise(LENGTH, workers).tobytes() for workers in (1, 2, 3, 7)}) == 1


def test_secrets_with_leading_zero_bytes_are_recovered() -> None:
    zero_first = b"\0\0" + bytes(range(1, 31))
    shamir = Shamir(PAIRWISE_PRIME, 2)
    shares = shamir.split(zero_first, [1, 2, 3], SeededRandom(1))
    keys = RequestExchangeKeys(s_pk=bytes(range(1, 33)), ind_iv=bytes(16), pw_iv=bytes(16), pw_salt=bytes(32))
    ids = ["a", "b", "c"]
    unmasking = PairwiseUnmasking(shamir, dict.fromkeys(ids, keys), ids, ids)
    for place, name in enumerate(ids):
        held = [replace(ClientShare(fl_id=owner, index=place + 1), share=_raw(shares[place])) for owner in ids]
        unmasking.add(name, [share for share in held if share.fl_id != name])

    expected = -3 * FloatMasks(LENGTH).make(zero_first, bytes(16)).astype(np.float64)
    np.testing.assert_array_equal(unmasking.noise(LENGTH), expected)


def test_a_device_may_derive_its_own_keys_only() -> None:
    devices = [PairwiseDevice(name, params(1)) for name in names(3)]
    for device in devices:
        device.meet(published(other.request) for other in devices)
    deposits = {device.fl_id: device.shares() for device in devices}
    for device in devices:
        device.receive(delivered(deposits, device.fl_id))
    masks = [device.mask(LENGTH) for device in devices]
    unmasking = PairwiseUnmasking(
        check_params(params(1)), {device.fl_id: device.request for device in devices}, deposits, deposits
    )
    for device in devices:
        unmasking.add(device.fl_id, device.reveal(deposits))
        device.wipe()

    assert np.abs(np.sum(masks, axis=0, dtype=np.float64) + unmasking.noise(LENGTH)).max() < 1e-5


def test_a_wiped_device_gives_nothing_more() -> None:
    played = PairwiseRound([STAY] * 3, threshold=1)
    played.uploads()
    device = played.devices[played.ids[0]]
    device.wipe()

    assert refused(lambda: device.reveal(played.ids)) is Fault.PEER_UNKNOWN


class TestRecorded:
    """An iteration of the real server with four devices, the third lost before its upload."""

    record: dict[str, Any] = json.loads(GOLDEN.read_text())

    def test_our_unmasking_gives_the_model_of_the_real_server(self) -> None:
        record = self.record
        keys = {
            name: RequestExchangeKeys(fl_id=name, **{field: bytes.fromhex(value) for field, value in fields.items()})
            for name, fields in record["keys"].items()
        }
        uploads = {name: floats(upload) for name, upload in record["uploads"].items()}
        shamir = check_params(PWParams(t=record["threshold"], prime=bytes.fromhex(record["prime"])))
        unmasking = PairwiseUnmasking(shamir, keys, keys, uploads)
        for name, shares in record["reveals"].items():
            unmasking.add(
                name,
                [
                    ClientShare(fl_id=share["owner"], share=bytes.fromhex(share["share"]), index=share["place"])
                    for share in shares
                ],
            )

        total = np.sum([upload.astype(np.float64) for upload in uploads.values()], axis=0)
        size = sum(record["data_sizes"][name] for name in uploads)
        model = (total + unmasking.noise(total.size)) / size

        # The masks are of the uploads' own size, so both round in the last place of the sum.
        np.testing.assert_allclose(model, floats(record["model"]), rtol=0, atol=1e-7)
        assert np.abs(total / size - floats(record["model"])).max() > 1e-3

    def test_our_devices_still_publish_and_upload_the_same_bytes(self) -> None:
        record = self.record
        plan = PWParams(t=record["threshold"], prime=bytes.fromhex(record["prime"]))
        devices = {
            name: PairwiseDevice(name, plan, random=SeededRandom(1, name, 1), pairs=PAIRWISE_KEYS)
            for name in record["keys"]
        }
        for name, fields in record["keys"].items():
            for field, value in fields.items():
                assert getattr(devices[name].request, field).hex() == value
        for device in devices.values():
            device.meet(published(other.request) for other in devices.values())
        deposits = {name: device.shares() for name, device in devices.items()}

        for place, (name, device) in enumerate(devices.items()):
            device.receive(delivered(deposits, name))
            if name not in record["uploads"]:
                continue
            trained = np.random.default_rng((place, 1)).normal(0, 0.3, 16).astype(np.float32)
            upload = trained * np.float32(record["data_sizes"][name]) + device.mask(16)
            assert upload.astype("<f4").tobytes().hex() == record["uploads"][name]


def floats(digits: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(bytes.fromhex(digits), "<f4")


def _raw(share: Share) -> bytes:
    return share.value.to_bytes(33, "big")
