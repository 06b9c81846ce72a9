"""TLS handshakes done where their failure can be told: one line per refused client."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from functools import partial
from socket import SHUT_WR, socket

from mindfl.server.http.sockets import crowded, peer_name
from mindfl.server.server_tls import handshake_fault, send_alert

logger = logging.getLogger("mindfl.server")

HANDSHAKE_SECONDS = 20.0
FAREWELL_SECONDS = 2.0


class TlsGate(asyncio.Protocol):
    """Stands before ``inner`` until the handshake is done."""

    def __init__(self, inner: asyncio.BufferedProtocol, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._context = context
        self._handshake: asyncio.Task[None] | None = None
        self._farewell: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if crowded(transport.get_extra_info("socket")):
            logger.warning("%s: refused, too many connections are open", peer_name(transport))
            transport.abort()
            return
        # The task begins before anything can have been read, and then stops the reading itself. Stopping it here has no
        # effect in Python 3.10, which starts to read after this call: the client's first bytes would be lost.
        self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        send_alert.set(partial(self._send_alert, transport))
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport, self._inner, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError as error:
            logger.warning("%s: refused, %s", peer_name(transport), handshake_fault(error))
            transport.abort()
            return
        # The client may have gone at once.
        if encrypted is not None and not encrypted.is_closing():
            self._inner.connection_made(encrypted)

    def _send_alert(self, transport: asyncio.Transport, alert: bytes) -> None:
        # asyncio is about to close its own socket.
        with suppress(OSError):
            kept = transport.get_extra_info("socket").dup()
            if crowded(kept):
                kept.close()
                return
            self._farewell = asyncio.get_running_loop().create_task(_say_farewell(kept, alert))


async def _say_farewell(connection: socket, alert: bytes) -> None:
    """Send ``alert`` and wait until the client has taken it: it is lost where a connection ends with unread bytes."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()

    async def talk() -> None:
        await loop.sock_sendall(connection, alert)
        connection.shutdown(SHUT_WR)
        while await loop.sock_recv(connection, 4096):
            # What has come already is returned at once: whoever never stops would let nobody else have a turn.
            await asyncio.sleep(0)

    with connection, suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(talk(), FAREWELL_SECONDS)
