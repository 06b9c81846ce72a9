"""The command line of the mutation run."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from baseline import Baseline, measure
from judge import Verdict, judge
from mutants import Mutant, draw, find_mutants
from recorded import kill_again, record, recorded
from trial import ROOT, Trial

NAMES = {
    "server": "aggregate job_state iteration state journal segment snapshot durable events coordinator refusal",
    "client": "device encoding conversation uploading masking requests",
    "convert": "verify rewrite mindir",
    "data": "bins compact samples leaf leafjson images folder writer",
}
MODULES = [
    *(f"mindfl/{package}/{name}.py" for package, names in NAMES.items() for name in names.split()),
    *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "mindfl/privacy").rglob("*.py")),
]
FOLDERS = [f"tests/{name}" for name in ("server", "privacy", "client", "data", "convert", "fuzz", "real_server")]
BUILD = ROOT / "build" / "mutation"
RESULTS = BUILD / "results.jsonl"


def main() -> int:
    """Run mutants and return 1 where fewer are killed than asked for."""
    options = _options()
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.recorded:
        mutants = [mutant for module in MODULES for mutant in _found(module)]
        return report(kill_again(mutants, recorded(), options.recorded), options.least)
    baseline = _baseline(options.measure)
    verdicts = _verdicts(options, baseline)
    if options.record:
        record(verdicts)
    return report(verdicts, options.least)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/mutation", description="Do the tests notice small faults?")
    parser.add_argument("--share", type=float, default=0.08, help="share of each module's mutants (default 0.08)")
    parser.add_argument("--least", type=float, default=90.0, help="percent that must be killed (default 90)")
    parser.add_argument("--limit_s", type=float, default=20.0, help="seconds of tests for one mutant (default 20)")
    parser.add_argument("--modules", default="", help="only modules whose path holds this text")
    parser.add_argument(
        "--measure",
        nargs="*",
        metavar="PLACE",
        help="measure (these files, or all) again which test executes which lines",
    )
    parser.add_argument("--again", choices=("all", "alive"), help="run those once more that have a result")
    parser.add_argument("--record", action="store_true", help="write the killed mutants into killed.csv")
    parser.add_argument("--recorded", type=int, metavar="N", help="kill N mutants of killed.csv again, nothing else")
    return parser.parse_args()


def _baseline(places: list[str] | None) -> Baseline:
    file = BUILD / "baseline.json"
    if places is not None or not file.exists():
        measure(file, places or FOLDERS, MODULES)
    baseline = Baseline.read(file)
    Trial(loaded=baseline.loaded).preload()
    return baseline


def _verdicts(options: argparse.Namespace, baseline: Baseline) -> list[Verdict]:
    known = _known(RESULTS)
    verdicts = []
    for module in MODULES:
        for mutant in draw(_found(module), options.share) if options.modules in module else ():
            verdict = known.get(mutant.key)
            if verdict is None or options.again == "all" or (options.again == "alive" and not verdict.killed):
                verdict = judge(mutant, baseline, options.limit_s, verdict.by if verdict else "")
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(verdict.row()) + "\n")
                print(verdict.status, f"{module}:{verdict.line}", mutant.kind, verdict.by, flush=True)
            verdicts.append(verdict)
    return verdicts


def _found(module: str) -> list[Mutant]:
    return find_mutants(module, (ROOT / module).read_text("utf-8"))


def _known(file: Path) -> dict[str, Verdict]:
    if not file.exists():
        return {}
    verdicts = (Verdict(**json.loads(line)) for line in file.read_text("utf-8").splitlines())
    return {verdict.key: verdict for verdict in verdicts}


def report(verdicts: Iterable[Verdict], least: float) -> int:
    """Write all verdicts as CSV, print what lives, and return the exit status."""
    verdicts = list(verdicts)
    with (BUILD / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Verdict)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(verdict.row() for verdict in verdicts)
    for verdict in verdicts:
        if not verdict.killed:
            print(f"{verdict.status}: {verdict.module}:{verdict.line} in {verdict.function}")
            print(f"    - {verdict.before}\n    + {verdict.after}")
    killed = sum(verdict.killed for verdict in verdicts)
    percent = 100 * killed / max(1, len(verdicts))
    print(f"{killed} of {len(verdicts)} mutants killed: {percent:.1f} %")
    return 0 if percent >= least else 1
