"""What clients are sent whose TLS handshake fails: asyncio closes such a connection without a word.

Without its alert a device learns that the connection was closed, not that (say) its certificate has expired, and tries
again until it loses patience. One that speaks HTTP in the clear is answered in the clear.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_TEXT = b"This port speaks TLS: use https://\n"
PLAIN_HTTP_REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nServer: mindfl\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)
"""The answer to a request in the clear on a port for TLS."""

#: takes the alert of the handshake that is begun in this context
send_alert: ContextVar[Callable[[bytes], None] | None] = ContextVar("send_alert", default=None)


class AlertingContext(ssl.SSLContext):
    """A context of a server. What becomes of the alerts of a handshake is for :data:`send_alert` to say."""

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
