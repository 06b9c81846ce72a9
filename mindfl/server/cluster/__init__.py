"""Several servers of one job: a leader, and others that forward to it and take over when it ends."""

from __future__ import annotations

from mindfl.server.cluster.member import Member
from mindfl.server.cluster.scheduler import SchedulerOptions, run_scheduler
from mindfl.server.cluster.store import InternalTls, LeaderRecord, Membership, find_store, leader_tls

__all__ = [
    "InternalTls",
    "LeaderRecord",
    "Member",
    "Membership",
    "SchedulerOptions",
    "find_store",
    "leader_tls",
    "run_scheduler",
]
