"""The folder of a sweep: ``sweep.json``, a work folder for each run, and what runs share."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mindfl.errors import OptionError
from mindfl.files import read_file, write_atomic
from mindfl.sim import card
from mindfl.sim.run_record import NAME as RECORD
from mindfl.sim.tables import json_text
from mindfl.sweeps.experiment import PlannedRun

NAME = "sweep.json"
#: version of the file's form
FORMAT = 1
Status = Literal["waiting", "running", "done", "failed"]
#: settings that do not change a result
_FREE = ("workers", "work_dir")


@dataclass(frozen=True, kw_only=True)
class SweptRun:
    """A run as ``sweep.json`` lists it; ``error`` says why it failed."""

    name: str
    folder: str
    settings: Mapping[str, Any]
    varies: Mapping[str, Any]
    status: Status = "waiting"
    error: str | None = None


class SweepFolder:
    """The folder ``root`` of a sweep. The caller has locked it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.common = root / "common"
        self._runs: dict[str, SweptRun] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> SweptRun:
        return self._runs[name]

    def work_dir(self, name: str) -> Path:
        """Return the work folder of the run ``name``."""
        return self.root / "runs" / name

    def plan(self, runs: Sequence[PlannedRun], *, overwrite: bool) -> list[str]:
        """List ``runs``, with what is known of them; return the names of further ones that have a folder here.

        With ``overwrite`` all are to be run anew. Raises :class:`OptionError` where a run that began has other
        settings now.
        """
        listed = {run.name: run for run in read_runs(self.root)} if (self.root / NAME).exists() else {}
        for run in runs:
            before = listed.get(run.name)
            fresh = SweptRun(
                name=run.name, folder=f"runs/{run.name}", settings=dict(run.settings), varies=dict(run.varies)
            )
            if before is not None and not overwrite and self._began(run.name):
                self._check_same(before, fresh)
                is_done = before.status == "done" and (self.work_dir(run.name) / card.NAME).exists()
                fresh = replace(fresh, status="done" if is_done else "waiting")
            self._runs[run.name] = fresh
        folders = self.root.glob("runs/*/")
        return sorted(folder.name for folder in folders if folder.name not in self._runs)

    def note(self, name: str, status: Status, error: str | None = None) -> None:
        """Note how far the run ``name`` is, and write ``sweep.json``."""
        with self._lock:
            self._runs[name] = replace(self._runs[name], status=status, error=error)
            self.write()

    def write(self) -> None:
        """Write ``sweep.json``."""
        runs = [asdict(run) for run in self._runs.values()]
        write_atomic(self.root / NAME, json_text({"format": FORMAT, "runs": runs}), durable=False)

    def _began(self, name: str) -> bool:
        return (self.work_dir(name) / RECORD).exists()

    def _check_same(self, before: SweptRun, now: SweptRun) -> None:
        there, here = ({k: v for k, v in run.settings.items() if k not in _FREE} for run in (before, now))
        names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
        if names:
            pairs = ", ".join(f"{name} {there.get(name, 'by default')}" for name in names)
            raise OptionError(
                f"the run {now.name} in {self.root} was made with {pairs}, and the experiment has now "
                + ", ".join(f"{name} {here.get(name, 'by default')}" for name in names),
                hint="another --work_dir keeps both; --overwrite runs all runs anew",
            )


def read_runs(root: Path) -> list[SweptRun]:
    """Return the runs that ``sweep.json`` in ``root`` lists. Raises :class:`OptionError`, :class:`StorageError`."""
    path = root / NAME
    try:
        found = json.loads(read_file(path))
        if found["format"] == FORMAT:
            return [SweptRun(**run) for run in found["runs"]]
    except (ValueError, TypeError, KeyError):
        raise OptionError(f"{path} is not the list of a sweep", hint="choose another --work_dir") from None
    raise OptionError(f"{path} has format {found['format']!r}, this mindfl reads {FORMAT}")
