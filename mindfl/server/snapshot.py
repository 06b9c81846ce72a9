"""The state of a job between two iterations as a file: magic, length and text of a JSON head, models, CRC-32.

The head names the settings that the job was begun with and the fingerprint of its initial model, so that a folder is
not taken for another job's. Models are float32, little endian, each in the order of the layout.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mindfl.errors import MindflError, StorageError
from mindfl.files import atomic_path, read_file
from mindfl.protocol import Weights
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.config import ServerConfig
from mindfl.server.events import Buffer
from mindfl.server.state import JobState

MAGIC = b"mindflS\x01"
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


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

    def save(self, path: Path) -> None:
        """Write to ``path``, replacing it in one step. Raises :class:`StorageError`."""
        text = json.dumps(self._head()).encode()
        parts: list[Buffer] = [MAGIC, _LENGTH.pack(len(text)), text]
        parts += [values.data.cast("B") for model in self.state.models.values() for _, values in sorted(model.items())]
        checksum = 0
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                    checksum = zlib.crc32(part, checksum)
                file.write(_CRC.pack(checksum))
        except OSError as error:
            raise StorageError.from_os_error(error, "write", path) from None

    def _head(self) -> Mapping[str, object]:
        state = self.state
        return {
            "job": self.origin.job.hex(),
            "begun_with": asdict(self.origin.config),
            "initial_model": self.origin.model,
            "position": self.position,
            "config": asdict(state.config),
            "instance": state.instance,
            "iteration": state.iteration,
            "enabled": state.enabled,
            "filled": state.filled,
            "models": list(state.models),
        }


def fingerprint(model: Weights) -> str:
    """Return the SHA-256 of names, lengths and values of ``model``."""
    digest = hashlib.sha256()
    for name, values in sorted(model.items()):
        digest.update(f"{name}\0{values.size}\0".encode(errors="surrogatepass"))
        digest.update(values.data.cast("B"))
    return digest.hexdigest()


def load(path: Path, config: ServerConfig, initial: Weights, layout: FeatureLayout) -> Snapshot:
    """Read the snapshot of the job that was begun with ``config`` and the model ``initial``.

    Raises :class:`StorageError` where it is damaged or another job's.
    """
    data = read_file(path)
    begin = len(MAGIC) + _LENGTH.size
    body, checksum = data[: -_CRC.size], data[-_CRC.size :]
    if not data.startswith(MAGIC) or len(data) < begin + _CRC.size or _CRC.unpack(checksum)[0] != zlib.crc32(body):
        raise StorageError(
            f"{path} is damaged or of another version of mindfl",
            hint="restore the state folder from a backup, or begin anew in another one",
        )
    end = begin + int(_LENGTH.unpack_from(data, len(MAGIC))[0])
    head = json.loads(data[begin:end])
    _check_origin(path, head, config, initial)
    values = np.frombuffer(body, np.float32, offset=end).reshape(len(head["models"]), layout.size)
    models = {number: layout.split(flat.copy()) for number, flat in zip(head["models"], values, strict=True)}
    origin = Origin(bytes.fromhex(head["job"]), config, head["initial_model"])
    try:
        current = ServerConfig(**head["config"])
    except (MindflError, TypeError) as error:
        raise StorageError(f"{path} holds settings that this version of mindfl does not take: {error}") from None
    state = JobState(current, head["instance"], head["iteration"], head["enabled"], head["filled"], models)
    return Snapshot(origin, head["position"], state)


def _check_origin(path: Path, head: Mapping[str, object], config: ServerConfig, initial: Weights) -> None:
    before = head["begun_with"]
    now = json.loads(json.dumps(asdict(config)))
    assert isinstance(before, dict)
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys]
    if head["initial_model"] != fingerprint(initial):
        changed.append("the initial model")
    if changed:
        raise StorageError(
            f"{path.parent} holds a job that was begun differently: {', '.join(changed)}",
            hint="start it as before, or choose another state folder for a new job",
        )
