"""Answers outside the protocol: small pages and JSON, equal to those of the MindSpore Federated 0.1.0 server.

Clients look at the status only; the texts are kept for people and proxies.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from html import escape
from http import HTTPStatus

MESSAGE_TYPE = "text/html; charset=ISO-8859-1"
"""Content type of every protocol answer, whatever it holds."""
JSON_TYPE = "application/json"
_PAGE_TYPE = "text/html"
_SERVER = "mindfl"
_CONNECTION = {
    "1.0": {True: "Connection: keep-alive\r\n", False: ""},
    "1.1": {True: "", False: "Connection: close\r\n"},
}
"""The header by version of HTTP and by whether the connection is kept."""

REASON = "Client"
"""Reason phrase of the reference's JSON answers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. ``reason`` "" stands for the usual phrase of ``status``; ``close`` ends the connection."""

    status: int
    body: bytes
    content_type: str = MESSAGE_TYPE
    reason: str = ""
    close: bool = False

    def head(self, version: str, *, keep_alive: bool) -> bytes:
        """Return status line and headers, up to and with the empty line, for a request of HTTP ``version``."""
        http = "1.1" if version not in _CONNECTION else version
        return (
            f"HTTP/{http} {self.status} {self.reason or HTTPStatus(self.status).phrase}\r\n"
            f"Content-Type: {self.content_type}\r\nServer: {_SERVER}\r\nContent-Length: {len(self.body)}\r\n"
            f"Date: {_date(int(time.time()))}\r\n{_CONNECTION[http][keep_alive]}\r\n"
        ).encode("latin-1", "replace")


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def failure(status: int, message: str, *, content_type: str = JSON_TYPE) -> Reply:
    """Return the reference's JSON error."""
    return json_reply(status, {"code": "1", "error_message": message}, content_type=content_type)


def json_reply(status: int, value: dict[str, object], *, content_type: str = JSON_TYPE) -> Reply:
    """Return ``value`` as the reference writes JSON: keys in ascending order, no blanks, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Reply(status, text.encode(errors="replace"), content_type, REASON)


def not_found(path: str) -> Reply:
    """Return the page for a path that is no endpoint; the connection is closed, as the reference does."""
    text = (
        "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1>"
        f"<p>The requested URL {escape(path)} was not found on this server.</p></body></html>\n"
    )
    return Reply(404, text.encode(errors="replace"), _PAGE_TYPE, close=True)


def error_page(status: int) -> Reply:
    """Return the page for a request that HTTP itself rules out; the connection is closed."""
    phrase = HTTPStatus(status).phrase
    text = f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD><BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n"
    return Reply(status, text.encode(), _PAGE_TYPE, close=True)


EMPTY_BODY = failure(500, "Get post message failed", content_type=MESSAGE_TYPE)
"""Answer to a request without a body."""
