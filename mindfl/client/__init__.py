"""The device client: flows without sockets and clocks, its log, and the in-process transport."""

from __future__ import annotations

from mindfl.client.config import ClientConfig
from mindfl.client.device import DeviceClient
from mindfl.client.flow import Effect, Flow, IterationDone, IterationOutcome, JobResult, Send, Wait
from mindfl.client.http import HttpSettings, HttpTransport
from mindfl.client.javatext import java_float
from mindfl.client.log import ClientLog
from mindfl.client.modelfiles import ModelFiles
from mindfl.client.tls import TlsSettings
from mindfl.client.trainer import EpochReport, Trainer
from mindfl.client.transport import Finished, InProcessTransport, MeteredTransport, Traffic, Transport, advance, run

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
