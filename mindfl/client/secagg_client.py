"""The client's side of secure aggregation: the messages that devices exchange, through the server, around training.

===================  =====================================================================================
before training      exchangeKeys, getKeys until it is answered; shareSecrets, getSecrets until it is answered
after the upload     getClientList until it is answered, reconstructSecrets
===================  =====================================================================================

``STABLE_PW_ENCRYPT`` has the first two only. While the server is not ready, the client waits and asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mindfl.client.conversation import ComeBackLater, Conversation
from mindfl.client.flow import ClientConfig, Flow, Wait
from mindfl.client.log import Answer, JobLog
from mindfl.client.uploading import Randomness
from mindfl.errors import ClientError
from mindfl.modes import UploadMode
from mindfl.modes.plain_mode import Plain
from mindfl.privacy.randomness import RandomBytes
from mindfl.protocol import (
    ENDPOINTS,
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    ReconstructSecret,
    RequestExchangeKeys,
    RequestShareSecrets,
    Response,
    ResponseCode,
    ResponseExchangeKeys,
    ResponseShareSecrets,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    Weights,
    texts,
)

if TYPE_CHECKING:
    from mindfl.client.masked_device import MaskedDevice
    from mindfl.privacy.secagg import PairKeys

PairKeysOf: TypeAlias = Callable[[UploadMode, int], "PairKeys"]
"""(mode, iteration) -> an object that derives the keys of pairs for all devices of a process.

A simulation provides it, and calls :meth:`~mindfl.privacy.secagg.PairKeys.forget` at the end of each iteration. A
device on its own provides none.
"""

_Request = (
    RequestExchangeKeys
    | GetExchangeKeys
    | RequestShareSecrets
    | GetShareSecrets
    | GetClientList
    | SendReconstructSecret
)
AnswerT = TypeVar("AnswerT", bound=Answer)


class SecAggClient:
    """One device's exchanges in each iteration. Without masks in the plan its methods do nothing.

    Errors name client, stage and iteration. :class:`ComeBackLater`, including :class:`Distrusted`, ends the device's
    part in an iteration. Call :meth:`wipe` at the end of each iteration, successful or not.
    """

    def __init__(
        self,
        config: ClientConfig,
        talk: Conversation,
        lines: JobLog,
        *,
        now_ms: Callable[[], int],
        steady_ms: Callable[[], int],
        randomness: Randomness,
        pair_keys: PairKeysOf | None,
    ) -> None:
        self._config = config
        self._talk = talk
        self._lines = lines
        self._now_ms = now_ms
        self._steady_ms = steady_ms
        self._randomness = randomness
        self._pair_keys = pair_keys
        self._mode: UploadMode = Plain()
        self._received: Weights = {}
        self._device: MaskedDevice | None = None
        self._random: tuple[int, RandomBytes] | None = None

    def begin(self, mode: UploadMode, received: Weights, exchanged: Callable[[], Weights]) -> None:
        """Start an iteration with the ``mode`` of the plan.

        ``received`` is the model to train from, ``exchanged()`` returns the weights that the client uploads.

        Raises :class:`ClientError` if the upload would lack weights of the model: masks cover all of them.
        """
        self.wipe()
        self._mode = mode
        if not mode.masked:
            return
        if _sizes(received) != _sizes(exchanged()):
            raise ClientError(
                self._config.name,
                self._talk.iteration,
                f"with {mode.name} all weights of the model are uploaded, and train_weight_name leaves some out",
                hint="leave out train_weight_name, or let the server have another encrypt_type",
            )
        self._received = received

    def agree(self, samples: int) -> Flow[Weights | None]:
        """Exchange keys and shares with the other devices, for an upload of ``samples`` samples.

        Return the model to train from: the trainer may have served other clients meanwhile. None without masks.
        """
        kind = self._mode.name
        if not self._mode.masked:
            return None
        self._talk.stage = ENDPOINTS[RequestExchangeKeys]
        device = self._device = self._new_device(samples)
        yield from self._exchange_keys(device, kind)
        if device.shares_secrets:
            yield from self._exchange_shares(device)
        self._lines.add("mask_ready", mode=kind)
        received, self._received = self._received, {}
        return received

    def hide(self, trained: Weights, samples: int) -> dict[str, Any]:
        """Return the fields of RequestUpdateModel that hold the masked weights ``trained``. The mask is not kept."""
        assert self._device is not None
        return self._device.hide(trained, samples)

    def reveal(self, *, counted: bool) -> Flow[None]:
        """Reveal the shares that unmask the sum; ``counted``: this device's upload is known to be in it.

        The iteration may end without these shares; then its model is available.
        """
        device = self._device
        if device is None or not device.shares_secrets:
            return
        self._lines.add("reveal_started")
        request = GetClientList(fl_id=self._config.fl_id)
        listed = yield from self._ask_while_needed(request, ReturnClientList, counted)
        if listed is None:
            return
        shares = device.reveal(listed.clients or ())
        message = SendReconstructSecret(fl_id=self._config.fl_id, reconstruct_secret_shares=shares)
        if (yield from self._ask_while_needed(message, ReconstructSecret, counted)) is not None:
            self._lines.add("reveal_ended")

    def wipe(self) -> None:
        """Erase all secrets: this device's part in the iteration is over."""
        self._received = {}
        device, self._device = self._device, None
        if device is not None:
            device.wipe()

    def _new_device(self, samples: int) -> MaskedDevice:
        number = self._talk.iteration
        # A second attempt in one iteration continues the random stream: shared secrets are never used again.
        if self._random is None or self._random[0] != number:
            self._random = number, self._randomness(number)
        pairs = self._pair_keys(self._mode, number) if self._pair_keys else None
        with self._talk.named():
            return self._mode.device(self._config.fl_id, number, samples, self._random[1], pairs)

    def _exchange_keys(self, device: MaskedDevice, kind: str) -> Flow[None]:
        fl_id = self._config.fl_id
        self._lines.add("keys_started", mode=kind)
        doubt = yield from self._deposit(device.published(), ResponseExchangeKeys)
        answer = yield from self._fetch(GetExchangeKeys(fl_id=fl_id), ReturnExchangeKeys, doubt)
        device.meet(answer.remote_publickeys or ())
        self._lines.add("keys_ended")

    def _exchange_shares(self, device: MaskedDevice) -> Flow[None]:
        fl_id = self._config.fl_id
        self._lines.add("shares_started")
        message = RequestShareSecrets(fl_id=fl_id, encrypted_shares=device.shares())
        doubt = yield from self._deposit(message, ResponseShareSecrets)
        answer = yield from self._fetch(GetShareSecrets(fl_id=fl_id), ReturnShareSecrets, doubt)
        device.receive(answer.encrypted_shares or ())
        self._lines.add("shares_ended")

    def _deposit(self, message: _Request, table: type[AnswerT]) -> Flow[ComeBackLater | None]:
        """Send ``message``. Return its refusal if an earlier try may have arrived: the next answer shows that."""
        answer, repeated = yield from self._ask(message)
        response = self._response(answer, table)
        try:
            self._check(response)
        except ComeBackLater as refusal:
            if not repeated or getattr(response, "reason", None) == texts.UPDATE_NOT_STARTED.format(
                fl_id=message.fl_id
            ):
                raise
            return ComeBackLater(refusal.at_ms)
        return None

    def _fetch(self, request: _Request, table: type[AnswerT], doubt: ComeBackLater | None) -> Flow[AnswerT]:
        """Return the answer to ``request``. Raises ``doubt`` if the server does not have the deposit."""
        answer, _ = yield from self._ask(request)
        response = self._response(answer, table)
        if doubt is not None and response.retcode != ResponseCode.SUCCEED:
            raise doubt
        self._check(response)
        return response

    def _ask_while_needed(self, request: _Request, table: type[AnswerT], counted: bool) -> Flow[AnswerT | None]:
        """Return the answer to ``request``; None if the iteration is over, or may be, without it.

        A server that has enough shares continues at once and refuses later ones.
        """
        answer, _ = yield from self._ask(request)
        stage, iteration = self._talk.stage, self._talk.iteration
        if self._talk.finished(answer):
            self._lines.add("reveal_not_needed", stage=stage)
            return None
        response = self._response(answer, table)
        if response.retcode == ResponseCode.SUCCEED:
            return response
        if counted and response.retcode == ResponseCode.OUT_OF_TIME:
            model = yield from self._talk.ask_model(iteration)
            self._talk.stage = stage
            counted = model.retcode == ResponseCode.SUC_NOT_READY
        if counted:
            self._check(response)
        self._lines.add("reveal_not_needed", stage=stage)
        return None

    def _ask(self, message: _Request) -> Flow[tuple[Response | None, bool]]:
        """Send ``message`` until the server is ready for it.

        Return its answer, and whether an earlier try may have arrived.
        """
        self._talk.stage = ENDPOINTS[type(message)]
        deadline = self._steady_ms() + self._config.poll_limit_ms
        lost = waiting = False
        while True:
            stamped = replace(message, iteration=self._talk.iteration, timestamp=str(self._now_ms()))
            answer, repeated = yield from self._talk.exchange(stamped)
            lost = lost or repeated
            text = self._talk.not_ready(answer)
            if text is None and getattr(answer, "retcode", None) != ResponseCode.SUC_NOT_READY:
                return answer, lost
            if not waiting:  # One line, however often the client asks.
                self._log_not_ready(answer, text)
                waiting = True
            if self._steady_ms() >= deadline:
                raise self._talk.error(
                    f"was kept waiting for {self._config.poll_limit_ms} ms",
                    hint="look at the server's windows and its log",
                )
            self._lines.flush()
            yield Wait(self._config.poll_ms)

    def _log_not_ready(self, answer: Response | None, text: str | None) -> None:
        if text is not None:
            self._lines.server_not_ready(self._talk.stage, text)
        elif isinstance(answer, Answer):
            self._lines.secagg_response(answer)

    def _response(self, answer: Response | None, table: type[AnswerT]) -> AnswerT:
        response = self._talk.table(answer, table)
        self._lines.secagg_response(response)
        return response

    def _check(self, response: Answer) -> None:
        self._talk.check_code(response.retcode, getattr(response, "reason", None), response.next_req_time)


def _sizes(weights: Weights) -> dict[str, int]:
    return {name: values.size for name, values in weights.items()}
