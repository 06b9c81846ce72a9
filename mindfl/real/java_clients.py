"""Runs Java clients: some at a time, each in a folder of its own, until all have ended or the caller has had enough."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mindfl.errors import ClientError, MindflError, OptionError, SimulationError
from mindfl.files import PathLike, local_path, write_atomic
from mindfl.notices import announce
from mindfl.real.java_device import Client, JavaOutcome, launch_command
from mindfl.real.java_files import JavaClientFiles
from mindfl.real.java_judgement import judge
from mindfl.real.java_log import JavaLog
from mindfl.real.java_rows import history_rows, mean_loss
from mindfl.real.java_settings import GET_MODEL, INFERENCE, TRAIN, JavaSettings, check_jars
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim.callbacks import Progress
from mindfl.sim.config import default_workers
from mindfl.sim.embedded_run import Observer
from mindfl.sim.held_folders import locked
from mindfl.sim.history import IterationRow
from mindfl.spelling import counted
from mindfl.system import interrupt_held_back

_LOOK_SECONDS = 0.1
_LOGGING = """\
# Shows the labels that inference predicts: the client logs them at a level that Java does not show by itself.
handlers = java.util.logging.ConsoleHandler
java.util.logging.ConsoleHandler.level = FINE
.level = FINE
"""
#: what the tutorial's launch form can fail with
_NO_CLASS = re.compile("ClassNotFoundException|NoClassDefFoundError|initialization of boot layer")
_NO_CLASS_HINT = "check --case_jarPath and --flName, or give --lite_jar_path: Java then needs no module path"
_LABELS_HINT = (
    "the client's data do not fit the model's inputs: the demo LeNet of 0.1.0 writes one-hot float labels, while the"
    " tutorial's model takes int32 labels; use a model script of the other kind, or a model of the other kind: --loss"
    " onehot exports one for one-hot labels"
)


class JavaClients:
    """Java clients of one job: client i runs in ``<work_dir>/client_{i}`` and writes ``client.log`` there.

    Everything is checked before anything is started: raises :class:`OptionError` naming the option or the jar. For
    inference Java is told, in ``<work_dir>/logging.properties``, to show the level FINE, at which the client of 0.1.0
    logs the labels that it predicts.

    Args:
        clients: their files; see :func:`mindfl.real.java_files.client_files`.
        registry: records the processes, so that they can be ended whatever happens to this one.
        report: is told, in a line of text, what goes on; warnings begin with "warning: ". By default these are
            warnings of Python, and the rest is logged.
        observer: is told of each upload, as by mindfl's own clients.
    """

    def __init__(
        self,
        work_dir: PathLike,
        settings: JavaSettings,
        clients: Sequence[JavaClientFiles],
        *,
        registry: ProcessRegistry,
        report: Callable[[str], None] = announce,
        observer: Observer = lambda progress: None,
    ) -> None:
        if not clients:
            raise OptionError("--client_num must be at least 1 for Java clients")
        _check_names([client.name for client in clients])
        if shutil.which(settings.java) is None:
            raise OptionError(
                f"--java: there is no program {settings.java}", hint="install a Java runtime (9 or later)"
            )
        check_jars(settings)
        root = local_path(work_dir).absolute()
        self._logging = root / "logging.properties"
        if settings.task == INFERENCE:
            options = (f"-Djava.util.logging.config.file={self._logging}", *settings.jvm_options)
            settings = replace(settings, jvm_options=options)
        self._settings = settings
        self._clients = [
            Client(index, files, root / f"client_{index}", launch_command(settings, files))
            for index, files in _with_data(clients, settings.task)
        ]
        self._registry = registry
        self._report = report
        self._observer = observer

    @property
    def commands(self) -> list[list[str]]:
        """The command line of each client."""
        return [list(client.command) for client in self._clients]

    @property
    def outcomes(self) -> list[JavaOutcome]:
        """How the clients that have ended did so, by index."""
        return [client.outcome for client in self._clients if client.outcome]

    @property
    def logs(self) -> Mapping[str, JavaLog]:
        """What was read of each client's log, by name."""
        return {client.files.name: client.log for client in self._clients}

    def rows(self, final: Mapping[str, float] | None = None) -> list[IterationRow]:
        """Return the history so far; see :func:`mindfl.real.java_rows.history_rows`."""
        return history_rows(self.logs, final)

    def run(self) -> list[JavaOutcome]:
        """Run all clients to their ends; return how each ended.

        One that cannot even start ends the others, as they have the same jars. Otherwise a client's failure is for the
        end, when the others are through. Raises :class:`ClientError` or :class:`SimulationError` for the first client
        that failed, with the last lines of its log; ``KeyboardInterrupt`` after Ctrl-C. ``outcomes``, ``logs`` and
        ``rows()`` can be asked afterwards in each case, and no client runs any more.
        """
        self._clients = [client.afresh() for client in self._clients]
        if self._settings.task == INFERENCE:
            write_atomic(self._logging, _LOGGING)
        with locked(self._clients[0].folder):
            try:
                self._run_all(self._limit())
            finally:
                self._end_all()
        self._raise_failure()
        return self.outcomes

    def _run_all(self, limit: int) -> None:
        waiting = deque(self._clients)
        running: list[Client] = []
        while waiting or running:
            while waiting and len(running) < limit:
                self._start(waiting[0])
                running.append(waiting.popleft())
            running = [client for client in running if not self._ended(client)]
            if running:
                time.sleep(_LOOK_SECONDS)

    def _limit(self) -> int:
        settings, count = self._settings, len(self._clients)
        if settings.parallel is None:
            return count if settings.task == TRAIN else min(count, default_workers())
        if settings.task == TRAIN and settings.parallel < count:
            self._report(
                f"warning: {settings.parallel} of {counted(count, 'Java client')} run at a time: an iteration "
                f"can only end if the"
                " server wants no more than that"
            )
        return settings.parallel

    def _start(self, client: Client) -> None:
        if self._settings.task == TRAIN:
            client.files.remove_backup()
        role = f"Java client {client.index}"
        client.process = self._registry.start(
            client.command, role=role, log=client.log_file, cwd=client.folder, env=_environment()
        )

    def _ended(self, client: Client) -> bool:
        """Look at a running client; say whether it has ended."""
        assert client.process is not None
        status = client.process.poll()
        client.follow()  # after looking at the process, so that nothing it wrote is missed
        self._tell_progress(client)
        if status is None:
            return False
        client.log.close()
        verdict = judge(client.log, status, self._settings.task)
        outcome = client.end(status, verdict)
        self._report(
            f"Java client {client.index} {verdict.summary} ({len(self.outcomes)} of {len(self._clients)} ended)"
        )
        if not client.log.speaks:
            raise self._failure(outcome, "cannot be started")
        return True

    def _tell_progress(self, client: Client) -> None:
        for number in sorted(client.log.uploads.keys() - client.told):
            client.told.add(number)
            uploads = [other.log.uploads[number] for other in self._clients if number in other.told]
            progress = Progress(
                number, len(uploads), len(self._clients), mean_loss(uploads), max(number, client.log.iterations)
            )
            self._observer(progress)
            if len(uploads) in (1, len(self._clients)):
                self._report(
                    f"iteration {number}/{progress.iterations}: {len(uploads)} of "
                    f"{counted(progress.clients, 'Java client')}"
                    f" uploaded, loss {progress.loss:.3f}"
                )

    def _end_all(self) -> None:
        """End whatever still runs, with its children. A second Ctrl-C waits until that is done."""
        alive = [client.process for client in self._clients if client.process and client.process.poll() is None]
        if not alive:
            return
        roles = {process.role for process in alive}
        with interrupt_held_back():
            records = [each for each in self._registry.running() if each.role.split("child of ")[-1] in roles]
            self._registry.end(records)
            for process in alive:
                process.wait(0)

    def _raise_failure(self) -> None:
        failed = [outcome for outcome in self.outcomes if outcome.state == "failed"]
        if not failed and not any(outcome.succeeded for outcome in self.outcomes):
            failed = self.outcomes
        if failed:
            others = len(failed) - 1
            raise self._failure(failed[0], "failed", f"; {others} more of {len(self._clients)} failed" * (others > 0))

    def _failure(self, outcome: JavaOutcome, what: str, others: str = "") -> MindflError:
        lines = " | ".join(self._clients[outcome.index].log.last_lines)
        ending = f"its log ends: {lines}" if lines else "its log is empty"
        cause, hint = f"{outcome.cause}; {ending}{others}", f"the whole log is {outcome.log}"
        if self._settings.lite_jar_path is None and _NO_CLASS.search(outcome.cause + lines):
            hint = f"{_NO_CLASS_HINT}; {hint}"
        elif "BufferOverflowException" in outcome.cause + lines:
            hint = f"{_LABELS_HINT}; {hint}"
        if outcome.iteration:
            return ClientError(outcome.name, outcome.iteration, cause, hint=hint)
        return SimulationError(f"Java client {outcome.index} ({outcome.name}) {what}: {cause}", hint=hint)


def _with_data(clients: Sequence[JavaClientFiles], task: str) -> list[tuple[int, JavaClientFiles]]:
    """Return the clients, by index, without those that have nothing to infer, if that is the task and others have."""
    numbered = list(enumerate(clients))
    if task in (TRAIN, GET_MODEL):
        return numbered
    return [(index, files) for index, files in numbered if files.infer_data] or numbered


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OptionError(f"two Java clients have the name {twice}")


def _environment() -> dict[str, str] | None:
    """Return what to start Java with. Where the locale is not UTF-8, Java would mangle paths that are not ASCII."""
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    if locale.lower().replace("-", "").endswith("utf8"):
        return None
    return {**os.environ, "LC_ALL": "C.UTF-8"}
