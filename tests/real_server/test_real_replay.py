"""mindfl's server against the recorded answers of the real one: the same, but for the table of intended differences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from real_differences import DIFFERENCES, deviations
from real_exchange import Session
from real_scenarios import scenarios
from real_stack import ServerFactory
from record import golden

SCENARIOS = scenarios()
DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_as_the_real_server(name: str, our_server: ServerFactory) -> None:
    scenario = SCENARIOS[name]

    replies = Session(our_server(scenario.job), scenario.job.http_url_prefix).run(scenario.steps)

    found = list(deviations(name, golden(name), replies))
    unexplained = [each for each in found if not any(known.covers(each) for known in DIFFERENCES.values())]
    assert not unexplained, "\n".join(map(str, unexplained))
    for title, known in DIFFERENCES.items():
        gone = [step for step in known.steps if belongs(step, name) and not known.seen(step, found)]
        assert not gone, f"{title!r} is no difference any more in {gone}"


def belongs(step: str, scenario: str) -> bool:
    """Tell whether ``step``, a pattern, must occur in ``scenario``; a step that all have is checked in one."""
    return step.startswith(f"{scenario}/") or (step == "*" and scenario == "round")


def test_document_lists_the_intended_differences() -> None:
    section = DOCUMENT.read_text().partition("## Intended differences")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)

    assert dict(rows[1:]) == {title: known.reason for title, known in DIFFERENCES.items()}
