"""Several servers of one job: one of them keeps it, the others forward to that one and take its place when it ends."""

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
