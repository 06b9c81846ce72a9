"""A port for a server that starts in a moment."""

from __future__ import annotations

from mindfl.server.http import Address, bound_address, listen


def free_port() -> int:
    """Return a port that was free just now, and that the system gives to no client meanwhile."""
    # Of several in a row none is one that the system chose.
    sockets = listen(Address("127.0.0.1", 0), "a test", 2)
    port = bound_address(sockets[0]).port
    for each in sockets:
        each.close()
    return port


def free_address() -> str:
    """Return such a port's address on this machine alone."""
    return f"127.0.0.1:{free_port()}"
