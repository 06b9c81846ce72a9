"""In which form a device uploads what it learned: as its server asked for, in one iteration after the other.

Noise comes first, compression second, as in MindSpore Federated 0.1.0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from mindfl.client.comparison import uploads_change
from mindfl.client.privacylog import PrivacyLog, encrypt_type
from mindfl.errors import ProtocolError
from mindfl.privacy import ClipBound, add_noise, encode_signs, encode_update, noise_multiplier
from mindfl.privacy.dp import RandomBytes, distance
from mindfl.privacy.quantiser import dequantise, named
from mindfl.protocol import (
    CipherPublicParams,
    CompressFeatureMap,
    CompressType,
    DPParams,
    DSParams,
    FLPlan,
    ResponseFLJob,
    ResponseGetModel,
    Weights,
)
from mindfl.protocol.encryption import DP, ENCRYPT_TYPES, MASKED_TYPES, SIGN_DS

Randomness: TypeAlias = Callable[[int], RandomBytes]
"""Iteration -> a source of random bytes for its upload."""

Hide: TypeAlias = Callable[[Weights, int], dict[str, Any]]
"""Trained weights, samples -> the fields of RequestUpdateModel that hold them, masked."""

#: what these devices can do
UPLOAD_TYPES = (CompressType.NO_COMPRESS, CompressType.DIFF_SPARSE_QUANT)
_NO_VALUES = np.zeros(0, np.float32)


def system_randomness(iteration: int) -> RandomBytes:
    """Return the operating system's, which nobody can have again."""
    return os.urandom


def received_weights(response: ResponseFLJob | ResponseGetModel) -> Weights | None:
    """Return the model in ``response``, float32 again where it came quantised; None where there is none.

    Raises :class:`EncodingError` where it came broken.
    """
    if response.download_compress_type == CompressType.NO_COMPRESS or response.compress_feature_map is None:
        return response.feature_map
    return _dequantised(response.compress_feature_map)


# All devices of a process are given the same object where their coordinator is in it too.
@lru_cache(2)
def _dequantised(entries: tuple[CompressFeatureMap, ...]) -> Weights:
    weights = {name: dequantise(entry) for name, entry in named(entries).items()}
    for values in weights.values():
        values.flags.writeable = False
    return weights


class UploadEncoder:
    """Encodes one device's uploads; keeps its bound on updates from iteration to iteration.

    The model that an iteration began with is held as long as it is needed: with DP_ENCRYPT until the next one is there.
    ``hide`` masks uploads for :data:`MASKED_TYPES`. With ``compares``, ``changes`` says of the latest upload whether
    aggregating the like is sure to change the model; without, it is False.
    """

    def __init__(
        self,
        randomness: Randomness,
        lines: PrivacyLog,
        steady_ms: Callable[[], int],
        hide: Hide,
        *,
        compares: bool = False,
    ) -> None:
        self._compares = compares
        self.changes = False
        self._randomness = randomness
        self._lines = lines
        self._steady_ms = steady_ms
        self._hide = hide
        self._bound = ClipBound()
        self._asked = ResponseFLJob()
        self._cipher = CipherPublicParams()
        self._received: Weights = {}

    @property
    def _kind(self) -> str:
        return encrypt_type(self._cipher)

    @property
    def _dp(self) -> DPParams:
        return self._cipher.dp_params or DPParams()

    @property
    def memory(self) -> dict[str, Any]:
        """What this device keeps from one iteration to the next, as plain values; it can be set between two."""
        return {} if self._bound == ClipBound() else {"clip_bound": self._bound.value}

    @memory.setter
    def memory(self, values: Mapping[str, Any]) -> None:
        self._bound = ClipBound(values["clip_bound"]) if values else ClipBound()

    def begin(self, response: ResponseFLJob, plan: FLPlan, received: Weights) -> None:
        """Note what the answer to startFLJob asks for; ``received`` is the model to start from.

        Raises :class:`ProtocolError` for a form that no upload here can have.
        """
        self._cipher = plan.cipher or CipherPublicParams()
        if self._kind not in ENCRYPT_TYPES:
            raise ProtocolError(f"cannot do the encryption the server asks for ({self._kind})")
        if response.upload_compress_type not in UPLOAD_TYPES:
            raise ProtocolError(f"cannot compress as the server asks for (type {response.upload_compress_type:d})")
        masked, compressed = self._kind in MASKED_TYPES, response.upload_compress_type != CompressType.NO_COMPRESS
        if masked and compressed:
            raise ProtocolError(f"cannot compress what {self._kind} masks, as the server asks for")
        # Without the weights of the answer, which may be no more than the body that they came in.
        self._asked = replace(response, feature_map=None, compress_feature_map=None)
        needed = compressed or self._kind in (DP, SIGN_DS) or self._compares
        self.changes = False
        self._received = received if needed else {}

    def training_begins(self) -> None:
        """Log what is to become of what training brings."""
        self._lines.before_training(self._kind)

    def encode(self, trained: Weights, samples: int) -> dict[str, Any]:
        """Return the fields of RequestUpdateModel that hold ``trained``, of a device with so many ``samples``.

        Raises :class:`EncodingError` for weights, and :class:`OptionError` for parameters, that cannot be used.
        """
        begin = self._steady_ms()
        received = {name: values for name, values in self._received.items() if name in trained}
        self._received = received if self._kind == DP else {}
        random = self._randomness(self._asked.iteration)
        if self._kind == DP:
            multiplier = noise_multiplier(self._dp.dp_eps, self._dp.dp_delta)
            trained = add_noise(trained, received, self._bound, multiplier, random).weights
        if self._kind == SIGN_DS:
            fields = self._signed(trained, received, random, begin)
        else:
            fields = self._weights(trained, received, samples)
            self._lines.encoded(self._kind, self._asked.upload_compress_type, self._steady_ms() - begin)
        self.changes = self._compares and uploads_change(fields, trained, received, self._asked, samples)
        return fields

    def uploaded(self) -> None:
        """Log that the server took the upload."""
        self._lines.uploaded(self._kind)

    def iteration_ended(self, new: Weights) -> None:
        """Draw the consequences of the iteration's aggregated model."""
        if self._kind != DP:
            return
        before = {name: values for name, values in self._received.items() if name in new}
        bound = self._bound.after(self._asked.iteration, before, new, self._dp.dp_norm_clip)
        self._lines.bound(distance(before, new), bound.value, changed=bound != self._bound)
        self._bound, self._received = bound, {}

    def _signed(self, trained: Weights, received: Weights, random: RandomBytes, begin: int) -> dict[str, Any]:
        update = encode_signs(trained, received, self._cipher.ds_params or DSParams(), random)
        self._lines.signed(update.indices.size, self._steady_ms() - begin)
        names = dict.fromkeys(received, _NO_VALUES)
        return {"feature_map": names, "sign": update.sign, "index_array": update.indices}

    def _weights(self, trained: Weights, received: Weights, samples: int) -> dict[str, Any]:
        if self._kind in MASKED_TYPES:
            return self._hide(trained, samples)
        compressed = self._asked.upload_compress_type != CompressType.NO_COMPRESS
        return self._compressed(trained, received, samples) if compressed else _plain(trained, samples)

    def _compressed(self, trained: Weights, received: Weights, samples: int) -> dict[str, Any]:
        asked = self._asked
        update = encode_update(
            trained, received, data_size=samples, rate=asked.upload_sparse_rate, iteration=asked.iteration
        )
        return {
            "upload_compress_type": asked.upload_compress_type,
            "upload_sparse_rate": update.rate,
            "compress_feature_map": update.entries,
            "name_vec": update.names,
        }


def _plain(weights: Weights, samples: int) -> dict[str, Any]:
    scale = np.float32(samples)
    return {"feature_map": {name: values * scale for name, values in weights.items()}}
