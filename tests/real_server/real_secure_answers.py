"""What MindSpore Federated 0.1.0 answers in secure aggregation: scripts of requests, each with its answer.

:func:`check` plays a script on any server. All texts are literal here: a mistake in ``mindfl.protocol.texts`` must not
hide itself. What makes the real server crash is in no script: a request without ``fl_id`` does, at every endpoint of
secure aggregation, and so does a share without one.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.secagg import PairKeys, PairwiseDevice, SeededRandom, pairwise_keys
from mindfl.protocol import (
    REQUESTS,
    AnyRequest,
    AnyResponse,
    ClientPublicKeys,
    ClientShare,
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    PlainText,
    PWParams,
    RequestFLJob,
    RequestGetModel,
    RequestShareSecrets,
    RequestUpdateModel,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    Weights,
    decode_response,
    encode,
)
from mindfl.protocol.flatbuf import BrokenBufferError

SIZE = 16
MODEL: Weights = {"conv.weight": np.zeros(2, np.float32), "fc.weight": np.zeros((2, 3), np.float32)}
WEIGHTS = sum(weights.size for weights in MODEL.values())
LIMIT_S = 30.0
POLL_S = 0.05
SAFEMODE = "The cluster is in safemode."

Body = AnyRequest | bytes
Post = Callable[[str, Body], AnyResponse]


@dataclass(frozen=True, slots=True)
class Said:
    """What counts of an answer. ``listed``: see :func:`listed`; ``text``: of an answer that is no table."""

    retcode: int = 0
    reason: str | None = None
    listed: tuple[str, ...] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request of the device ``who`` and its answer; ``changes`` replace fields, ``body`` replaces the whole request.

    A ``patient`` request is repeated until it is answered so.
    """

    name: str
    endpoint: str
    who: str
    said: Said
    changes: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Unexpected:
    """An answer other than that of the script."""

    case: str
    expected: Said
    got: Said
    fault: str = ""


def check(
    post: Post, cases: Iterable[Case], *, stable: bool = False, instead: Mapping[str, Said] | None = None
) -> list[Unexpected]:
    """Play ``cases`` in order and return where the answers differ.

    ``post`` sends a message (or bytes) to an endpoint and returns the answer; see :func:`http_post`. ``stable``: the
    job's encryption is ``STABLE_PW_ENCRYPT``. ``instead``: answers to expect in place of the real server's, by the name
    of the case; the iteration and the time that they name are not looked at then.
    """
    chosen = instead or {}
    devices = Devices(stable)
    found = []
    for case in cases:
        expected = chosen.get(case.name, case.said)
        request = case.body or devices.request(case)
        answer = _settled(post, case, request, expected)
        devices.learn(case.who, answer)
        got, fault = said(answer), "" if case.name in chosen else devices.fault(answer)
        if got != expected or fault:
            found.append(Unexpected(case.name, expected, got, fault))
    return found


def http_post(url: str) -> Post:
    """Return what posts to the server at ``url``; a status other than 200 is a :class:`PlainText` that says so."""
    place = urlsplit(url)

    def post(endpoint: str, message: Body) -> AnyResponse:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=LIMIT_S)
        try:
            body = message if isinstance(message, bytes) else encode(message)
            connection.request("POST", f"{place.path.rstrip('/')}/{endpoint}", body)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status != 200:
            return PlainText(f"HTTP {response.status}")
        try:
            return decode_response(data, REQUESTS[endpoint])
        except BrokenBufferError:
            return PlainText(data.decode(errors="replace"))

    return post


def said(answer: AnyResponse) -> Said:
    """Return what counts of ``answer``."""
    if isinstance(answer, PlainText):
        return Said(text=answer.text)
    return Said(answer.retcode, getattr(answer, "reason", None), listed(answer))


def listed(answer: AnyResponse) -> tuple[str, ...] | None:
    """Return what a list says that counts, sorted: the order on the wire is that of a hash map.

    Keys as ``id c_pk s_pk pw_iv pw_salt`` with their lengths, ``-`` where absent; shares by their sender; a model as
    its values with two decimals, each once. None for an absent list and for other answers.
    """
    match answer:
        case ReturnExchangeKeys():
            keys = answer.remote_publickeys
            return None if keys is None else tuple(sorted(map(_lengths, keys)))
        case ReturnShareSecrets():
            shares = answer.encrypted_shares
            return None if shares is None else tuple(sorted(share.fl_id or "" for share in shares))
        case ReturnClientList():
            return None if answer.clients is None else tuple(sorted(answer.clients))
        case ResponseGetModel() if answer.feature_map:
            values = np.concatenate([np.ravel(weights) for weights in answer.feature_map.values()])
            return tuple(sorted({f"{value:.2f}" for value in values}))
    return None


class Devices:
    """The devices of a script: they send what real ones would, and learn from the answers."""

    def __init__(self, stable: bool = False) -> None:
        self.number = 1
        self._current = 1
        self._stable = stable
        self._params = PWParams()
        self._pairs: PairKeys = pairwise_keys()
        self._forget()

    def request(self, case: Case) -> AnyRequest:
        """Return the request of ``case``."""
        who = case.who
        common: dict[str, Any] = {"fl_id": who, "iteration": self.number, "timestamp": _now()}
        requests: dict[str, Callable[[], AnyRequest]] = {
            "startFLJob": lambda: RequestFLJob(fl_name="any", data_size=SIZE, **common),
            "exchangeKeys": lambda: replace(self._device(who).request, **common),
            "getKeys": lambda: GetExchangeKeys(**common),
            "shareSecrets": lambda: RequestShareSecrets(encrypted_shares=self._shares.get(who, ()), **common),
            "getSecrets": lambda: GetShareSecrets(**common),
            "updateModel": lambda: RequestUpdateModel(
                fl_name="any", feature_map=self._upload(who), upload_loss=0.5, **common
            ),
            "getClientList": lambda: GetClientList(**common),
            "reconstructSecrets": lambda: SendReconstructSecret(
                reconstruct_secret_shares=self._revealed.get(who, ()), **common
            ),
            "getModel": lambda: RequestGetModel(fl_name="any", iteration=self.number, timestamp=_now()),
        }
        request = requests[case.endpoint]()
        return replace(request, **case.changes)

    def learn(self, who: str, answer: AnyResponse) -> None:
        """Take in what ``who`` was given; what it is given a second time it knows already."""
        if isinstance(answer, PlainText) or answer.retcode != ResponseCode.SUCCEED:
            return
        match answer:
            case ResponseFLJob():
                self._start(answer)
            case ResponseGetModel():
                self._current = answer.iteration
            case ReturnExchangeKeys() if who not in self._shares:
                self._device(who).meet(answer.remote_publickeys or ())
                self._shares[who] = () if self._stable else self._device(who).shares()
                if self._stable:
                    self._masks[who] = self._device(who).mask(WEIGHTS)
            case ReturnShareSecrets() if who not in self._masks:
                self._device(who).receive(answer.encrypted_shares or ())
                self._masks[who] = self._device(who).mask(WEIGHTS)
            case ReturnClientList() if who not in self._revealed:
                self._revealed[who] = self._device(who).reveal(answer.clients or ())

    def fault(self, answer: AnyResponse) -> str:
        """Return the fault in the iteration and the time that ``answer`` names, or nothing."""
        if isinstance(answer, PlainText):
            return ""
        number = getattr(answer, "iteration", self._current)
        if number != self._current:
            return f"names iteration {number} in {self._current}"
        moment = answer.timestamp if isinstance(answer, ResponseGetModel) else getattr(answer, "next_req_time", "0")
        return "" if moment and moment.isdecimal() else f"names the time {moment!r}"

    def _start(self, answer: ResponseFLJob) -> None:
        plan = answer.fl_plan_config
        assert plan is not None and plan.cipher is not None and plan.cipher.pw_params is not None
        self._params = plan.cipher.pw_params
        if answer.iteration != self.number:
            self.number = answer.iteration
            self._forget()
        self._current = answer.iteration

    def _forget(self) -> None:
        self._devices: dict[str, PairwiseDevice] = {}
        self._shares: dict[str, tuple[ClientShare, ...]] = {}
        self._masks: dict[str, NDArray[np.float32]] = {}
        self._revealed: dict[str, tuple[ClientShare, ...]] = {}
        self._pairs.forget()

    def _device(self, who: str) -> PairwiseDevice:
        if not self._params.t:
            # No device knows the server's plan yet: only its keys are needed of such a device.
            return PairwiseDevice(who, self._params, stable=True)
        if who not in self._devices:
            random = SeededRandom(1, who, self.number)
            self._devices[who] = PairwiseDevice(
                who, self._params, random=random, pairs=self._pairs, stable=self._stable
            )
        return self._devices[who]

    def _upload(self, who: str) -> Weights:
        """Return weights that are all 1, times the data size, under the device's mask if it has one."""
        mask = self._masks.get(who, np.zeros(WEIGHTS, np.float32))
        conv, rest = np.split(mask + np.float32(SIZE), [2])
        return {"conv.weight": conv, "fc.weight": rest}


def _settled(post: Post, case: Case, request: Body, expected: Said) -> AnyResponse:
    """Return the answer after the server's switch between two iterations, and after what the case waits for."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        answer = post(case.endpoint, request)
        got = said(answer)
        switching = SAFEMODE in got.text
        waiting = case.patient and (got.retcode, got.text) != (expected.retcode, expected.text)
        if not (switching or waiting) or time.monotonic() > deadline:
            return answer
        time.sleep(POLL_S)


def _lengths(keys: ClientPublicKeys) -> str:
    parts = (keys.c_pk, keys.s_pk, keys.pw_iv, keys.pw_salt)
    return " ".join([keys.fl_id or "", *("-" if part is None else str(len(part)) for part in parts)])


def _now() -> str:
    return str(time.time_ns() // 1_000_000)
