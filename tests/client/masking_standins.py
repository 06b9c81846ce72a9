"""A stand-in for a server of secure aggregation, of one iteration after the other: right in all it says, until told to
meddle. Devices, keys, shares and the unmasking are the real ones."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from client_standins import Clock, StandInTrainer

from mindfl.client import ClientConfig, ClientLog, DeviceClient, Finished, Wait, advance
from mindfl.errors import TransportError
from mindfl.privacy.secagg import (
    ExactKeys,
    ExactPlan,
    ExactUnmasking,
    FixedPoint,
    PairKeys,
    PairwiseUnmasking,
    SeededRandom,
    check_params,
    exact_keys,
    pairwise_keys,
)
from mindfl.privacy.secagg.shares import PAIRWISE_PRIME
from mindfl.protocol import (
    ENDPOINTS,
    CipherPublicParams,
    ClientPublicKeys,
    ClientShare,
    FLPlan,
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    PlainText,
    PWParams,
    ReconstructSecret,
    RequestExchangeKeys,
    RequestFLJob,
    RequestGetModel,
    RequestShareSecrets,
    RequestUpdateModel,
    ResponseExchangeKeys,
    ResponseFLJob,
    ResponseGetModel,
    ResponseShareSecrets,
    ResponseUpdateModel,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    texts,
)

PW, STABLE, EXACT = "PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT"
INSTANCE = bytes(range(32))
MODEL = {
    "b": np.linspace(-1, 1, 70, dtype=np.float32),
    "a": np.linspace(0, 3, 6, dtype=np.float32),
}
SIZE = 76
#: shared by all jobs: the same seeds give the same keys, which are derived once
KEYS: dict[str, PairKeys] = {PW: pairwise_keys(2), EXACT: exact_keys(2)}
KEYS[STABLE] = KEYS[PW]


class SecureServer:
    """``quotas``: devices of exchangeKeys, of shareSecrets and of updateModel. ``instead(request)`` may answer without
    looking at a request, and ``meddle(request, answer)`` has the last word. ``strict``: one that asks again after a
    quota is full is refused, as by MindSpore Federated 0.1.0."""

    def __init__(self, kind: str, quotas: tuple[int, int, int], threshold: int = 1, iterations: int = 2) -> None:
        self.kind, self.quotas, self.threshold, self.iterations = kind, quotas, threshold, iterations
        self.meddle: Callable[[Any, Any], Any] = lambda request, answer: answer
        self.instead: Callable[[Any], Any] = lambda request: None
        self.strict = False
        self.uploads: list[RequestUpdateModel] = []
        self.models = {0: {name: values.copy() for name, values in MODEL.items()}}
        self.fixed = FixedPoint.for_job(quotas[0], 1000)
        self.iteration = 0
        self._next()

    def _next(self) -> None:
        self.iteration += 1
        self.sizes: dict[str, int] = {}
        self.keys: dict[str, RequestExchangeKeys] = {}
        self.deposits: dict[str, tuple[ClientShare, ...]] = {}
        self.survivors: dict[str, int] = {}
        self.revealed: dict[str, tuple[ClientShare, ...]] = {}
        self.sum: Any = 0

    @property
    def plan(self) -> FLPlan:
        if self.kind == EXACT:
            params = PWParams(t=self.threshold, p=INSTANCE, g=self.fixed.fraction_bits)
        else:
            params = PWParams(t=self.threshold, p=bytes(32), g=1, prime=PAIRWISE_PRIME.to_bytes(33, "big"))
        cipher = CipherPublicParams(encrypt_type=self.kind, pw_params=params)
        return FLPlan(
            server_mode="FEDERATED_LEARNING",
            iterations=self.iterations,
            epochs=1,
            mini_batch=32,
            lr=0.01,
            cipher=cipher,
        )

    def handle(self, request: Any, now_ms: int) -> Any:
        return self.instead(request) or self.meddle(request, self._answer(request, now_ms))

    def refuse(self, request: Any, code: int, later: str) -> Any:
        """Return a refusal of ``request``."""
        table = _TABLES[type(request)]
        reason = {"reason": "no luck"} if "reason" in table.__dataclass_fields__ else {}
        return table(retcode=code, next_req_time=later, **reason)

    def _answer(self, request: Any, now_ms: int) -> Any:
        later = str(now_ms + 5_000)
        if self.iteration > self.iterations and not isinstance(request, RequestGetModel):
            return PlainText(texts.FINISHED)
        if isinstance(request, RequestFLJob):
            return self._start(request, later)
        if isinstance(request, RequestGetModel):
            return self._model(request)
        stale = request.iteration != self.iteration
        code, fields = (300, {}) if stale else _STEPS[type(request)](self, request)
        table, times = _TABLES[type(request)], {"retcode": code, "next_req_time": later}
        if table is not ResponseUpdateModel:
            times["iteration"] = self.iteration
        return table(**times, **fields)

    def _start(self, request: RequestFLJob, later: str) -> ResponseFLJob:
        usual = {"iteration": self.iteration, "fl_plan_config": self.plan, "next_req_time": later}
        if request.fl_id in self.sizes:
            return ResponseFLJob(retcode=300, reason=texts.START_DUPLICATE.format(fl_id=request.fl_id), **usual)
        self.sizes[request.fl_id or ""] = request.data_size
        return ResponseFLJob(retcode=200, is_selected=True, feature_map=self.models[self.iteration - 1], **usual)

    def _model(self, request: RequestGetModel) -> ResponseGetModel:
        if request.iteration >= self.iteration:
            return ResponseGetModel(retcode=201, reason="wait", iteration=self.iteration, timestamp="0")
        model = self.models[request.iteration]
        return ResponseGetModel(retcode=200, iteration=self.iteration, feature_map=model, timestamp="0")

    def _quota(self, have: dict[str, Any], fl_id: str | None, quota: int) -> bool:
        """Tell whether ``fl_id`` is too late."""
        return len(have) >= quota and (self.strict or fl_id not in have)

    def exchange(self, request: RequestExchangeKeys) -> tuple[int, dict[str, Any]]:
        if request.fl_id not in self.sizes or self._quota(self.keys, request.fl_id, self.quotas[0]):
            return 300, {"reason": "too late"}
        self.keys.setdefault(request.fl_id or "", request)
        return 200, {"reason": "Success, but the server is not ready yet."}

    def everybody(self, request: GetExchangeKeys) -> tuple[int, dict[str, Any]]:
        if len(self.keys) < self.quotas[0]:
            return 201, {}
        if request.fl_id not in self.keys:
            return 400, {}
        others = [name for name in sorted(self.keys) if self.kind != EXACT or name != request.fl_id]
        return 200, {"remote_publickeys": tuple(published(self.keys[name]) for name in others)}

    def share(self, request: RequestShareSecrets) -> tuple[int, dict[str, Any]]:
        if self._quota(self.deposits, request.fl_id, self.quotas[1]):
            return 300, {"reason": "too late"}
        self.deposits[request.fl_id or ""] = request.encrypted_shares or ()
        return 200, {"reason": "OK"}

    def addressed(self, request: GetShareSecrets) -> tuple[int, dict[str, Any]]:
        if len(self.deposits) < self.quotas[1]:
            return 201, {}
        if request.fl_id not in self.deposits:
            return 400, {}
        found = [
            ClientShare(fl_id=sender, share=share.share)
            for sender, shares in self.deposits.items()
            for share in shares
            if share.fl_id == request.fl_id
        ]
        return 200, {"encrypted_shares": tuple(found)}

    def update(self, request: RequestUpdateModel) -> tuple[int, dict[str, Any]]:
        fl_id = request.fl_id or ""
        if len(self.survivors) >= self.quotas[2] or fl_id in self.survivors:
            return 300, {"reason": "too late"}
        self.uploads.append(request)
        self.survivors[fl_id] = self.sizes[fl_id]
        self.sum = self.sum + self.received(request)
        if self.kind == STABLE and len(self.survivors) == self.quotas[2]:
            self._end(self.sum / sum(self.survivors.values()))
        return 200, {"reason": "success not ready"}

    def received(self, upload: RequestUpdateModel) -> Any:
        if self.kind == EXACT:
            (entry,) = upload.compress_feature_map or ()
            assert entry.compress_data is not None and upload.feature_map is None
            return self.fixed.unpack(entry.compress_data.tobytes(), SIZE, upload.fl_id or "")
        assert upload.feature_map is not None and list(upload.feature_map) == ["a", "b"]
        return np.concatenate([values.astype(np.float64) for values in upload.feature_map.values()])

    def list(self, request: GetClientList) -> tuple[int, dict[str, Any]]:
        if len(self.survivors) < self.quotas[2]:
            return 201, {"reason": "The server is not ready."}
        if request.fl_id not in self.survivors:
            return 400, {"reason": "not among them"}
        return 200, {"reason": "send clients_list succeed!", "clients": tuple(self.survivors)}

    def reveal(self, request: SendReconstructSecret) -> tuple[int, dict[str, Any]]:
        self.revealed[request.fl_id or ""] = request.reconstruct_secret_shares or ()
        unmasking = self._unmasking()
        for sender, shares in self.revealed.items():
            unmasking.add(sender, shares)
        if unmasking.ready:
            self._end(self._average(unmasking))
        return 200, {"reason": "Success, but the server is not ready to reconstruct secret yet."}

    def _unmasking(self) -> Any:
        if self.kind == PW:
            params = self.plan.cipher.pw_params  # type: ignore[union-attr]
            assert params is not None
            return PairwiseUnmasking(check_params(params), self.keys, self.deposits, self.survivors)
        plan = ExactPlan(INSTANCE + self.iteration.to_bytes(8, "big"), self.threshold)
        keys = {
            name: ExactKeys(name, key.c_pk or b"", key.s_pk or b"", key.pw_salt or b"")
            for name, key in self.keys.items()
        }
        beside = {name: sorted(keys.keys() - {name}) for name in keys}
        return ExactUnmasking(plan, keys, beside, self.deposits, self.survivors)

    def _average(self, unmasking: Any) -> Any:
        total = sum(self.survivors.values())
        if self.kind == PW:
            return (self.sum + unmasking.noise(SIZE)) / total
        return self.fixed.decode(unmasking.unmask(self.sum), total)

    def _end(self, average: Any) -> None:
        flat = average.astype(np.float32)
        self.models[self.iteration] = {"b": flat[6:], "a": flat[:6]}
        self._next()


_STEPS: dict[Any, Any] = {
    RequestExchangeKeys: SecureServer.exchange,
    GetExchangeKeys: SecureServer.everybody,
    RequestShareSecrets: SecureServer.share,
    GetShareSecrets: SecureServer.addressed,
    RequestUpdateModel: SecureServer.update,
    GetClientList: SecureServer.list,
    SendReconstructSecret: SecureServer.reveal,
}
_TABLES: dict[Any, Any] = {
    RequestExchangeKeys: ResponseExchangeKeys,
    GetExchangeKeys: ReturnExchangeKeys,
    RequestShareSecrets: ResponseShareSecrets,
    GetShareSecrets: ReturnShareSecrets,
    RequestUpdateModel: ResponseUpdateModel,
    GetClientList: ReturnClientList,
    SendReconstructSecret: ReconstructSecret,
}


def published(keys: RequestExchangeKeys) -> ClientPublicKeys:
    """Return what getKeys tells of a device."""
    return ClientPublicKeys(fl_id=keys.fl_id, c_pk=keys.c_pk, s_pk=keys.s_pk, pw_iv=keys.pw_iv, pw_salt=keys.pw_salt)


class Line:
    """The network: loses exchanges by their number (from 1), the "request" or the "answer", and notes the endpoints.

    ``loss``: an endpoint, the first exchange with which is lost, and what of it.
    """

    def __init__(self, server: Any, losses: dict[int, str] | None = None) -> None:
        self.server, self.losses = server, losses or {}
        self.loss = "", ""
        self.endpoints: list[str] = []

    def send(self, request: Any, now_ms: int) -> Any:
        self.endpoints.append(ENDPOINTS[type(request)])
        loss = self.losses.get(len(self.endpoints))
        if self.endpoints[-1] == self.loss[0]:
            loss, self.loss = self.loss[1], ("", "")
        if loss == "request":
            raise TransportError("the line is dead", sent=True)
        answer = self.server.handle(request, now_ms)
        if loss == "answer":
            raise TransportError("the line is dead", sent=True)
        return answer


class SharedTrainer(StandInTrainer):
    """One of several that work in the same memory: what another one loads meanwhile is there instead."""

    memory: ClassVar[dict[str, Any]] = {}

    def load(self, weights: Any) -> None:
        SharedTrainer.memory = {name: values.copy() for name, values in weights.items()}

    def train(self, epochs: int, learning_rate: float, report: Any) -> float:
        self.calls.append("train")
        for values in SharedTrainer.memory.values():
            values += self.moves(values.size)
        report(0, [1.0])
        return 1.0

    def moves(self, size: int) -> Any:
        return np.sin(self.step + np.arange(size, dtype=np.float32)) / 4

    def weights(self) -> Any:
        return SharedTrainer.memory


def client(
    place: int,
    clock: Clock,
    *,
    log: ClientLog | None = None,
    trainer: Any = None,
    pairs: Any = lambda mode, iteration: KEYS[mode.name],
    **changes: Any,
) -> DeviceClient:
    """Return the device ``place``, which has 16 samples more than the one before it."""
    config = ClientConfig(name=f"f{place}", fl_id=f"id-{place}", evaluate_aggregated=False, **changes)
    trainer = trainer or SharedTrainer(16 * (place + 1), step=float(place))
    return DeviceClient(
        config,
        trainer,
        clock,
        log,
        steady_ms=clock,
        randomness=lambda iteration: SeededRandom("masking", place, iteration),
        pair_keys=pairs,
    )


class Scene:
    """The device 0, on a line of its own, and ``count`` - 1 others, in step."""

    def __init__(self, server: SecureServer, count: int = 4, trainer: Any = None, **changes: Any) -> None:
        self.server, self.clock = server, Clock()
        self.line, self._others_line = Line(server), Line(server)
        self.trainer = trainer or SharedTrainer(16, step=0.0)
        self.device = client(0, self.clock, trainer=self.trainer, **changes)
        self.flow = self.device.train()
        self._others = [client(place, self.clock).train() for place in range(1, count)]

    def first(self) -> Any:
        """Let device 0 continue until it waits."""
        return advance(self.flow, self.line, self.clock)

    def rest(self) -> None:
        """Let each of the others continue until it waits."""
        for flow in self._others:
            advance(flow, self._others_line, self.clock)

    def turn(self) -> Any:
        """Let all continue, and some time pass; return what device 0 did."""
        step = self.first()
        self.rest()
        self.clock.sleep(200)
        return step

    def until(self, reached: Callable[[], bool]) -> None:
        """Take turns until that holds after a step of device 0."""
        for _ in range(50):
            self.first()
            if reached():
                return
            self.rest()
            self.clock.sleep(200)
        raise AssertionError("it never came to that")

    def close(self) -> None:
        """End all flows."""
        for flow in (self.flow, *self._others):
            flow.close()


class Crowd:
    """Devices side by side on one clock. Those of ``lost`` end before the first request to that endpoint."""

    def __init__(
        self,
        server: Any,
        count: int,
        losses: dict[int, str] | None = None,
        lost: dict[int, str] | None = None,
        **changes: Any,
    ) -> None:
        self.clock = Clock()
        self.line = Line(server, losses)
        self.clients = [client(place, self.clock, **changes) for place in range(count)]
        self._lost = lost or {}

    def run(self) -> dict[int, Any]:
        """Return the result, or the error, of each device that was not lost."""
        flows = {place: device.train() for place, device in enumerate(self.clients)}
        waiting = [(self.clock.now, place) for place in flows]
        results: dict[int, Any] = {}
        while waiting:
            at, place = heapq.heappop(waiting)
            self.clock.now = max(self.clock.now, at)
            try:
                step = advance(flows[place], _Way(self.line, self._lost.get(place)), self.clock)
            except Lost:
                flows[place].close()
                continue
            except Exception as error:
                results[place] = error
                continue
            if isinstance(step, Finished):
                results[place] = step.result
            else:
                heapq.heappush(waiting, (self.clock.now + (step.ms if isinstance(step, Wait) else 0), place))
        return results


class Lost(BaseException):
    """A device is gone."""


class _Way:
    def __init__(self, line: Line, until: str | None) -> None:
        self._line, self._until = line, until

    def send(self, request: Any, now_ms: int) -> Any:
        if ENDPOINTS[type(request)] == self._until:
            raise Lost
        return self._line.send(request, now_ms)


def plain_models(kind: str, count: int, iterations: int, survivors: Sequence[int] | None = None) -> list[Any]:
    """Return the models of a job without masks: the averages, of float64, or of the fixed point."""
    models = [np.concatenate([MODEL["a"], MODEL["b"]])]
    fixed = FixedPoint.for_job(count, 1000)
    for _ in range(iterations):
        total, size, words = np.zeros(SIZE), 0, np.zeros(SIZE, np.uint64)
        for place in range(count) if survivors is None else survivors:
            trainer, samples = SharedTrainer(step=float(place)), 16 * (place + 1)
            moves = np.concatenate([trainer.moves(6), trainer.moves(70)])
            trained = models[-1] + moves
            total += trained.astype(np.float64) * samples
            words = words + fixed.encode(trained, samples, "x")
            size += samples
        models.append(fixed.decode(words, size) if kind == EXACT else (total / size).astype(np.float32))
    return models
