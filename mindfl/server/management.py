"""The answers of MindSpore Federated 0.1.0's scheduler on its management address, for a job in this process."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mindfl.errors import MindflError
from mindfl.server.coordinator import Coordinator
from mindfl.server.iteration import Clock
from mindfl.server.settings import JobSettings, apply_new_instance, query_instance
from mindfl.server.state import ServerState

PATHS = ("/state", "/queryInstance", "/enableFLS", "/disableFLS", "/newInstance")
CLUSTER_STATES = {
    ServerState.RUNNING: "CLUSTER_READY",
    ServerState.DISABLED: "CLUSTER_DISABLE",
    ServerState.FINISHED: "CLUSTER_FINISH",
}


@dataclass(frozen=True, slots=True)
class ServerNode:
    """One server of the job, as it is listed."""

    node_id: str
    tcp_address: str

    @classmethod
    def begun(cls, tcp_address: str, now: datetime) -> ServerNode:
        """Return the server at ``tcp_address`` with the id that the reference gives to one that starts at ``now``."""
        return cls(f"{tcp_address}::{_stamp(now)}::{secrets.randbelow(100_000):05d}", tcp_address)


def instance_name(now: datetime) -> str:
    """Return the name that the reference gives to an instance begun at ``now``."""
    return f"i_{_stamp(now)}"


def _stamp(now: datetime) -> str:
    return f"{now:%Y-%m-%d-%H:%M:%S}.{now.microsecond // 1000:03d}.{now.microsecond % 1000:03d}"


def listed(nodes: Sequence[ServerNode]) -> list[dict[str, str]]:
    """Return ``nodes`` as the reference's JSON lists them."""
    return [{"node_id": node.node_id, "role": "SERVER", "tcp_address": node.tcp_address} for node in nodes]


class Management:
    """Shows and changes a running job. May be used by several threads.

    ``nodes`` returns the servers there are now. ``renewed`` is given the name and the number of iterations of each new
    instance, ``changed`` is called after every change. Without ``renewable`` there is no new instance: a privacy budget
    is not spent twice.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        settings: JobSettings,
        nodes: Callable[[], Sequence[ServerNode]],
        *,
        clock: Clock,
        renewed: Callable[[str, int], None],
        changed: Callable[[], None],
        renewable: bool = True,
    ) -> None:
        self._coordinator = coordinator
        self._settings = settings
        self._clock = clock
        self._renewed = renewed
        self._changed = changed
        self._renewable = renewable
        self._lock = threading.Lock()
        self._nodes = nodes
        calls = (self._state, self._query_instance, self._enable, self._disable, self._new_instance)
        self._calls = dict(zip(PATHS, calls, strict=True))

    @property
    def result(self) -> dict[str, Any]:
        """The settings of the present instance, as /queryInstance shows them."""
        return query_instance(self._settings)

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the JSON object that ``path`` is answered with, code "0"; method and body matter to none but
        /newInstance.

        Raises :class:`MindflError` whose text is the reference's ``error_message``.
        """
        with self._lock:
            return {"code": "0", **self._calls[path](body)}

    def _state(self, _: bytes) -> dict[str, Any]:
        return {
            "message": "Get cluster state successful.",
            "cluster_state": CLUSTER_STATES[self._coordinator.state],
            "nodes": listed(self._nodes()),
        }

    def _query_instance(self, _: bytes) -> dict[str, Any]:
        return {
            "message": "Query Instance successful.",
            "nodes": listed(self._nodes()),
            "result": self.result,
        }

    def _enable(self, _: bytes) -> dict[str, Any]:
        self._coordinator.job.enable()
        self._changed()
        return {"message": "start enabling FL-Server successful."}

    def _disable(self, _: bytes) -> dict[str, Any]:
        self._coordinator.job.disable(self._clock.now_ms())
        self._changed()
        return {"message": "start disabling FL-Server successful."}

    def _new_instance(self, body: bytes) -> dict[str, Any]:
        if not body:
            raise MindflError("The post message size is invalid.")
        try:
            changes = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise MindflError(f"Illegal JSON format:{error}") from None
        if not self._renewable:
            raise MindflError("New instance failed: the privacy budget (dp_budget) is that of one instance")
        settings = apply_new_instance(self._settings, changes)
        name = instance_name(datetime.now(timezone.utc).astimezone())
        self._coordinator.job.new_instance(settings.server_config(), name, self._clock.now_ms())
        self._settings = settings
        self._renewed(name, settings.fl_iteration_num)
        self._changed()
        return {"message": "Start new instance successful."}
