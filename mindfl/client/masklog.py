"""What a device logs about secure aggregation: the lines of MindSpore Federated 0.1.0's Java client, and a few more.

Nothing secret is in them: of keys and shares the number only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mindfl.protocol import (
    ReconstructSecret,
    ResponseCode,
    ResponseExchangeKeys,
    ResponseShareSecrets,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
)

Answer = (
    ResponseExchangeKeys
    | ReturnExchangeKeys
    | ResponseShareSecrets
    | ReturnShareSecrets
    | ReturnClientList
    | ReconstructSecret
)
"""What the server answers to the requests of secure aggregation."""

_TAG = "[PairWiseMask]"
_STARS = "*" * 14


@dataclass(frozen=True, slots=True)
class _Wording:
    """Class and method that log an answer, its heading, what it is called, and what is counted in it."""

    source: str
    heading: str
    name: str
    counted: str = ""


_WORDINGS: dict[type[Answer], _Wording] = {
    ResponseExchangeKeys: _Wording(
        "CipherClient judgeRequestExchangeKeys", "the response of RequestExchangeKeys", "RequestExchangeKeys"
    ),
    ReturnExchangeKeys: _Wording(
        "CipherClient judgeGetExchangeKeys", "the response of GetExchangeKeys", "GetExchangeKeys"
    ),
    ResponseShareSecrets: _Wording(
        "CipherClient judgeRequestShareSecrets", "the response of RequestShareSecrets", "RequestShareSecrets"
    ),
    ReturnShareSecrets: _Wording(
        "CipherClient judgeGetShareSecrets", "the response of GetShareSecrets", "GetShareSecrets", "encrypted shares"
    ),
    ReturnClientList: _Wording(
        "cipher.ClientListReq judgeGetClientList", " the response of GetClientList ", "GetClientList", "clients"
    ),
    ReconstructSecret: _Wording(
        "cipher.ReconstructSecretReq judgeSendReconstructSecrets",
        "the response of SendReconstructSecrets",
        "ReconstructSecrets",
    ),
}


class MaskLog:
    """Writes these lines with ``say(source, *lines, level=...)``."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say

    def keys_begin(self, kind: str, fl_id: str) -> None:
        """A mask of ``kind`` is to be made; keys are exchanged first."""
        self._say("FLLiteClient getFeatureMask", f"[Encrypt] creating feature mask of <{kind}>")
        self._say("SecureProtocol pwCreateMask", f"{_TAG} {'=' * 14}request flID: {fl_id} {'=' * 14}")
        heading = f"{'=' * 20} round0: RequestExchangeKeys+GetExchangeKeys {'=' * 22}"
        self._say("CipherClient exchangeKeys", f"{_TAG} {heading}")
        self._say("CipherClient requestExchangeKeys", f"{_TAG} {'=' * 14}request flID: {fl_id}{'=' * 14}")

    def keys_end(self) -> None:
        """Everybody's keys are known. The reference forgets to say how that went."""
        text = f"{'=' * 13} RequestExchangeKeys+GetExchangeKeys response: {'=' * 12} "
        self._say("SecureProtocol pwCreateMask", f"{_TAG} {text}")

    def shares_begin(self) -> None:
        """Shares of the secrets are about to be made."""
        heading = f"{'=' * 20} round1: RequestShareSecrets+GetShareSecrets {'=' * 22}"
        self._say("CipherClient shareSecrets", f"{_TAG} {heading}")
        text = f"{_STARS} generate encrypt share secrets for RequestShareSecrets {_STARS}"
        self._say("CipherClient encryptShares", f"{_TAG} {text}")

    def shares_end(self) -> None:
        """The others' shares are here. The reference forgets to say how that went."""
        text = f"{'=' * 13}RequestShareSecrets+GetShareSecrets response: {'=' * 13} "
        self._say("SecureProtocol pwCreateMask", f"[Encrypt] {text}")

    def ready(self, kind: str) -> None:
        """All that the mask is made of is here."""
        self._say("SecureProtocol pwCreateMask", f"[Encrypt] {'=' * 13}Create double feature mask: SUCCESS{'=' * 13}")
        self._say("FLLiteClient getFeatureMask", f"[Encrypt] the response of create mask for <{kind}> : SUCCESS")

    def reveal_begins(self) -> None:
        """The shares that unmask the sum are about to be revealed."""
        heading = f"{'=' * 19} round3: GetClientList+SendReconstructSecret {'=' * 24}"
        self._say("CipherClient reconstructSecrets", f"{_TAG} {heading}")

    def reveal_ends(self) -> None:
        """They are revealed."""
        text = f"{'=' * 13}GetClientList+SendReconstructSecret: SUCCESS {'=' * 13}"
        self._say("SecureProtocol pwUnmasking", f"[Encrypt] {text}")
        self._say("FLLiteClient unMasking", "[Encrypt] the response of unmasking : SUCCESS")

    def not_needed(self, stage: str) -> None:
        """The server goes on without what ``stage`` was to bring."""
        self._say("CipherClient reconstructSecrets", f"{_TAG} [{stage}] not needed any more: the iteration is over")

    def distrusted(self, stage: str, iteration: int, fault: str) -> None:
        """What came in ``stage`` is refused."""
        text = f"[Encrypt] [{stage}] iteration {iteration} goes on without this client: {fault}"
        self._say("SecureProtocol failed", text, level="SEVERE")

    def answer(self, response: Answer) -> None:
        """An answer of the server, whatever it is."""
        wording = _WORDINGS[type(response)]
        lines = [f"{_STARS}{wording.heading}{_STARS}", f"return code: {response.retcode:d}"]
        if hasattr(response, "reason"):
            lines.append(f"reason: {response.reason}")
        lines.append(f"current iteration in server: {response.iteration}")
        lines.append(f"next request time: {response.next_req_time}")
        if wording.counted:
            lines.append(f"the size of {wording.counted}: {_count(response)}")
        if response.retcode == ResponseCode.SUCCEED:
            lines.append(f"{wording.name} success")
        elif response.retcode == ResponseCode.SUC_NOT_READY:
            lines.append(f"server is not ready now, need wait and request {wording.name} again!")
        self._say(wording.source, *(f"{_TAG} {line}" for line in lines))


def _count(response: Answer) -> int:
    if isinstance(response, ReturnShareSecrets):
        return len(response.encrypted_shares or ())
    return len(response.clients or ()) if isinstance(response, ReturnClientList) else 0
