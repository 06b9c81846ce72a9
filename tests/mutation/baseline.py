"""The tests without any fault: which lines each executes, how long it takes, and which draw their inputs at random."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import is_hypothesis_test
from mutants import Mutant
from trial import ROOT, run_trial

if TYPE_CHECKING:
    import coverage

EXPECTED_S = 2000.0


@dataclass(frozen=True)
class Baseline:
    """What is known of the tests that pass: seconds, whether hypothesis draws the inputs, lines by module."""

    seconds: dict[str, float]
    properties: set[str]
    lines: dict[str, dict[str, set[int]]]
    loaded: list[str]

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Return what :func:`measure` wrote."""
        data = json.loads(file.read_text("utf-8"))
        lines: dict[str, dict[str, set[int]]] = {}
        for module, tests in data["lines"].items():
            lines[module] = {test: set(executed) for test, executed in tests.items() if test in data["seconds"]}
        return cls(data["seconds"], set(data["properties"]), lines, data["modules"])

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


def measure(file: Path, places: Sequence[str], modules: Sequence[str]) -> None:
    """Run the tests in ``places`` and write what they execute of ``modules`` into ``file``, beside what is known."""
    recorder = _Recorder(modules)
    unfinished = file.with_suffix(".new")
    trial = run_trial(places, expected_s=EXPECTED_S, plugins=[recorder, _Writer(recorder, unfinished)], stop=False)
    if trial.endless or trial.blocked or not unfinished.exists():
        raise SystemExit(f"the tests did not end without any fault: {trial.blocked or 'too much processor time'}")
    new = json.loads(unfinished.read_text("utf-8"))
    unfinished.unlink()
    new["modules"] = trial.loaded
    new["seconds"] = {test: seconds for test, seconds in new["seconds"].items() if test in trial.passed}
    if file.exists():
        new = _merged(json.loads(file.read_text("utf-8")), new, tuple(places))
    file.write_text(json.dumps(new), "utf-8")


def _merged(old: dict[str, Any], new: dict[str, Any], places: tuple[str, ...]) -> dict[str, Any]:
    """Return ``old`` with everything about the tests in ``places`` as ``new`` has it."""

    def elsewhere(tests: dict[str, Any]) -> dict[str, Any]:
        return {test: value for test, value in tests.items() if not test.startswith(places)}

    lines = {module: elsewhere(old["lines"].get(module, {})) | tests for module, tests in new["lines"].items()}
    return {
        "seconds": elsewhere(old["seconds"]) | new["seconds"],
        "properties": [*elsewhere(dict.fromkeys(old["properties"])), *new["properties"]],
        "modules": sorted({*old["modules"], *new["modules"]}),
        "lines": lines,
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
