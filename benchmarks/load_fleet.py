"""Many devices in one thread: raw sockets, bodies encoded beforehand, so that the generator costs little."""

from __future__ import annotations

import heapq
import math
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from lenet_weights import SHAPES

from mindfl.protocol import RequestFLJob, RequestGetModel, RequestUpdateModel, Weights, encode

DATA_SIZE = 10
_FIRST_ID = "device-00000000"
_ANSWER = 1 << 20


def lenet(value: float) -> Weights:
    """Return LeNet's weights, all of them ``value``."""
    return {name: np.full(math.prod(shape), value, np.float32) for name, shape in SHAPES.items()}


@dataclass
class Tally:
    """Seconds per answered request by endpoint, and what went wrong."""

    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"startFLJob": [], "updateModel": [], "getModel": []}
    )
    not_ready: int = 0
    errors: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    received_bytes: int = 0


class Bodies:
    """The three requests of a device in ``iteration``; only the id differs from device to device."""

    def __init__(self, iteration: int) -> None:
        start = RequestFLJob(fl_name="load", fl_id=_FIRST_ID, data_size=DATA_SIZE, timestamp="1")
        update = RequestUpdateModel(
            fl_name="load",
            fl_id=_FIRST_ID,
            iteration=iteration,
            feature_map=lenet(float(DATA_SIZE)),
            timestamp="1",
            upload_loss=1.0,
        )
        self._parts = {
            "startFLJob": encode(start).split(_FIRST_ID.encode()),
            "updateModel": encode(update).split(_FIRST_ID.encode()),
            "getModel": [encode(RequestGetModel(fl_name="load", iteration=iteration))],
        }

    def request(self, path: str, endpoint: str, number: int) -> list[bytes]:
        """Return head and body in parts that devices share."""
        parts = self._parts[endpoint]
        body = parts if len(parts) == 1 else [parts[0], f"device-{number:08d}".encode(), parts[1]]
        length = sum(map(len, body))
        head = f"POST {path}{endpoint} HTTP/1.1\r\nHost: load\r\nContent-Length: {length}\r\n\r\n"
        return [head.encode(), *body]


def answer_field(body: bytes | memoryview, index: int) -> int:
    """Return the int32 field ``index`` of the root table in ``body``, 0 where it is absent."""
    root = struct.unpack_from("<I", body)[0]
    vtable = root - struct.unpack_from("<i", body, root)[0]
    if struct.unpack_from("<H", body, vtable)[0] <= 4 + 2 * index:
        return 0
    offset = struct.unpack_from("<H", body, vtable + 4 + 2 * index)[0]
    return int(struct.unpack_from("<i", body, root + offset)[0]) if offset else 0


class _Device:
    """One connection that starts, uploads, and asks for the model until it is there."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self.number = number
        self.socket = socket.socket(fleet.family)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(fleet.place)
        self._steps = iter(("startFLJob", "updateModel", "getModel"))
        self._out: list[memoryview] = []
        self._in = bytearray()
        self._wanted = 0
        self.endpoint = ""
        self._begun = 0.0

    def next_step(self) -> None:
        self.endpoint = next(self._steps, "")
        if self.endpoint == "getModel":
            self._fleet.uploaded()
        if self.endpoint:
            self.ask()
        else:
            self._fleet.end(self)

    def ask(self) -> None:
        parts = self._fleet.bodies.request(self._fleet.path, self.endpoint, self.number)
        self._fleet.tally.sent_bytes += sum(map(len, parts))
        self._out = [memoryview(part) for part in parts]
        self._in.clear()
        self._wanted = 0
        self._begun = time.perf_counter()
        self.write()

    def write(self) -> None:
        while self._out:
            try:
                sent = self.socket.sendmsg(self._out)
            except BlockingIOError:
                self._fleet.watch(self, selectors.EVENT_WRITE)
                return
            while self._out and sent >= len(self._out[0]):
                sent -= len(self._out.pop(0))
            if sent:
                self._out[0] = self._out[0][sent:]
        self._fleet.watch(self, selectors.EVENT_READ)

    def read(self) -> None:
        view = self._fleet.buffer
        try:
            count = self.socket.recv_into(view)
        except BlockingIOError:
            return
        if not count:
            raise ConnectionError("the server closed the connection")
        self._in += view[:count]
        self._fleet.tally.received_bytes += count
        if not self._wanted:
            end = self._in.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._in[:end]).lower()
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise ConnectionError(head.decode(errors="replace").splitlines()[0])
            self._wanted = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            self._body = end + 4
        if len(self._in) >= self._wanted:
            self._answered(bytes(self._in[self._body : self._body + 4096]))

    def _answered(self, body: bytes) -> None:
        self._fleet.tally.seconds[self.endpoint].append(time.perf_counter() - self._begun)
        if len(self._in) - self._body < 60 or body.startswith((b"The ", b"Verify ")):
            raise ConnectionError(body.decode(errors="replace"))
        code = answer_field(body, 0)
        if code == 201:
            self._fleet.tally.not_ready += 1
            self._fleet.later(self)
        elif code == 200:
            self.next_step()
        else:
            raise ConnectionError(f"{self.endpoint} was answered {code}")


class Fleet:
    """``devices`` devices of one iteration, ``at_once`` of them before or in their upload at a time.

    After its upload a device stays connected and asks for the model every ``poll_seconds``.
    """

    def __init__(self, url: str, devices: int, at_once: int, poll_seconds: float, bodies: Bodies) -> None:
        place = urlsplit(url)
        address = socket.getaddrinfo(place.hostname, place.port, type=socket.SOCK_STREAM)[0]
        self.family, self.place = address[0], address[4]
        self.path = place.path.rstrip("/") + "/"
        self.bodies = bodies
        self.tally = Tally()
        self.buffer = memoryview(bytearray(_ANSWER))
        self._waiting: Iterator[int] = iter(range(devices))
        self._at_once = at_once
        self._poll_seconds = poll_seconds
        self._alive = 0
        self._selector = selectors.EpollSelector()
        self._timers: list[tuple[float, int, _Device]] = []

    def run(self) -> Tally:
        """Return what happened, once every device is done."""
        for _ in range(self._at_once):
            self._begin()
        while self._alive:
            for key, events in self._selector.select(self._timeout()):
                self._guard(key.data, key.data.read if events & selectors.EVENT_READ else key.data.write)
            while self._timers and self._timers[0][0] <= time.perf_counter():
                device = heapq.heappop(self._timers)[2]
                self._guard(device, device.ask)
        return self.tally

    def watch(self, device: _Device, events: int) -> None:
        """Go on with ``device`` when its socket is ready."""
        if device.socket.fileno() not in self._selector.get_map():
            self._selector.register(device.socket, events, device)
        elif self._selector.get_key(device.socket).events != events:
            self._selector.modify(device.socket, events, device)

    def later(self, device: _Device) -> None:
        """Let ``device`` ask again in a while."""
        heapq.heappush(self._timers, (time.perf_counter() + self._poll_seconds, device.number, device))

    def uploaded(self) -> None:
        """Let the next device come."""
        self._begin()

    def end(self, device: _Device) -> None:
        """Forget a device that is done."""
        if device.socket.fileno() in self._selector.get_map():
            self._selector.unregister(device.socket)
        device.socket.close()
        self._alive -= 1

    def _begin(self) -> None:
        number = next(self._waiting, None)
        if number is None:
            return
        self._alive += 1
        device = _Device(self, number)
        self._guard(device, device.next_step)

    def _guard(self, device: _Device, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self.tally.errors.append(f"device {device.number}, {device.endpoint}: {error}")
            self.end(device)
            if device.endpoint != "getModel":
                self.uploaded()

    def _timeout(self) -> float | None:
        return max(self._timers[0][0] - time.perf_counter(), 0) if self._timers else None
