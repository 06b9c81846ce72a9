"""The tests without any fault: which lines each executes, how long it takes, and which draw their inputs at random."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import is_hypothesis_test
from mutants import Mutant
from spread import replace_text, spread
from trial import ROOT, run_trial

if TYPE_CHECKING:
    import coverage

#: of the tests of one file
EXPECTED_S = 600.0


@dataclass(frozen=True)
class Baseline:
    """The tests that pass: seconds, whether hypothesis draws the inputs, lines by module."""

    seconds: dict[str, float]
    properties: set[str]
    lines: dict[str, dict[str, set[int]]]
    loaded: list[str]

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Return what :func:`measure` wrote."""
        data = json.loads(file.read_text("utf-8"))
        left = {place for place in data["places"] if (ROOT / place).exists()}
        seconds = {test: value for test, value in data["seconds"].items() if test.split("::", 1)[0] in left}
        lines: dict[str, dict[str, set[int]]] = {}
        for module, tests in data["lines"].items():
            lines[module] = {test: set(executed) for test, executed in tests.items() if test in seconds}
        return cls(seconds, set(data["properties"]), lines, data["modules"])

    def tests_of(self, mutant: Mutant, limit_s: float) -> list[str]:
        """Return the tests that execute the mutated statement, as many as take ``limit_s`` together.

        Plain ones come before those that draw their inputs, those in a file of the module's name before others, then
        the quickest. A statement that is executed at import belongs to all tests of its module, or of its package.
        """
        package, stem = Path(mutant.module).parts[1], Path(mutant.module).stem
        executed = self.lines.get(mutant.module, {})
        found = [test for test, lines in executed.items() if not mutant.imported and not lines.isdisjoint(mutant.lines)]
        # What no test executes may still be executed at import, as the members of an Enum are made.
        found = found or list(executed) or [test for test in self.seconds if test.startswith(f"tests/{package}/")]
        found.sort(key=lambda test: (test in self.properties, f"_{stem}." not in test, self.seconds[test], test))
        kept, spent = [], 0.0
        for test in found:
            spent += self.seconds[test]
            if spent > limit_s and kept:
                break
            kept.append(test)
        return kept


def measure(file: Path, places: Sequence[str], modules: Sequence[str], processes: int) -> None:
    """Run the tests of the files ``places`` and write what they execute of ``modules`` into ``file``.

    What ``file`` knows of other places stays. It is written after each place, so that a run can be continued.
    Raises :class:`SystemExit` if tests do not end, or the package coverage is missing.
    """
    if find_spec("coverage") is None:
        raise SystemExit("measuring needs the package coverage: pip install -e '.[dev]'")
    faults = []
    # The largest first, so that no process has one left when the others are done.
    ordered = sorted(places, key=lambda place: -(ROOT / place).stat().st_size)
    for place, found in spread(lambda place: _measured(place, modules), ordered, processes):
        if isinstance(found, str):
            faults.append(f"{place}: {found}")
            continue
        known = json.loads(file.read_text("utf-8")) if file.exists() else {}
        replace_text(file, json.dumps(_merged(known, found, place)))
        print(f"measured {place}: {len(found['seconds'])} tests", flush=True)
    if faults:
        raise SystemExit("\n".join(["these tests did not end without any fault:", *faults]))


def unmeasured(file: Path, places: Sequence[str]) -> list[str]:
    """Return those of ``places`` that ``file`` does not know, or that have changed since."""
    known = json.loads(file.read_text("utf-8")).get("places", {}) if file.exists() else {}
    return [place for place in places if known.get(place) != _fingerprint(place)]


def _fingerprint(place: str) -> str:
    return hashlib.sha256((ROOT / place).read_bytes()).hexdigest()


def _measured(place: str, modules: Sequence[str]) -> dict[str, Any] | str:
    """Return what :func:`_merged` takes for one place, or why its tests did not end."""
    recorder = _Recorder(modules)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        trial = run_trial([place], expected_s=EXPECTED_S, plugins=[recorder, _Writer(recorder, file)], stop=False)
        if trial.endless or trial.blocked or not file.exists():
            return trial.blocked or f"too much processor time, or its process ended, after {trial.last}"
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    found["modules"] = trial.loaded
    found["seconds"] = {test: seconds for test, seconds in found["seconds"].items() if test in trial.passed}
    # The next place of this process need not import them.
    trial.preload()
    return found


def _merged(old: dict[str, Any], new: dict[str, Any], place: str) -> dict[str, Any]:
    """Return ``old`` with everything about the tests in ``place`` as ``new`` has it."""

    def elsewhere(tests: dict[str, Any]) -> dict[str, Any]:
        return {test: value for test, value in tests.items() if not test.startswith(f"{place}::")}

    lines = {module: elsewhere(tests) for module, tests in old.get("lines", {}).items()}
    return {
        "places": old.get("places", {}) | {place: _fingerprint(place)},
        "seconds": elsewhere(old.get("seconds", {})) | new["seconds"],
        "properties": [*elsewhere(dict.fromkeys(old.get("properties", ()))), *new["properties"]],
        "modules": sorted({*old.get("modules", ()), *new["modules"]}),
        "lines": {module: lines.get(module, {}) | tests for module, tests in new["lines"].items()},
    }


class _Recorder:
    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self.seconds: dict[str, float] = {}
        self.properties: list[str] = []
        self.coverage: coverage.Coverage | None = None

    def pytest_configure(self) -> None:
        import coverage

        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[str(ROOT / module) for module in self._modules]
        )
        self.coverage.start()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        assert self.coverage is not None
        self.coverage.switch_context(item.nodeid)
        if is_hypothesis_test(getattr(item, "obj", None)):
            self.properties.append(item.nodeid)
        begin = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - begin
        self.coverage.switch_context("")
        return result

    def lines(self) -> dict[str, dict[str, list[int]]]:
        assert self.coverage is not None
        self.coverage.stop()
        data = self.coverage.get_data()
        found: dict[str, dict[str, list[int]]] = {}
        for module in self._modules:
            tests: defaultdict[str, list[int]] = defaultdict(list)
            for line, contexts in data.contexts_by_lineno(str(ROOT / module)).items():
                for test in contexts:
                    tests[test].append(line)
            tests.pop("", None)
            found[module] = tests
        return found


class _Writer:
    def __init__(self, recorder: _Recorder, file: Path) -> None:
        self._recorder, self._file = recorder, file

    def pytest_sessionfinish(self) -> None:
        recorder = self._recorder
        data = {
            "lines": recorder.lines(),
            "seconds": recorder.seconds,
            "properties": recorder.properties,
        }
        self._file.write_text(json.dumps(data), "utf-8")
