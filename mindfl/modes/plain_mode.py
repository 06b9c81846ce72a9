"""Plain weights, whole or as sparse quantised differences (``DIFF_SPARSE_QUANT``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mindfl.modes.mode import BUILDER, Basis, LogLine, ReferenceMode, Settings, Trained, UploadMode
from mindfl.privacy.compression import decode_update, encode_update
from mindfl.protocol import CompressType, RequestUpdateModel, ResponseFLJob, Weights

#: compression of uploads -> its name among the settings; the first one is none
UPLOAD_TYPES = ("NO_COMPRESS", "DIFF_SPARSE_QUANT")


def is_compressed(upload_compress_type: str) -> bool:
    """Return whether uploads of this type are compressed."""
    return upload_compress_type != UPLOAD_TYPES[0]


@dataclass(frozen=True)
class Plain(ReferenceMode):
    """``NOT_ENCRYPT``: weights as they are, each multiplied by the number of samples."""

    name: ClassVar[str] = "NOT_ENCRYPT"
    uncompressed: ClassVar[str] = ""
    encrypts: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    needs_received: ClassVar[bool] = False
    training_line: ClassVar[str] = "don't mask model"
    uploaded_line: ClassVar[str] = "haven't mask model"

    upload_compress_type: str = UPLOAD_TYPES[0]
    upload_sparse_rate: float = 0.4

    @classmethod
    def of(cls, config: Settings) -> UploadMode:
        names = (*cls.settings, "upload_compress_type", "upload_sparse_rate")
        return cls(**{name: getattr(config, name) for name in names})

    @classmethod
    def asked(cls, answer: ResponseFLJob) -> UploadMode:
        return cls(**cls._compression(answer))

    @staticmethod
    def _compression(answer: ResponseFLJob) -> dict[str, Any]:
        return {
            "upload_compress_type": answer.upload_compress_type.name,
            "upload_sparse_rate": answer.upload_sparse_rate,
        }

    @property
    def compresses(self) -> bool:
        return is_compressed(self.upload_compress_type)

    @property
    def extras_fault(self) -> str:
        return f"{self.upload_compress_type} leaves most values of its further arrays out" if self.compresses else ""

    def describe(self) -> str:
        return f"uploads {self.upload_compress_type} {self.upload_sparse_rate:g}" if self.compresses else ""

    def changed(self, trained: Trained) -> Weights:
        """Return the weights to upload instead of the trained ones."""
        return trained.weights

    def fields(self, trained: Trained) -> dict[str, Any]:
        weights = self.changed(trained)
        if not self.compresses:
            scale = np.float32(trained.samples)
            return {"feature_map": {name: values * scale for name, values in weights.items()}}
        update = encode_update(
            weights,
            trained.received,
            data_size=trained.samples,
            rate=self.upload_sparse_rate,
            iteration=trained.iteration,
        )
        return {
            "upload_compress_type": CompressType[self.upload_compress_type],
            "upload_sparse_rate": update.rate,
            "compress_feature_map": update.entries,
            "name_vec": update.names,
        }

    def fits(self, request: RequestUpdateModel) -> bool:
        if request.upload_compress_type == CompressType.NO_COMPRESS:
            return request.feature_map is not None
        return request.upload_compress_type.name == self.upload_compress_type

    def content(self, request: RequestUpdateModel, basis: Basis) -> Weights:
        if request.upload_compress_type == CompressType.NO_COMPRESS:
            return request.feature_map or {}
        return decode_update(
            request.compress_feature_map,
            request.name_vec,
            basis.model,
            data_size=basis.data_size,
            rate=self.upload_sparse_rate,
            upload_rate=request.upload_sparse_rate,
            iteration=request.iteration,
        )

    def log_parameters(self) -> list[str]:
        return [f"{self.name}, do not set parameter for Encrypt"]

    def log_encoded(self, fields: Mapping[str, Any], milliseconds: int) -> list[LogLine]:
        if not self.compresses:
            return super().log_encoded(fields, milliseconds)
        return [(f"{BUILDER} featuresMap", f"compression time is {milliseconds}ms, encrypt is {self.name}")]
