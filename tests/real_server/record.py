"""Record what the real MindSpore Federated 0.1.0 server answers: python tests/real_server/record.py [SCENARIO...]

Needs Python 3.7 to 3.9, redis-server and, the first time, a package index; see docs/protocol.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from real_exchange import Reply, Session
from real_requests import Scenario
from real_scenarios import scenarios
from real_stack import running_real

from mindfl.files import write_atomic

GOLDEN = Path(__file__).parents[1] / "golden" / "real_server"


def ask_real(scenario: Scenario, folder: Path) -> dict[str, Reply]:
    """Return the real server's replies to ``scenario``."""
    with running_real(scenario.job, folder) as server:
        return Session(server, scenario.job.http_url_prefix).run(scenario.steps)


def golden(name: str) -> dict[str, Reply]:
    """Return the recorded replies of the scenario ``name``."""
    replies: dict[str, Reply] = json.loads((GOLDEN / f"{name}.json").read_text())
    return replies


def main(names: list[str]) -> None:
    """Record the scenarios ``names``, or all."""
    for name, scenario in scenarios().items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as place:
            replies = ask_real(scenario, Path(place))
        lines = (f"{json.dumps(step)}: {json.dumps(reply)}" for step, reply in replies.items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomic(GOLDEN / f"{name}.json", text)
        print(f"{name}: {len(replies)} replies, {len(text)} characters", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
