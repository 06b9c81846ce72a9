"""What can be wrong with what a peer sent, by name."""

from __future__ import annotations

from enum import Enum

from mindfl.errors import ProtocolError


class Fault(Enum):
    """Why secure aggregation refuses something. The value is the sentence's end."""

    KEY_LENGTH = "a public key, salt, initial vector or commitment has the wrong length"
    KEY_WEAK = "a public key is a point of low order: its agreed secret would be known to everybody"
    PEER_TWICE = "the same device is listed twice"
    PEER_SELF = "a device is listed as its own peer"
    PEER_UNKNOWN = "a device is listed that is not among the peers"
    KEYS_NOT_MINE = "the list of keys lacks this device's own keys, or holds others under its name"
    TOO_FEW = "fewer devices are left than the threshold asks for"
    THRESHOLD = "the threshold does not suit the number of shares"
    SHARE_UNREADABLE = "a share was not encrypted for its receiver in this iteration, or was altered on the way"
    SHARE_MALFORMED = "a share has a length, index or value that cannot be"
    SHARES_DIFFER = "shares of one secret contradict each other, or what its owner published"
    ORDER = "this step was taken already, or its turn has not come"
    REVEAL_CHANGED = "other survivors were named before: a second answer could reveal both secrets of one device"
    UPLOAD_LENGTH = "an upload has the wrong length"
    OUT_OF_RANGE = "a weight is not finite or exceeds the fixed-point range"


class SecureAggregationError(ProtocolError):
    """Something that ``who`` sent is refused. ``fault`` names the reason; counters and answers go by it."""

    def __init__(self, fault: Fault, who: str, detail: str = "", *, hint: str = "") -> None:
        super().__init__(f"secure aggregation refuses {who}: {fault.value}{detail and f' ({detail})'}", hint=hint)
        self.fault = fault
        self.who = who
