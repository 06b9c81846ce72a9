"""Whether the tests kill a mutant, every time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from baseline import Baseline
from mutants import Mutant
from trial import run_trial

FIRST_TESTS = 25
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, and the test that decided it.

    ``killed`` is the only good end. ``luck``: a property test notices it with some seeds and not with others.
    ``blocked``: a test waits forever, and no other one fails. ``untested``: no test executes the statement.
    """

    key: str
    module: str
    line: int
    function: str
    kind: str
    before: str
    after: str
    status: str
    by: str

    @classmethod
    def of(cls, mutant: Mutant, status: str, by: str) -> Verdict:
        """Return the verdict on ``mutant``."""
        what = (mutant.function, mutant.kind, mutant.before, mutant.after)
        return cls(mutant.key, mutant.module, mutant.lines.start, *what, status, by)

    @property
    def killed(self) -> bool:
        """Whether the tests notice the fault every time."""
        return self.status == "killed"

    def row(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)


def judge(mutant: Mutant, baseline: Baseline, limit_s: float, suspect: str = "") -> Verdict:
    """Run the tests that execute the mutated statement, as many as take ``limit_s``; ``suspect`` first."""
    tests = baseline.tests_of(mutant, limit_s)
    if suspect in tests:
        tests = [suspect, *(test for test in tests if test != suspect)]
        groups = [tests[:1], tests[1 : FIRST_TESTS + 1], tests[FIRST_TESTS + 1 :]]
    else:
        groups = [tests[:FIRST_TESTS], tests[FIRST_TESTS:]]
    status, by = ("survived", "") if tests else ("untested", "")
    for group in groups:
        found = _run(mutant, group, baseline)
        if found[0] != "survived":
            status, by = found
        if status == "killed":
            break
    return Verdict.of(mutant, status, by)


def _run(mutant: Mutant, tests: list[str], baseline: Baseline) -> tuple[str, str]:
    """Run ``tests`` until one kills the mutant every time."""
    status, by = "survived", ""
    while tests:
        trial = run_trial(tests, mutant=mutant, expected_s=sum(baseline.seconds[test] for test in tests))
        stopped = trial.failed or trial.blocked
        if trial.endless:
            return "killed", f"endless loop in {trial.last}"
        if stopped is None:
            break
        if trial.failed and _kills_always(mutant, trial.failed, baseline):
            return "killed", trial.failed
        if trial.blocked and status == "blocked":
            break
        status, by = "luck" if trial.failed else "blocked", stopped
        tests = tests[tests.index(stopped) + 1 :] if stopped in tests else []
    return status, by


def _kills_always(mutant: Mutant, test: str, baseline: Baseline) -> bool:
    if test not in baseline.properties:
        return True
    expected_s = baseline.seconds[test]
    return all(run_trial([test], mutant=mutant, seed=seed, expected_s=expected_s).failed for seed in SEEDS)
