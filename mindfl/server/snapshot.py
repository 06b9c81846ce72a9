"""The state of a job between two iterations as bytes: magic, length and text of a JSON head, models, CRC-32.

The head names the settings that the job was begun with and the fingerprint of its initial model, so that a folder is
not taken for another job's. Models are float32, little endian, each in the order of the layout. Behind them are 16
bytes for each client that was counted in a recent iteration; the head says how many in which. Then come the arrays of
the algorithm's state; the head says their names, types and shapes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import MindflError, StorageError
from mindfl.protocol import Weights
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.events import Buffer
from mindfl.server.server_config import ServerConfig
from mindfl.server.state import DIGEST_SIZE, JobState

MAGIC = b"mindflS\x01"
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")

Features: TypeAlias = Mapping[str, Sequence[int]]
"""By name of a weight: its size in bytes, and 1 if it is aggregated, 0 if it keeps its value."""

#: description of a job whose learning rate does not change
CONSTANT = "constant"
_FLOAT_BYTES = 4
_DEFAULTS = {item.name: item.default for item in fields(ServerConfig) if item.default is not MISSING}


@dataclass(frozen=True)
class JobOrigin:
    """The beginning of a job: its id (16 bytes), settings, the SHA-256 of its initial model, the names of the
    weights that are not aggregated (None: a version of mindfl that did not note them), its algorithm ("": FedAvg), and
    its schedule of learning rates.
    """

    job: bytes
    config: ServerConfig
    model: str
    constant: Set[str] | None = frozenset()
    algorithm: str = ""
    lr_schedule: str = CONSTANT


@dataclass(frozen=True, eq=False)
class Snapshot:
    """``state`` with everything in the journal before ``position``."""

    origin: JobOrigin
    position: int
    state: JobState

    def parts(self) -> list[Buffer]:
        """Return the bytes of the snapshot in parts; models are not copied."""
        text = json.dumps(self._head()).encode()
        parts: list[Buffer] = [MAGIC, _LENGTH.pack(len(text)), text]
        parts += [values.data.cast("B") for model in self.state.models.values() for _, values in sorted(model.items())]
        parts += [b"".join(sorted(clients)) for clients in self.state.counted.values()]
        parts += [array.tobytes() for array in self.state.arrays.values()]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        return [*parts, _CRC.pack(checksum)]

    def _head(self) -> Mapping[str, object]:
        state = self.state
        return {
            "job": self.origin.job.hex(),
            "begun_with": asdict(self.origin.config),
            "initial_model": self.origin.model,
            **({} if self.origin.constant is None else {"constant": sorted(self.origin.constant)}),
            **({"algorithm": self.origin.algorithm} if self.origin.algorithm else {}),
            **({"lr_schedule": self.origin.lr_schedule} if self.origin.lr_schedule != CONSTANT else {}),
            "lengths": {name: values.size for name, values in self.state.models[self.state.iteration - 1].items()},
            "position": self.position,
            "config": asdict(state.config),
            "instance": state.instance,
            "iteration": state.iteration,
            "enabled": state.enabled,
            "models": list(state.models),
            "counted": [[number, len(clients)] for number, clients in state.counted.items()],
            **({"arrays": [_described(*item) for item in state.arrays.items()]} if state.arrays else {}),
        }


def _described(name: str, array: NDArray[Any]) -> tuple[str, str, Sequence[int]]:
    return name, array.dtype.str, array.shape


def fingerprint(model: Weights) -> str:
    """Return the SHA-256 of names, lengths and values of ``model``."""
    digest = hashlib.sha256()
    for name, values in sorted(model.items()):
        digest.update(f"{name}\0{values.size}\0".encode(errors="surrogatepass"))
        digest.update(values.data.cast("B"))
    return digest.hexdigest()


def job_of(data: bytes) -> bytes:
    """Return the id of the job in the bytes of a snapshot, b"" where they are none."""
    begin = len(MAGIC) + _LENGTH.size
    try:
        return bytes.fromhex(json.loads(data[begin : begin + int(_LENGTH.unpack_from(data, len(MAGIC))[0])])["job"])
    except (ValueError, LookupError, TypeError, struct.error):
        return b""


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of a server, by which it recognises its job.

    ``constant``: names of the weights that are not aggregated. ``algorithm`` and ``lr_schedule``: their descriptions.
    ``as_stored``: take any job whose weights have these names, lengths and constants.
    """

    config: ServerConfig
    model: Weights
    layout: FeatureLayout
    constant: Set[str] = frozenset()
    algorithm: str = ""
    as_stored: bool = False
    lr_schedule: str = CONSTANT

    def begin(self) -> JobOrigin:
        """Return the origin of a new job."""
        model = fingerprint(self.model)
        return JobOrigin(os.urandom(16), self.config, model, self.constant, self.algorithm, self.lr_schedule)


def decode(data: bytes, place: str, given: Given) -> Snapshot:
    """Return the snapshot stored in ``place`` of the job that was begun with the ``given`` arguments.

    Raises :class:`StorageError` if it is damaged or another job's.
    """

    def check(head: Mapping[str, Any]) -> None:
        if not given.as_stored:
            _check_origin(place, head, given)
        _check_features(place, head, given)

    return read(data, place, given.layout, check)


def read(
    data: bytes, place: str, layout: FeatureLayout, check: Callable[[Mapping[str, Any]], None] = lambda head: None
) -> Snapshot:
    """Return the snapshot in ``data``, from ``place``, of weights in ``layout``. ``check`` may refuse its head.

    Raises :class:`StorageError` if it is damaged.
    """
    if not data.startswith(MAGIC) or data[-_CRC.size :] != _CRC.pack(zlib.crc32(data[: -_CRC.size])):
        raise StorageError(
            f"{place}: the snapshot is damaged or of another version of mindfl",
            hint="restore it from a backup, or begin anew in another place",
        )
    try:
        return _read(data, place, layout, check)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise StorageError(
            f"{place}: the snapshot holds what this version of mindfl does not write: {error}",
            hint="restore it from a backup, or begin anew in another place",
        ) from None


def _read(data: bytes, place: str, layout: FeatureLayout, check: Callable[[Mapping[str, Any]], None]) -> Snapshot:
    begin = len(MAGIC) + _LENGTH.size
    end = begin + int(_LENGTH.unpack_from(data, len(MAGIC))[0])
    head = json.loads(data[begin:end])
    check(head)
    values = np.frombuffer(data, np.float32, len(head["models"]) * layout.size, end)
    flats = values.reshape(len(head["models"]), layout.size)
    models = {number: layout.split(flat.copy()) for number, flat in zip(head["models"], flats, strict=True)}
    rest = data[end + values.nbytes : -_CRC.size]
    counted, arrays = _rest(head["counted"], head.get("arrays", []), rest)
    try:
        constant = frozenset(head["constant"]) if "constant" in head else None
        job, config = bytes.fromhex(head["job"]), ServerConfig(**head["begun_with"])
        algorithm, lr_schedule = head.get("algorithm", ""), head.get("lr_schedule", CONSTANT)
        origin = JobOrigin(job, config, head["initial_model"], constant, algorithm, lr_schedule)
        current = ServerConfig(**head["config"])
    except (MindflError, TypeError) as error:
        raise StorageError(f"{place} holds settings that this version of mindfl does not take: {error}") from None
    state = JobState(current, head["instance"], head["iteration"], head["enabled"], models, counted, arrays)
    whole = all(type(number) is int for number in (state.iteration, head["position"], *models, *counted))
    if not whole or state.iteration - 1 not in models or not 0 <= head["position"] < 2**63:
        raise ValueError(f"iteration {state.iteration} at position {head['position']} with models {head['models']}")
    return Snapshot(origin, head["position"], state)


def _rest(
    lengths: Sequence[tuple[int, int]], arrays: Sequence[tuple[str, str, Sequence[int]]], data: bytes
) -> tuple[dict[int, frozenset[bytes]], dict[str, NDArray[Any]]]:
    """Return the clients counted in each iteration, and the algorithm's state."""
    counted, state, begin = {}, {}, 0
    for number, length in lengths:
        end = begin + length * DIGEST_SIZE
        counted[number] = frozenset(data[at : at + DIGEST_SIZE] for at in range(begin, end, DIGEST_SIZE))
        if len(counted[number]) != length:
            raise ValueError(f"{len(counted[number])} clients of iteration {number}, not {length}")
        begin = end
    for name, kind, shape in arrays:
        # A copy is aligned: sums over others may have other last bits.
        state[name] = np.frombuffer(data, np.dtype(kind), math.prod(shape), begin).reshape(shape).copy()
        state[name].flags.writeable = False
        begin += state[name].nbytes
    if begin != len(data):
        raise ValueError(f"{len(data) - begin} bytes of no iteration")
    return counted, state


def _check_origin(place: str, head: Mapping[str, Any], given: Given) -> None:
    changed = other_settings(given.config, head["begun_with"])
    if head["initial_model"] != fingerprint(given.model):
        changed.append("the initial model")
    if head.get("algorithm", "") != given.algorithm:
        changed.append(f"algorithm {head.get('algorithm') or 'FedAvg'} -> {given.algorithm or 'FedAvg'}")
    if (stored := head.get("lr_schedule", CONSTANT)) != given.lr_schedule:
        changed.append(f"lr_schedule {stored} -> {given.lr_schedule}")
    if changed:
        raise begun_differently(place, changed)


def begun_differently(place: str, changed: Sequence[str]) -> StorageError:
    """Return the error for a job in ``place`` that was begun with something else, which ``changed`` lists."""
    return StorageError(
        f"{place} holds a job that was begun differently: {', '.join(changed)}",
        hint="start it as before, or give the new job another fl_name or state folder",
    )


def _check_features(place: str, head: Mapping[str, Any], given: Given) -> None:
    mine = features(given.layout, given.constant)
    constant = head.get("constant", given.constant)
    job = {name: [4 * length, int(name not in constant)] for name, length in head["lengths"].items()}
    other = other_features(mine, job)
    if other:
        raise StorageError(
            f"{place} holds a job with another model: {other}",
            hint="start it with that model, or give the new job another fl_name or state folder",
        )


def features(layout: FeatureLayout, constant: Set[str]) -> Features:
    """Return the features of weights in ``layout``, of which ``constant`` are not aggregated."""
    sizes = {name: part.stop - part.start for name, part in layout.slices.items()}
    return {name: [_FLOAT_BYTES * size, int(name not in constant)] for name, size in sizes.items()}


def other_features(own: Features, job: Features) -> str:
    """Return how a server's ``own`` features differ from those of the ``job``, or "" where they do not."""
    if len(own) != len(job):
        return f"The number {len(own)} of local features != the number {len(job)} declared in the distributed cache"
    for name, (size, aggregated) in job.items():
        if name not in own:
            where = f"cannot find feature {name} in local"
            return f"The features are inconsistent with that declared in distributed cache: {where}"
        for what, mine, theirs in (("size", own[name][0], size), ("require_aggr", own[name][1], aggregated)):
            if mine != theirs:
                return (
                    f"The feature {what} {mine} of local != that {theirs} declared in the distributed cache, "
                    f"feature: {name}"
                )
    return ""


def other_settings(own: ServerConfig, *accepted: Mapping[str, Any]) -> list[str]:
    """Return the settings of a server in which it differs from the nearest of those ``accepted``, as "name job -> own".

    Settings that an earlier version of mindfl did not know have their defaults.
    """
    now = json.loads(json.dumps(asdict(own)))
    found = []
    for each in accepted:
        job = {**_DEFAULTS, **each}
        keys = [key for key in {**job, **now} if job.get(key) != now.get(key)]
        found.append([f"{key} {job.get(key)} -> {now.get(key)}" for key in keys])
    return min(found, key=len, default=[])
