"""A coordinator with secure aggregation and its devices' secrets, stepped by hand; a device may be lost at any step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.secagg import (
    ExactDevice,
    ExactKeys,
    ExactPlan,
    PairwiseDevice,
    SecureAggregationError,
    SeededRandom,
    exact_keys,
    pairwise_keys,
)
from mindfl.protocol import (
    CompressFeatureMap,
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    RequestExchangeKeys,
    RequestFLJob,
    RequestShareSecrets,
    RequestUpdateModel,
    ResponseCode,
    SendReconstructSecret,
)
from mindfl.server import Coordinator, IterationRecord, ServerConfig

T0 = 1_795_333_460_000
WINDOW_MS = 1000
INITIAL = {"conv.weight": np.ones((2, 5), np.float32), "fc.weight": np.full(7, 5, np.float32)}
LENGTH = 17
#: shared by all tests: the same seeds give the same keys, which are derived once
PAIRWISE_KEYS = pairwise_keys()
EXACT_KEYS = exact_keys()


class Lost(IntEnum):
    """The step that a device does not take any more."""

    EXCHANGE = 1
    KEYS = 2
    SHARE = 3
    SECRETS = 4
    UPLOAD = 5
    LIST = 6
    REVEAL = 7
    NEVER = 8


def job(encrypt_type: str, clients: int, **settings: Any) -> ServerConfig:
    """Return a job of three iterations."""
    return ServerConfig(
        fl_iteration_num=3,
        start_fl_job_threshold=clients,
        start_fl_job_time_window=WINDOW_MS,
        update_model_time_window=WINDOW_MS,
        cipher_time_window=WINDOW_MS,
        global_iteration_time_window=100 * WINDOW_MS,
        encrypt_type=encrypt_type,
        **settings,
    )


def trained(fl_id: str, iteration: int) -> dict[str, NDArray[np.float32]]:
    """Return what a device has learned."""
    flat = np.random.default_rng([iteration, *fl_id.encode()]).normal(0, 2, LENGTH).astype(np.float32)
    return {"conv.weight": flat[:10], "fc.weight": flat[10:]}


def size_of(fl_id: str) -> int:
    """Return a device's number of samples."""
    return 10 + len(fl_id.encode()) + sum(fl_id.encode()) % 50


class Member:
    """One device in one iteration: its secrets, and its requests."""

    def __init__(self, world: World, fl_id: str, iteration: int) -> None:
        self.fl_id = fl_id
        self.iteration = iteration
        self._config = world.config
        params = world.coordinator.job.plan.cipher.pw_params
        random = SeededRandom(5, fl_id, iteration)
        self.exact = self._config.encrypt_type == "PW_EXACT"
        self.stable = self._config.encrypt_type == "STABLE_PW_ENCRYPT"
        self.device: Any
        if self.exact:
            plan = ExactPlan.of(params.p, iteration, params.t)
            self.device = ExactDevice(fl_id, plan, random=random, pairs=EXACT_KEYS)
        else:
            self.device = PairwiseDevice(fl_id, params, random=random, pairs=PAIRWISE_KEYS, stable=self.stable)

    @property
    def common(self) -> dict[str, Any]:
        """Fields of every request."""
        return {"fl_id": self.fl_id, "iteration": self.iteration, "timestamp": str(T0)}

    def start(self) -> RequestFLJob:
        return RequestFLJob(fl_name="any", data_size=size_of(self.fl_id), encrypt_types=("PW_EXACT",), **self.common)

    def exchange(self) -> RequestExchangeKeys:
        if not self.exact:
            return replace(self.device.request, **self.common)
        keys = self.device.keys
        return RequestExchangeKeys(c_pk=keys.c_pk, s_pk=keys.s_pk, pw_salt=keys.commitment, **self.common)

    def keys(self) -> GetExchangeKeys:
        return GetExchangeKeys(**self.common)

    def meet(self, answer: Any) -> None:
        keys = answer.remote_publickeys
        if self.exact:
            keys = [ExactKeys(each.fl_id, each.c_pk, each.s_pk, each.pw_salt) for each in keys]
        self.device.meet(keys)

    def share(self) -> RequestShareSecrets:
        return RequestShareSecrets(encrypted_shares=self.device.shares(), **self.common)

    def secrets(self) -> GetShareSecrets:
        return GetShareSecrets(**self.common)

    def upload(self) -> RequestUpdateModel:
        weights, size = trained(self.fl_id, self.iteration), size_of(self.fl_id)
        flat = np.concatenate([weights["conv.weight"], weights["fc.weight"]])
        fields: dict[str, Any]
        if self.exact:
            fixed = self._config.fixed_point
            words = fixed.pack(self.device.hide(fixed.encode(flat, size, self.fl_id)))
            entry = CompressFeatureMap(
                weight_fullname=self.device.upload_name, compress_data=np.frombuffer(words, np.int8)
            )
            fields = {"compress_feature_map": (entry,)}
        else:
            masked = flat * np.float32(size) + self.device.mask(LENGTH)
            fields = {"feature_map": {"conv.weight": masked[:10], "fc.weight": masked[10:]}}
        return RequestUpdateModel(fl_name="any", **fields, **self.common)

    def listed(self) -> GetClientList:
        return GetClientList(**self.common)

    def reveal(self, answer: Any) -> SendReconstructSecret:
        return SendReconstructSecret(reconstruct_secret_shares=self.device.reveal(answer.clients), **self.common)


class World:
    """A coordinator and its clock. ``revealed``: owner -> kinds of shares that the server was sent of it."""

    def __init__(self, config: ServerConfig, **options: Any) -> None:
        self.config = config
        self.now = T0
        self.records: list[IterationRecord] = []
        self.coordinator = Coordinator(config, INITIAL, on_iteration_end=self.records.append, **options)
        self.revealed: dict[str, set[str]] = {}

    def send(self, request: Any) -> Any:
        """Return the answer to ``request``."""
        return self.coordinator.handle(request, self.now)

    def accepted(self, request: Any) -> Any:
        """Return the answer to ``request``; None where it was refused."""
        answer = self.send(request)
        return answer if answer.retcode == ResponseCode.SUCCEED else None

    def iterate(self, leaves: Mapping[str, Lost]) -> IterationRecord:
        """Let devices take part until each is lost, and the windows end; return what came of the iteration."""
        number = self.coordinator.iteration
        members = self._agree([Member(self, fl_id, number) for fl_id in leaves], leaves)
        answers = self._all(members, leaves, Lost.UPLOAD, lambda member: self.accepted(member.upload()))
        if self.config.encrypt_type != "STABLE_PW_ENCRYPT":
            uploaded = list(answers)
            lists = self._all(uploaded, leaves, Lost.LIST, lambda member: self.accepted(member.listed()))
            self._all(list(lists), leaves, Lost.REVEAL, lambda member: self._reveal(member, lists[member]))
        while self.coordinator.iteration == number:
            self.now = max(self.now, self.coordinator.next_deadline() or 0)
            self.coordinator.tick(self.now)
        return self.records[-1]

    def _agree(self, members: Collection[Member], leaves: Mapping[str, Lost]) -> list[Member]:
        """Return those who may upload."""
        for member in members:
            assert self.accepted(member.start())
        self._all(members, leaves, Lost.EXCHANGE, lambda member: self.accepted(member.exchange()))
        met = self._all(members, leaves, Lost.KEYS, lambda member: self.accepted(member.keys()))
        for member, answer in met.items():
            member.meet(answer)
        if self.config.encrypt_type == "STABLE_PW_ENCRYPT":
            return list(met)
        self._all(list(met), leaves, Lost.SHARE, lambda member: self.accepted(member.share()))
        secrets = self._all(list(met), leaves, Lost.SECRETS, lambda member: self.accepted(member.secrets()))
        for member, answer in list(secrets.items()):
            try:
                member.device.receive(answer.encrypted_shares)
            except SecureAggregationError:
                del secrets[member]
        return list(secrets)

    def _all(self, members: Collection[Member], leaves: Mapping[str, Lost], step: Lost, take: Any) -> dict[Member, Any]:
        """Let those who are still there take a step; return its results by device."""
        given = {member: take(member) for member in members if leaves[member.fl_id] > step}
        return {member: answer for member, answer in given.items() if answer is not None}

    def _reveal(self, member: Member, answer: Any) -> Any:
        request = member.reveal(answer)
        survivors = set(answer.clients)
        for share in request.reconstruct_secret_shares:
            self.revealed.setdefault(share.fl_id, set()).add("seed" if share.fl_id in survivors else "key")
        return self.accepted(request)

    def check(self, record: IterationRecord, leaves: Mapping[str, Lost], before: Mapping[str, Any]) -> None:
        """Assert that the model is the average of some of the devices, or the iteration failed and left it alone."""
        flat = np.concatenate([record.model["conv.weight"], record.model["fc.weight"]])
        if not record.valid:
            assert all(np.array_equal(record.model[name], values) for name, values in before.items())
            return
        uploaders = [fl_id for fl_id, lost in leaves.items() if lost > Lost.UPLOAD][: self.config.update_quota]
        assert record.uploads == len(uploaders) == self.config.update_quota
        assert np.abs(flat - average(uploaders, record.iteration)).max() < 1e-6
        assert all(len(kinds) == 1 for kinds in self.revealed.values())


def average(fl_ids: Collection[str], iteration: int) -> NDArray[np.float64]:
    """Return the average of what these devices have learned."""
    total = np.zeros(LENGTH)
    for fl_id in fl_ids:
        weights = trained(fl_id, iteration)
        total += size_of(fl_id) * np.concatenate([weights["conv.weight"], weights["fc.weight"]]).astype(np.float64)
    return total / sum(map(size_of, fl_ids))
