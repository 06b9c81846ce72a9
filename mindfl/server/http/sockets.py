"""Addresses and listening sockets."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from dataclasses import dataclass

from mindfl.errors import OptionError

BACKLOG = 4096
_TRIES = 50
_QUIET_PORTS = (21_000, 32_000)
_REASONS = {
    errno.EADDRINUSE: ("the address is in use", "another server runs there: stop it, or choose another port"),
    errno.EACCES: ("permission denied", "ports below 1024 need privileges: choose a higher one"),
    errno.EADDRNOTAVAIL: ("this machine has no such address", "127.0.0.1 or 0.0.0.0 always exist"),
}


class ListenError(OptionError):
    """An address that cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str) -> Address:
        """Read ``host:port`` or ``[IPv6]:port``; port 0 means any free one. Raises :class:`OptionError`."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
            raise OptionError(f"{option} must be host:port with a port of 0..65535, got {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address, option: str, count: int = 1) -> list[socket.socket]:
    """Return ``count`` sockets that listen on consecutive ports from ``address`` on.

    Raises :class:`OptionError` naming ``option`` and the address that cannot be had.
    """
    tries = _TRIES if address.port == 0 and count > 1 else 1
    for left in reversed(range(tries)):
        try:
            return _consecutive(Address(address.host, _free_base(count)) if tries > 1 else address, count)
        except OSError as error:
            if left and error.errno == errno.EADDRINUSE:
                continue
            reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
            raise ListenError(f"{option}: cannot listen on {error.filename}: {reason}", hint=hint) from None
    raise AssertionError("the last try returns or raises")


def _free_base(count: int) -> int:
    """Draw a port below those that Linux gives to clients: behind one that it chose, the next is often taken."""
    return random.randrange(*_QUIET_PORTS) - count


def _consecutive(address: Address, count: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for number in range(count):
            port = address.port + number if address.port else 0
            sockets.append(_listening(Address(address.host, port)))
    except BaseException:
        for made in sockets:
            made.close()
        raise
    return sockets


def _listening(address: Address) -> socket.socket:
    try:
        if address.port > 65535:
            raise OSError(None, "there is no port above 65535")
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            made.listen(BACKLOG)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(None, f"there is no host of this name ({error})", str(address)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(address)) from None
    return made


def bound_address(listening: socket.socket) -> Address:
    """Return the address with the port that a socket really has."""
    host, port = listening.getsockname()[:2]
    return Address(host, port)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Return address and port of the other end, for messages."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a client"
