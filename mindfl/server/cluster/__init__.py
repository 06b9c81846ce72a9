"""Several servers of one job: a leader, and others that forward to it and take over when it ends.

Its parts are imported when they are used: a server alone needs no HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.imports import lazy_names

if TYPE_CHECKING:
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

__getattr__ = lazy_names(
    __name__,
    {
        "Member": "mindfl.server.cluster.member",
        **dict.fromkeys(("SchedulerOptions", "run_scheduler"), "mindfl.server.cluster.scheduler"),
        **dict.fromkeys(
            ("InternalTls", "LeaderRecord", "Membership", "find_store", "leader_tls"), "mindfl.server.cluster.store"
        ),
    },
)
