"""Secure aggregation on the coordinator: the sum is right, or the iteration is declared failed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from secure_world import INITIAL, T0, WINDOW_MS, Lost, Member, World, job

from mindfl.errors import OptionError, ProtocolError, StorageError
from mindfl.privacy.secagg import ciphers
from mindfl.protocol import ClientShare, GetExchangeKeys, PlainText, RequestFLJob, RequestGetModel, ResponseCode, texts
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.refusal import StoreDownError
from mindfl.server.state import UNMASK_FAILED, UNMASKED

IDS = tuple(f"device {place} é" for place in range(5))
JOBS = {
    "PW_ENCRYPT": {"reconstruct_secrets_threshold": 2, "update_model_ratio": 0.6},
    "PW_EXACT": {"update_model_ratio": 0.8, "exact_corrupt_ratio": 0.0},
    "STABLE_PW_ENCRYPT": {},
}


def five(kind: str, **settings: Any) -> World:
    return World(job(kind, 5, **{**JOBS[kind], **settings}))


def all_stay(ids: tuple[str, ...] = IDS) -> dict[str, Lost]:
    return dict.fromkeys(ids, Lost.NEVER)


def subsets(ids: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for size in range(len(ids) + 1):
        yield from combinations(ids, size)


class TestDropouts:
    @pytest.mark.parametrize("kind", JOBS)
    def test_nobody_is_lost(self, kind: str) -> None:
        world = five(kind, update_model_ratio=1.0)
        for _ in range(3):
            before = world.coordinator.model
            record = world.iterate(all_stay())
            assert record.valid and record.reason == UNMASKED
            world.check(record, all_stay(), before)
        assert world.coordinator.state.value == "finished"

    @pytest.mark.parametrize("kind", JOBS)
    @pytest.mark.parametrize("clients", [3, 4, 5])
    @pytest.mark.parametrize("step", [step for step in Lost if step is not Lost.NEVER])
    def test_every_subset_is_lost_at_a_step(self, kind: str, clients: int, step: Lost) -> None:
        settings = {**JOBS[kind]}
        if kind == "PW_ENCRYPT" and clients < 5:
            settings = {"reconstruct_secrets_threshold": 1, "update_model_ratio": 0.5}
        if kind == "PW_EXACT" and clients < 5:
            settings["update_model_ratio"] = 0.75 if clients == 4 else 1.0
        ids, valid = IDS[:clients], 0
        for lost in subsets(ids):
            world = World(job(kind, clients, **settings))
            leaves = {fl_id: step if fl_id in lost else Lost.NEVER for fl_id in ids}
            before = world.coordinator.model
            record = world.iterate(leaves)
            world.check(record, leaves, before)
            valid += record.valid
        assert valid >= 1  # that of the empty subset at least

    @pytest.mark.parametrize("kind", ["PW_ENCRYPT", "PW_EXACT"])
    def test_what_the_ratio_allows_to_be_lost_is_made_up_for(self, kind: str) -> None:
        allowed = 5 - five(kind).config.update_quota
        for lost in combinations(IDS, allowed):
            world = five(kind)
            leaves = {fl_id: Lost.UPLOAD if fl_id in lost else Lost.NEVER for fl_id in IDS}
            before = world.coordinator.model
            record = world.iterate(leaves)
            assert record.valid and record.uploads == 5 - allowed
            world.check(record, leaves, before)
            assert any("key" in kinds for kinds in world.revealed.values())

    @pytest.mark.parametrize("kind", ["PW_ENCRYPT", "PW_EXACT"])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_third_of_fifty_is_lost_anywhere(self, kind: str, seed: int) -> None:
        generator = random.Random(seed)
        ids = tuple(f"device {place}" for place in range(50))
        lost = set(generator.sample(ids, 15))
        steps = (tuple(Lost), (Lost.UPLOAD, Lost.LIST, Lost.REVEAL), (Lost.UPLOAD,))[seed]
        leaves = {fl_id: generator.choice(steps) if fl_id in lost else Lost.NEVER for fl_id in ids}
        settings = {"reconstruct_secrets_threshold": 20} if kind == "PW_ENCRYPT" else {"exact_corrupt_ratio": 0.0}
        world = World(job(kind, 50, update_model_ratio=0.7, **settings))
        before = world.coordinator.model
        record = world.iterate(leaves)
        world.check(record, leaves, before)
        # Who is lost after its upload comes on top of those that the ratio allows for.
        assert record.valid or seed < 2

    @pytest.mark.parametrize("kind", JOBS)
    def test_a_failed_iteration_is_followed_by_a_good_one(self, kind: str) -> None:
        world = five(kind)
        assert not world.iterate(dict.fromkeys(IDS, Lost.UPLOAD)).valid
        before = world.coordinator.model
        record = world.iterate(all_stay())
        assert record.valid
        world.check(record, all_stay(), before)

    def test_each_window_is_named(self) -> None:
        found = []
        for step in (Lost.SHARE, Lost.UPLOAD, Lost.REVEAL):
            world = five("PW_ENCRYPT")
            leaves = {**dict.fromkeys(IDS, step), IDS[0]: Lost.NEVER}
            found.append(world.iterate(leaves).reason)
        assert found == [
            texts.ROUND_TIMEOUT.format(endpoint="shareSecrets"),
            texts.UPDATE_TIMEOUT,
            texts.ROUND_TIMEOUT.format(endpoint="reconstructSecrets"),
        ]
        world = five("PW_ENCRYPT")
        leaves = {**dict.fromkeys(IDS, Lost.EXCHANGE), IDS[0]: Lost.NEVER}
        assert world.iterate(leaves).reason == texts.ROUND_TIMEOUT.format(endpoint="exchangeKeys")


class TestExactness:
    def test_masks_change_no_bit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        masked = five("PW_EXACT", update_model_ratio=1.0)
        for _ in range(2):
            assert masked.iterate(all_stay()).valid
        monkeypatch.setattr(ciphers.WordMasks, "add", lambda *_: None)
        bare = five("PW_EXACT", update_model_ratio=1.0)
        for _ in range(2):
            assert bare.iterate(all_stay()).valid
        for name, values in bare.coordinator.model.items():
            assert values.tobytes() == masked.coordinator.model[name].tobytes()

    def test_the_order_of_arrival_changes_no_bit(self) -> None:
        models = []
        for ids in (IDS, IDS[::-1]):
            world = five("PW_EXACT", update_model_ratio=1.0)
            assert world.iterate(all_stay(ids)).valid
            models.append(world.coordinator.model)
        assert all(models[0][name].tobytes() == models[1][name].tobytes() for name in INITIAL)


def up_to(world: World, step: Lost) -> list[Member]:
    """Let all devices come to where they are about to take ``step``."""
    members = [Member(world, fl_id, world.coordinator.iteration) for fl_id in IDS]
    steps = [Member.start, Member.exchange]
    for take in steps[: step + 1 if step < Lost.KEYS else None]:
        for member in members:
            assert world.accepted(take(member))
    if step > Lost.KEYS:
        for member in members:
            member.meet(world.accepted(member.keys()))
    if step > Lost.SHARE:
        for member in members:
            assert world.accepted(member.share())
    if step > Lost.SECRETS:
        for member in members:
            member.device.receive(world.accepted(member.secrets()).encrypted_shares)
    if step > Lost.UPLOAD:
        for member in members:
            world.accepted(member.upload())
    return members


class TestRefusals:
    def test_only_who_started_publishes_keys(self) -> None:
        world = five("PW_ENCRYPT")
        stranger = Member(world, "stranger", 1)
        answer = world.send(stranger.exchange())
        assert (answer.retcode, answer.reason) == (300, "devices_meta for stranger is not set. Please retry later.")

    @pytest.mark.parametrize(
        "change",
        [
            {"c_pk": b""},
            {"s_pk": bytes(31)},
            {"s_pk": bytes(33)},
            {"c_pk": bytes(32)},
            {"s_pk": (1).to_bytes(32, "little")},
            {"ind_iv": None},
            {"pw_iv": bytes(15)},
            {"pw_salt": bytes(4096)},
        ],
    )
    def test_malformed_keys(self, change: dict[str, Any]) -> None:
        world = five("PW_ENCRYPT")
        member = Member(world, IDS[0], 1)
        world.accepted(member.start())
        assert world.send(replace(member.exchange(), **change)).retcode == 400
        assert world.accepted(member.exchange())

    def test_a_full_quota_and_another_iteration(self) -> None:
        world = five("PW_ENCRYPT", share_secrets_ratio=0.6)
        first, *rest = up_to_exchange = [Member(world, fl_id, 1) for fl_id in IDS]
        for member in up_to_exchange:
            world.accepted(member.start())
        assert world.send(replace(first.exchange(), iteration=2)).reason == texts.SECURE_STALE
        assert world.send(first.keys()).retcode == 201
        for member in (first, *rest[:2]):
            assert world.accepted(member.exchange()).reason == texts.EXCHANGE_SUCCESS
        late = world.send(rest[2].exchange())
        assert (late.retcode, late.reason) == (300, texts.EXCHANGE_QUOTA_FULL)
        assert int(late.next_req_time) > world.now
        assert world.send(first.exchange()).reason == texts.EXCHANGE_AGAIN
        assert world.send(rest[2].keys()).retcode == 400
        assert world.send(replace(first.keys(), iteration=7)).retcode == 300

    def test_keys_cannot_be_replaced(self) -> None:
        world = five("PW_ENCRYPT")
        first, *_ = up_to(world, Lost.KEYS)
        other = Member(world, IDS[0], 2)
        assert world.send(replace(other.exchange(), iteration=1)).reason == texts.EXCHANGE_AGAIN
        published = {keys.fl_id: keys.s_pk for keys in world.accepted(first.keys()).remote_publickeys}
        assert published[IDS[0]] == first.exchange().s_pk != other.exchange().s_pk

    @pytest.mark.parametrize("kind", ["PW_EXACT", "STABLE_PW_ENCRYPT"])
    def test_a_device_that_began_anew_is_told_to_come_back(self, kind: str) -> None:
        world = five(kind)
        up_to(world, Lost.KEYS)
        answer = world.send(replace(Member(world, IDS[0], 2).exchange(), iteration=1))
        assert (answer.retcode, answer.reason) == (300, texts.EXCHANGE_AGAIN)

    @pytest.mark.parametrize("kind", JOBS)
    def test_what_a_mode_has_no_use_for_is_not_kept(self, kind: str) -> None:
        world = five(kind)
        member = Member(world, IDS[0], 1)
        world.accepted(member.start())
        surplus = {"signature": bytes(5000), "certificate_chain": ("x" * 5000,), "timestamp": "1" * 5000}
        if kind != "PW_ENCRYPT":
            surplus["ind_iv"] = bytes(5000)
        if kind == "STABLE_PW_ENCRYPT":
            surplus["c_pk"] = bytes(5000)
        assert world.accepted(replace(member.exchange(), **surplus))
        assert world.accepted(member.exchange()).reason == texts.EXCHANGE_AGAIN
        for fl_id in IDS[1:]:
            other = Member(world, fl_id, 1)
            world.accepted(other.start())
            world.accepted(other.exchange())
        given = world.accepted(Member(world, IDS[1], 1).keys()).remote_publickeys
        assert len(repr(given)) < 5000

    def test_deposits(self) -> None:
        world = five("PW_ENCRYPT")
        first, second, *_ = up_to(world, Lost.SHARE)
        good = first.share()
        shares = good.encrypted_shares
        bad = [
            (),
            shares[1:],
            (*shares, shares[0]),
            (*shares, ClientShare(fl_id=IDS[0], share=b"x" * 64)),
            (*shares[1:], replace(shares[0], fl_id="stranger")),
            (*shares[1:], replace(shares[0], share=b"")),
            (*shares[1:], replace(shares[0], share=bytes(5000))),
            (*shares[1:], replace(shares[0], fl_id=None)),
        ]
        for content in bad:
            answer = world.send(replace(good, encrypted_shares=content))
            assert answer.retcode == 400
        assert world.send(replace(good, iteration=2)).retcode == 300
        assert world.send(replace(good, fl_id="stranger")).reason == texts.SHARE_ILLEGAL
        assert world.send(first.secrets()).retcode == 201
        assert world.accepted(good).reason == texts.SHARE_SUCCESS
        assert world.accepted(good).reason == texts.SHARE_AGAIN
        assert world.send(second.secrets()).retcode == 201

    def test_uploads_of_those_without_shares(self) -> None:
        world = five("PW_ENCRYPT")
        members = up_to(world, Lost.SHARE)
        plain = replace(members[0].start())
        assert plain.fl_id == IDS[0]
        request = Member(five("PW_ENCRYPT"), IDS[0], 1)
        upload = request.common
        from mindfl.protocol import RequestUpdateModel

        weights = {name: np.zeros(values.size, np.float32) for name, values in INITIAL.items()}
        answer = world.send(RequestUpdateModel(feature_map=weights, **upload))
        assert (answer.retcode, answer.reason) == (
            300,
            f"fl_id: {IDS[0]} is not in get_secrets_clients. Please retry later.",
        )

    def test_a_mask_covers_all_weights(self) -> None:
        world = five("PW_ENCRYPT")
        first, *_ = up_to(world, Lost.UPLOAD)
        upload = first.upload()
        part = {"fc.weight": upload.feature_map["fc.weight"]}
        assert world.send(replace(upload, feature_map=part)).retcode == 400
        assert world.coordinator.job.refusals["weights_missing"] == 1
        assert world.accepted(upload)

    def test_an_upload_of_the_instance_before_is_refused(self) -> None:
        world = five("PW_EXACT")
        stale = up_to(world, Lost.UPLOAD)[0].upload()
        world.coordinator.job.new_instance(world.config, "another instance", T0)
        members = up_to(world, Lost.UPLOAD)
        answer = world.send(stale)
        assert answer.retcode == 300 and "iteration number is invalid" in answer.reason
        before = world.coordinator.model
        for member in members:
            world.accepted(member.upload())
        for member in members[:4]:
            assert world.accepted(member.reveal(world.accepted(member.listed())))
        assert world.records[-1].valid
        world.check(world.records[-1], all_stay(), before)

    @pytest.mark.parametrize("size", [0, 1, 135, 137, 4096])
    def test_words_of_another_length(self, size: int) -> None:
        world = five("PW_EXACT")
        first, *_ = up_to(world, Lost.UPLOAD)
        upload = first.upload()
        entry = replace(upload.compress_feature_map[0], compress_data=np.zeros(size, np.int8))
        assert world.send(replace(upload, compress_feature_map=(entry,))).retcode == 400
        assert world.send(replace(upload, compress_feature_map=())).retcode == 400
        assert world.send(replace(upload, compress_feature_map=None)).retcode == 400
        assert world.accepted(upload)

    @pytest.mark.parametrize("kind", ["PW_ENCRYPT", "PW_EXACT"])
    def test_reveals(self, kind: str) -> None:
        world = five(kind)
        members = up_to(world, Lost.LIST)
        first, late = members[0], members[4]
        assert world.send(late.listed()).reason == f"fl_id: {IDS[4]} is not in the update_model_clients"
        good = first.reveal(world.accepted(first.listed()))
        shares = good.reconstruct_secret_shares
        bad = [
            (*shares, shares[0]),
            (*shares[1:], replace(shares[0], index=0)),
            (*shares[1:], replace(shares[0], index=-1)),
            (*shares[1:], replace(shares[0], share=b"")),
            (*shares[1:], replace(shares[0], share=b"\xff" * 33)),
            (*shares[1:], replace(shares[0], share=b"\xff" * 5000)),
            (*shares[1:], replace(shares[0], fl_id="stranger")),
            (*shares[1:], replace(shares[0], fl_id=IDS[0])),
        ]
        for content in bad:
            assert world.send(replace(good, reconstruct_secret_shares=content)).retcode == 400
        assert world.send(replace(good, fl_id=IDS[4])).retcode == 400
        assert world.send(replace(good, iteration=2)).retcode == 300
        assert world.send(replace(good, iteration=0)).retcode == 300
        assert world.accepted(good).reason == texts.REVEAL_SUCCESS
        assert world.accepted(good).reason == texts.REVEAL_SUCCESS  # its answer may have been lost
        assert world.send(RequestGetModel(iteration=1, timestamp="1")).retcode == 201

    def test_shares_that_come_too_early_are_not_counted(self) -> None:
        world = five("PW_ENCRYPT")
        first, *_ = up_to(world, Lost.UPLOAD)
        world.accepted(first.upload())
        from mindfl.protocol import SendReconstructSecret

        early = SendReconstructSecret(**first.common)
        assert world.send(early).retcode == 201

    def test_an_altered_share_is_found(self) -> None:
        world = World(job("PW_ENCRYPT", 5, reconstruct_secrets_threshold=2))
        members = up_to(world, Lost.LIST)
        for place, member in enumerate(members):
            reveal = member.reveal(world.accepted(member.listed()))
            if not place:
                shares = [
                    replace(share, share=bytes([1, *share.share[1:]])) for share in reveal.reconstruct_secret_shares
                ]
                reveal = replace(reveal, reconstruct_secret_shares=tuple(shares))
            assert world.accepted(reveal)
        record = world.records[-1]
        assert not record.valid and record.reason == UNMASK_FAILED

    def test_an_exact_sum_makes_do_without_an_altered_share(self) -> None:
        world = World(job("PW_EXACT", 5, exact_corrupt_ratio=0.2))
        members = up_to(world, Lost.LIST)
        before = world.coordinator.model
        for place, member in enumerate(members):
            reveal = member.reveal(world.accepted(member.listed()))
            if not place:
                shares = [
                    replace(share, share=bytes([0, *reversed(share.share[1:])]))
                    for share in reveal.reconstruct_secret_shares
                ]
                reveal = replace(reveal, reconstruct_secret_shares=tuple(shares))
            assert world.accepted(reveal)
        assert world.records[-1].valid
        world.check(world.records[-1], all_stay(), before)

    def test_after_the_end_survivors_are_told_so(self) -> None:
        world = five("PW_ENCRYPT")
        members = up_to(world, Lost.LIST)
        lists = [world.accepted(member.listed()) for member in members[:3]]
        for member, listed in zip(members[:3], lists, strict=True):
            last = world.accepted(member.reveal(listed))
        assert last.reason == texts.REVEAL_LAST and world.coordinator.iteration == 2
        assert world.accepted(members[0].listed()).clients == lists[0].clients
        from mindfl.protocol import SendReconstructSecret

        assert world.accepted(SendReconstructSecret(**members[0].common)).reason == texts.REVEAL_QUOTA_FULL
        assert world.send(members[4].listed()).retcode == 300

    def test_a_job_that_is_over_or_disabled(self) -> None:
        world = five("PW_ENCRYPT")
        for _ in range(3):
            world.iterate(all_stay())
        member = Member(world, IDS[0], 3)
        assert isinstance(world.send(member.exchange()), PlainText)
        assert world.accepted(member.listed())
        other = five("PW_ENCRYPT")
        other.coordinator.job.disable(T0)
        assert isinstance(other.send(Member(other, IDS[0], 1).exchange()), PlainText)

    def test_a_job_without_masks_has_no_such_requests(self) -> None:
        plain = Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1), INITIAL)
        with pytest.raises(ProtocolError, match="getKeys"):
            plain.handle(GetExchangeKeys(fl_id="a", iteration=1, timestamp="1"), T0)

    def test_exact_masks_are_for_those_who_announce_them(self) -> None:
        world = five("PW_EXACT")
        request = RequestFLJob(fl_name="any", fl_id="java", data_size=3, timestamp="1")
        answer = world.send(request)
        assert answer.retcode == 400 and "PW_EXACT" in answer.reason and not answer.feature_map
        assert world.send(replace(request, encrypt_types=("OTHER",))).retcode == 400
        assert world.accepted(replace(request, encrypt_types=("PW_EXACT",)))


class TestSettings:
    @pytest.mark.parametrize("kind", JOBS)
    def test_one_device_cannot_hide(self, kind: str) -> None:
        with pytest.raises(OptionError, match=r"2 clients|at least 3|threshold"):
            job(kind, 1)

    @pytest.mark.parametrize("threshold", [0, -1, 3, 100])
    def test_a_threshold_that_no_iteration_meets(self, threshold: int) -> None:
        with pytest.raises(OptionError, match="reconstruct_secrets_threshold"):
            job("PW_ENCRYPT", 5, update_model_ratio=0.6, reconstruct_secrets_threshold=threshold)

    def test_what_is_weakly_protected_is_said(self) -> None:
        def weaknesses(config: ServerConfig) -> list[str]:
            return config.mode.weaknesses(config)

        weak = weaknesses(job("PW_ENCRYPT", 10, reconstruct_secrets_threshold=6))
        assert len(weak) == 1 and "two thirds" in weak[0]
        tight = weaknesses(job("PW_ENCRYPT", 10, reconstruct_secrets_threshold=9))
        assert len(tight) == 1 and "spare" in tight[0]
        assert not weaknesses(job("PW_ENCRYPT", 10, reconstruct_secrets_threshold=7))
        assert not weaknesses(job("PW_EXACT", 10))
        assert "each of them the other's upload" in weaknesses(job("STABLE_PW_ENCRYPT", 2))[0]

    def test_quotas(self) -> None:
        config = job("PW_ENCRYPT", 10, update_model_ratio=0.5, share_secrets_ratio=0.8)
        assert (config.exchange_quota, config.share_quota, config.update_quota) == (8, 6, 5)
        stable = job("STABLE_PW_ENCRYPT", 10, update_model_ratio=0.5, share_secrets_ratio=0.8)
        assert (stable.exchange_quota, stable.update_quota) == (8, 8)

    def test_plans(self) -> None:
        params = job("PW_ENCRYPT", 5, reconstruct_secrets_threshold=3).plan("x").cipher.pw_params
        assert (params.t, params.g, params.p, len(params.prime), params.prime[0] >= 0x80) == (3, 1, bytes(32), 33, True)
        stable = job("STABLE_PW_ENCRYPT", 5).plan("x").cipher.pw_params
        assert stable.prime == bytes(33)
        exact, other = (job("PW_EXACT", 5).plan(name).cipher.pw_params for name in "xy")
        assert exact.p != other.p and exact.g >= 30 and exact.t == job("PW_EXACT", 5).graph.threshold


def test_who_comes_while_masks_are_taken_out_is_told_to_come_back_soon() -> None:
    world = five("PW_ENCRYPT")
    late = up_to(world, Lost.LIST)[4]
    waits = [int(world.send(late.start()).next_req_time) - world.now for _ in range(4)]
    assert waits == [2000, 4000, 8000, 16000]  # its upload was refused with 1000
    other = Member(world, "one that never started", 1)
    assert int(world.send(other.start()).next_req_time) - world.now == 1000


def test_windows_stand_still_while_the_server_is_down() -> None:
    world = five("PW_ENCRYPT")
    up_to(world, Lost.SHARE)
    first = world.coordinator.next_deadline()
    world.coordinator.job.resume(T0 + 10 * WINDOW_MS)
    later = world.coordinator.next_deadline()
    assert first is not None and later is not None and later > first


@pytest.mark.parametrize(
    ("error", "early", "late"),
    [
        (StorageError("the disk is full"), ResponseCode.OUT_OF_TIME, ResponseCode.SUC_NOT_READY),
        (StoreDownError("the Redis does not answer"), None, None),
    ],
)
def test_what_cannot_be_stored_is_refused_and_a_revelation_may_be_sent_again(
    monkeypatch: pytest.MonkeyPatch, error: StorageError, early: int | None, late: int | None
) -> None:
    def fail(*_: object) -> None:
        raise error

    def answer(request: Any) -> int | None:
        with monkeypatch.context() as patch:
            patch.setattr(world.coordinator.job, "commit", fail)
            response = world.send(request)
        if isinstance(response, PlainText):
            assert response == PlainText(texts.SAFEMODE)
            return None
        return int(response.retcode)

    world = World(job("PW_ENCRYPT", 2, reconstruct_secrets_threshold=1))
    members = [Member(world, fl_id, 1) for fl_id in "ab"]
    for member in members:
        assert world.accepted(member.start())
    assert answer(members[0].exchange()) == early
    for member in members:
        assert world.accepted(member.exchange())
    for member in members:
        member.meet(world.accepted(member.keys()))
    for member in members:
        assert world.accepted(member.share())
    for member in members:
        member.device.receive(world.accepted(member.secrets()).encrypted_shares)
    for member in members:
        assert world.accepted(member.upload())
    listed = [world.accepted(member.listed()) for member in members]
    assert answer(members[0].reveal(listed[0])) == late
    for member, those in zip(members, listed, strict=True):
        assert world.accepted(member.reveal(those))
    assert world.records[-1].valid
