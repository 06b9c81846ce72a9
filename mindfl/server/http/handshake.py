"""TLS handshakes done where their failure can be told: one line per refused client."""

from __future__ import annotations

import asyncio
import logging
import ssl

from mindfl.server.http.sockets import crowded, peer_name
from mindfl.server.tls import handshake_fault

logger = logging.getLogger("mindfl.server")

HANDSHAKE_SECONDS = 20.0


class TlsGate(asyncio.Protocol):
    """Stands before ``inner`` until the handshake is done."""

    def __init__(self, inner: asyncio.BufferedProtocol, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._context = context
        self._handshake: asyncio.Task[None] | None = None

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
