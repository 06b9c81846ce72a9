"""What the servers of one job know of each other: the leader's record, and what each brings along."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mindfl.server.aggregate import FeatureLayout
from mindfl.server.clock import Clock
from mindfl.server.config import ServerConfig
from mindfl.server.data_rate import Counted
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import IterationRecord
from mindfl.server.management import Management, Node
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


Ended = Callable[[IterationRecord], None]
ListNodes = Callable[[], Sequence[Node]]


@dataclass(frozen=True, slots=True)
class InternalTls:
    """How a server proves to the others who it is, and how it checks them."""

    own: ssl.SSLContext
    others: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One server of a job.

    ``layout``, ``features`` and ``config`` are what it was given, ``model`` the fingerprint of its initial weights (""
    where they come from a checkpoint), ``nodes`` are its addresses. Should it keep the job, it answers the others on a
    free port of ``internal_host``, encrypted where there is ``internal_tls``. ``counted`` wraps what answers devices,
    of which at most ``most_connections`` are connected at a time. ``report`` is called with the record of each
    iteration that ends, whichever server keeps the job. The rest concerns the keeper alone: ``open_job`` is given the
    storage, what to call at the end of each iteration, and what the job goes on from where nothing is stored,
    ``manage`` the job and what lists its servers, ``write_files`` each record.
    """

    fl_name: str
    layout: FeatureLayout
    features: Features
    config: ServerConfig
    model: str
    prefix: str
    clock: Clock
    nodes: Sequence[Node]
    internal_host: str
    internal_tls: InternalTls | None
    counted: Counted
    most_connections: int
    report: Ended
    open_job: Callable[[Storage, Ended, Memory | None], DurableJob]
    manage: Callable[[DurableJob, ListNodes], Management]
    write_files: Ended
