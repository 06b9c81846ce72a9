"""Runs Java clients as processes, each in a folder of its own, until all have ended or one could not be started."""

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
from mindfl.real.java_command import check_jars, launch_command
from mindfl.real.java_device import JavaDevice, JavaOutcome
from mindfl.real.java_files import JavaClientFiles
from mindfl.real.java_history import history_rows, mean_loss
from mindfl.real.java_log import JavaLog
from mindfl.real.java_settings import GET_MODEL, INFERENCE, TRAIN, JavaSettings
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim.callbacks import Progress
from mindfl.sim.config import default_workers
from mindfl.sim.embedded_run import Observer
from mindfl.sim.history import IterationRow
from mindfl.sim.run_folder import locked
from mindfl.spelling import counted
from mindfl.system import interrupt_held_back

_POLL_SECONDS = 0.1
_LOGGING = """\
# Shows the labels that inference predicts: the client logs them at a level that Java does not show by default.
handlers = java.util.logging.ConsoleHandler
java.util.logging.ConsoleHandler.level = FINE
.level = FINE
"""
#: what the log says -> remedy; the first is for the tutorial's launch form
_NO_CLASS = re.compile("ClassNotFoundException|NoClassDefFoundError|initialization of boot layer")
_NO_CLASS_HINT = "check --case_jarPath and --flName, or give --lite_jar_path: Java then needs no module path"
_LABELS = "BufferOverflowException"
_LABELS_HINT = (
    "the client's data do not fit the model's inputs: the demo LeNet of 0.1.0 writes one-hot float labels, the"
    " tutorial's model takes int32 labels; use a model script of the other kind, or a model of the other kind: --loss"
    " onehot exports one for one-hot labels"
)


class JavaClients:
    """Java clients of one job: client i runs in ``<work_dir>/client_{i}`` and writes ``client.log`` there.

    For inference Java is told, in ``<work_dir>/logging.properties``, to show the level FINE, at which the client of
    0.1.0 logs the labels that it predicts.

    Args:
        work_dir: folder of the job.
        settings: how clients are started.
        clients: files of each client; see :func:`mindfl.real.java_files.client_files`.
        registry: records the processes, so that `mindfl finish` finds them after this process was killed; None: that
            of ``work_dir``.
        report: called with lines of progress; warnings begin with "warning: ". By default warnings are Python's and
            the rest is logged.
        observer: called for each upload, as by simulated clients.

    Raises:
        OptionError: an option or a jar cannot be used; the message names it. Nothing was started.
    """

    def __init__(
        self,
        work_dir: PathLike,
        settings: JavaSettings,
        clients: Sequence[JavaClientFiles],
        *,
        registry: ProcessRegistry | None = None,
        report: Callable[[str], None] = announce,
        observer: Observer = lambda progress: None,
    ) -> None:
        names = [client.name for client in clients]
        if not names:
            raise OptionError("--client_num must be at least 1 for Java clients")
        if len(set(names)) < len(names):
            raise OptionError(f"two Java clients have the name {max(names, key=names.count)}")
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
            JavaDevice(index, files, root / f"client_{index}", launch_command(settings, files))
            for index, files in _with_data(clients, settings.task)
        ]
        self._registry = registry or ProcessRegistry(work_dir)
        self._report = report
        self._observer = observer

    @property
    def commands(self) -> list[list[str]]:
        """The command line of each client."""
        return [list(client.command) for client in self._clients]

    @property
    def outcomes(self) -> list[JavaOutcome]:
        """How each client that has ended did so, by index."""
        return [client.outcome for client in self._clients if client.outcome]

    @property
    def logs(self) -> Mapping[str, JavaLog]:
        """The log of each client as far as it was read, by name."""
        return {client.files.name: client.log for client in self._clients}

    def rows(self, final: Mapping[str, float] | None = None) -> list[IterationRow]:
        """Return the history so far; see :func:`mindfl.real.java_history.history_rows`."""
        return history_rows(self.logs, final)

    def run(self) -> list[JavaOutcome]:
        """Run all clients to their ends, and return how each ended.

        One that cannot be started ends the others, as they have the same jars. Any other failure is raised when all
        have ended. ``outcomes``, ``logs`` and ``rows()`` are available afterwards in each case.

        Raises:
            ClientError: a client failed in an iteration; of several the first. It has the last lines of the log.
            SimulationError: a client failed outside iterations.
            KeyboardInterrupt: Ctrl-C; all clients were ended.
        """
        self._clients = [client.renewed() for client in self._clients]
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
        running: list[JavaDevice] = []
        while waiting or running:
            while waiting and len(running) < limit:
                self._start(waiting[0])
                running.append(waiting.popleft())
            running = [client for client in running if not self._has_ended(client)]
            if running:
                time.sleep(_POLL_SECONDS)

    def _limit(self) -> int:
        settings, count = self._settings, len(self._clients)
        if settings.parallel is None:
            return count if settings.task == TRAIN else min(count, default_workers())
        if settings.task == TRAIN and settings.parallel < count:
            self._report(
                f"warning: {settings.parallel} of {counted(count, 'Java client')} run at a time: an iteration can only "
                "end if the server needs no more than that"
            )
        return settings.parallel

    def _start(self, client: JavaDevice) -> None:
        if self._settings.task == TRAIN:
            client.files.remove_backup()
        role = f"Java client {client.index}"
        client.process = self._registry.start(
            client.command, role=role, log=client.log_file, cwd=client.folder, env=_environment()
        )

    def _has_ended(self, client: JavaDevice) -> bool:
        """Read the log of a running client, and return whether the client has ended."""
        assert client.process is not None
        status = client.process.poll()
        client.log.feed(client.process.new_output())  # after the poll, so that an ended process's output is complete
        self._report_uploads(client)
        if status is None:
            return False
        outcome = client.end(status, self._settings.task)
        state = outcome.state.replace("_", " ") + (f": {outcome.cause}" if outcome.cause else "")
        self._report(f"Java client {client.index} {state} ({len(self.outcomes)} of {len(self._clients)} ended)")
        if not client.log.speaks:
            raise self._failure(outcome, "cannot be started")
        return True

    def _report_uploads(self, client: JavaDevice) -> None:
        for number in sorted(client.log.uploads.keys() - client.reported):
            client.reported.add(number)
            uploads = [other.log.uploads[number] for other in self._clients if number in other.reported]
            done, clients, loss = len(uploads), len(self._clients), mean_loss(uploads)
            iterations = max(number, client.log.iterations)
            self._observer(Progress(number, done, clients, loss, iterations))
            if done in (1, clients):
                of_clients = f"{done} of {counted(clients, 'Java client')}"
                self._report(f"iteration {number}/{iterations}: {of_clients} uploaded, loss {loss:.3f}")

    def _end_all(self) -> None:
        """End all clients that run, with their children. A second Ctrl-C waits until that is done."""
        running = [client.process for client in self._clients if client.process and client.process.poll() is None]
        if not running:
            return
        roles = {process.role for process in running}
        with interrupt_held_back():
            records = [each for each in self._registry.running() if each.role.split("child of ")[-1] in roles]
            self._registry.end(records)
            for process in running:
                process.wait(0)

    def _raise_failure(self) -> None:
        failed = [outcome for outcome in self.outcomes if outcome.state == "failed"]
        if not failed and not any(outcome.succeeded for outcome in self.outcomes):
            failed = self.outcomes
        if failed:
            others = len(failed) - 1
            raise self._failure(failed[0], "failed", f"; {others} more of {len(self._clients)} failed" * (others > 0))

    def _failure(self, outcome: JavaOutcome, problem: str, others: str = "") -> MindflError:
        device = next(client for client in self._clients if client.index == outcome.index)
        lines = " | ".join(device.log.last_lines)
        ending = f"its log ends: {lines}" if lines else "its log is empty"
        cause, hint = f"{outcome.cause}; {ending}{others}", f"the whole log is {outcome.log}"
        if self._settings.lite_jar_path is None and _NO_CLASS.search(outcome.cause + lines):
            hint = f"{_NO_CLASS_HINT}; {hint}"
        elif _LABELS in outcome.cause + lines:
            hint = f"{_LABELS_HINT}; {hint}"
        if outcome.iteration:
            return ClientError(outcome.name, outcome.iteration, cause, hint=hint)
        return SimulationError(f"Java client {outcome.index} ({outcome.name}) {problem}: {cause}", hint=hint)


def _with_data(clients: Sequence[JavaClientFiles], task: str) -> list[tuple[int, JavaClientFiles]]:
    """Return the clients by index; for inference those with data, unless no client has any."""
    numbered = list(enumerate(clients))
    if task in (TRAIN, GET_MODEL):
        return numbered
    return [(index, files) for index, files in numbered if files.infer_data] or numbered


def _environment() -> dict[str, str] | None:
    """Return the environment of Java. Where the locale is not UTF-8, Java would mangle paths that are not ASCII."""
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    if locale.lower().replace("-", "").endswith("utf8"):
        return None
    return {**os.environ, "LC_ALL": "C.UTF-8"}
