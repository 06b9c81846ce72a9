"""The server's side of secure aggregation: what it keeps of an iteration, and what it answers. No sockets, no clock."""

from __future__ import annotations

from mindfl.server.secagg.responses import Verdict, answer, judge, judge_late
from mindfl.server.secagg.rounds import Rounds
from mindfl.server.secagg.sums import UploadSum, WordSum

__all__ = ["Rounds", "UploadSum", "Verdict", "WordSum", "answer", "judge", "judge_late"]
