"""A strict stand-in for the Java client of MindSpore Federated 0.1.0: its rules, without its training.

It does what that client was seen to do, and takes nothing that client would stumble over. What would end its process is
a :class:`CrashError`; what a server must not send to it, though it lives on, is noted in ``complaints``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mindfl.protocol import (
    ENDPOINTS,
    CompressType,
    FLPlan,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    UnsupervisedEvalItem,
    UnsupervisedEvalItems,
    decode,
    encode,
)

Post = Callable[[str, bytes], tuple[int, bytes]]
"""(endpoint, body) -> (HTTP status, body)."""
Weights = dict[str, NDArray[np.float32]]

SAFEMODE = b"The cluster is in safemode."
NOT_READY = b"The server's training job is not ready."
FINISHED = b"The server's training job is disabled or finished."
LONGEST_TEXT = 512
POLL_MS = 10_000
MOST_POLLS = 18
LONGEST_SLEEP_MS = 1_800_000
RESTARTS = 1
SUCCESS, FAILED, RESTART = "SUCCESS", "FAILED", "RESTART"
LEGAL_ENCRYPT_TYPES = ("NOT_ENCRYPT", "PW_ENCRYPT", "DP_ENCRYPT", "SIGNDS")


class CrashError(Exception):
    """An exception that the Java client does not catch: its process ends with exit code 1."""


@dataclass(frozen=True)
class Sleep:
    """The client does nothing for so long; ``until`` says that the server named the time."""

    ms: int
    until: bool = False


@dataclass
class _Step:
    status: str
    next_req_time: str | None = None


@dataclass
class JavaClient:
    """One process. ``now_ms`` is its wall clock, ``train_ms`` how long it takes to train in each iteration.

    ``status`` and ``code`` are those that the process reports in the end, ``saved`` says whether the model file was
    replaced, ``done`` lists the iterations whose total response was SUCCESS.
    """

    fl_id: str
    post: Post
    now_ms: Callable[[], int]
    sizes: Mapping[str, int]
    data_size: int = 32
    train_ms: Callable[[int], int] = lambda iteration: 1000
    poll_ms: int = POLL_MS
    status: str = ""
    code: int = 400
    saved: bool = False
    done: list[int] = field(default_factory=list)
    refused: list[tuple[str, int, int]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    weights: Weights = field(default_factory=dict)
    iteration: int = 0
    _iterations: int = 1
    _order: tuple[str, ...] = ()

    def run(self) -> Generator[Sleep, None, None]:
        """Be a training job; raises :class:`CrashError` where the process would end."""
        tries, last_started = 0, -1
        while True:
            if tries > RESTARTS:
                self.status = FAILED
                break
            step = self._start()
            self.status = step.status
            if step.status == RESTART:
                tries += 1
                yield self._until(step.next_req_time)
                if self._at_the_end:
                    break
                continue
            if step.status == FAILED:
                break
            tries = tries + 1 if self.iteration == last_started else 1
            last_started = self.iteration
            yield Sleep(self.train_ms(self.iteration))
            step = self._update()
            if step.status == SUCCESS:
                step = yield from self._await_model()
            self.status = step.status
            if step.status == FAILED:
                break
            if step.status == RESTART:
                yield self._until(step.next_req_time)
            else:
                self.done.append(self.iteration)
                tries = 0
            if self._at_the_end:
                break
        self.saved = self.status == SUCCESS

    @property
    def _at_the_end(self) -> bool:
        return self.iteration >= self._iterations

    def _until(self, next_req_time: str | None) -> Sleep:
        if not next_req_time or not next_req_time.isdecimal():
            raise CrashError(f"no time to come back at: {next_req_time!r}")
        wait = int(next_req_time) - self.now_ms()
        if wait <= 0:
            raise CrashError(f"the time to come back at is {-wait} ms ago")
        return Sleep(min(wait, LONGEST_SLEEP_MS), until=True)

    def _ask(self, request: Request) -> bytes | _Step:
        """Return the body of an answer that is a table, or what the client does about another one."""
        endpoint = ENDPOINTS[type(request)]
        status, body = self.post(endpoint, encode(request))
        if not 200 <= status < 300:
            self.complaints.append(f"{endpoint}: HTTP status {status}")
            self.code = 400
            return _Step(FAILED)
        if len(body) <= LONGEST_TEXT and (SAFEMODE in body or NOT_READY in body):
            if endpoint != "getModel":
                self.complaints.append(f"{endpoint}: {body.decode()}")
            self.code = 201 if endpoint == "getModel" else 300
            return _Step(RESTART, str(self.now_ms() + POLL_MS))
        if len(body) <= LONGEST_TEXT and FINISHED in body:
            self.code = 500
            return _Step(FAILED)
        return body

    def _refuse(self, endpoint: str, code: int, next_req_time: str | None) -> _Step:
        if code == 300:
            self.refused.append((endpoint, self.iteration, self.now_ms()))
            return _Step(RESTART, next_req_time)
        return _Step(FAILED)

    def _start(self) -> _Step:
        request = RequestFLJob(
            fl_name="com.mindspore.flclient.demo.lenet.LenetClient",
            fl_id=self.fl_id,
            iteration=self.iteration,
            data_size=self.data_size,
            timestamp=str(self.now_ms()),
            download_compress_types=(CompressType.NO_COMPRESS, CompressType.QUANT),
            eval_data_size=self.data_size,
        )
        body = self._ask(request)
        if isinstance(body, _Step):
            return body
        response = decode(body, ResponseFLJob)
        self.iteration, self.code = response.iteration, response.retcode
        plan = response.fl_plan_config
        if response.retcode in (200, 300) and plan is None:
            self.complaints.append(f"startFLJob: no plan with {response.retcode}")
            return _Step(FAILED)
        if plan is not None:
            self._iterations = plan.iterations
        if response.retcode != 200:
            return self._refuse("startFLJob", response.retcode, response.next_req_time)
        self._check_plan(plan)
        self._take(response.feature_map)
        return _Step(SUCCESS)

    def _check_plan(self, plan: FLPlan | None) -> None:
        """Note what training cannot begin with."""
        assert plan is not None
        encrypt_type = plan.cipher.encrypt_type if plan.cipher else None
        faults = {
            "cipher": encrypt_type not in LEGAL_ENCRYPT_TYPES,
            "server_mode": plan.server_mode != "FEDERATED_LEARNING",
            "mini_batch": plan.mini_batch < 1,
            "epochs": plan.epochs < 1,
            "iterations": plan.iterations < self.iteration,
        }
        self.complaints += [f"startFLJob: unusable {name}" for name, fault in faults.items() if fault]

    def _take(self, weights: Mapping[str, NDArray[np.float32]] | None) -> None:
        """Write received weights into the model: an unknown name or another size fails the job."""
        received = dict(weights or {})
        if {name: values.size for name, values in received.items()} != dict(self.sizes):
            raise CrashError(f"cannot update the model with {sorted(received)}")
        if self._order and tuple(received) != self._order:
            self.complaints.append("the order of the weights has changed")
        self._order = tuple(received)
        self.weights = {name: values.copy() for name, values in received.items()}

    def trained(self) -> Weights:
        """Return what this client's training makes of the weights it received; simple, and its own."""
        step = np.float32(self.data_size / 8 + self.iteration)
        return {name: values * np.float32(0.5) + step for name, values in self.weights.items()}

    def _update(self) -> _Step:
        scale = np.float32(self.data_size)
        item = UnsupervisedEvalItem(eval_name="DirectClassifierResult", eval_data=np.full(62, 1 / 62, np.float32))
        request = RequestUpdateModel(
            fl_name="com.mindspore.flclient.demo.lenet.LenetClient",
            fl_id=self.fl_id,
            iteration=self.iteration,
            feature_map={name: values * scale for name, values in self.trained().items()},
            timestamp=str(self.now_ms()),
            upload_loss=4.125,
            upload_accuracy=0.25,
            unsupervised_eval_items=UnsupervisedEvalItems(eval_items=(item,)),
        )
        body = self._ask(request)
        if isinstance(body, _Step):
            return body
        response = decode(body, ResponseUpdateModel)
        self.code = response.retcode
        if response.retcode != 200:
            return self._refuse("updateModel", response.retcode, response.next_req_time)
        return _Step(SUCCESS)

    def _await_model(self) -> Generator[Sleep, None, _Step]:
        for _ in range(MOST_POLLS):
            step = self._get_model()
            if step is not None:
                return step
            yield Sleep(self.poll_ms)
        return self._get_model() or _Step(FAILED)

    def _get_model(self) -> _Step | None:
        """Ask for the model of this iteration; None stands for "not ready"."""
        request = RequestGetModel(
            fl_name="com.mindspore.flclient.demo.lenet.LenetClient",
            iteration=self.iteration,
            timestamp=str(self.now_ms()),
            download_compress_types=(CompressType.NO_COMPRESS, CompressType.QUANT),
        )
        body = self._ask(request)
        if isinstance(body, _Step):
            return None if body.status == RESTART else body
        response = decode(body, ResponseGetModel)
        self.code = response.retcode
        if response.retcode == 201:
            return None
        if response.retcode != 200:
            return self._refuse("getModel", response.retcode, response.timestamp)
        self._take(response.feature_map)
        return _Step(SUCCESS)


@dataclass
class Fleet:
    """Clients side by side on one clock that jumps from event to event. Times are milliseconds.

    A request takes ``latency_ms`` each way. ``crashes`` holds what ended processes, by fl_id.
    """

    now: int = 1_795_333_460_000
    latency_ms: int = 20
    crashes: dict[str, CrashError] = field(default_factory=dict)

    def slowly(self, post: Post) -> Post:
        """Return ``post`` with the time that a request takes."""

        def timed(endpoint: str, body: bytes) -> tuple[int, bytes]:
            self.now += self.latency_ms
            answer = post(endpoint, body)
            self.now += self.latency_ms
            return answer

        return timed

    def run(self, clients: Iterable[tuple[JavaClient, int]], lives: Mapping[str, int | None] | None = None) -> None:
        """Run every client from its start (ms after now) to its end.

        Those with a number in ``lives``, by fl_id, are killed when they have slept so often.
        """
        left = dict(lives or {})
        due = [(self.now + start, order, client, client.run()) for order, (client, start) in enumerate(clients)]
        heapq.heapify(due)
        order = len(due)
        while due:
            at, _, client, flow = heapq.heappop(due)
            self.now = max(self.now, at)
            try:
                sleep = next(flow)
            except StopIteration:
                continue
            except CrashError as crash:
                self.crashes[client.fl_id] = crash
                continue
            life = left.get(client.fl_id)
            if life == 0:
                continue
            left[client.fl_id] = None if life is None else life - 1
            heapq.heappush(due, (self.now + sleep.ms, order, client, flow))
            order += 1
