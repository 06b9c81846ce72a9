"""Program of each process of the real server; it runs under Python 3.7 to 3.9, where mindfl cannot be imported.

    federated_entry.py server    PARENT CONFIG.yaml HTTP_ADDRESS TCP_IP MODEL.npz CHECKPOINT_FOLDER
    federated_entry.py scheduler PARENT CONFIG.yaml MANAGE_ADDRESS
    federated_entry.py redis     PARENT REDIS_SERVER ARGUMENT...

PARENT is the id of the process that starts it: when PARENT ends, this process ends too. Events are printed on stdout,
each as a line of JSON after the word ``event``. SIGTERM ends it.

The work is done in a child of this process, which only watches: the real server never releases Python's interpreter
lock, so a thread could not watch. A signal at the parent's end (PR_SET_PDEATHSIG) is not enough, as it comes with the
end of the *thread* that started the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

WATCH_SECONDS = 0.2
PATIENCE_SECONDS = 20.0
PR_SET_PDEATHSIG = 1
AWAITED = (signal.SIGTERM, signal.SIGCHLD)
PASSWORD_VARIABLES = ("MINDFL_FEDERATED_SERVER_PASSWORD", "MINDFL_FEDERATED_CLIENT_PASSWORD")


def tell(**event: object) -> None:
    """Print an event."""
    print("event", json.dumps(event), flush=True)


def server(config: str, http: str, tcp_ip: str, model: str, checkpoints: str) -> None:
    """Serve until SIGTERM."""
    import numpy
    from mindspore_federated import Callback, FLServerJob  # type: ignore[import-not-found]

    class Events(Callback):  # type: ignore[misc]
        """Prints the events of the server."""

        def after_started(self) -> None:
            tell(name="started")

        def on_iteration_end(self, context: Any) -> None:
            number, valid = int(context.iteration_num), bool(context.iteration_valid)
            tell(name="iteration", instance=context.instance_name, number=number, valid=valid)

        def before_stopped(self) -> None:
            tell(name="stopping")

    with numpy.load(model) as archive:
        names = archive["names"].tolist()
        features = {name: numpy.ascontiguousarray(archive[f"arr_{index}"]) for index, name in enumerate(names)}
    job = FLServerJob(config, http, tcp_ip, checkpoints, tls())
    job.run(features, callback=Events())


def scheduler(config: str, manage_address: str) -> None:
    """Serve the management address until SIGTERM."""
    from mindspore_federated import FlSchedulerJob

    FlSchedulerJob(config, manage_address, tls()).run()


def redis(*command: str) -> None:
    """Run Redis in place of this program."""
    os.execv(command[0], command)


def tls() -> object:
    """Return the passwords of the two PKCS#12 files, or None without TLS."""
    if PASSWORD_VARIABLES[0] not in os.environ:
        return None
    from mindspore_federated import SSLConfig

    return SSLConfig(*(os.environ[name] for name in PASSWORD_VARIABLES))


ROLES = {"server": server, "scheduler": scheduler, "redis": redis}


def work(watching: int, role: str, *arguments: str) -> None:
    """Run ``role``; the system kills this process when the process ``watching`` ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == watching:
        ROLES[role](*arguments)  # type: ignore[operator]


def watch(child: int, parent: int) -> int:
    """Forward SIGTERM to ``child``, send it when ``parent`` has ended, and return the exit code of ``child``."""
    patience = float("inf")
    while True:
        told = signal.sigtimedwait(AWAITED, WATCH_SECONDS)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if told is not None and told.si_signo == signal.SIGTERM:
            os.kill(child, signal.SIGTERM)
        if patience == float("inf") and os.getppid() != parent:
            os.kill(child, signal.SIGTERM)
            patience = time.monotonic() + PATIENCE_SECONDS
        if time.monotonic() > patience:
            os.kill(child, signal.SIGKILL)


def main(role: str, parent: str, *arguments: str) -> None:
    """Run the program."""
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    watching = os.getpid()
    child = os.fork()
    if child:
        sys.exit(watch(child, int(parent)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)
    work(watching, role, *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
