"""Where mindfl answers otherwise than the real server, on purpose. docs/protocol.md holds the same table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from real_exchange import Reply

ABSENT = "absent"
"""Stands for a field that a reply does not have."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One field of one reply in which the two servers differ."""

    step: str
    field: str
    real: Any
    ours: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An intended difference. ``steps`` are patterns of ``scenario/step``; ``fields`` are patterns of a reply's fields
    with what ours has instead: the value, where "{real}" stands for the real server's, or None for anything.

    Without ``steps`` the difference cannot be seen in the recorded replies: the script waits, or times are left out.
    """

    reason: str
    steps: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    def covers(self, deviation: Deviation) -> bool:
        """Tell whether ``deviation`` is this difference."""
        return any(self._covers(deviation, step) for step in self.steps)

    def seen(self, step: str, found: Iterable[Deviation]) -> bool:
        """Tell whether any of ``found`` is this difference in a step that ``step``, one of ``steps``, stands for."""
        return any(self._covers(deviation, step) for deviation in found)

    def _covers(self, deviation: Deviation, step: str) -> bool:
        return fnmatchcase(deviation.step, step) and any(
            fnmatchcase(deviation.field, field) and (ours is None or deviation.ours == _expected(ours, deviation.real))
            for field, ours in self.fields.items()
        )


def deviations(scenario: str, real: Mapping[str, Reply], ours: Mapping[str, Reply]) -> Iterator[Deviation]:
    """Yield every field in which the replies of the two servers differ."""
    for step in dict.fromkeys([*real, *ours]):
        one, other = real.get(step, {}), ours.get(step, {})
        for name in dict.fromkeys([*one, *other]):
            pair = one.get(name, ABSENT), other.get(name, ABSENT)
            if pair[0] != pair[1]:
                yield Deviation(f"{scenario}/{step}", name, *pair)


def _expected(ours: Any, real: Any) -> Any:
    return ours.replace("{real}", str(real)) if isinstance(ours, str) else ours


REFUSAL = {"http": "HTTP/1.0 400 Bad Request", "headers": None, "text": None, "*": ABSENT}

DIFFERENCES: dict[str, Difference] = {
    "no safemode text": Difference(
        reason="the real server sends it while it switches iterations, and two in a row end a stock device's job; "
        "ours switches at once and holds the request"
    ),
    "iterations close at once": Difference(
        reason="the real server looks once a second, so a complete iteration stays open for up to 1 s; ours closes it "
        "with its last upload, and windows end to the millisecond"
    ),
    "retry times lie ahead": Difference(
        reason="the real server's may be past or of an earlier iteration, which aborts a stock device; ours are made "
        "for each answer and are at least 1 s ahead"
    ),
    "windows after newInstance": Difference(
        reason="the real server then takes the milliseconds for seconds; ours does not"
    ),
    "new threshold in newInstance": Difference(
        reason="after a lower start_fl_job_threshold the real server's iterations are never aggregated; ours are",
        steps=("management/model of the one client",),
        fields={"retcode": 200, "reason": "Get model for iteration 1", "iteration": 2, "feature_map": None},
    ),
    "disabled in the last iteration": Difference(
        reason="the real server then counts as finished for good and gives its model away no more; ours can be enabled "
        "again, and its model fetched",
        steps=("disabled_at_the_end/state", "disabled_at_the_end/enable"),
        fields={
            "json.cluster_state": "CLUSTER_DISABLE",
            "http": "HTTP/1.1 200 Client",
            "headers": None,
            "json.*": None,
        },
    ),
    "reason of getModel": Difference(
        reason="the real server replays the first answer of an iteration to all clients, so its reason may name the "
        "number of another request; ours names the requested one",
        steps=("round/before anything*", "round/second iteration 3", "round/finished 9", "kept_models/model *"),
        fields={"reason": None},
    ),
    "getModel of iteration 0": Difference(
        reason="the reference's getModel task asks for 0 and wants the latest model; the real server gives the "
        "untrained one as long as it keeps it",
        steps=("round/second iteration 0", "round/finished 0"),
        fields={"feature_map": None},
    ),
    "getModel beyond the last iteration": Difference(
        reason="the real server answers forever that it is not ready; ours gives the latest model, as for any other "
        "unknown number",
        steps=("round/finished 3",),
        fields={"retcode": 200, "reason": "Get model for iteration 3", "feature_map": None},
    ),
    "late upload to a full iteration": Difference(
        reason="ours says that the quota is full also just after the iteration closed, as the real server does in the "
        "second before it closes",
        steps=("round/update for the closed iteration, not started",),
        fields={"reason": "Current amount for updateModel is enough. Please retry later."},
    ),
    "weight missing in all uploads": Difference(
        reason="the real server leaves it out of getModel and starts the next iteration with zeros; ours keeps "
        "its value",
        steps=("unheard_weight/model of 1", "unheard_weight/start in 2"),
        fields={"feature_map": None},
    ),
    "negative data_size": Difference(
        reason="the real server reads it as a large number; refused by both",
        steps=("start_refusals/data_size -1",),
        fields={"reason": "FL job data size is not enough."},
    ),
    "text that is not UTF-8": Difference(
        reason="FlatBuffers strings are UTF-8; the real server stores and sends on any bytes",
        steps=("start_refusals/id is not UTF-8",),
        fields={
            "retcode": 400,
            "reason": "The schema of RequestFLJob is invalid.",
            "is_selected": ABSENT,
            "next_req_time": "",
            "feature_map": ABSENT,
        },
    ),
    "weight without name or data": Difference(
        reason="refused by both with 400; ours finds it elsewhere and gives another text",
        steps=("update_refusals/no data", "update_refusals/no weight name"),
        fields={"reason": None, "next_req_time": None},
    ),
    "weights of 2^36 and more": Difference(
        reason="ours refuses them: within that limit its sums are exact, and only a training that diverged has them",
        steps=("update_refusals/largest values",),
        fields={"retcode": 400, "reason": "Verify model feature map failed, retry later at time: <time>"},
    ),
    "upload_sparse_rate": Difference(
        reason="the real server sends the configured rate although uploads are not compressed; ours leaves it out",
        steps=("*",),
        fields={"upload_sparse_rate": ABSENT},
    ),
    "Server header": Difference(
        reason="ours names itself",
        steps=("*",),
        fields={"headers": "{real}; server"},
    ),
    "HTTP/1.0 and HEAD": Difference(
        reason="ours sends its usual headers there too",
        steps=("transport/HTTP/1.0*", "transport/HEAD without a body"),
        fields={"headers": None},
    ),
    "requests that are no HTTP": Difference(
        reason="refused by both; ours always with 400, and as HTTP/1.0",
        steps=(
            "transport/length is *",
            "transport/chunk size is no number",
            "transport/no HTTP at all",
            "transport/no version",
        ),
        fields=REFUSAL,
    ),
    "methods that HTTP does not know": Difference(
        reason="refused by both; ours takes the request for no HTTP",
        steps=("transport/unknown method",),
        fields=REFUSAL,
    ),
    "HTTP/1.1 without Host": Difference(
        reason="RFC 9112 section 3.2 demands a 400; the real server does not look",
        steps=("transport/no host",),
        fields=REFUSAL,
    ),
    "error in a JSON": Difference(
        reason="the message of newInstance is that of another parser",
        steps=("management/newInstance no JSON", "management/newInstance text after the JSON"),
        fields={"json.error_message": None},
    ),
    "cross-silo endpoints": Difference(
        reason="pullWeight, pushWeight and pushMetrics belong to other server modes; ours does not have them",
        steps=("transport/hybrid *",),
        fields={"http": "HTTP/1.1 404 Not Found", "headers": None, "text": None, "*": ABSENT},
    ),
}
