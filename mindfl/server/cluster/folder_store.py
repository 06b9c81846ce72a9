"""The servers of one job on one machine, meeting in the job's state folder.

``lock`` is held by the keeper and free the moment it dies. ``keeper.json`` says where the keeper answers. Each server
has a record in ``servers`` (:mod:`mindfl.server.presence`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.files import PathLike, write_atomic
from mindfl.server.cluster.store import KeeperRecord
from mindfl.server.durable import DurableJob
from mindfl.server.folder import StateFolder, private_dir
from mindfl.server.management import Node
from mindfl.server.presence import Presence, living
from mindfl.server.storage import FolderStorage, Storage

_KEEPER = "keeper.json"
_READABLE = 40


def job_folder(address: str, fl_name: str) -> Path:
    """Return the folder in which servers with this ``distributed_cache.address`` and ``fl_name`` meet.

    It lies in ``$XDG_STATE_HOME/mindfl/jobs`` (``~/.local/state`` where that is not set). Raises :class:`StorageError`
    where there is no home folder.
    """
    try:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        raise StorageError("there is no home folder for the job's state", hint="set XDG_STATE_HOME") from None
    identity = hashlib.sha256(f"{address}\0{fl_name}".encode(errors="surrogatepass")).hexdigest()
    return base / "mindfl" / "jobs" / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', fl_name)[:_READABLE]}-{identity[:16]}"


class FolderClaim:
    """The claim on a state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def open_job(self, begin: Callable[[Storage], DurableJob]) -> DurableJob:
        """Return the job in the folder."""
        return begin(FolderStorage(self._folder))

    def publish(self, record: KeeperRecord) -> None:
        """Write ``record`` where all look for it."""
        write_atomic(self._folder.file(_KEEPER), record.text(), private=True)


class FolderStore:
    """The servers that meet in ``path``."""

    def __init__(self, path: PathLike) -> None:
        self.path = private_dir(path)
        self._servers = self.path / "servers"
        self._presence: Presence | None = None

    def claim(self) -> FolderClaim | None:
        """Take the folder if nobody has it."""
        folder = StateFolder.if_free(self.path)
        return None if folder is None else FolderClaim(folder)

    def keeper(self) -> KeeperRecord | None:
        """Read what the keeper wrote last."""
        path = self.path / _KEEPER
        try:
            return KeeperRecord.parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError.from_os_error(error, "read", path) from None
        except (ValueError, KeyError, TypeError):
            raise StorageError(f"{path} is damaged or of another version of mindfl", hint="remove it") from None

    def join(self, nodes: Sequence[Node]) -> None:
        """Write this server's file."""
        presence = Presence(self._servers / f"{time.time_ns():020}-{uuid.uuid4().hex}.json")
        try:
            presence.write(json.dumps([asdict(node) for node in nodes]))
        except BaseException:
            presence.close()
            raise
        self._presence = presence

    def nodes(self) -> list[Node]:
        """Read the files of the servers that live, and remove the others."""
        found: list[Node] = []
        for text in living(self._servers):
            with suppress(ValueError, TypeError):
                found += [Node(**node) for node in json.loads(text)]
        return found

    def leave(self) -> None:
        """Remove this server's file."""
        if self._presence is not None:
            self._presence.close()
            self._presence = None
