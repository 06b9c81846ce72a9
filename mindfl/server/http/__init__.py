"""The coordinator behind HTTP and HTTPS: endpoints, limits, listeners."""

from __future__ import annotations

from mindfl.server.http.front import DeviceFront, ManagementFront
from mindfl.server.http.limits import allow_many_connections
from mindfl.server.http.service import BackgroundServer, HttpService, Listeners, SingleServer
from mindfl.server.http.sockets import Address, bound_address, listen
from mindfl.server.http.workers import Job, VolatileJob

__all__ = [
    "Address",
    "BackgroundServer",
    "DeviceFront",
    "HttpService",
    "Job",
    "Listeners",
    "ManagementFront",
    "SingleServer",
    "VolatileJob",
    "allow_many_connections",
    "bound_address",
    "listen",
]
