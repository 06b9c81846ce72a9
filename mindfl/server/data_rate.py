"""How many bytes of messages come and go, second by second, in the files of MindSpore Federated 0.1.0's server.

``data_rate_dir`` of the settings gets ``<date>_flow_server<address>.json``, a file a day, with a line of JSON for each
second in which a message was answered: ``receive`` and ``send`` count the bodies of requests and answers, refusals
among them, without HTTP's headers and without what is no message (unknown paths, empty bodies). Times are local.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir
from mindfl.server.http.http_server import Front
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.lasting import LastingFault
from mindfl.server.summary_files import LineFile

WRITE_SECONDS = 60.0
"""How often the files are written, as in the reference; the rest follows when the server stops, and at once."""
MOST_LINES = 3600
"""So many lines of a day are kept for a disk that is full; older ones are given up."""

_logger = logging.getLogger("mindfl.server")


class DataRate:
    """Counts until :meth:`close`, and writes once a minute in a thread of its own.

    ``address`` is the server's, such as ``127.0.0.1:6668``; ``clock`` gives the local time. Training does not depend on
    these files: what cannot be written is told once as a warning and tried again. Raises :class:`StorageError` where
    ``folder`` cannot be made.
    """

    def __init__(self, folder: PathLike, address: str, clock: Callable[[], datetime] = datetime.now) -> None:
        self._folder = make_dir(folder)
        self._address = address
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[datetime, tuple[int, int]] = {}
        self._unwritten: dict[Path, list[str]] = {}
        self._fault = LastingFault(_logger)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mindfl-data-rate", daemon=True)
        self._thread.start()

    def count(self, received: int, sent: int) -> None:
        """Count a message of ``received`` bytes and its answer of ``sent`` bytes; called from any thread."""
        second = self._clock().replace(microsecond=0)
        with self._lock:
            before = self._seconds.get(second, (0, 0))
            self._seconds[second] = before[0] + received, before[1] + sent

    def write(self, *, everything: bool = False) -> None:
        """Append the seconds that are over, or ``everything`` that was counted."""
        now = self._clock().replace(microsecond=0)
        with self._lock:
            over = [second for second in self._seconds if everything or second != now]
            counted = [(second, *self._seconds.pop(second)) for second in sorted(over)]
        for second, received, sent in counted:
            path = self._folder / f"{second:%Y-%m-%d}_flow_server{self._address}.json"
            line = {"receive": received, "send": sent, "time": f"{second:%Y-%m-%d %H:%M:%S}"}
            self._unwritten.setdefault(path, []).append(json.dumps(line, separators=(",", ":")))
        try:
            for path, lines in list(self._unwritten.items()):
                del lines[:-MOST_LINES]
                LineFile(path).append("\n".join(lines))
                del self._unwritten[path]
        except StorageError as error:
            self._fault.occurred(error.line())
        else:
            self._fault.over("data rates are written")

    def close(self) -> None:
        """Write what is left, and count no more."""
        self._closing.set()
        self._thread.join()
        self.write(everything=True)

    def _run(self) -> None:
        while not self._closing.wait(WRITE_SECONDS):
            self.write()


Counted = Callable[[Front], Front]
"""Wraps what answers devices."""


def uncounted(answer: Front) -> Front:
    """Return ``answer`` as it is."""
    return answer


def counted_by(rate: DataRate) -> Counted:
    """Return what lets ``rate`` count the messages that a front answers."""

    def wrap(answer: Front) -> Front:
        async def counted(request: Request) -> Reply:
            reply = await answer(request)
            if reply.status == 200:
                rate.count(request.received, len(reply.body))
            return reply

        return counted

    return wrap
