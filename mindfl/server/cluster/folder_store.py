"""The servers of one job on one machine, meeting in the job's state folder.

``lock`` is held by the keeper and free the moment it dies. ``keeper.json`` says where the keeper answers. Each server
has a file in ``servers``, which it holds locked: a file that can be locked was left by a dead one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir, write_atomic
from mindfl.server.cluster.store import KeeperRecord
from mindfl.server.durable import DurableJob
from mindfl.server.folder import StateFolder, private_dir
from mindfl.server.management import Node
from mindfl.server.storage import FolderStorage, Storage

_logger = logging.getLogger("mindfl.server")
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
        self._presence: tuple[Path, int] | None = None

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
        path = make_dir(self._servers) / f"{time.time_ns():020}-{uuid.uuid4().hex}.json"
        unfinished = path.with_suffix(".new")
        try:
            handle = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                os.write(handle, json.dumps([asdict(node) for node in nodes]).encode())
                unfinished.rename(path)
            except BaseException:
                os.close(handle)
                raise
        except OSError as error:
            raise StorageError.from_os_error(error, "write", path) from None
        self._presence = path, handle

    def nodes(self) -> list[Node]:
        """Read the files that are locked, and remove the others."""
        return [node for path in sorted(self._servers.glob("*.json")) for node in _live_nodes(path)]

    def leave(self) -> None:
        """Remove this server's file."""
        if self._presence is not None:
            path, handle = self._presence
            self._presence = None
            with suppress(OSError):
                path.unlink()
            os.close(handle)


def _live_nodes(path: Path) -> list[Node]:
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return [Node(**node) for node in json.loads(file.read())]
            path.unlink(missing_ok=True)
    except (OSError, ValueError, TypeError) as error:
        # Another reader may have removed it; whatever it is, it is no server that can be shown.
        _logger.debug("%s: %s", path, error)
    return []
