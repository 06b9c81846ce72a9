"""Mutants that were killed, and the test that did it: to be killed again quickly, without measuring first."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from judge import Verdict
from mutants import Mutant
from spread import spread
from trial import run_trial

FILE = Path(__file__).with_name("killed.csv")
FIELDS = ("key", "module", "function", "by")
EXPECTED_S = 10.0


def record(verdicts: Iterable[Verdict]) -> None:
    """Write the killed ones of ``verdicts`` into :data:`FILE`."""
    with FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(verdict.row() for verdict in sorted(verdicts, key=lambda one: one.key) if verdict.killed)


def recorded() -> dict[str, str]:
    """Return key -> test of the mutants in :data:`FILE`."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return {row["key"]: row["by"] for row in csv.DictReader(file)}


def kill_again(mutants: list[Mutant], tests: dict[str, str], count: int, processes: int) -> list[Verdict]:
    """Return the verdicts on ``count`` recorded mutants of those that are in the code still; ended loops are left out.

    Raises :class:`SystemExit` where the recorded tests fail without any fault, or most of the record is out of date.
    """
    known = [mutant for mutant in mutants if tests.get(mutant.key, "endless").startswith("tests/")]
    if len(known) < len(tests) / 2:
        raise SystemExit(f"{len(known)} of {len(tests)} recorded mutants are left in the code: run `make mutation`")
    chosen = sorted(known, key=lambda mutant: mutant.key)[:count]
    needed = list(dict.fromkeys(tests[mutant.key] for mutant in chosen))
    alone = run_trial(needed, expected_s=EXPECTED_S * len(needed), stop=False)
    if missing := [test for test in needed if test not in alone.passed]:
        raise SystemExit(f"recorded tests do not pass without any fault: {', '.join(missing)}")
    alone.preload()
    again = spread(lambda mutant: _again(mutant, tests[mutant.key]), chosen, processes)
    return sorted((verdict for _, verdict in again), key=lambda verdict: verdict.key)


def _again(mutant: Mutant, test: str) -> Verdict:
    trial = run_trial([test], mutant=mutant, expected_s=EXPECTED_S)
    return Verdict.of(mutant, "killed" if trial.failed or trial.endless else "survived", test)
