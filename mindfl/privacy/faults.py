"""What can be wrong with weights that travel in another form than float32, by name."""

from __future__ import annotations

from enum import Enum

from mindfl.errors import ProtocolError

_SHOWN = 100


class EncodingFault(Enum):
    """Why encoded weights are refused. The value is the sentence's end.

    The server of MindSpore Federated 0.1.0 refuses most of this too. It takes entries that are too many or too long,
    indices outside the weights or given twice, and a sign of 2, with which it doubles the step. An upload of some
    weights only is not a fault; there that server loses the others for good.
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
    """Encoded weights are refused. ``fault`` names the reason; counters and answers go by it.

    ``detail`` may hold text of a peer: it is shortened, and what cannot be printed is left out.
    """

    def __init__(self, fault: EncodingFault, detail: str = "") -> None:
        shown = "".join(filter(str.isprintable, detail[:_SHOWN]))
        super().__init__(f"encoded weights are refused: {fault.value}{shown and f' ({shown})'}")
        self.fault = fault
        self.detail = shown
