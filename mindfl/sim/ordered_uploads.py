"""Uploads in the order of the devices' numbers.

MindSpore Federated's server sums float32 in the order in which uploads arrive, so that only a fixed order gives the
same weights again: another one changes last bits, and where that tips a maximum of a pooling, training amplifies it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mindfl.client import MeteredTransport, Traffic
from mindfl.protocol import Request, RequestUpdateModel, Response


class UploadOrder:
    """Tracks which devices are working. A device that waits for the server is not, so that no other waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working: set[int] = set()

    def enter(self, index: int) -> None:
        """Note that device ``index`` is about to work."""
        with self._changed:
            self._working.add(index)

    @contextmanager
    def at_work(self, index: int, transport: MeteredTransport) -> Iterator[MeteredTransport]:
        """Return device ``index``'s transport, on which its upload waits for those of lower numbers."""
        try:
            yield _InTurn(transport, self, index)
        finally:
            self._leave(index)

    def upload(self, index: int, transport: MeteredTransport, request: RequestUpdateModel, now_ms: int) -> Response:
        """Send the upload of device ``index`` once no device of a lower number is at work."""
        with self._changed:
            self._changed.wait_for(lambda: all(other >= index for other in self._working))
        try:
            return transport.send(request, now_ms)
        finally:
            self._leave(index)

    def _leave(self, index: int) -> None:
        with self._changed:
            self._working.discard(index)
            self._changed.notify_all()


class _InTurn:
    def __init__(self, transport: MeteredTransport, order: UploadOrder, index: int) -> None:
        self._transport = transport
        self._order = order
        self._index = index

    def send(self, request: Request, now_ms: int) -> Response:
        if isinstance(request, RequestUpdateModel):
            return self._order.upload(self._index, self._transport, request, now_ms)
        return self._transport.send(request, now_ms)

    @property
    def traffic(self) -> Traffic:
        return self._transport.traffic
