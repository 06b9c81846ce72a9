"""Reasons to refuse a peer's message: invalid encoded weights, invalid messages of secure aggregation."""

from __future__ import annotations

from enum import Enum

from mindfl.errors import ProtocolError

_SHOWN = 100


class EncodingFault(Enum):
    """Reason to refuse encoded weights. The value ends the error's sentence.

    The server of MindSpore Federated 0.1.0 refuses most of these too. It accepts entries that are too many or too long,
    indices outside the weights or repeated, and a sign of 2, which doubles the step. An upload of only some weights is
    valid; that server then loses the other weights.
    """

    RATE = "the sparse rate is not within 0..1, or not the server's"
    NO_NAMES = "no names of weights"
    NO_ENTRIES = "no compressed weights"
    UNKNOWN_NAME = "a weight that the model does not have"
    REPEATED_NAME = "a weight occurs twice"
    MISSING_NAME = "a weight is missing"
    WRONG_LENGTH = "a weight has the wrong number of values"
    NOT_FINITE = "NaN, Inf or a range beyond float32"
    BOUNDS = "the smallest value exceeds the largest"
    SIGN = "the sign is neither 1 nor -1"
    UNREADABLE = "arrays that cannot be read"
    OTHER_ROUND = "the upload is of another instance of the job"
    INDEX_COUNT = "the number of indices is not within 1..100"
    INDEX_RANGE = "an index lies outside the weights"
    REPEATED_INDEX = "an index occurs twice"


class EncodingError(ProtocolError):
    """Encoded weights are refused. ``fault`` is the reason, for counters and answers.

    ``detail`` may hold text of a peer: it is shortened, and unprintable characters are removed.
    """

    def __init__(self, fault: EncodingFault, detail: str = "") -> None:
        shown = "".join(filter(str.isprintable, detail[:_SHOWN]))
        super().__init__(f"encoded weights are refused: {fault.value}{shown and f' ({shown})'}")
        self.fault = fault
        self.detail = shown


class Fault(Enum):
    """Reason to refuse a message of secure aggregation. The value ends the error's sentence."""

    KEY_LENGTH = "a public key, salt, initial vector or commitment has the wrong length"
    KEY_WEAK = "a public key is a point of low order: its agreed secret would be public"
    PEER_TWICE = "the same device is listed twice"
    PEER_SELF = "a device is listed as its own peer"
    PEER_UNKNOWN = "a device is listed that is not among the peers"
    KEYS_NOT_MINE = "the list of keys lacks this device's own keys, or holds others under its name"
    TOO_FEW = "fewer devices are left than the threshold asks for"
    THRESHOLD = "the threshold does not suit the number of shares"
    SHARE_UNREADABLE = "a share was not encrypted for its receiver in this iteration, or was altered on the way"
    SHARE_MALFORMED = "a share has an impossible length, index or value"
    SHARES_DIFFER = "shares of one secret contradict each other, or what its owner published"
    ORDER = "this step was taken already, or an earlier step is missing"
    REVEAL_CHANGED = "other survivors were named before: a second answer could reveal both secrets of one device"
    UPLOAD_LENGTH = "an upload has the wrong length"
    OUT_OF_RANGE = "a weight is not finite or exceeds the fixed-point range"


class SecureAggregationError(ProtocolError):
    """A message of ``who`` is refused. ``fault`` is the reason, for counters and answers."""

    def __init__(self, fault: Fault, who: str, detail: str = "", *, hint: str = "") -> None:
        super().__init__(f"secure aggregation refuses {who}: {fault.value}{detail and f' ({detail})'}", hint=hint)
        self.fault = fault
        self.who = who
