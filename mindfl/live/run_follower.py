"""Follows a run folder: what it holds now, and what has come since a reader last looked."""

from __future__ import annotations

import os
import secrets
from collections import deque
from pathlib import Path
from typing import Any

from mindfl.live.line_tail import LineTail
from mindfl.live.run_header import file_stamp, read_clients, read_header
from mindfl.live.run_rows import ClientNumbers, for_the_page, from_json, is_number, parsed
from mindfl.spelling import counted
from mindfl.work_files import CLIENTS, HISTORY, TIMELINE

#: uploads are shown of so many rounds, the latest ones
ROUNDS_KEPT = 50
_ENTRIES_KEPT = 20_000
#: of a client's log the end is shown
LOG_BYTES = 64 * 1024


class RunFollower:
    """Reads the run in ``folder`` as it grows; :meth:`poll` looks at the files, the rest says what was found.

    Rows stay on the disk: only their places and the clients' names are kept in memory. ``generation`` changes where
    rows that were told of are no longer those of the folder. Of one thread at a time.
    ``of_sweep``: the page leads back to that of a sweep.
    """

    def __init__(self, folder: Path, *, of_sweep: bool = False) -> None:
        self._folder = folder
        self._of_sweep = of_sweep
        self._history = LineTail(folder / HISTORY)
        self._timeline = LineTail(folder / TIMELINE)
        self._token = secrets.token_hex(4)
        self._resets = 0
        self._clients_file: tuple[int, ...] | None = None
        self.header: dict[str, Any] = {}
        self._headers = 0
        #: the process that trains is known to have ended, though it may not be gone yet
        self.is_over = False
        self._begin()

    @property
    def generation(self) -> str:
        """Identifies the run, so that a reader of an earlier one begins anew."""
        return f"{self._token}-{self._resets}"

    @property
    def version(self) -> tuple[object, ...]:
        """Another value whenever there is something new."""
        return self.generation, self.rows, self.progress, self._headers

    @property
    def rows(self) -> int:
        """The number of rounds."""
        return len(self._places)

    @property
    def progress(self) -> int:
        """The number of entries of the timeline so far."""
        return self._forgotten + len(self._entries)

    def poll(self) -> None:
        """Look at the folder."""
        read, problems = self.header, []
        try:
            read = read_header(self._folder)
            problems = [*read["problems"]]
            self._look()
        except OSError as error:
            problems.append(self._named(error))
        if self._row_problem and self._row_problem not in problems:
            problems.append(self._row_problem)
        if self._unreadable:
            problems.append(f"history.jsonl: {_lines(self._unreadable)} no history entry, left out")
        if self._strange:
            problems.append(f"{TIMELINE}: {_lines(self._strange)} no entry of a timeline, left out")
        if self.is_over and read.get("state") == "training":
            read = {**read, "state": "stopped"}
        header = {**read, "of_sweep": self._of_sweep, "logs": self._numbers.listed, "problems": problems}
        if header != self.header:
            self.header = header
            self._headers += 1

    def row(self, index: int) -> dict[str, Any] | None:
        """Return a round for the page, with the names that it is the first to use.

        None if it was replaced, or cannot be read now: the next header says so.
        """
        offset, named, known = self._places[index]
        try:
            line = self._history.at(offset)
        except OSError as error:
            self._row_problem = self._named(error)
            return None
        self._row_problem = ""
        row = parsed(line)
        if row is None:
            return None
        try:
            shown = for_the_page(row, self._numbers)
        except KeyError:  # another run's, which is noticed at the next look
            return None
        return {**shown, "index": index, "first_name": named, "names": self._numbers.names[named:known]}

    def entries(self, since: int) -> list[dict[str, Any]]:
        """Return the entries of the timeline from number ``since`` on, so far as they are kept."""
        return list(self._entries)[max(since - self._forgotten, 0) :]

    def log(self, number: int) -> tuple[str, int] | None:
        """Return the end of the log of client ``number`` and its whole size in bytes; None if it has none."""
        path = self._folder / f"client_{number}" / "client.log"
        try:
            inside = path.resolve().is_relative_to(self._folder.resolve())
            if not inside or not path.is_file():  # a pipe would never end
                return None
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - LOG_BYTES, 0))
                end = file.read(LOG_BYTES)
        except (OSError, RuntimeError):  # the second: a link that leads to itself
            return None
        if size > LOG_BYTES:
            end = end[end.find(b"\n") + 1 :]
        return end.decode(errors="replace"), size

    def _named(self, error: OSError) -> str:
        return f"{error.filename or self._folder}: {error.strerror or error}"

    def _begin(self) -> None:
        self._numbers = ClientNumbers(read_clients(self._folder))
        #: offset of each row, and the numbers of names before and after it
        self._places: list[tuple[int, int, int]] = []
        self._entries: deque[dict[str, Any]] = deque()
        self._forgotten = 0
        self._unreadable = self._strange = 0
        self._row_problem = ""

    def _look(self) -> None:
        clients = file_stamp(self._folder / CLIENTS)
        replaced = [self._history.poll(), self._timeline.poll(), clients != self._clients_file]
        if any(replaced):
            self._clients_file = clients
            self._resets += 1
            self._history, self._timeline = LineTail(self._history.path), LineTail(self._timeline.path)
            self._history.poll(), self._timeline.poll()
            self._begin()
        for offset, line in self._history.lines():
            self._take(offset, line)
        for _, line in self._timeline.lines():
            self._note(line)

    def _take(self, offset: int, line: bytes) -> None:
        row = parsed(line)
        if row is None:
            self._unreadable += 1
            return
        # The first row brings the names that clients.csv has, so that the page can begin with any row.
        named = len(self._numbers.names) if self._places else 0
        self._numbers.add(row.get("accuracies", {}))
        self._places.append((offset, named, len(self._numbers.names)))

    def _note(self, line: bytes) -> None:
        try:
            entry = from_json(line)
            told = {name: entry[name] for name in ("iteration", "seconds", "uploads", "clients")}
            loss = entry.get("loss")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._strange += 1
            return
        iteration = told["iteration"]
        if not isinstance(iteration, int) or not all(is_number(value) for value in told.values()):
            self._strange += 1
            return
        self._entries.append({**told, "loss": loss if is_number(loss) else None})
        while self._entries[0]["iteration"] <= iteration - ROUNDS_KEPT or len(self._entries) > _ENTRIES_KEPT:
            self._entries.popleft()
            self._forgotten += 1


def _lines(count: int) -> str:
    return f"{counted(count, 'line')} {'is' if count == 1 else 'are'}"
