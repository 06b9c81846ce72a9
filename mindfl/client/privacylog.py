"""What a device logs about the form of its uploads: the lines of MindSpore Federated 0.1.0's Java client."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mindfl.client.javatext import java_float
from mindfl.protocol import CipherPublicParams, CompressType
from mindfl.protocol.encryption import DP, MASKED_TYPES, PLAIN, SIGN_DS

_BUILDER = "UpdateModel$RequestUpdateModelBuilder"
#: type of encryption -> what is said before training, and after the upload
_BEFORE = {PLAIN: "don't mask model", DP: "set parameters for DP_ENCRYPT!"}
_BEFORE[SIGN_DS] = "set parameters for SignDS!"
_AFTER = {PLAIN: "haven't mask model"}


def java_double(value: float) -> str:
    """Return ``value``, rounded to float32, as ``Double.toString`` does for ordinary numbers."""
    return repr(float(np.float32(value)))


class PrivacyLog:
    """Writes these lines with ``say(source, *lines)``."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say

    def parameters(self, cipher: CipherPublicParams | None) -> None:
        """The plan's parameters."""
        kind = encrypt_type(cipher)
        lines = [f"[startFLJob] GlobalParameters <encryptLevel> from server: {kind}"]
        if kind == PLAIN:
            lines.append("[startFLJob] NOT_ENCRYPT, do not set parameter for Encrypt")
        values = _parameters(cipher)
        lines += [f"[startFLJob] GlobalParameters <{name}> from server: {text}" for name, text in values.items()]
        self._say("FLLiteClient setGlobalParameters", *lines)

    def before_training(self, kind: str) -> None:
        """Training is about to begin."""
        if kind not in MASKED_TYPES:
            self._say("FLLiteClient getFeatureMask", f"[Encrypt] {_BEFORE[kind]}")

    def encoded(self, kind: str, compression: CompressType, milliseconds: int) -> None:
        """The upload is ready."""
        if compression == CompressType.NO_COMPRESS:
            text = f"No compression and encrypt type is:{kind} cost {milliseconds}ms"
        else:
            text = f"compression time is {milliseconds}ms, encrypt is {kind}"
        self._say(f"{_BUILDER} featuresMap", text)

    def signed(self, indices: int, milliseconds: int) -> None:
        """The upload of so many indices is ready."""
        self._say("SecureProtocol signDSModel", f"[SignDS] outputDimension size is {indices}")
        self._say(f"{_BUILDER} signDSEncrypt", "[Encrypt] SignDS mask model ok!", f"signds time is {milliseconds}ms")

    def uploaded(self, kind: str) -> None:
        """The server took the upload."""
        if kind not in MASKED_TYPES[:2]:
            self._say("FLLiteClient unMasking", f"[Encrypt] {_AFTER.get(kind, f'{kind} do not need unmasking')}")

    def bound(self, moved: float, bound: float, *, changed: bool) -> None:
        """The global model moved this far, which left this bound on updates."""
        lines = [f"[DP] L2-norm of weights' average update is: {java_float(moved)}"]
        if changed:
            lines.append("[DP] dpNormClip has been updated.")
        self._say("FLLiteClient updateDpNormClip", *lines, f"[DP] Adaptive dpNormClip is: {java_double(bound)}")


def encrypt_type(cipher: CipherPublicParams | None) -> str:
    """Return the type of encryption that a plan asks for."""
    return (cipher.encrypt_type if cipher else None) or PLAIN


def _parameters(cipher: CipherPublicParams | None) -> dict[str, str]:
    kind = encrypt_type(cipher)
    if kind == DP and cipher and cipher.dp_params:
        dp = cipher.dp_params
        return {
            "dpEps": java_double(dp.dp_eps),
            "dpDelta": java_double(dp.dp_delta),
            "dpNormClipFactor": java_double(dp.dp_norm_clip),
        }
    if kind == SIGN_DS and cipher and cipher.ds_params:
        signs = cipher.ds_params
        return {
            "signK": java_float(signs.sign_k),
            "signEps": java_float(signs.sign_eps),
            "signThrRatio": java_float(signs.sign_thr_ratio),
            "signGlobalLr": java_float(signs.sign_global_lr),
            "SignDimOut": str(signs.sign_dim_out),
        }
    if kind in MASKED_TYPES and cipher and cipher.pw_params:
        return {"minSecretNum": str(cipher.pw_params.t)}
    return {}
