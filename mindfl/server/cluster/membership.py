"""What a server brings along when it joins a job."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mindfl.server.aggregate import FeatureLayout
from mindfl.server.clock import Clock
from mindfl.server.config import ServerConfig
from mindfl.server.data_rate import Counted
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import IterationRecord
from mindfl.server.management import Management, Node
from mindfl.server.sameness import Features
from mindfl.server.storage import Memory, Storage

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
