"""Secure aggregation: ``PW_ENCRYPT``, ``STABLE_PW_ENCRYPT`` and mindfl's own ``PW_EXACT``.

Modules that need the package cryptography are imported only by jobs with masks. The arithmetic is in
:mod:`mindfl.privacy.secagg`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mindfl.errors import OptionError
from mindfl.modes.mode import Basis, ReferenceMode, Settings, Trained, UploadMode, cipher_of
from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.privacy.randomness import RandomBytes
from mindfl.protocol import (
    FLPlan,
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    PWParams,
    RequestExchangeKeys,
    RequestShareSecrets,
    RequestUpdateModel,
    ResponseFLJob,
    SendReconstructSecret,
    Weights,
)
from mindfl.protocol.secure import SecureRequest
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.client.masked_device import MaskedDevice
    from mindfl.privacy.secagg import PairKeys
    from mindfl.server.aggregate import FeatureLayout, UploadSum
    from mindfl.server.events import Content
    from mindfl.server.secagg.rounds import Rounds
    from mindfl.server.server_config import ServerConfig

_KEYS: tuple[type[SecureRequest], ...] = (RequestExchangeKeys, GetExchangeKeys)
_SECRETS: tuple[type[SecureRequest], ...] = (RequestShareSecrets, GetShareSecrets, GetClientList, SendReconstructSecret)
_WINDOWS = ("share_secrets_ratio", "cipher_time_window")
_THRESHOLD = "reconstruct_secrets_threshold"


@dataclass(frozen=True)
class Masked(ReferenceMode):
    """Base of the modes with masks. ``params`` are those of a device's plan, None on the server."""

    masked: ClassVar[bool] = True
    needs_received: ClassVar[bool] = False
    #: the lines of the exchanges suffice
    training_line: ClassVar[str] = ""
    uploaded_line: ClassVar[str] = ""
    uncompressed: ClassVar[str] = "masked weights cannot be compressed"
    section: ClassVar[str] = "pw_encrypt"
    required: ClassVar[tuple[str, ...]] = (*_WINDOWS, _THRESHOLD)
    served: ClassVar[tuple[type[SecureRequest], ...]] = _KEYS + _SECRETS

    params: PWParams | None = None

    @property
    def uploads_fault(self) -> str:
        return f"{self.name} shows the server their sum alone"

    @classmethod
    def of(cls, config: Settings) -> UploadMode:
        return cls()

    @classmethod
    def asked(cls, answer: ResponseFLJob) -> UploadMode:
        return cls(params=cipher_of(answer).pw_params)

    def check(self, config: ServerConfig) -> None:
        if config.exchange_quota < 2:
            raise OptionError(
                f"{self.name} needs at least 2 clients in an iteration, not {config.exchange_quota}",
                hint="let more clients take part: start_fl_job_threshold, or client_num of a simulation",
            )

    def content(self, request: RequestUpdateModel, basis: Basis) -> Content:
        # A mask covers all weights end to end: it cannot be removed if one is missing.
        weights = request.feature_map or {}
        if missing := basis.model.keys() - weights.keys():
            raise EncodingError(EncodingFault.MISSING_NAME, min(missing))
        return weights

    def meant(self, fields: Mapping[str, Any], trained: Trained) -> Weights:
        """Return the weights before masking."""
        return trained.weights

    def weaknesses(self, config: ServerConfig) -> list[str]:
        two = "the sum of 2 devices shows each of them the other's upload"
        return [two] if config.update_quota == 2 else []

    def log_parameters(self) -> list[str]:
        return [f"GlobalParameters <minSecretNum> from server: {self.params.t}"] if self.params else []


class PairwiseMasks(Masked):
    """Base of MindSpore Federated 0.1.0's modes with masks; ``stable``: without shares, so no device may drop out."""

    stable: ClassVar[bool] = False

    def device(
        self, fl_id: str, iteration: int, samples: int, random: RandomBytes, pairs: PairKeys | None
    ) -> MaskedDevice:
        from mindfl.client.masked_device import pairwise_device

        return pairwise_device(fl_id, self.params or PWParams(), random, pairs, stable=self.stable)

    @staticmethod
    def pair_keys() -> PairKeys:
        from mindfl.privacy.secagg import pairwise_keys

        return pairwise_keys()


class Pairwise(PairwiseMasks):
    """``PW_ENCRYPT``."""

    name = "PW_ENCRYPT"
    settings = (_THRESHOLD,)

    def check(self, config: ServerConfig) -> None:
        super().check(config)
        if not 1 <= config.reconstruct_secrets_threshold < config.update_quota:
            raise OptionError(
                f"{_THRESHOLD} must be from 1 to {config.update_quota - 1}, one less than the clients "
                f"that end an iteration, not {config.reconstruct_secrets_threshold}",
                hint="lower it, or let more clients take part: start_fl_job_threshold, or client_num of a simulation",
            )

    def pw_params(self, config: ServerConfig, instance: str) -> PWParams:
        from mindfl.privacy.secagg.shares import PAIRWISE_PRIME

        plain = super().pw_params(config, instance)
        return replace(plain, t=config.reconstruct_secrets_threshold, prime=PAIRWISE_PRIME.to_bytes(33, "big"))

    def rounds(self, config: ServerConfig, plan: FLPlan, iteration: int) -> Rounds[Any]:
        from mindfl.server.secagg.pairwise_rounds import PairwiseRounds

        return PairwiseRounds(config, plan, iteration)

    def protection(self, config: ServerConfig) -> list[str]:
        lost = counted(config.share_quota - config.update_quota, "device")
        return [
            f"{self.name}: {config.reconstruct_secrets_threshold} of {config.share_quota - 1} others recover a secret; "
            f"up to {lost} may be lost between shares and upload"
        ]

    def weaknesses(self, config: ServerConfig) -> list[str]:
        found = []
        devices, threshold = config.share_quota, config.reconstruct_secrets_threshold
        if 3 * threshold <= 2 * devices:
            found.append(
                f"{_THRESHOLD} {threshold} is not more than two thirds of {devices} devices: a server "
                "that tells them different survivors can get at an upload"
            )
        if threshold > config.update_quota - 2:
            found.append(
                f"{_THRESHOLD} {threshold} leaves no share to spare among {config.update_quota} uploads: "
                "an altered share of a seed would not be found"
            )
        return found + super().weaknesses(config)


class StablePairwise(PairwiseMasks):
    """``STABLE_PW_ENCRYPT``: only pairwise masks, which cancel if all devices that published keys upload."""

    name = "STABLE_PW_ENCRYPT"
    stable = True
    served = _KEYS

    def upload_quota(self, quota: int, published: int) -> int:
        """Return the number of published keys: pairwise masks cancel only if all these devices upload."""
        return max(quota, published)

    def rounds(self, config: ServerConfig, plan: FLPlan, iteration: int) -> Rounds[Any]:
        from mindfl.server.secagg.pairwise_rounds import StableRounds

        return StableRounds(config, plan, iteration)

    def protection(self, config: ServerConfig) -> list[str]:
        return [f"{self.name}: all {config.update_quota} devices that publish keys must upload"]


class Exact(Masked):
    """``PW_EXACT``, mindfl's own: sums of masked integers, exact to the bit, over a sparse graph."""

    name = "PW_EXACT"
    in_reference = False
    uploaded_line = UploadMode.uploaded_line
    origin = "mindfl's own"
    settings = ("exact_corrupt_ratio",)
    required = _WINDOWS
    carrier = "compress_feature_map"
    # A word of 64 bits for each weight of 32.
    size = 2
    least_move = 2.0**-7

    def check(self, config: ServerConfig) -> None:
        super().check(config)
        config.graph  # noqa: B018 - raises

    def pw_params(self, config: ServerConfig, instance: str) -> PWParams:
        job = hashlib.sha256(f"{config.fl_name}\0{instance}".encode(errors="surrogatepass")).digest()
        return PWParams(t=config.graph.threshold, p=job, g=config.fixed_point.fraction_bits)

    def rounds(self, config: ServerConfig, plan: FLPlan, iteration: int) -> Rounds[Any]:
        from mindfl.server.secagg.exact_rounds import ExactRounds

        return ExactRounds(config, plan, iteration)

    def make_sum(self, config: ServerConfig, layout: FeatureLayout, constant: Set[str]) -> UploadSum:
        from mindfl.server.secagg.exact_rounds import WordSum

        return WordSum(layout, config.fixed_point, constant)

    def content(self, request: RequestUpdateModel, basis: Basis) -> Content:
        entries = request.compress_feature_map or ()
        data = entries[0].compress_data if len(entries) == 1 else None
        assert basis.rounds is not None
        fixed, length = basis.rounds.config.fixed_point, sum(values.size for values in basis.model.values())
        if data is None or data.nbytes != length * fixed.dtype.itemsize:
            raise EncodingError(EncodingFault.WRONG_LENGTH)
        # An upload of another instance, with the same iteration number, would corrupt the sum.
        if entries[0].weight_fullname != basis.rounds.upload_name(request.fl_id or ""):
            raise EncodingError(EncodingFault.OTHER_ROUND)
        return fixed.unpack(data.tobytes(), length, request.fl_id or "")

    def device(
        self, fl_id: str, iteration: int, samples: int, random: RandomBytes, pairs: PairKeys | None
    ) -> MaskedDevice:
        from mindfl.client.masked_device import exact_device

        return exact_device(fl_id, self.params or PWParams(), iteration, samples, random, pairs)

    @staticmethod
    def pair_keys() -> PairKeys:
        from mindfl.privacy.secagg import exact_keys

        return exact_keys()

    def protection(self, config: ServerConfig) -> list[str]:
        first, *others = config.graph.lines()
        return [f"{self.name}: {first}", *others]
