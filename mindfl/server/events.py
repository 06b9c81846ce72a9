"""The events that change the state of a job, one dataclass per kind, and their form in a journal.

The state of a coordinator is a function of these events and their order; all other requests only read.
Numbers are little endian. Weights are stored as float32 in the order of the layout, preceded by one bit per weight
that says whether the device sent it, so that an upload takes its own size and a few bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.protocol import (
    GetShareSecrets,
    Request,
    RequestExchangeKeys,
    RequestShareSecrets,
    RequestUpdateModel,
    SendReconstructSecret,
    Weights,
    decode,
    encode,
)
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.iteration import Device, UploadReport
from mindfl.server.server_config import ServerConfig

Buffer: TypeAlias = bytes | memoryview
#: weights, or the words of ``PW_EXACT``
Content: TypeAlias = "Weights | NDArray[np.uint32] | NDArray[np.uint64]"

_STARTED = struct.Struct("<qqqI")
_UPLOADED = struct.Struct("<qddI")
_TIME = struct.Struct("<q")
_COHORT = struct.Struct("<qI")
DRAW_BYTES = 16
_IDS = "surrogatepass"  # a client in the same process may have any str for an id


@dataclass(frozen=True, slots=True)
class Started:
    """A startFLJob was accepted."""

    now_ms: int
    fl_id: str
    device: Device


@dataclass(frozen=True, slots=True, eq=False)
class Uploaded:
    """An updateModel was accepted; this closes the iteration where the quota is met."""

    now_ms: int
    fl_id: str
    upload: UploadReport
    content: Content

    @staticmethod
    def of(request: RequestUpdateModel, content: Content, now_ms: int) -> Uploaded:
        """Return the event of accepting ``request``, whose upload means ``content``."""
        upload = UploadReport(request.upload_loss, request.upload_accuracy)
        kind = Uploaded if isinstance(content, Mapping) else UploadedWords
        return kind(now_ms, request.fl_id or "", upload, content)


@dataclass(frozen=True, slots=True, eq=False)
class UploadedWords(Uploaded):
    """The same of masked whole numbers (``PW_EXACT``)."""


@dataclass(frozen=True, slots=True)
class KeysPublished:
    """An exchangeKeys was accepted. ``draw``: 16 random bytes of the server's, for unpredictable choices."""

    now_ms: int
    draw: bytes
    request: RequestExchangeKeys


@dataclass(frozen=True, slots=True)
class SharesDeposited:
    """A shareSecrets was accepted."""

    now_ms: int
    request: RequestShareSecrets


@dataclass(frozen=True, slots=True)
class SharesGiven:
    """A getSecrets was answered, for the first time: from now on the client may upload."""

    now_ms: int
    request: GetShareSecrets


@dataclass(frozen=True, slots=True)
class SharesRevealed:
    """A reconstructSecrets was accepted; this closes the iteration where enough is known."""

    now_ms: int
    request: SendReconstructSecret


@dataclass(frozen=True, slots=True)
class WindowEnded:
    """A window ended and failed the iteration."""

    now_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Disabled:
    """The job was disabled; the running iteration, if any, was abandoned."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Enabled:
    """The job was enabled."""


@dataclass(frozen=True, slots=True)
class CohortSet:
    """The running iteration takes this many clients in place of the plan's number; 0 ends it with its model."""

    now_ms: int
    clients: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """A new instance began: iteration 1 again, other settings, the same weights."""

    now_ms: int
    instance: str
    config: ServerConfig


@dataclass(frozen=True, slots=True)
class Resumed:
    """The server came back; the windows continue where the event before left them."""

    now_ms: int


SecureEvent: TypeAlias = KeysPublished | SharesDeposited | SharesGiven | SharesRevealed
SmallEvent: TypeAlias = Started | WindowEnded | Disabled | Enabled | CohortSet | Renewed | Resumed | SecureEvent
Event: TypeAlias = SmallEvent | Uploaded


class EventLog(Protocol):
    """Keeps events in the order in which they happened."""

    def prepare(self, event: Event) -> Callable[[], None]:
        """Return the function that appends ``event``; it raises :class:`StorageError`, appending nothing.

        Preparing is the heavy part and may be done by many threads at once; appending is called one by one.
        """


class EventCodec:
    """Turns events about models of ``layout`` into (kind, payload) and back."""

    def __init__(self, layout: FeatureLayout) -> None:
        self._layout = layout

    def encode(self, event: Event) -> tuple[int, list[Buffer]]:
        """Return the kind and the payload in parts; weights are not copied."""
        kind = _KINDS.index(type(event))
        match event:
            case Started():
                name = event.fl_id.encode(errors=_IDS)
                device = event.device
                head = _STARTED.pack(event.now_ms, device.data_size, device.eval_data_size, len(name))
                return kind, [head + name]
            case UploadedWords():
                return kind, [_uploaded_head(event), event.content.data.cast("B")]  # type: ignore[union-attr]
            case Uploaded():
                return kind, self._encode_upload(event)
            case KeysPublished():
                return kind, [_TIME.pack(event.now_ms), event.draw, encode(event.request)]
            case SharesDeposited() | SharesGiven() | SharesRevealed():
                return kind, [_TIME.pack(event.now_ms), encode(event.request)]
            case WindowEnded():
                return kind, [_TIME.pack(event.now_ms) + event.reason.encode()]
            case CohortSet():
                return kind, [_COHORT.pack(event.now_ms, event.clients)]
            case Renewed():
                text = json.dumps({"instance": event.instance, "config": asdict(event.config)})
                return kind, [_TIME.pack(event.now_ms) + text.encode()]
            case Enabled():
                return kind, []
            case Disabled() | Resumed():
                return kind, [_TIME.pack(event.now_ms)]

    def decode(self, kind: int, payload: bytes) -> Event:
        """Return the event. Weights are read-only views into ``payload``.

        Raises :class:`ValueError` (or its kin :class:`struct.error`, :class:`KeyError`, :class:`TypeError`) for bytes
        that ``encode`` did not make.
        """
        shape = _KINDS[kind]
        if shape is Started:
            now_ms, data_size, eval_data_size, length = _STARTED.unpack_from(payload)
            name = payload[_STARTED.size : _STARTED.size + length].decode(errors=_IDS)
            return Started(now_ms, name, Device(data_size, eval_data_size))
        if shape is Uploaded:
            return self._decode_upload(payload)
        if shape is UploadedWords:
            at, now_ms, fl_id, upload = _read_uploaded_head(payload)
            return UploadedWords(now_ms, fl_id, upload, np.frombuffer(payload, np.uint64, self._layout.size, at))
        if shape is Enabled:
            return Enabled()
        if shape is CohortSet:
            return CohortSet(*_COHORT.unpack(payload))
        now_ms = _TIME.unpack_from(payload)[0]
        message = payload[_TIME.size :]
        if shape is KeysPublished:
            return KeysPublished(now_ms, message[:DRAW_BYTES], decode(message[DRAW_BYTES:], RequestExchangeKeys))
        if shape in _SHARES:
            make, table = _SHARES[shape]
            return make(now_ms, decode(message, table))
        text = message.decode()
        if shape is WindowEnded:
            return WindowEnded(now_ms, text)
        if shape is Renewed:
            content = json.loads(text)
            return Renewed(now_ms, content["instance"], ServerConfig(**content["config"]))
        return Disabled(now_ms) if shape is Disabled else Resumed(now_ms)

    def _encode_upload(self, event: Uploaded) -> list[Buffer]:
        weights = event.content
        assert isinstance(weights, Mapping)
        sent = [key in weights for key in self._layout.names]
        parts: list[Buffer] = [_uploaded_head(event) + np.packbits(sent).tobytes()]
        for key in self._layout.names:
            if key in weights:
                parts.append(np.ascontiguousarray(weights[key]).data.cast("B"))
        return parts

    def _decode_upload(self, payload: bytes) -> Uploaded:
        at, now_ms, fl_id, upload = _read_uploaded_head(payload)
        names = self._layout.names
        sent = np.unpackbits(np.frombuffer(payload, np.uint8, (len(names) + 7) // 8, at), count=len(names))
        values = np.frombuffer(payload, np.float32, offset=at + (len(names) + 7) // 8)
        weights = {}
        begin = 0
        for key in np.array(names, object)[sent.astype(bool)].tolist():
            part = self._layout.slices[key]
            weights[key] = values[begin : begin + part.stop - part.start]
            begin += part.stop - part.start
        return Uploaded(now_ms, fl_id, upload, weights)


def _uploaded_head(event: Uploaded) -> bytes:
    name = event.fl_id.encode(errors=_IDS)
    return _UPLOADED.pack(event.now_ms, event.upload.loss, event.upload.accuracy, len(name)) + name


def _read_uploaded_head(payload: bytes) -> tuple[int, int, str, UploadReport]:
    """Return where the content begins, and time, device and report."""
    now_ms, loss, accuracy, length = _UPLOADED.unpack_from(payload)
    at = _UPLOADED.size + length
    return at, now_ms, payload[_UPLOADED.size : at].decode(errors=_IDS), UploadReport(loss, accuracy)


#: event of shares -> how it is made, and its request
_SHARES: Mapping[type[Event], tuple[Callable[[int, Any], Event], type[Request]]] = {
    SharesDeposited: (SharesDeposited, RequestShareSecrets),
    SharesGiven: (SharesGiven, GetShareSecrets),
    SharesRevealed: (SharesRevealed, SendReconstructSecret),
}

# A kind is the position in this tuple: add at the end only.
_KINDS: Sequence[type[Event]] = (
    Started,
    Uploaded,
    WindowEnded,
    Disabled,
    Enabled,
    Renewed,
    Resumed,
    UploadedWords,
    KeysPublished,
    SharesDeposited,
    SharesRevealed,
    SharesGiven,
    CohortSet,
)
