"""A client's uploads: their form, how they are sent, and whether an iteration aggregated anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from mindfl.client.conversation import Conversation
from mindfl.client.flow import ClientConfig, Flow, Wait
from mindfl.client.log import JobLog
from mindfl.modes import Trained, UploadMode, asked_mode
from mindfl.modes.mode import LogLine
from mindfl.modes.plain_mode import Plain
from mindfl.privacy.compression import Rounding, dequantise, quantise
from mindfl.privacy.randomness import RandomBytes
from mindfl.protocol import (
    CompressType,
    FloatVector,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseFLJob,
    ResponseUpdateModel,
    Weights,
    texts,
)

Randomness: TypeAlias = Callable[[int], RandomBytes]
"""Iteration -> a source of random bytes for its upload."""

Hide: TypeAlias = Callable[[Weights, int], dict[str, Any]]
"""Trained weights, samples -> the fields of RequestUpdateModel that hold them, masked."""


def system_randomness(iteration: int) -> RandomBytes:
    """Return the operating system's source of random bytes, which cannot be repeated."""
    return os.urandom


class UploadEncoder:
    """Encodes one device's uploads in the ``mode`` that the server asks for.

    The received model is kept until the upload is encoded; if the mode has a memory, until the next model arrives.
    ``memory`` holds the plain values that the mode keeps from iteration to iteration; set it only between two.
    ``hide`` masks uploads for secure aggregation. ``own`` is a user's upload mode. With ``compares``, ``changes`` is
    True if the average of uploads like the latest one certainly differs from the received model; without, it is False.
    """

    def __init__(
        self,
        randomness: Randomness,
        write: Callable[[Iterable[LogLine]], None],
        steady_ms: Callable[[], int],
        hide: Hide,
        *,
        compares: bool = False,
        own: UploadMode | None = None,
    ) -> None:
        self.mode: UploadMode = Plain()
        self.memory: Mapping[str, Any] = {}
        self.changes = False
        self._randomness = randomness
        self._write = write
        self._steady_ms = steady_ms
        self._hide = hide
        self._compares = compares
        self._own = own
        self._asked = ResponseFLJob()
        self._received: Weights = {}
        self._samples = 0

    def begin(self, response: ResponseFLJob, received: Weights) -> None:
        """Start an iteration with the settings in the answer to startFLJob; ``received`` is the model to start from.

        Raises :class:`ProtocolError` for an upload mode or compression that this client does not have.
        """
        self.mode = asked_mode(response, self._own)
        # Without the weights: they may be views that keep the body of the answer in memory.
        self._asked = replace(response, feature_map=None, compress_feature_map=None)
        self.changes = False
        needed = self.mode.needs_received or self.mode.compresses or self._compares
        self._received = received if needed else {}

    def training_begins(self) -> None:
        """Log how the upload will be protected."""
        self._log("FLLiteClient getFeatureMask", self.mode.training_line)

    def encode(self, weights: Weights, samples: int) -> dict[str, Any]:
        """Return the fields of RequestUpdateModel that hold ``weights``, trained on ``samples`` samples.

        Raises :class:`EncodingError` for weights, and :class:`OptionError` for parameters, that cannot be used.
        """
        begin = self._steady_ms()
        received = {name: values for name, values in self._received.items() if name in weights}
        self._received = received if self.mode.remembers else {}
        trained = self._trained(weights, received, samples)
        fields = self._hide(weights, samples) if self.mode.masked else self.mode.fields(trained)
        self._write(self.mode.log_encoded(fields, self._steady_ms() - begin))
        self.changes = self._compares and uploads_change(self.mode, fields, trained, self._asked.download_compress_type)
        return fields

    def uploaded(self) -> None:
        """Log that the server accepted the upload."""
        self._log("FLLiteClient unMasking", self.mode.uploaded_line)

    def iteration_ended(self, new: Weights) -> None:
        """Update the mode's memory with the iteration's aggregated model."""
        if self.mode.remembers:
            trained = self._trained({}, self._received, self._samples)
            self.memory, lines = self.mode.remember(trained, new)
            self._write(lines)
            self._received = {}

    def _trained(self, weights: Weights, received: Weights, samples: int) -> Trained:
        number = self._asked.iteration
        self._samples = samples
        return Trained(
            weights=weights,
            received=received,
            samples=samples,
            iteration=number,
            random=self._randomness(number),
            memory=self.memory,
        )

    def _log(self, source: str, line: str) -> None:
        if line:
            self._write([(source, f"[Encrypt] {line.format(name=self.mode.name)}")])


_STAGE = "updateModel"


class Uploading:
    """Sends one device's uploads."""

    def __init__(self, config: ClientConfig, talk: Conversation, lines: JobLog, encoder: UploadEncoder) -> None:
        self._config = config
        self._talk = talk
        self._lines = lines
        self._encoder = encoder

    def send(self, request: RequestUpdateModel) -> Flow[bool]:
        """Send ``request``; return whether the server is known to have counted it.

        If not, the client still waits for the iteration's model. Exceptions are those of :class:`Conversation`. The
        caller must not keep ``request``: a client that waits for others holds no weights.
        """
        self._talk.stage = _STAGE
        answer, repeated = yield from self._until_ready(request)
        del request
        if repeated and self._talk.finished(answer):
            return False  # The lost request may have ended the job. The server still gives its last model.
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
        """Send ``request``, and again while a server between two iterations is not ready.

        The reference starts the iteration again instead. A server that has already counted this client refuses that,
        and the iteration never ends.
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
        """Raise :class:`ComeBackLater` if the server has forgotten this client; otherwise wait for the model.

        The lost request was counted, or the iteration has ended. A server that does not know the client has either
        ended the iteration, or lost its state and still waits for uploads.
        """
        if refusal.reason != texts.UPDATE_NOT_STARTED.format(fl_id=self._config.fl_id):
            return
        response = yield from self._talk.ask_model(self._talk.iteration)
        self._talk.stage = _STAGE
        if response.retcode == ResponseCode.SUC_NOT_READY:
            self._talk.check_code(refusal.retcode, refusal.reason, refusal.next_req_time)


#: a weight that changed by less than this, in units in the last place, may come back unchanged
_LEAST_PLACES = 1024

#: likely reason if every iteration of a remote server failed
LIKELY_REASON = (
    "the server's start_fl_job_threshold is likely above the number of devices that take part, or its windows are too"
    " short: its log says which"
)

Digests = Mapping[str, bytes]


def digests(weights: Weights) -> Digests:
    """Return a digest of each weight: equal digests mean bitwise equal weights."""
    return {name: hashlib.blake2b(values.tobytes(), digest_size=16).digest() for name, values in weights.items()}


def unchanged(before: Digests, after: Digests) -> bool:
    """Return whether the weights that both have are bitwise equal; False if they have none in common."""
    common = before.keys() & after.keys()
    return bool(common) and all(before[name] == after[name] for name in common)


def uploads_change(mode: UploadMode, fields: Mapping[str, Any], trained: Trained, download: CompressType) -> bool:
    """Return whether the average of uploads like this one certainly differs from the received model.

    A server whose iteration failed returns the model that the iteration began with. A device that uploaded a different
    one, and gets a bitwise equal model back, knows that nothing was aggregated. It cannot know where training hardly
    moved any weight, since averaging, rounding or fixed-point numbers may undo so small a change.

    Args:
        mode: the upload mode.
        fields: the fields of RequestUpdateModel that hold the upload.
        trained: the uploaded weights.
        download: compression of the next model.
    """
    content, received = mode.meant(fields, trained), trained.received
    if download == CompressType.QUANT:
        content = {name: dequantise(quantise(name, values, Rounding.HALF_AWAY)) for name, values in content.items()}
    return any(
        bool((np.abs(values - received[name]) > _least_move(received[name], mode)).any())
        for name, values in content.items()
        if name in received
    )


def _least_move(values: FloatVector, mode: UploadMode) -> FloatVector:
    least: FloatVector = np.maximum(_LEAST_PLACES * np.spacing(np.abs(values)), np.float32(mode.least_move))
    return least
