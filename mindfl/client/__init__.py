"""The device client: flows without sockets and clocks, its log, and the in-process transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.client.device import DeviceClient
from mindfl.client.flow import (
    ClientConfig,
    Effect,
    EpochReport,
    Flow,
    IterationDone,
    IterationOutcome,
    JobResult,
    ModelFiles,
    Send,
    Trainer,
    Wait,
)
from mindfl.client.log import ClientLog, java_float
from mindfl.client.transport import Finished, InProcessTransport, MeteredTransport, Traffic, Transport, advance, run
from mindfl.imports import lazy_names

if TYPE_CHECKING:
    from mindfl.client.http_transport import HttpSettings, HttpTransport
    from mindfl.client.tls_settings import TlsSettings

#: name -> module that defines it, loaded when first used: devices in this process need neither urllib3 nor ssl
_HOMES = {
    "HttpSettings": "mindfl.client.http_transport",
    "HttpTransport": "mindfl.client.http_transport",
    "TlsSettings": "mindfl.client.tls_settings",
}

__all__ = [
    "ClientConfig",
    "ClientLog",
    "DeviceClient",
    "Effect",
    "EpochReport",
    "Finished",
    "Flow",
    "HttpSettings",
    "HttpTransport",
    "InProcessTransport",
    "IterationDone",
    "IterationOutcome",
    "JobResult",
    "MeteredTransport",
    "ModelFiles",
    "Send",
    "TlsSettings",
    "Traffic",
    "Trainer",
    "Transport",
    "Wait",
    "advance",
    "java_float",
    "run",
]


__getattr__ = lazy_names(__name__, _HOMES)
