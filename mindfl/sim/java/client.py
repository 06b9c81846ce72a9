"""One Java client: its folder, its log, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.sim.java.files import JavaClientFiles
from mindfl.sim.java.judgement import State, Verdict
from mindfl.sim.java.log import JavaLog
from mindfl.sim.processes import StartedProcess

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class JavaOutcome:
    """How client ``index``, ``name``, ended.

    ``state`` is ``succeeded``, ``left_out`` (the server never took it into its last iteration, and it said so) or
    ``failed``; ``cause`` says why it did not succeed. ``iteration`` is the last one it was in, 0: none; ``iterations``
    are those it completed. ``labels`` are what inference predicted, None where the log does not tell. ``log`` is its
    log file.
    """

    index: int
    name: str
    state: State
    exit_code: int
    cause: str
    iteration: int
    iterations: tuple[int, ...]
    labels: tuple[int, ...] | None
    log: Path

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was started for."""
        return self.state == "succeeded"


class Client:
    """One client and what is known of it."""

    def __init__(self, index: int, files: JavaClientFiles, folder: Path, command: list[str]) -> None:
        self.index = index
        self.files = files
        self.folder = folder
        self.command = command
        self.log_file = folder / "client.log"
        self.log = JavaLog()
        self.process: StartedProcess | None = None
        self.outcome: JavaOutcome | None = None
        self.told: set[int] = set()  # the iterations whose upload was reported
        self._position = 0

    def afresh(self) -> Client:
        """Return the client as it was before it ran."""
        return Client(self.index, self.files, self.folder, self.command)

    def follow(self) -> None:
        """Read what the log gained."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(self._position)
                while piece := file.read(_PIECE):
                    self._position += len(piece)
                    self.log.feed(piece)
        except OSError as error:
            raise StorageError.from_os_error(error, "read", self.log_file) from None

    def end(self, exit_code: int, verdict: Verdict) -> JavaOutcome:
        """Note how the process ended."""
        self.outcome = JavaOutcome(
            index=self.index,
            name=self.files.name,
            state=verdict.state,
            exit_code=exit_code,
            cause=verdict.cause,
            iteration=self.log.current.number or self.log.last_total,
            iterations=tuple(sorted(self.log.completed)),
            labels=self.log.labels,
            log=self.log_file,
        )
        return self.outcome
