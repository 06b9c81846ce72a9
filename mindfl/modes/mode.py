"""The seam of upload modes: :class:`UploadMode`, the arguments of its methods, and the encoding of its arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError, ProtocolError
from mindfl.privacy.compression import named
from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.privacy.randomness import RandomBytes
from mindfl.protocol import (
    CipherPublicParams,
    CompressFeatureMap,
    CompressType,
    DPParams,
    DSParams,
    FLPlan,
    PWParams,
    RequestUpdateModel,
    ResponseFLJob,
    Weights,
)
from mindfl.user_code import raised

if TYPE_CHECKING:
    from mindfl.client.masked_device import MaskedDevice
    from mindfl.options.mode_options import ModeOptions
    from mindfl.privacy import Accountant
    from mindfl.privacy.secagg import PairKeys
    from mindfl.protocol.secure import SecureRequest
    from mindfl.server.aggregate import FeatureLayout, UploadSum
    from mindfl.server.events import Content
    from mindfl.server.secagg.rounds import Rounds
    from mindfl.server.server_config import ServerConfig
    from mindfl.sim.config import JobConfig

#: arrays of any shape and of a fixed-size numeric type, by name
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
#: settings of a job or a server
Settings: TypeAlias = "JobConfig | ServerConfig | ModeOptions"
#: a line of a device's log: (class and method of the reference that writes it, text)
LogLine: TypeAlias = tuple[str, str]
BUILDER = "UpdateModel$RequestUpdateModelBuilder"


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """The result of one client's training in one iteration, to upload.

    Args:
        weights: the weights after training, flat float32 by name.
        received: the weights that the client began with.
        samples: samples of the local training; the weight of the client in the average.
        iteration: the iteration's number, from 1.
        random: number of bytes -> that many. In a simulation they depend on the job's seed, the client and the
            iteration alone.
        memory: the result of :meth:`UploadMode.remember` in the client's latest iteration; empty before.
    """

    weights: Weights
    received: Weights
    samples: int
    iteration: int
    random: RandomBytes
    memory: Mapping[str, Any] = field(default_factory=dict)

    def generator(self) -> np.random.Generator:
        """Return a generator that is seeded with 16 bytes of ``random``."""
        return np.random.default_rng(int.from_bytes(self.random(16), "little"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Basis:
    """The basis of an upload: the ``model`` that the iteration began with, the client's ``data_size`` in samples, and
    the ``rounds`` of secure aggregation."""

    model: Weights
    data_size: int
    iteration: int
    rounds: Rounds[Any] | None = None


class UploadMode:
    """How a client uploads its weights. This class uploads them unchanged.

    A mode of your own is a subclass that overrides :meth:`encode` and :meth:`decode`, and :meth:`describe` for the
    job's title. They must depend only on their arguments and on the mode's settings; a setting is an argument of
    ``__init__`` that is stored under its name. Server and clients identify the mode by its ``name``, by default that of
    the class. Everything below ``describe`` is for mindfl's own modes.

    Example:
        >>> class Halved(UploadMode):
        ...     \"\"\"Uploads in 16 bits.\"\"\"
        ...
        ...     def encode(self, trained: Trained) -> Arrays:
        ...         return {name: (values - trained.received[name]).astype(np.float16)
        ...                 for name, values in trained.weights.items()}
        ...
        ...     def decode(self, arrays: Arrays, model: Weights) -> Weights:
        ...         return {name: values + arrays[name] for name, values in model.items()}
        >>> Halved().name
        'Halved'
    """

    name: ClassVar[str] = "UploadMode"
    #: whether MindSpore Federated 0.1.0 knows it; devices announce the others when they start
    in_reference: ClassVar[bool] = False
    #: origin of a mode that is not MindSpore Federated 0.1.0's
    origin: ClassVar[str] = "an upload mode of your own"
    #: names of the server's settings that the mode uses
    settings: ClassVar[tuple[str, ...]] = ()
    #: section of a server's YAML file that holds them, and the keys that must then be in it
    section: ClassVar[str] = ""
    required: ClassVar[tuple[str, ...]] = ()
    #: whether the plan is filled in as 0.1.0's server does with any encryption
    encrypts: ClassVar[bool] = False
    #: field of RequestUpdateModel that holds the upload
    carrier: ClassVar[str] = "compress_feature_map"
    #: whether masks hide single uploads from the server (secure aggregation)
    masked: ClassVar[bool] = False
    #: why ``upload_compress_type`` cannot compress the uploads; empty: it can
    uncompressed: ClassVar[str] = "they have a form of their own"
    #: whether uploads depend on the seed
    draws: ClassVar[bool] = True
    #: whether the model that a client began with is needed to encode its upload
    needs_received: ClassVar[bool] = True
    #: whether a client's next upload depends on its earlier ones
    remembers: ClassVar[bool] = False
    #: a weight that changed by less than this may come back from the server unchanged
    least_move: ClassVar[float] = 1e-4
    #: lines that a device logs before training, and when the server accepted the upload; empty: none
    training_line: ClassVar[str] = "set parameters for {name}!"
    uploaded_line: ClassVar[str] = "{name} do not need unmasking"
    #: package that is needed to account for sampled clients
    accounting_package: ClassVar[str] = ""
    #: secure requests that the server answers beside the plain ones
    served: ClassVar[tuple[type[SecureRequest], ...]] = ()
    #: size of the largest upload, in sizes of the model
    size: ClassVar[int] = 2

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            cls.name = cls.__name__
        cls.remembers = cls.remember is not UploadMode.remember

    def encode(self, trained: Trained) -> Arrays:
        """Return the arrays to upload: any names, shapes and numeric types, together at most twice the model's size."""
        return trained.weights

    def decode(self, arrays: Arrays, model: Weights) -> Weights:
        """Return the client's weights as the server reads them, flat float32 by the names of ``model``.

        ``arrays`` are a client's upload and may be invalid: raise ``ValueError`` or ``KeyError`` for arrays that no
        honest client uploads, and the server refuses the client. ``model`` is the model that the iteration began with.
        """
        return arrays

    def describe(self) -> str:
        """Return name and settings in a few words, for titles; may be empty."""
        return self.name

    @property
    def extras_fault(self) -> str:
        """Why a federated algorithm's further arrays cannot be uploaded beside the weights; empty: they can."""
        return ""

    @property
    def uploads_fault(self) -> str:
        """Why the server cannot read the weights of single clients; empty: it can."""
        return ""

    def accountant(self, sampling_rate: float = 1.0) -> Accountant | None:
        """Return the privacy accountant of iterations in which each client takes part with this probability.

        None if uploads are not private.
        """
        return None

    @property
    def private(self) -> bool:
        """Whether the mode has a privacy accountant."""
        return type(self).accountant is not UploadMode.accountant

    @property
    def compresses(self) -> bool:
        """Whether uploads are compressed by ``upload_compress_type``."""
        return False

    # On a device.

    @classmethod
    def of(cls, config: Settings) -> UploadMode:
        """Return the mode with the settings of a job or a server."""
        return cls(**{name: getattr(config, name) for name in cls.settings})

    @classmethod
    def asked(cls, answer: ResponseFLJob) -> UploadMode:
        """Return the mode as the answer to startFLJob asks for it."""
        raise NotImplementedError(f"{cls.name} has its settings from the job")

    def fields(self, trained: Trained) -> dict[str, Any]:
        """Return the fields of RequestUpdateModel that hold the upload."""
        try:
            arrays = self.encode(trained)
        except Exception as error:
            raise OptionError(f"upload mode {self.name} failed in encode: {raised(error)}") from error
        return {"compress_feature_map": pack(arrays)}

    def remember(self, trained: Trained, new: Weights) -> tuple[Mapping[str, Any], list[LogLine]]:
        """Return the client's memory after the iteration that made the model ``new``, and lines for the log."""
        return {}, []

    def device(
        self,
        fl_id: str,
        iteration: int,
        samples: int,
        random: RandomBytes,
        pairs: PairKeys | None,
    ) -> MaskedDevice:
        """Return a device with new secrets; only for modes that are ``masked``."""
        raise NotImplementedError(f"{self.name} uploads are not masked")

    @staticmethod
    def pair_keys() -> PairKeys:
        """Return an object that derives keys of pairs for all devices of a process; only for ``masked`` modes."""
        raise NotImplementedError

    def log_parameters(self) -> list[str]:
        """Return the log lines of the plan's parameters."""
        return []

    def log_asked(self) -> list[LogLine]:
        """Return the log lines of a received plan."""
        lines = [f"GlobalParameters <encryptLevel> from server: {self.name}", *self.log_parameters()]
        return [("FLLiteClient setGlobalParameters", f"[startFLJob] {line}") for line in lines]

    def log_encoded(self, fields: Mapping[str, Any], milliseconds: int) -> list[LogLine]:
        """Return the log lines of an encoded upload."""
        return [(f"{BUILDER} featuresMap", f"No compression and encrypt type is:{self.name} cost {milliseconds}ms")]

    # On the server.

    def check(self, config: ServerConfig) -> None:
        """Raise :class:`OptionError` if no iteration could end, or nothing would be protected."""

    def cipher(self, config: ServerConfig, instance: str) -> CipherPublicParams:
        """Return the plan's parameters of encryption in a job's ``instance``."""
        # With any encryption the 0.1.0 server fills all of them, unused ones with its defaults.
        return CipherPublicParams(
            encrypt_type=self.name,
            pw_params=self.pw_params(config, instance),
            dp_params=config.dp_params if self.encrypts else DPParams(),
            ds_params=config.ds_params if self.encrypts else DSParams(),
        )

    def pw_params(self, config: ServerConfig, instance: str) -> PWParams:
        """Return the plan's parameters of masks."""
        return PWParams(t=int(self.encrypts), p=bytes(32), g=int(self.encrypts), prime=bytes(33))

    def fits(self, request: RequestUpdateModel) -> bool:
        """Return whether the upload is in the right fields of ``request``."""
        uncompressed = request.upload_compress_type == CompressType.NO_COMPRESS
        return uncompressed and getattr(request, self.carrier) is not None

    def content(self, request: RequestUpdateModel, basis: Basis) -> Content:
        """Return the weights of an upload, each multiplied by the data size, or masked words.

        Raises :class:`EncodingError` for an invalid upload.
        """
        weights = unpack(request.compress_feature_map or (), lambda arrays: self.decode(arrays, basis.model))
        size = np.float32(basis.data_size)
        with np.errstate(over="ignore", invalid="ignore"):
            return {name: np.asarray(values, np.float32) * size for name, values in weights.items()}

    def meant(self, fields: Mapping[str, Any], trained: Trained) -> Weights:
        """Return the weights that a server reads from an upload with ``fields``."""
        basis = Basis(model=trained.received, data_size=trained.samples, iteration=trained.iteration)
        content = self.content(RequestUpdateModel(iteration=trained.iteration, **fields), basis)
        assert isinstance(content, Mapping)
        return {name: values / np.float32(trained.samples) for name, values in content.items()}

    def make_sum(self, config: ServerConfig, layout: FeatureLayout, constant: Set[str]) -> UploadSum:
        """Return the sum of a job's uploads; weights in ``constant`` are not averaged."""
        from mindfl.server.aggregate import FedAvgSum

        return FedAvgSum(layout, constant)

    def rounds(self, config: ServerConfig, plan: FLPlan, iteration: int) -> Rounds[Any] | None:
        """Return the rounds of an iteration's secure aggregation, None without any."""
        return None

    def upload_quota(self, quota: int, published: int) -> int:
        """Return the number of uploads of an iteration with ``quota`` in the settings and ``published`` keys."""
        return quota

    def protection(self, config: ServerConfig) -> list[str]:
        """Return lines on the protection by masks and the number of devices that may be lost."""
        return []

    def weaknesses(self, config: ServerConfig) -> list[str]:
        """Return a line for each setting that weakens the protection of devices."""
        return []


class ReferenceMode(UploadMode):
    """Base of the modes of MindSpore Federated 0.1.0."""

    in_reference: ClassVar[bool] = True
    encrypts: ClassVar[bool] = True
    carrier: ClassVar[str] = "feature_map"
    size: ClassVar[int] = 1


def cipher_of(answer: ResponseFLJob) -> CipherPublicParams:
    """Return the parameters of encryption in an answer to startFLJob."""
    plan = answer.fl_plan_config
    return (plan.cipher if plan else None) or CipherPublicParams()


def on_the_wire(value: float) -> float:
    """Return ``value`` rounded to float32, so that clients use the same number over every transport."""
    return float(np.float32(value))


_KINDS = "biuf"
_MOST_DIMENSIONS = 8


def pack(arrays: Mapping[str, NDArray[Any]]) -> tuple[CompressFeatureMap, ...]:
    """Return an entry for each array: its bytes, little endian, under the name ``NAME TYPE SHAPE``.

    Raises :class:`ProtocolError` for arrays that are no numbers.
    """
    entries = []
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8 or array.ndim > _MOST_DIMENSIONS:
            raise ProtocolError(f"the array {name!r} of an upload has the type {array.dtype}, which cannot be sent")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        title = f"{name} {little.dtype.str} {','.join(map(str, np.shape(array)))}"
        data = np.frombuffer(little.tobytes(), np.int8)
        entries.append(CompressFeatureMap(weight_fullname=title, compress_data=data))
    return tuple(entries)


def unpack(entries: Iterable[CompressFeatureMap], decode: Callable[[Mapping[str, NDArray[Any]]], Weights]) -> Weights:
    """Return the weights that ``decode`` makes of the arrays in ``entries``.

    Raises :class:`EncodingError` for entries that :func:`pack` does not make, and if ``decode`` raises ``ValueError``
    or ``KeyError``.
    """
    arrays = dict(_array(title, entry) for title, entry in named(entries).items())
    try:
        return decode(arrays)
    except (ValueError, LookupError) as error:
        raise EncodingError(EncodingFault.UNREADABLE, f"{type(error).__name__}: {error}") from None


def _array(title: str, entry: CompressFeatureMap) -> tuple[str, NDArray[Any]]:
    try:
        name, kind, sizes = title.rsplit(" ", 2)
        dtype = np.dtype(kind)
        shape = tuple(map(int, sizes.split(","))) if sizes else ()
        if dtype.kind not in _KINDS or dtype.itemsize > 8 or len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
            raise ValueError("no array")
        data = b"" if entry.compress_data is None else entry.compress_data.tobytes()
        return name, np.frombuffer(data, dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise EncodingError(EncodingFault.UNREADABLE, title) from None
