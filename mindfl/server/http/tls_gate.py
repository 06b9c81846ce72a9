"""TLS handshakes: one line in the log for each refused client, in plain words, and the alert sent to it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from socket import SHUT_WR, socket
from typing import Any

from mindfl.server.http.limits import crowded
from mindfl.server.http.sockets import peer_name

logger = logging.getLogger("mindfl.server")

HANDSHAKE_SECONDS = 20.0
FAREWELL_SECONDS = 2.0


_TEXT = b"This port speaks TLS: use https://\n"
PLAIN_HTTP_REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nServer: mindfl\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)
"""The answer to a request in the clear on a port for TLS."""

#: takes the alert of the handshake that is begun in this context
send_alert: ContextVar[Callable[[bytes], None] | None] = ContextVar("send_alert", default=None)


class AlertingContext(ssl.SSLContext):
    """A context of a server. Alerts of a handshake are passed to :data:`send_alert`."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        """As the base class does it."""
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(made, _AlertingObject)
        made.outgoing, made.send_alert = outgoing, send_alert.get()
        return made


class _AlertingObject(ssl.SSLObject):
    outgoing: ssl.MemoryBIO
    send_alert: Callable[[bytes], None] | None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            alert = self.outgoing.read()
            farewell = PLAIN_HTTP_REFUSED if error.reason == "HTTP_REQUEST" else alert
            if farewell and self.send_alert:
                self.send_alert(farewell)
            raise


AlertingContext.sslobject_class = _AlertingObject


#: reason of OpenSSL's error -> words about the client in the log
_REASONS = {
    "HTTP_REQUEST": "it speaks plain HTTP on a port for TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it offers no version of TLS from 1.2 on",
    "NO_SHARED_CIPHER": "it offers no cipher that is allowed here",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it sent no client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that the server's certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that the server's certificate is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the server's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the server's certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of the server's certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it allows no version of TLS from 1.2 on",
}


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
            # Bytes that have come already are returned at once: a client that never stops would keep the event loop.
            await asyncio.sleep(0)

    with connection, suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(talk(), FAREWELL_SECONDS)


def handshake_fault(error: OSError) -> str:
    """Return why a handshake failed, for the server's log: a few words about the client."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ConnectionAbortedError):  # asyncio's
        return "its handshake took too long"
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return "it closed the connection during the handshake"
    return _REASONS.get(error.reason or "", f"TLS failed ({error.reason or error})")
