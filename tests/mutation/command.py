"""The command line of the mutation run."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from baseline import Baseline, measure, unmeasured
from judge import Verdict, judge
from mutants import Mutant, draw, find_mutants
from recorded import kill_again, record, recorded
from spread import processors, replace_text, spread
from trial import ROOT, Trial

NAMES = {
    "server": "aggregate job_state iteration state journal segment snapshot durable events coordinator refusal",
    "client": "device local_model conversation uploading secagg_client",
    "convert": "verify rewrite monads operator_settings written_out mindir",
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
    check_modules()
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.recorded:
        mutants = [mutant for module in MODULES for mutant in _found(module)]
        return report(kill_again(mutants, recorded(), options.recorded, options.processes), options.least)
    baseline = _baseline(options.measure, options.processes)
    verdicts = _verdicts(options, baseline)
    if options.record:
        record(verdicts)
    return report(verdicts, options.least)


def check_modules() -> None:
    """Raise :class:`SystemExit` where a module of :data:`MODULES` is gone."""
    if missing := [module for module in MODULES if not (ROOT / module).is_file()]:
        raise SystemExit(f"no such module: {', '.join(missing)}: correct NAMES in tests/mutation/command.py")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/mutation", description="Do the tests notice small faults?")
    parser.add_argument("--share", type=float, default=0.08, help="share of each module's mutants (default 0.08)")
    parser.add_argument("--least", type=float, default=90.0, help="percent that must be killed (default 90)")
    parser.add_argument("--limit_s", type=float, default=20.0, help="seconds of tests for one mutant (default 20)")
    parser.add_argument("--modules", default="", help="only modules whose path holds this text")
    parser.add_argument("--processes", type=int, default=processors(), help="how many at once (default: processors)")
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


def _baseline(places: list[str] | None, processes: int) -> Baseline:
    """Measure ``places``, all where the list is empty, and in any case what has not been measured yet."""
    file = BUILD / "baseline.json"
    if places == []:
        file.unlink(missing_ok=True)
    wanted = set(_test_files(places or ())) | set(unmeasured(file, _test_files(FOLDERS)))
    measure(file, sorted(wanted), MODULES, processes)
    baseline = Baseline.read(file)
    Trial(loaded=baseline.loaded).preload()
    return baseline


def _test_files(places: Iterable[str]) -> list[str]:
    paths = [ROOT / place for place in places]
    files = (file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path]))
    return sorted(str(file.relative_to(ROOT)) for file in files)


def _verdicts(options: argparse.Namespace, baseline: Baseline) -> list[Verdict]:
    known = _known(RESULTS)
    mutants = [
        mutant for module in MODULES if options.modules in module for mutant in draw(_found(module), options.share)
    ]
    tests = recorded() | {key: verdict.by for key, verdict in known.items()}
    for mutant in mutants:
        verdict = known.get(mutant.key)
        if verdict and (options.again == "all" or (options.again == "alive" and not verdict.killed)):
            del known[mutant.key]
    # From here on a run that is stopped can be continued.
    replace_text(RESULTS, "".join(_line(verdict) for verdict in known.values()))

    def tried(mutant: Mutant) -> Verdict:
        return judge(mutant, baseline, options.limit_s, tests.get(mutant.key, ""))

    open_ones = [mutant for mutant in mutants if mutant.key not in known]
    for count, (mutant, verdict) in enumerate(spread(tried, open_ones, options.processes), 1):
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(_line(verdict))
        place = f"{mutant.module}:{verdict.line}"
        print(f"{count}/{len(open_ones)}", verdict.status, place, mutant.kind, verdict.by, flush=True)
        known[mutant.key] = verdict
    return [Verdict.of(mutant, known[mutant.key].status, known[mutant.key].by) for mutant in mutants]


def _found(module: str) -> list[Mutant]:
    return find_mutants(module, (ROOT / module).read_text("utf-8"))


def _line(verdict: Verdict) -> str:
    return json.dumps(verdict.row()) + "\n"


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
