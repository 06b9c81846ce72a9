"""Where the servers of one job meet: who keeps the job, where that is, which servers there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from mindfl.server.aggregate import FeatureLayout
from mindfl.server.durable import DurableJob
from mindfl.server.management import Node
from mindfl.server.state import Progress
from mindfl.server.storage import Storage


@dataclass(frozen=True, slots=True)
class KeeperRecord:
    """What the keeper of a job tells the job's other servers and its scheduler.

    ``url`` is where it answers them ("" once it has left) and ``token`` what they must show there. ``layout`` is the
    :func:`fingerprint` of the job's weights. ``settings`` are those that /queryInstance shows, for the time in which
    nobody keeps the job.
    """

    url: str
    token: str = field(repr=False)
    layout: str
    progress: Progress
    settings: dict[str, Any]

    def text(self) -> str:
        """Return the record as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> KeeperRecord:
        """Return the record in ``text``. Raises :class:`ValueError`, :class:`KeyError` or :class:`TypeError`."""
        content = json.loads(text)
        return cls(**{**content, "progress": Progress(**content["progress"])})


def fingerprint(layout: FeatureLayout) -> str:
    """Return the SHA-256 of names and lengths of a job's weights."""
    lengths = [[name, layout.slices[name].stop - layout.slices[name].start] for name in layout.names]
    return hashlib.sha256(json.dumps(lengths).encode()).hexdigest()


class Claim(Protocol):
    """The right to keep the job, until it is given back or the process dies."""

    def open_job(self, begin: Callable[[Storage], DurableJob]) -> DurableJob:
        """Return the job, which holds the claim from now on: closing the job gives it back."""

    def publish(self, record: KeeperRecord) -> None:
        """Let all find ``record``. Raises :class:`StorageError`."""


class JobStore(Protocol):
    """The meeting place of one job. Methods may block, and may be called from several threads.

    All raise :class:`StorageError` where the place cannot be used, :class:`StoreDownError` if that may pass.
    """

    def claim(self) -> Claim | None:
        """Become the keeper, or return None where there is one."""

    def keeper(self) -> KeeperRecord | None:
        """Return what was published last, or None where nothing ever was."""

    def join(self, nodes: Sequence[Node]) -> None:
        """Be listed as a server with these addresses, for as long as this process lives."""

    def nodes(self) -> list[Node]:
        """Return the servers that are alive, in the order in which they came."""

    def leave(self) -> None:
        """Be listed no more."""
