"""One run of some tests in a process of its own, forked from one that has imported what tests need already.

The fault is put into the module as it is imported: no file changes, so a run that is killed leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from hypothesis import settings
from mutants import Mutant, mutate
from spread import die_with_parent

ROOT = Path(__file__).parents[2]
MEMORY = 12 * 2**30
#: longer than the tests wait for an event that does not come
WAIT_S = 90.0
#: how pytest ends unless a conftest cannot be imported, or the like
_ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


@dataclass
class Trial:
    """What became of a run: the test that failed first, the last that began, and why the run ended early, if it did.

    ``loaded``: the modules that the tests imported, but for our own.
    """

    failed: str | None = None
    endless: bool = False
    blocked: str | None = None
    last: str | None = None
    passed: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)

    def preload(self) -> None:
        """Import here what the tests had imported, but for our own modules, so that later runs need not."""
        for name in self.loaded:
            # What cannot be imported here is imported by the tests, as ever.
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def run_trial(
    tests: Sequence[str],
    *,
    mutant: Mutant | None = None,
    seed: int | None = None,
    expected_s: float,
    plugins: Iterable[object] = (),
    stop: bool = True,
) -> Trial:
    """Run ``tests`` in this order, with ``mutant`` in its module, until the first fails.

    ``seed`` is hypothesis's; without one its examples are always the same. A run ends early that takes many times the
    processor time that the tests are ``expected_s`` to take (``endless``), or waits that long (``blocked``, the test).
    """
    reader, writer = os.pipe()
    folder = tempfile.mkdtemp(prefix="mutation-")
    child = os.fork()
    if not child:
        os.close(reader)
        _child(tests, mutant, seed, expected_s, plugins, stop, folder, writer)
    os.close(writer)
    try:
        return _watch(child, reader, WAIT_S + 10 * expected_s)
    finally:
        os.close(reader)
        shutil.rmtree(folder, ignore_errors=True)


def _watch(child: int, reader: int, limit_s: float) -> Trial:
    trial, buffered = Trial(), b""
    deadline = time.monotonic() + limit_s
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(reader, 65536)
            if not data:
                break
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                what, test = json.loads(line)
                if what == "begins":
                    trial.last = test
                elif what == "passes":
                    trial.passed.add(test)
                elif what == "loads":
                    trial.loaded.append(test)
                else:
                    trial.failed = trial.failed or test
        else:
            trial.blocked = trial.last or "the collection of tests"
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        trial.endless = True
    elif not trial.blocked and os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        trial.failed = trial.failed or trial.last
    return trial


def _child(
    tests: Sequence[str],
    mutant: Mutant | None,
    seed: int | None,
    expected_s: float,
    plugins: Iterable[object],
    stop: bool,
    folder: str,
    writer: int,
) -> None:
    try:
        os.setpgrp()
        die_with_parent()
        log = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        seconds = int(10 + 3 * expected_s)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 60))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(mutant))
        settings.register_profile("mutation", derandomize=seed is None, database=None, print_blob=False)
        settings.load_profile("mutation")
        arguments = [
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={folder}/tmp",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]
        if stop:
            arguments.append("-x")
        if seed is not None:
            arguments.append(f"--hypothesis-seed={seed}")
        files = list(dict.fromkeys(test.split("::", 1)[0] for test in tests))
        reporter = _Reporter(tests, writer)
        if pytest.main([*arguments, *files], plugins=[reporter, *plugins]) not in _ENDED:
            reporter.write("fails", f"{files[0]} (imported)")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


class _Finder:
    """Finds the mutated module, and leaves all others to the usual ones."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = module_name(mutant.module)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin, self._mutant)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text("utf-8")
        return compile(mutate(source, self._mutant), self.path, "exec")


def module_name(path: str) -> str:
    """Return the dotted name of a module's path below the repository."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class _Reporter:
    """Runs the wanted tests in the wanted order, and writes what happens into a pipe."""

    def __init__(self, tests: Sequence[str], writer: int) -> None:
        self._ranks = {test: rank for rank, test in enumerate(tests)}
        self._writer = writer

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if any("::" in test for test in self._ranks):
            items[:] = [item for item in items if item.nodeid in self._ranks]
            items.sort(key=lambda item: self._ranks[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write("begins", nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.write("fails", report.nodeid)
        elif report.when == "call" and report.passed:
            self.write("passes", report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write("fails", f"{report.nodeid} (collected)")

    def pytest_sessionfinish(self) -> None:
        for name in _loaded_modules():
            self.write("loads", name)

    def write(self, what: str, test: str) -> None:
        """Tell the process that watches."""
        os.write(self._writer, json.dumps([what, test]).encode() + b"\n")


def _loaded_modules() -> list[str]:
    """Return the modules loaded now that a later process may have from the start: neither ours nor MindSpore's."""
    ours = ("mindfl", "mindspore", "ray", "conftest", "test_", "__", "_pytest", "pytest", "coverage")
    names = []
    for name, module in sorted(sys.modules.items()):
        file: Any = getattr(module, "__file__", None)
        if file and not name.startswith(ours) and not Path(file).is_relative_to(ROOT):
            names.append(name)
    return names
