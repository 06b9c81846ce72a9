"""Answers to the requests of secure aggregation: codes, texts and the order of checks of MindSpore Federated 0.1.0.

Differences, all for the better of the clients: keys, shares and survivors that were given once are given again, since
an answer may get lost; malformed keys and shares are refused, where the reference takes them and spoils the sum; shares
that come too early are not answered as if they had been counted; and clients that come back with the number of the
iteration that has just ended are told of its success.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mindfl.privacy.secagg import SecureAggregationError
from mindfl.protocol import (
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    ReconstructSecret,
    RequestExchangeKeys,
    RequestShareSecrets,
    ResponseCode,
    ResponseExchangeKeys,
    ResponseShareSecrets,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    texts,
)
from mindfl.protocol.secure import SecureRequest, SecureResponse
from mindfl.server.refusal import Refusal
from mindfl.server.secagg.rounds import Rounds


@dataclass(frozen=True, slots=True)
class RequestVerdict:
    """The result of judging a request: a refusal, or the reason of its success. ``fresh``: it changes the state."""

    refusal: Refusal | None = None
    reason: str = ""
    fresh: bool = False
    fault: str = ""
    found: tuple[Any, ...] = ()


def judge(request: SecureRequest, rounds: Rounds[Any], started: Callable[[str], bool]) -> RequestVerdict:
    """Return the verdict on ``request``. ``started`` says whether a client takes part in the iteration."""
    fl_id = request.fl_id or ""
    match request:
        case RequestExchangeKeys():
            return _exchange(request, rounds, started)
        case GetExchangeKeys():
            checks = (
                (request.iteration != rounds.iteration, Refusal.KEYS_STALE),
                (not rounds.exchanged, Refusal.KEYS_NOT_READY),
                (fl_id not in rounds.published, Refusal.KEYS_STRANGER),
            )
            return _first(checks) or RequestVerdict(found=rounds.keys_for(fl_id))
        case RequestShareSecrets():
            return _share(request, rounds)
        case GetShareSecrets():
            checks = (
                (request.iteration != rounds.iteration, Refusal.SECRETS_STALE),
                (not rounds.shared, Refusal.SECRETS_NOT_READY),
                (fl_id not in rounds.deposits, Refusal.SECRETS_STRANGER),
            )
            return _first(checks) or RequestVerdict(found=rounds.shares_for(fl_id), fresh=fl_id not in rounds.given)
        case GetClientList():
            checks = (
                (request.iteration != rounds.iteration, Refusal.LIST_STALE),
                (rounds.survivors is None, Refusal.LIST_NOT_READY),
                (fl_id not in (rounds.survivors or ()), Refusal.LIST_STRANGER),
            )
            return _first(checks) or RequestVerdict(reason=texts.LIST_SUCCESS, found=rounds.survivors_for(fl_id))
        case SendReconstructSecret():
            return _reveal(request, rounds)
    raise TypeError(f"no request of secure aggregation here: {type(request).__name__}")


def _first(checks: tuple[tuple[bool, Refusal], ...]) -> RequestVerdict | None:
    return next((RequestVerdict(refusal) for applies, refusal in checks if applies), None)


def _taken(check: Callable[[], None], refusal: Refusal, success: str) -> RequestVerdict:
    try:
        check()
    except SecureAggregationError as error:
        return RequestVerdict(refusal, fault=error.fault.value)
    return RequestVerdict(reason=success, fresh=True)


def _exchange(request: RequestExchangeKeys, rounds: Rounds[Any], started: Callable[[str], bool]) -> RequestVerdict:
    fl_id = request.fl_id or ""
    known = rounds.published.get(fl_id)
    if known is not None and request.iteration == rounds.iteration:
        # Other keys: a device that has begun anew, and could read nothing that the others send to it.
        same = rounds.published_again(request)
        return RequestVerdict(reason=texts.EXCHANGE_AGAIN) if same else RequestVerdict(Refusal.EXCHANGE_OTHER_KEYS)
    checks = (
        (rounds.exchanged, Refusal.EXCHANGE_QUOTA_FULL),
        (request.iteration != rounds.iteration, Refusal.EXCHANGE_STALE),
        (not started(fl_id), Refusal.EXCHANGE_NOT_STARTED),
    )
    return _first(checks) or _taken(
        lambda: rounds.check_published(request), Refusal.EXCHANGE_KEYS, texts.EXCHANGE_SUCCESS
    )


def _share(request: RequestShareSecrets, rounds: Rounds[Any]) -> RequestVerdict:
    fl_id = request.fl_id or ""
    if fl_id in rounds.deposits and request.iteration == rounds.iteration:
        return RequestVerdict(reason=texts.SHARE_AGAIN)
    checks = (
        (rounds.shared, Refusal.SHARE_QUOTA_FULL),
        (request.iteration != rounds.iteration, Refusal.SHARE_STALE),
        (not rounds.exchanged or fl_id not in rounds.published, Refusal.SHARE_STRANGER),
    )
    return _first(checks) or _taken(lambda: rounds.check_deposited(request), Refusal.SHARE_CONTENT, texts.SHARE_SUCCESS)


def _reveal(request: SendReconstructSecret, rounds: Rounds[Any]) -> RequestVerdict:
    fl_id = request.fl_id or ""
    checks = (
        (request.iteration != rounds.iteration, Refusal.REVEAL_STALE),
        (rounds.survivors is None, Refusal.REVEAL_NOT_READY),
        (fl_id not in (rounds.survivors or ()), Refusal.REVEAL_STRANGER),
    )
    refused = _first(checks)
    if refused:
        return refused
    if fl_id in rounds.heard:
        return RequestVerdict(reason=texts.REVEAL_SUCCESS)
    return _taken(lambda: rounds.check_revealed(request), Refusal.REVEAL_CONTENT, texts.REVEAL_SUCCESS)


def judge_late(request: SecureRequest, rounds: Rounds[Any] | None) -> RequestVerdict | None:
    """Return the verdict for a survivor of an iteration that is over; ``rounds`` are its rounds, if still known.

    None where the request is just too late.
    """
    if isinstance(request, SendReconstructSecret):
        return RequestVerdict(reason=texts.REVEAL_QUOTA_FULL)
    if isinstance(request, GetClientList) and rounds is not None:
        return RequestVerdict(reason=texts.LIST_SUCCESS, found=rounds.survivors_for(request.fl_id or ""))
    return None


def answer(request: SecureRequest, verdict: RequestVerdict, iteration: int, time: str) -> SecureResponse:
    """Return the message of a verdict; ``iteration`` is the running one."""
    refusal = verdict.refusal
    code = refusal.retcode if refusal and refusal.retcode else ResponseCode.SUCCEED
    common: dict[str, Any] = {"retcode": code, "iteration": iteration, "next_req_time": time}
    reason = verdict.reason
    if refusal:
        reason = refusal.text.format(fl_id=request.fl_id, fault=verdict.fault, time=time)
    match request:
        case RequestExchangeKeys():
            return ResponseExchangeKeys(reason=reason, **common)
        case GetExchangeKeys():
            return ReturnExchangeKeys(remote_publickeys=None if refusal else verdict.found, **common)
        case RequestShareSecrets():
            return ResponseShareSecrets(reason=reason, **common)
        case GetShareSecrets():
            return ReturnShareSecrets(encrypted_shares=None if refusal else verdict.found, **common)
        case GetClientList():
            return ReturnClientList(reason=reason, clients=verdict.found, **common)
    return ReconstructSecret(reason=reason, **common)
