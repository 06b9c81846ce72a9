"""Editors and type checkers know a job's keywords."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mindfl import FederatedJob, FederatedLeNetJob
from mindfl.errors import OptionError

SCRIPT = """
from pathlib import Path

from mindfl import FederatedJob, FederatedLeNetJob

FederatedJob(client_nun=10)
FederatedLeNetJob(iterations="3")
FederatedJob(engine="steam")
with FederatedLeNetJob(work_dir="run", train_dataset=Path("femnist"), learning_rate=1, engine="lite") as job:
    print(job.run().hash)
"""


@pytest.mark.slow
def test_mypy_finds_the_three_mistakes_of_a_script(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    kept = getattr(pytestconfig, "cache", None)  # none with -p no:cacheprovider
    cache = str(kept.mkdir("mypy") if kept else tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", cache, str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"train\.py:(\d+): error: (.*)", done.stdout)
    assert [int(line) for line, _ in found] == [6, 7, 8], done.stdout + done.stderr
    assert "client_nun" in found[0][1] and 'did you mean "client_num"?' in found[0][1]
    assert '"iterations"' in found[1][1] and 'expected "int"' in found[1][1]
    assert "expected \"Literal['lite', 'mindspore']\"" in found[2][1]


@pytest.mark.parametrize("kind", [FederatedJob, FederatedLeNetJob])
def test_an_unknown_keyword_is_refused_with_a_suggestion(kind: type[FederatedJob]) -> None:
    with pytest.raises(OptionError, match=f"{kind.__name__} has no keyword client_nun") as caught:
        kind(client_nun=10)
    assert caught.value.hint == "did you mean client_num?"


def test_the_lenet_job_is_a_job() -> None:
    assert issubclass(FederatedLeNetJob, FederatedJob)
    assert FederatedJob(work_dir="none").config == FederatedLeNetJob(work_dir="none").config
