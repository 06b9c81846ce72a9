"""In which form a device uploads what it learned: as its server asked for, in one iteration after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from mindfl.client.comparison import uploads_change
from mindfl.modes import Trained, UploadMode, asked_mode
from mindfl.modes.base import LogLine
from mindfl.modes.plain import Plain
from mindfl.privacy.compression import dequantise, named
from mindfl.privacy.randomness import RandomBytes
from mindfl.protocol import CompressFeatureMap, CompressType, ResponseFLJob, ResponseGetModel, Weights

Randomness: TypeAlias = Callable[[int], RandomBytes]
"""Iteration -> a source of random bytes for its upload."""

Hide: TypeAlias = Callable[[Weights, int], dict[str, Any]]
"""Trained weights, samples -> the fields of RequestUpdateModel that hold them, masked."""


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
    """Encodes one device's uploads in the ``mode`` that the server asks for.

    The model that an iteration began with is held as long as it is needed: where the mode remembers something, until
    the next one is there. ``memory`` is what the mode keeps from iteration to iteration, as plain values; it can be set
    between two. ``hide`` masks uploads for secure aggregation. ``own`` is a mode beyond mindfl's that the device knows.
    With ``compares``, ``changes`` says of the latest upload whether aggregating the like is sure to change the model;
    without, it is False.
    """

    def __init__(
        self,
        randomness: Randomness,
        write: Callable[[Iterable[LogLine]], None],
        steady_ms: Callable[[], int],
        hide: Hide,
        *,
        compares: bool = False,
        own: UploadMode | None = None,
    ) -> None:
        self.mode: UploadMode = Plain()
        self.memory: Mapping[str, Any] = {}
        self.changes = False
        self._randomness = randomness
        self._write = write
        self._steady_ms = steady_ms
        self._hide = hide
        self._compares = compares
        self._own = own
        self._asked = ResponseFLJob()
        self._received: Weights = {}
        self._samples = 0

    def begin(self, response: ResponseFLJob, received: Weights) -> None:
        """Note what the answer to startFLJob asks for; ``received`` is the model to start from.

        Raises :class:`ProtocolError` for a form that no upload here can have.
        """
        self.mode = asked_mode(response, self._own)
        # Without the weights of the answer, which may be no more than the body that they came in.
        self._asked = replace(response, feature_map=None, compress_feature_map=None)
        self.changes = False
        needed = self.mode.needs_received or self.mode.compresses or self._compares
        self._received = received if needed else {}

    def training_begins(self) -> None:
        """Log what is to become of what training brings."""
        self._log("FLLiteClient getFeatureMask", self.mode.training_line)

    def encode(self, weights: Weights, samples: int) -> dict[str, Any]:
        """Return the fields of RequestUpdateModel that hold ``weights``, of a device with so many ``samples``.

        Raises :class:`EncodingError` for weights, and :class:`OptionError` for parameters, that cannot be used.
        """
        begin = self._steady_ms()
        received = {name: values for name, values in self._received.items() if name in weights}
        self._received = received if self.mode.remembers else {}
        trained = self._trained(weights, received, samples)
        fields = self._hide(weights, samples) if self.mode.masked else self.mode.fields(trained)
        self._write(self.mode.log_encoded(fields, self._steady_ms() - begin))
        self.changes = self._compares and uploads_change(self.mode, fields, trained, self._asked.download_compress_type)
        return fields

    def uploaded(self) -> None:
        """Log that the server took the upload."""
        self._log("FLLiteClient unMasking", self.mode.uploaded_line)

    def iteration_ended(self, new: Weights) -> None:
        """Draw the consequences of the iteration's aggregated model."""
        if self.mode.remembers:
            trained = self._trained({}, self._received, self._samples)
            self.memory, lines = self.mode.remember(trained, new)
            self._write(lines)
            self._received = {}

    def _trained(self, weights: Weights, received: Weights, samples: int) -> Trained:
        number = self._asked.iteration
        self._samples = samples
        return Trained(
            weights=weights,
            received=received,
            samples=samples,
            iteration=number,
            random=self._randomness(number),
            memory=self.memory,
        )

    def _log(self, source: str, line: str) -> None:
        if line:
            self._write([(source, f"[Encrypt] {line.format(name=self.mode.name)}")])
