"""The state of a job between two iterations as bytes: magic, length and text of a JSON head, models, CRC-32.

The head names the settings that the job was begun with and the fingerprint of its initial model, so that a folder is
not taken for another job's. Models are float32, little endian, each in the order of the layout. Between models and
CRC-32 there are 16 bytes for each client that was counted in a recent iteration; the head says how many in which.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from mindfl.errors import MindflError, StorageError
from mindfl.protocol import Weights
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.config import ServerConfig
from mindfl.server.events import Buffer
from mindfl.server.state import DIGEST_SIZE, JobState

MAGIC = b"mindflS\x01"
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_DEFAULTS = {item.name: item.default for item in fields(ServerConfig) if item.default is not MISSING}


@dataclass(frozen=True)
class Origin:
    """What a job was begun with: its id (16 bytes), settings and the SHA-256 of its initial model."""

    job: bytes
    config: ServerConfig
    model: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """``state`` with everything in the journal before ``position``."""

    origin: Origin
    position: int
    state: JobState

    def parts(self) -> list[Buffer]:
        """Return the bytes of the snapshot in parts; models are not copied."""
        text = json.dumps(self._head()).encode()
        parts: list[Buffer] = [MAGIC, _LENGTH.pack(len(text)), text]
        parts += [values.data.cast("B") for model in self.state.models.values() for _, values in sorted(model.items())]
        parts += [b"".join(sorted(clients)) for clients in self.state.counted.values()]
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
            "lengths": {name: values.size for name, values in self.state.models[self.state.iteration - 1].items()},
            "position": self.position,
            "config": asdict(state.config),
            "instance": state.instance,
            "iteration": state.iteration,
            "enabled": state.enabled,
            "models": list(state.models),
            "counted": [[number, len(clients)] for number, clients in state.counted.items()],
        }


def fingerprint(model: Weights) -> str:
    """Return the SHA-256 of names, lengths and values of ``model``."""
    digest = hashlib.sha256()
    for name, values in sorted(model.items()):
        digest.update(f"{name}\0{values.size}\0".encode(errors="surrogatepass"))
        digest.update(values.data.cast("B"))
    return digest.hexdigest()


def decode(
    data: bytes, place: str, config: ServerConfig, initial: Weights, layout: FeatureLayout, *, as_stored: bool = False
) -> Snapshot:
    """Return the snapshot stored in ``place`` of the job that was begun with ``config`` and the model ``initial``.

    ``as_stored``: of any job whose weights have the names and lengths of ``layout``.

    Raises :class:`StorageError` where it is damaged or another job's.
    """
    if not data.startswith(MAGIC) or data[-_CRC.size :] != _CRC.pack(zlib.crc32(data[: -_CRC.size])):
        raise StorageError(
            f"{place}: the snapshot is damaged or of another version of mindfl",
            hint="restore it from a backup, or begin anew in another place",
        )
    try:
        return _decode(data, place, config, initial, layout, as_stored)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise StorageError(
            f"{place}: the snapshot holds what this version of mindfl does not write: {error}",
            hint="restore it from a backup, or begin anew in another place",
        ) from None


def _decode(
    data: bytes, place: str, config: ServerConfig, initial: Weights, layout: FeatureLayout, as_stored: bool
) -> Snapshot:
    begin = len(MAGIC) + _LENGTH.size
    end = begin + int(_LENGTH.unpack_from(data, len(MAGIC))[0])
    head = json.loads(data[begin:end])
    if as_stored:
        _check_layout(place, head["lengths"], layout)
    else:
        _check_origin(place, head, config, initial)
    values = np.frombuffer(data, np.float32, len(head["models"]) * layout.size, end)
    flats = values.reshape(len(head["models"]), layout.size)
    models = {number: layout.split(flat.copy()) for number, flat in zip(head["models"], flats, strict=True)}
    counted = _counted(head["counted"], data[end + values.nbytes : -_CRC.size])
    try:
        origin = Origin(bytes.fromhex(head["job"]), ServerConfig(**head["begun_with"]), head["initial_model"])
        current = ServerConfig(**head["config"])
    except (MindflError, TypeError) as error:
        raise StorageError(f"{place} holds settings that this version of mindfl does not take: {error}") from None
    state = JobState(current, head["instance"], head["iteration"], head["enabled"], models, counted)
    whole = all(type(number) is int for number in (state.iteration, head["position"], *models, *counted))
    if not whole or state.iteration - 1 not in models or not 0 <= head["position"] < 2**63:
        raise ValueError(f"iteration {state.iteration} at position {head['position']} with models {head['models']}")
    return Snapshot(origin, head["position"], state)


def _counted(lengths: Sequence[tuple[int, int]], data: bytes) -> dict[int, frozenset[bytes]]:
    digests = [data[begin : begin + DIGEST_SIZE] for begin in range(0, len(data), DIGEST_SIZE)]
    counted = {}
    for number, length in lengths:
        counted[number] = frozenset(digests[:length])
        if len(counted[number]) != length:
            raise ValueError(f"{len(counted[number])} clients of iteration {number}, not {length}")
        del digests[:length]
    if digests:
        raise ValueError(f"{len(digests)} clients of no iteration")
    return counted


def _check_origin(place: str, head: Mapping[str, Any], config: ServerConfig, initial: Weights) -> None:
    # A job of an earlier version of mindfl knows fewer settings.
    before = {**_DEFAULTS, **head["begun_with"]}
    now = json.loads(json.dumps(asdict(config)))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys]
    if head["initial_model"] != fingerprint(initial):
        changed.append("the initial model")
    if changed:
        raise StorageError(
            f"{place} holds a job that was begun differently: {', '.join(changed)}",
            hint="start it as before, or choose another state folder for a new job",
        )


def _check_layout(place: str, lengths: Mapping[str, int], layout: FeatureLayout) -> None:
    own = {name: part.stop - part.start for name, part in layout.slices.items()}
    if lengths != own:
        names = [name for name in {**lengths, **own} if lengths.get(name) != own.get(name)]
        changed = [f"{name} {lengths.get(name, 'missing')} -> {own.get(name, 'missing')}" for name in names]
        raise StorageError(
            f"{place} holds a job with another model: {', '.join(changed)}",
            hint="start it with that model, or give the new job another fl_name or folder",
        )
