"""What the comparison rests on: the tests' own reader of messages, the rule of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_wire
from real_differences import ABSENT, Deviation, Difference, deviations
from real_exchange import Reply

WIRE = Path(__file__).parents[1] / "golden" / "wire"


@pytest.mark.parametrize("name", ["startFLJob_Req_0", "startFLJob_Res_0", "updateModel_Req_1", "getModel_Res_3"])
def test_reads_and_writes_what_the_real_ones_exchanged(name: str) -> None:
    file = WIRE / f"{name}.bin"
    endpoint, kind, _ = name.split("_")
    table = real_wire.ENDPOINTS[endpoint][kind == "Res"]

    values = real_wire.decode(table, file.read_bytes())

    assert set(values) >= {"retcode", "reason"} or set(values) >= {"fl_name", "fl_id", "timestamp"}
    assert repr(real_wire.decode(table, real_wire.encode(table, values))) == repr(values)


def test_every_field_that_differs_is_a_deviation() -> None:
    real: dict[str, Reply] = {"one": {"retcode": 200, "reason": "a"}, "two": {"text": "x"}}
    ours: dict[str, Reply] = {"one": {"retcode": 300, "iteration": 1}, "two": {"text": "x"}}

    assert list(deviations("s", real, ours)) == [
        Deviation("s/one", "retcode", 200, 300),
        Deviation("s/one", "reason", "a", ABSENT),
        Deviation("s/one", "iteration", ABSENT, 1),
    ]


def test_a_difference_covers_its_steps_fields_and_values_only() -> None:
    known = Difference(reason="", steps=("s/one*",), fields={"retcode": 300, "headers": "{real}; server", "text": None})

    assert known.covers(Deviation("s/one more", "retcode", 200, 300))
    assert known.covers(Deviation("s/one", "headers", "date", "date; server"))
    assert known.covers(Deviation("s/one", "text", "a", "anything"))
    assert not known.covers(Deviation("s/two", "retcode", 200, 300))
    assert not known.covers(Deviation("s/one", "retcode", 200, 400))
    assert not known.covers(Deviation("s/one", "reason", "a", "b"))
    assert not Difference(reason="").covers(Deviation("s/one", "retcode", 200, 300))
