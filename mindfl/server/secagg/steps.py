"""The part of secure aggregation in a job: from requests to events, and from events to the state of an iteration.

The other modules are imported where they are needed: a job without masks does without the package cryptography.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mindfl.errors import ProtocolError
from mindfl.protocol import (
    ENDPOINTS,
    GetShareSecrets,
    RequestExchangeKeys,
    RequestShareSecrets,
    SendReconstructSecret,
    Weights,
    texts,
)
from mindfl.protocol.secure import SecureRequest, SecureResponse
from mindfl.server import events
from mindfl.server.refusal import Refusal
from mindfl.server.state import EndedIterations

if TYPE_CHECKING:
    from mindfl.server.aggregate import UploadSum
    from mindfl.server.secagg.responses import RequestVerdict
    from mindfl.server.secagg.rounds import Rounds


@dataclass(frozen=True, slots=True)
class Unmasked:
    """Result of an attempt to remove the masks from the sum: the model, or None where that has become impossible."""

    model: Weights | None


class SecAggServer:
    """Secure aggregation in a job's iterations. ``random``: number of bytes -> that many, unpredictable."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._ended: Rounds[Any] | None = None

    def end(self, rounds: Rounds[Any] | None, *, valid: bool) -> None:
        """Forget the shares of an iteration; keep its participants, for requests that come late."""
        self._ended = rounds if valid else None
        if rounds is not None:
            rounds.forget()

    def judge(
        self, request: SecureRequest, rounds: Rounds[Any], started: Callable[[str], bool], ended: EndedIterations
    ) -> RequestVerdict:
        """Return the verdict on ``request`` while ``rounds`` are running; ``started`` says who takes part."""
        from mindfl.server.secagg.responses import judge

        return self.late(request, ended) or judge(request, rounds, started)

    def late(self, request: SecureRequest, ended: EndedIterations) -> RequestVerdict | None:
        """Return the verdict for a client whose upload was counted in an iteration that is over, None for others."""
        if not ended.was_counted(request.fl_id or "", request.iteration):
            return None
        from mindfl.server.secagg.responses import judge_late

        known = self._ended if self._ended is not None and self._ended.iteration == request.iteration else None
        return judge_late(request, known)

    def event(self, request: SecureRequest, rounds: Rounds[Any], now_ms: int) -> events.SecureEvent:
        """Return the event of ``request``, which was judged to change the state, without unused fields."""
        match request:
            case RequestExchangeKeys():
                return events.KeysPublished(now_ms, self._random(events.DRAW_BYTES), rounds.bare(request))
            case RequestShareSecrets():
                return events.SharesDeposited(now_ms, replace(request, timestamp=None, signature=None))
            case GetShareSecrets():
                return events.SharesGiven(now_ms, replace(request, timestamp=None, signature=None))
            case SendReconstructSecret():
                return events.SharesRevealed(now_ms, replace(request, timestamp=None, signature=None))
        raise ProtocolError(f"{ENDPOINTS[type(request)]} changes nothing")


def upload_refusal(rounds: Rounds[Any] | None, fl_id: str) -> Refusal | None:
    """Return why the participant ``fl_id`` lacks what an upload of its mode needs, or None."""
    if rounds is None:
        return None
    if rounds.survivors is not None and fl_id not in rounds.survivors:
        return Refusal.UPDATE_QUOTA_FULL
    return None if rounds.may_upload(fl_id) else Refusal.UPDATE_NOT_SHARED


def unmasked(rounds: Rounds[Any], total: UploadSum, previous: Weights, *, last_chance: bool) -> Unmasked | None:
    """Remove the masks from the sum where enough shares are known; None: wait for more shares.

    Where a wrong share would be noticed that is done at once; else once all survivors were heard, or at the
    ``last_chance``, after which no share is accepted.
    """
    from mindfl.privacy.secagg import SecureAggregationError

    if rounds.survivors is None:
        return Unmasked(None) if last_chance else None
    last_chance = last_chance or rounds.survivors == rounds.heard
    if rounds.certain or (last_chance and rounds.ready):
        try:
            return Unmasked(rounds.average(total, previous))
        except SecureAggregationError:
            pass  # some share was altered: others may still make up for it
    return Unmasked(None) if last_chance else None


def apply(event: events.SecureEvent, rounds: Rounds[Any] | None) -> str:
    """Apply ``event`` and return its endpoint. Raises :class:`ProtocolError` if it does not fit the state."""
    if rounds is None:
        raise ProtocolError("keys or shares in a job without masks")
    match event:
        case events.KeysPublished():
            rounds.publish(event.request, event.draw, event.now_ms)
        case events.SharesDeposited():
            rounds.deposit(event.request, event.now_ms)
        case events.SharesGiven():
            rounds.give(event.request)
        case events.SharesRevealed():
            rounds.reveal(event.request, event.now_ms)
    return ENDPOINTS[type(event.request)]


def answer(
    request: SecureRequest, verdict: RequestVerdict, iteration: int, time: str, *, closed: bool
) -> SecureResponse:
    """Return the answer to ``request``; ``closed``: it has ended its iteration."""
    from mindfl.server.secagg.responses import answer as written

    return written(request, replace(verdict, reason=texts.REVEAL_LAST) if closed else verdict, iteration, time)
