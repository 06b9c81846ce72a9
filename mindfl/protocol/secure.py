"""Messages of secure aggregation, one dataclass per FlatBuffers table; mindfl's own ``PW_EXACT`` uses the same.

The rules of :mod:`mindfl.protocol.messages` hold. Keys, shares and signatures are raw bytes, big integers big endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientShare:
    """A secret share that belongs to, comes from or goes to ``fl_id``."""

    fl_id: str | None = None
    share: bytes | None = None
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPublicKeys:
    """The public keys of one client."""

    fl_id: str | None = None
    c_pk: bytes | None = None
    s_pk: bytes | None = None
    pw_iv: bytes | None = None
    pw_salt: bytes | None = None
    timestamp: str | None = None
    iteration: int = 0
    signature: bytes | None = None
    certificate_chain: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientListSign:
    """One client's signature of the list of clients that updated."""

    fl_id: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExchangeKeys:
    """A client publishes its two public keys (endpoint ``exchangeKeys``)."""

    fl_id: str | None = None
    c_pk: bytes | None = None
    s_pk: bytes | None = None
    iteration: int = 0
    timestamp: str | None = None
    ind_iv: bytes | None = None
    pw_iv: bytes | None = None
    pw_salt: bytes | None = None
    signature: bytes | None = None
    certificate_chain: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseExchangeKeys:
    """Answer to :class:`RequestExchangeKeys`."""

    retcode: int = 0
    reason: str | None = None
    next_req_time: str | None = None
    iteration: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExchangeKeys:
    """A client asks for the public keys of all clients (endpoint ``getKeys``)."""

    fl_id: str | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnExchangeKeys:
    """Answer to :class:`GetExchangeKeys`; it has no reason."""

    retcode: int = 0
    iteration: int = 0
    remote_publickeys: tuple[ClientPublicKeys, ...] | None = None
    next_req_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShareSecrets:
    """A client deposits one encrypted share for each other client (endpoint ``shareSecrets``)."""

    fl_id: str | None = None
    encrypted_shares: tuple[ClientShare, ...] | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseShareSecrets:
    """Answer to :class:`RequestShareSecrets`."""

    retcode: int = 0
    reason: str | None = None
    next_req_time: str | None = None
    iteration: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetShareSecrets:
    """A client asks for the shares addressed to it (endpoint ``getSecrets``)."""

    fl_id: str | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnShareSecrets:
    """Answer to :class:`GetShareSecrets`; it has no reason."""

    retcode: int = 0
    iteration: int = 0
    encrypted_shares: tuple[ClientShare, ...] | None = None
    next_req_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetClientList:
    """A client asks for the clients that uploaded (endpoint ``getClientList``)."""

    fl_id: str | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnClientList:
    """Answer to :class:`GetClientList`."""

    retcode: int = 0
    reason: str | None = None
    clients: tuple[str, ...] | None = None
    iteration: int = 0
    next_req_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendClientListSign:
    """A client signs the list of clients that updated (endpoint ``pushListSign``)."""

    fl_id: str | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None
    req_signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseClientListSign:
    """Answer to :class:`SendClientListSign`."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0
    next_req_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAllClientListSign:
    """A client asks for all signatures of the list (endpoint ``getListSign``)."""

    fl_id: str | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAllClientListSign:
    """Answer to :class:`RequestAllClientListSign`."""

    retcode: int = 0
    reason: str | None = None
    client_list_sign: tuple[ClientListSign, ...] | None = None
    iteration: int = 0
    next_req_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReconstructSecret:
    """A client reveals the shares that unmask the sum (endpoint ``reconstructSecrets``)."""

    fl_id: str | None = None
    reconstruct_secret_shares: tuple[ClientShare, ...] | None = None
    iteration: int = 0
    timestamp: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructSecret:
    """Answer to :class:`SendReconstructSecret`."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0
    next_req_time: str | None = None


SecureRequest: TypeAlias = (
    RequestExchangeKeys
    | GetExchangeKeys
    | RequestShareSecrets
    | GetShareSecrets
    | GetClientList
    | SendClientListSign
    | RequestAllClientListSign
    | SendReconstructSecret
)
SecureResponse: TypeAlias = (
    ResponseExchangeKeys
    | ReturnExchangeKeys
    | ResponseShareSecrets
    | ReturnShareSecrets
    | ReturnClientList
    | ResponseClientListSign
    | ReturnAllClientListSign
    | ReconstructSecret
)
