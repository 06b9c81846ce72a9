"""The coordinator behind HTTP and HTTPS: endpoints, limits, listeners."""

from __future__ import annotations

from mindfl.server.http.front import DeviceFront
from mindfl.server.http.job import Job, VolatileJob
from mindfl.server.http.management_front import ManagementFront
from mindfl.server.http.service import BackgroundServer, HttpService, Listeners
from mindfl.server.http.sockets import Address, allow_many_connections, bound_address, listen

__all__ = [
    "Address",
    "BackgroundServer",
    "DeviceFront",
    "HttpService",
    "Job",
    "Listeners",
    "ManagementFront",
    "VolatileJob",
    "allow_many_connections",
    "bound_address",
    "listen",
]
