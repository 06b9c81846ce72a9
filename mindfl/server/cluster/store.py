"""Where the servers of one job meet: who keeps the job, where that is, which servers there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from mindfl.server.durable import DurableJob
from mindfl.server.management import Node
from mindfl.server.sameness import Features
from mindfl.server.state import Progress
from mindfl.server.storage import Memory, Storage


@dataclass(frozen=True, slots=True)
class KeeperRecord:
    """What the keeper of a job tells the job's other servers and its scheduler.

    ``url`` is where it answers them ("" once it has left) and ``token`` what they must show there. ``features`` are
    those of the job's weights, ``initial_model`` is the fingerprint of their first values; ``begun_with`` and
    ``config`` are its settings when it was begun, and now. ``settings`` are those that /queryInstance shows, for the
    time in which nobody keeps the job.
    """

    url: str
    token: str = field(repr=False)
    progress: Progress
    settings: dict[str, Any]
    features: Features = field(default_factory=dict)
    initial_model: str = ""
    begun_with: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the record as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> KeeperRecord:
        """Return the record in ``text``. Raises :class:`ValueError`, :class:`KeyError` or :class:`TypeError`."""
        content = json.loads(text)
        known = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        return cls(**{**known, "progress": Progress(**content["progress"])})


class Claim(Protocol):
    """The right to keep the job, until it is given back or the process dies."""

    def open_job(self, begin: Callable[[Storage], DurableJob], memory: Memory | None) -> DurableJob:
        """Return the job, which holds the claim from now on: closing the job gives it back.

        Where the place holds less than ``memory``, it is emptied before.
        """

    def publish(self, record: KeeperRecord) -> None:
        """Let all find ``record``. Raises :class:`StorageError`."""


class JobStore(Protocol):
    """The meeting place of one job. Methods may block, and may be called from several threads.

    All raise :class:`StorageError` where the place cannot be used, :class:`StoreDownError` if that may pass.
    """

    def check(self) -> None:
        """Return where the place can be reached."""

    def claim(self, *, follows: bool = False) -> Claim | None:
        """Become the keeper, or return None where there is one.

        ``follows``: this server knows of a job that another one keeps or kept. It leaves a place that was emptied to
        that one for a moment.
        """

    def keeper(self) -> KeeperRecord | None:
        """Return what was published last, or None where nothing ever was."""

    def join(self, nodes: Sequence[Node]) -> None:
        """Be listed as a server with these addresses, for as long as this process lives."""

    def nodes(self) -> list[Node]:
        """Return the servers that are alive, in the order in which they came."""

    def leave(self) -> None:
        """Be listed no more."""
