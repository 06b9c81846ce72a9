"""``DP_ENCRYPT``: updates are clipped and get noise before they are uploaded; arithmetic: :mod:`mindfl.privacy.dp`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mindfl.modes.mode import LogLine, Trained, UploadMode, cipher_of, on_the_wire
from mindfl.modes.plain_mode import Plain
from mindfl.privacy.accountant import Accountant, GaussianAccountant
from mindfl.privacy.dp import ClipBound, add_noise, distance, noise_multiplier
from mindfl.protocol import DPParams, ResponseFLJob, Weights

_BOUND = "clip_bound"


@dataclass(frozen=True)
class Dp(Plain):
    """``DP_ENCRYPT``: clipped updates with Gaussian noise, compressed afterwards if the job asks for that."""

    name: ClassVar[str] = "DP_ENCRYPT"
    section: ClassVar[str] = "dp_encrypt"
    settings: ClassVar[tuple[str, ...]] = ("dp_eps", "dp_delta", "dp_norm_clip")
    encrypts: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    needs_received: ClassVar[bool] = True
    training_line: ClassVar[str] = UploadMode.training_line
    uploaded_line: ClassVar[str] = UploadMode.uploaded_line
    accounting_package: ClassVar[str] = "dp-accounting"

    dp_eps: float = 50.0
    dp_delta: float = 0.01
    dp_norm_clip: float = 1.0

    @classmethod
    def asked(cls, answer: ResponseFLJob) -> UploadMode:
        told = cipher_of(answer).dp_params or DPParams()
        return cls(**{name: getattr(told, name) for name in cls.settings}, **cls._compression(answer))

    @property
    def extras_fault(self) -> str:
        return f"{self.name} would clip its further arrays together with the weights, and drown them in noise"

    def describe(self) -> str:
        private = f"{self.name} epsilon {self.dp_eps:g} delta {self.dp_delta:g}"
        return ", ".join(filter(None, (private, super().describe())))

    def accountant(self, sampling_rate: float = 1.0) -> Accountant:
        epsilon, delta = on_the_wire(self.dp_eps), on_the_wire(self.dp_delta)
        return GaussianAccountant(noise_multiplier(epsilon, delta), delta, sampling_rate)

    def changed(self, trained: Trained) -> Weights:
        """Return the weights clipped and with noise."""
        multiplier = noise_multiplier(self.dp_eps, self.dp_delta)
        return add_noise(trained.weights, trained.received, _bound(trained), multiplier, trained.random).weights

    def remember(self, trained: Trained, new: Weights) -> tuple[Mapping[str, Any], list[LogLine]]:
        """Return the bound on the next update, which follows how far the model moved."""
        from mindfl.client.log import java_double, java_float

        before = {name: values for name, values in trained.received.items() if name in new}
        old = _bound(trained)
        bound = old.after(trained.iteration, before, new, self.dp_norm_clip)
        lines = [f"[DP] L2-norm of weights' average update is: {java_float(distance(before, new))}"]
        if bound != old:
            lines.append("[DP] dpNormClip has been updated.")
        lines.append(f"[DP] Adaptive dpNormClip is: {java_double(bound.value)}")
        memory = {} if bound == ClipBound() else {_BOUND: bound.value}
        return memory, [("FLLiteClient updateDpNormClip", line) for line in lines]

    def log_parameters(self) -> list[str]:
        from mindfl.client.log import java_double

        values = {"dpEps": self.dp_eps, "dpDelta": self.dp_delta, "dpNormClipFactor": self.dp_norm_clip}
        return [f"GlobalParameters <{name}> from server: {java_double(value)}" for name, value in values.items()]


def _bound(trained: Trained) -> ClipBound:
    return ClipBound(trained.memory[_BOUND]) if trained.memory else ClipBound()
