"""The server's side of secure aggregation: what it keeps of an iteration, and what it answers. No sockets, no clock."""

from __future__ import annotations

from mindfl.server.secure.desk import Verdict, answer, judge, judge_late
from mindfl.server.secure.rounds import Rounds
from mindfl.server.secure.sums import UploadSum, WordSum

__all__ = ["Rounds", "UploadSum", "Verdict", "WordSum", "answer", "judge", "judge_late"]
