"""The live page of a job in a process of its own: the job shares neither interpreter nor priority with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mindfl.errors import MindflError
from mindfl.live.watching import address, listening_on
from mindfl.system import process_group

#: how long the process may take to send each page what came last
_END_SECONDS = 10.0
_PROGRAM = "import sys; sys.path[:] = eval(sys.argv[1]); from mindfl.live.page_child import main; main()"


@contextmanager
def page_beside(folder: Path, live_port: int, tell: Callable[[str], None]) -> Iterator[None]:
    """Serve the page of ``folder`` while the block runs; ``tell`` is given a line with its address.

    At the end each page is sent what came last. The process ends with this one, also if that is killed. Raises
    :class:`OptionError` if the port cannot be had, :class:`MindflError` if no process can be started.
    """
    with ExitStack() as held:
        listening = held.enter_context(listening_on(live_port))
        handle, path = listening.fileno(), [str(Path(place).absolute()) for place in sys.path]
        command = [sys.executable, "-c", _PROGRAM, repr(path), str(handle), str(folder.absolute())]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        try:
            process = held.enter_context(process_group(command, pass_fds=(handle,), **streams))
        except (OSError, RuntimeError) as error:
            raise MindflError(f"no process for the live page can be started: {error}") from None
        place = address(listening)
        listening.close()  # the process has it: if it dies, pages are told so at once
        try:
            tell(f"live page {place}")
            yield
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_END_SECONDS)  # ends its standard input
