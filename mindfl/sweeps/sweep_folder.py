"""The folder of a sweep: ``sweep.json``, a work folder for each run, and what runs share."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mindfl.algorithms.naming import make_algorithm
from mindfl.data import fingerprint
from mindfl.errors import MindflError, OptionError
from mindfl.files import PathLike, file_digest, local_path, read_file, write_atomic
from mindfl.locks import is_held
from mindfl.notices import warn
from mindfl.sim import card
from mindfl.sim.config import JobConfig
from mindfl.sim.job_data import open_data, usable_users
from mindfl.sim.pooled_data import pooled
from mindfl.sim.run_record import RunRecord, installed_versions
from mindfl.sim.tables import json_text
from mindfl.spelling import counted
from mindfl.sweeps.experiment import PlannedRun
from mindfl.work_files import RECORD
from mindfl.work_files import SWEEP as NAME

#: version of the file's form
FORMAT = 1
Status = Literal["waiting", "running", "done", "failed"]
#: settings that do not change a result
_FREE = ("workers", "work_dir")
#: setting that names data, which may have been moved
_DATA = "train_dataset"
_KEEP_BOTH = "another --work_dir keeps both; --overwrite runs all runs anew"
#: settings that a run's data follow from
_OF_DATA = (_DATA, "test_dataset", "client_num", "fl_name")


@dataclass(frozen=True, kw_only=True)
class SweptRun:
    """A run as ``sweep.json`` lists it.

    Args:
        name, settings, varies: those of the :class:`PlannedRun`.
        folder: its work folder, relative to that of the sweep.
        status: how far it is.
        error: why it failed.
        dropped: whether the experiment does not have it any more; it is kept, but neither run nor compared.
    """

    name: str
    folder: str
    settings: Mapping[str, Any]
    varies: Mapping[str, Any]
    status: Status = "waiting"
    error: str | None = None
    dropped: bool = False


def planned_run(run: PlannedRun) -> SweptRun:
    """Return ``run`` as it is listed before it begins."""
    return SweptRun(name=run.name, folder=f"runs/{run.name}", settings=dict(run.settings), varies=dict(run.varies))


class SweepFolder:
    """The folder ``root`` of a sweep. The caller has locked it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.common = root / "common"
        self._runs: dict[str, SweptRun] = {}
        self._lock = threading.Lock()
        #: changed files of the user's code -> runs that ended with the earlier ones
        self._changed: dict[str, list[str]] = {}
        #: packages and their versions with which runs ended, where those are others now
        self._versions: set[tuple[str, str]] = set()
        #: hashes of data by the settings that they follow from, as runs have the same
        self._hashes: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> SweptRun:
        return self._runs[name]

    def work_dir(self, name: str) -> Path:
        """Return the work folder of the run ``name``."""
        return self.root / "runs" / name

    def plan(self, runs: Sequence[PlannedRun], *, overwrite: bool) -> list[str]:
        """List ``runs``, with what is known of them, and earlier ones that are dropped now; return the names of those.

        With ``overwrite`` all are to be run anew. Raises :class:`OptionError` where a run that began has other
        settings now, and where the user's data or model that an ended one was made with have changed.
        """
        listed = {run.name: run for run in read_runs(self.root)} if (self.root / NAME).exists() else {}
        for run in runs:
            before = listed.pop(run.name, None)
            fresh = planned_run(run)
            if before is not None and not overwrite and self._began(run.name):
                self._check_same(before, fresh)
                is_done = before.status == "done" and (self.work_dir(run.name) / card.NAME).exists()
                if is_done:  # of an interrupted one its own resume will say so
                    self._check_files(fresh)
                    with suppress(MindflError):  # a damaged record is named by what reads it
                        self._note_changes(fresh)
                fresh = replace(fresh, status="done" if is_done else "waiting")
            self._runs[run.name] = fresh
        dropped = {name: replace(run, dropped=True) for name, run in listed.items() if self._began(name)}
        self._runs |= dropped
        return list(dropped)

    def changes(self) -> Iterator[str]:
        """Yield in words what has changed since runs that are kept ended: files of the user's code, and versions."""
        for path, names in self._changed.items():
            yield (
                f"{path} has changed since {counted(len(names), 'run')} ended, which are kept as they are: "
                f"{', '.join(names)}; --overwrite runs all runs anew"
            )
        if self._versions and any(run.status != "done" and not run.dropped for run in self._runs.values()):
            now = installed_versions()
            there = ", ".join(f"{name} {version}" for name, version in sorted(self._versions))
            here = ", ".join(f"{name} {now.get(name)}" for name in sorted({name for name, _ in self._versions}))
            yield (
                f"some runs ended with {there}, and the others have {here}: the last bits of the weights may differ; "
                "--overwrite runs all runs anew"
            )

    def note(self, name: str, status: Status, error: str | None = None) -> None:
        """Note how far the run ``name`` is, and write ``sweep.json``."""
        with self._lock:
            self._runs[name] = replace(self._runs[name], status=status, error=error)
            self.write()

    def write(self) -> None:
        """Write ``sweep.json``."""
        runs = [asdict(run) for run in self._runs.values()]
        write_atomic(self.root / NAME, json_text({"format": FORMAT, "runs": runs}), durable=False)

    def _note_changes(self, run: SweptRun) -> None:
        record = self._record(run)
        for path in record.changed_files():
            self._changed.setdefault(path, []).append(run.name)
        self._versions.update((name, there) for name, (there, _) in record.changed_versions().items())

    def _began(self, name: str) -> bool:
        return (self.work_dir(name) / RECORD).exists()

    def _check_same(self, before: SweptRun, now: SweptRun) -> None:
        there, here = ({k: v for k, v in run.settings.items() if k not in _FREE} for run in (before, now))
        names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
        if names == [_DATA] and there.get(_DATA) and here.get(_DATA) and self._has_data(now):
            return  # the same data in another place
        if names:
            pairs = ", ".join(f"{name} {there.get(name, 'by default')}" for name in names)
            raise OptionError(
                f"the run {now.name} in {self.root} was made with {pairs}, and the experiment has now "
                + ", ".join(f"{name} {here.get(name, 'by default')}" for name in names),
                hint=_KEEP_BOTH,
            )

    def _check_files(self, run: SweptRun) -> None:
        """Raise :class:`OptionError` if the data or the model of the user's that the run was made with have changed."""
        changed = None
        if run.settings.get(_DATA) is not None and self._has_data(run) is False:
            changed = run.settings[_DATA]
        model = run.settings.get("origin_train_model_path")
        if model is not None and Path(model).exists():
            changed = changed if file_digest(Path(model)) == self._record(run).model["sha256"] else model
        if changed is not None:
            raise OptionError(
                f"{changed} has changed since the run {run.name} in {self.root} was made with it", hint=_KEEP_BOTH
            )

    def _has_data(self, run: SweptRun) -> bool | None:
        """Return whether the run was made with the data that it has now; None if they cannot be read."""
        config = JobConfig(**run.settings)
        pools = make_algorithm(config.algorithm).pools_data
        key = json_text([pools, *(run.settings.get(name) for name in _OF_DATA)])
        if key not in self._hashes:
            self._hashes[key] = _data_hash(config, pools=pools)
        now = self._hashes[key]
        return None if now is None else now == self._record(run).data["sha256"]

    def _record(self, run: SweptRun) -> RunRecord:
        return RunRecord.load(self.work_dir(run.name) / RECORD)


def _data_hash(config: JobConfig, *, pools: bool) -> str | None:
    """Return the hash of the data of a run, which ``pools`` them or not; None if they cannot be read."""

    def quiet(text: str) -> None:
        """Warn of nothing: the run itself did."""

    try:
        dataset = open_data(config, quiet)
        if pools:
            dataset = pooled(config, dataset, quiet)
        users = [user.name for user in usable_users(dataset, config.client_num, quiet)]
        return fingerprint(dataset, users).sha256
    except MindflError:
        return None


def run_folders(folder: PathLike) -> list[Path]:
    """Return the work folders of the runs of a sweep that ended; those of others are named in a warning.

    A folder that is no sweep's is returned as it is. Raises :class:`OptionError`, :class:`StorageError`.
    """
    root = local_path(folder)
    if not (root / NAME).exists():
        return [root]
    ended, left_out = ended_runs(root)
    if left_out:
        warn(f"{root}: {counted(len(left_out), 'run')} of the sweep left out: {', '.join(left_out)}")
    return [root / run.folder for run in ended]


def ended_runs(root: Path) -> tuple[list[SweptRun], list[str]]:
    """Return the runs of a sweep that ended, and in words those that did not, or that the experiment has dropped."""
    ended, left_out = [], []
    for run in read_runs(root):
        if run.dropped:
            left_out.append(f"{run.name} (not in the experiment any more: name {root / run.folder} to have it)")
        elif run.status == "done" and not (root / run.folder / RECORD).exists():
            left_out.append(f"{run.name} (its folder is gone: mindfl sweep runs it again)")
        elif run.status == "done":
            ended.append(run)
        elif run.status == "running" and not is_held(root / ".lock"):
            left_out.append(f"{run.name} (interrupted: mindfl sweep goes on with it)")
        else:
            left_out.append(f"{run.name} ({f'{run.status}: {run.error}' if run.error else run.status})")
    return ended, left_out


def read_runs(root: Path) -> list[SweptRun]:
    """Return the runs that ``sweep.json`` in ``root`` lists. Raises :class:`OptionError`, :class:`StorageError`."""
    path = root / NAME
    try:
        found = json.loads(read_file(path))
        if found["format"] == FORMAT:
            return [SweptRun(**run) for run in found["runs"]]
    except (ValueError, TypeError, KeyError):
        raise OptionError(f"{path} is not the list of a sweep", hint="restore it, or name another folder") from None
    raise OptionError(f"{path} has format {found['format']!r}, this mindfl reads {FORMAT}")
