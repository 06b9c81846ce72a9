"""How an upload is sent: again where that is safe, and what became of it where an answer was lost."""

from __future__ import annotations

from mindfl.client.config import ClientConfig
from mindfl.client.conversation import Conversation
from mindfl.client.encoding import UploadEncoder
from mindfl.client.flow import Flow, Wait
from mindfl.client.joblog import JobLog
from mindfl.protocol import RequestUpdateModel, Response, ResponseCode, ResponseUpdateModel, texts

_STAGE = "updateModel"


class Uploading:
    """Sends one device's uploads."""

    def __init__(self, config: ClientConfig, talk: Conversation, lines: JobLog, encoder: UploadEncoder) -> None:
        self._config = config
        self._talk = talk
        self._lines = lines
        self._encoder = encoder

    def send(self, request: RequestUpdateModel) -> Flow[bool]:
        """Send ``request``; return whether it is known to be counted.

        Where it is not, the iteration's model is worth waiting for all the same. Errors and turns are those of
        :class:`Conversation`. ``request`` must not outlive this: a client that waits for the others holds no weights.
        """
        self._talk.stage = _STAGE
        answer, repeated = yield from self._until_ready(request)
        del request
        if repeated and self._talk.finished(answer):
            return False  # The lost request may have ended the job; its last model is still given away.
        response = self._talk.table(answer, ResponseUpdateModel)
        self._lines.update_response(response)
        if response.retcode == ResponseCode.SUCCEED:
            self._encoder.uploaded()
        if not (repeated and response.retcode == ResponseCode.OUT_OF_TIME):
            self._talk.check_code(response.retcode, response.reason, response.next_req_time)
            return True
        yield from self._check_whether_counted(response)
        return False

    def _until_ready(self, request: RequestUpdateModel) -> Flow[tuple[Response | None, bool]]:
        """Send ``request``, and again where a server between two iterations says that it is not ready.

        The reference starts again then, which a server that has counted it in already refuses: nobody could go on.
        """
        answer, repeated = yield from self._talk.exchange(request)
        for _ in range(self._config.max_restarts):
            not_ready = self._talk.not_ready(answer)
            if not_ready is None:
                break
            self._lines.server_not_ready(self._talk.stage, not_ready)
            self._lines.flush()
            yield Wait(self._config.poll_ms)
            answer, again = yield from self._talk.exchange(request)
            repeated = repeated or again
        return answer, repeated

    def _check_whether_counted(self, refusal: ResponseUpdateModel) -> Flow[None]:
        """Start again where the server has forgotten this client; in all other cases the model is worth waiting for.

        The lost request was counted, or the iteration ended meanwhile. A server that does not know the client has
        either ended the iteration too, or lost its memory and still waits for uploads.
        """
        if refusal.reason != texts.UPDATE_NOT_STARTED.format(fl_id=self._config.fl_id):
            return
        response = yield from self._talk.ask_model(self._talk.iteration)
        self._talk.stage = _STAGE
        if response.retcode == ResponseCode.SUC_NOT_READY:
            self._talk.check_code(refusal.retcode, refusal.reason, refusal.next_req_time)
