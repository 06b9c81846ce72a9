"""Servers on loopback sockets: one that answers as the protocol says, and some that misbehave."""

import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mindfl.protocol.wire import REQUESTS, decode, encode_response


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Connections that end early are what many tests are about."""


class StandInServer:
    """Posts to ``<prefix>/<endpoint>`` reach ``coordinator``; ``seen`` lists (endpoint, connection number).

    ``lose(endpoint, number)`` may return "request" or "answer" for the ``number``-th exchange (from 1): the connection
    is closed before, or after, the coordinator has handled it. ``context`` makes it a TLS server.
    """

    def __init__(self, coordinator, *, prefix="", lose=lambda endpoint, number: None, context=None, port=0):
        self.seen, self.connections, self.coordinator = [], 0, coordinator
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                outer.connections += 1
                self.number = outer.connections
                outer.sockets.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                path, _, endpoint = self.path.rpartition("/")
                if path != prefix or endpoint not in REQUESTS:
                    self.send_error(404)
                    return
                outer.seen.append((endpoint, self.number))
                lost = lose(endpoint, len(outer.seen))
                answer = b""
                if lost != "request":
                    request = decode(body, REQUESTS[endpoint])
                    answer = encode_response(outer.coordinator.handle(request, time.time_ns() // 1_000_000))
                if lost:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

        self.sockets = []
        self._server = _Server(("127.0.0.1", port), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}{prefix}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *reason):
        self.stop()

    def stop(self):
        """Close the port and all connections; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


@contextmanager
def raw_server(talk, context=None):
    """Yield the port of a server that hands each connection to ``talk`` and closes it afterwards."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def serve():
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    def attend(connection):
        with suppress(OSError), context.wrap_socket(connection, server_side=True) if context else connection as wrapped:
            talk(wrapped)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answering(head, body=b""):
    """Return a ``talk`` that reads a request's head and sends these bytes."""

    def talk(connection):
        read_request(connection)
        connection.sendall(head + body)

    return talk


def read_request(connection):
    """Read one request with a Content-Length; return its bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def unused_port():
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
