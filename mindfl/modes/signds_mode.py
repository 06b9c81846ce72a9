"""``SIGNDS``: a sign and a few indices instead of weights; arithmetic: :mod:`mindfl.privacy.signds`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mindfl.modes.mode import BUILDER, Basis, LogLine, ReferenceMode, Trained, UploadMode, cipher_of, on_the_wire
from mindfl.privacy.accountant import Accountant, PureAccountant
from mindfl.privacy.signds import decode_signs, encode_signs
from mindfl.protocol import DSParams, RequestUpdateModel, ResponseFLJob, Weights

_NO_VALUES = np.zeros(0, np.float32)
_FRACTIONS = ("sign_k", "sign_eps", "sign_thr_ratio", "sign_global_lr")


@dataclass(frozen=True)
class SignDs(ReferenceMode):
    """``SIGNDS``: the server moves the chosen dimensions by a fixed step."""

    name: ClassVar[str] = "SIGNDS"
    uncompressed: ClassVar[str] = "SIGNDS uploads hold no weights"
    training_line: ClassVar[str] = "set parameters for SignDS!"
    section: ClassVar[str] = "signds"
    settings: ClassVar[tuple[str, ...]] = (*_FRACTIONS, "sign_dim_out")

    sign_k: float = 0.01
    sign_eps: float = 100.0
    sign_thr_ratio: float = 0.6
    sign_global_lr: float = 0.1
    sign_dim_out: int = 0

    @classmethod
    def asked(cls, answer: ResponseFLJob) -> UploadMode:
        told = cipher_of(answer).ds_params or DSParams()
        return cls(**{name: getattr(told, name) for name in cls.settings})

    @property
    def params(self) -> DSParams:
        """The parameters in the plan."""
        told = {name: on_the_wire(getattr(self, name)) for name in _FRACTIONS}
        return DSParams(sign_dim_out=self.sign_dim_out, **told)

    @property
    def extras_fault(self) -> str:
        return f"{self.name} uploads signs instead of arrays"

    @property
    def uploads_fault(self) -> str:
        return f"{self.name} uploads the signs of a few weights"

    def describe(self) -> str:
        return f"{self.name} epsilon {self.sign_eps:g}"

    def accountant(self, sampling_rate: float = 1.0) -> Accountant:
        return PureAccountant(on_the_wire(self.sign_eps))

    def fields(self, trained: Trained) -> dict[str, Any]:
        update = encode_signs(trained.weights, trained.received, self.params, trained.random)
        names = dict.fromkeys(trained.received, _NO_VALUES)
        return {"feature_map": names, "sign": update.sign, "index_array": update.indices}

    def content(self, request: RequestUpdateModel, basis: Basis) -> Weights:
        if not request.sign:
            return request.feature_map or {}
        return decode_signs(
            request.sign,
            request.index_array,
            tuple(request.feature_map or ()),
            basis.model,
            data_size=basis.data_size,
            global_lr=on_the_wire(self.sign_global_lr),
        )

    def log_parameters(self) -> list[str]:
        from mindfl.client.log import java_float

        names = dict(zip(("signK", "signEps", "signThrRatio", "signGlobalLr"), _FRACTIONS, strict=True))
        values = {name: java_float(getattr(self, setting)) for name, setting in names.items()}
        values["SignDimOut"] = str(self.sign_dim_out)
        return [f"GlobalParameters <{name}> from server: {value}" for name, value in values.items()]

    def log_encoded(self, fields: Mapping[str, Any], milliseconds: int) -> list[LogLine]:
        builder = f"{BUILDER} signDSEncrypt"
        return [
            ("SecureProtocol signDSModel", f"[SignDS] outputDimension size is {fields['index_array'].size}"),
            (builder, "[Encrypt] SignDS mask model ok!"),
            (builder, f"signds time is {milliseconds}ms"),
        ]
