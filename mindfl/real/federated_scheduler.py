"""Asking a scheduler of MindSpore Federated 0.1.0 how its job is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from mindfl.errors import ProtocolError, TlsError, TransportError

_LIMIT_SECONDS = 10.0
_STATES = {"CLUSTER_READY": "running", "CLUSTER_DISABLE": "disabled", "CLUSTER_FINISH": "finished"}


@dataclass(frozen=True, slots=True)
class FederatedState:
    """How a job is: ``state`` is "running", "disabled" or "finished"; ``nodes`` are the servers' TCP addresses;
    iteration ``completed`` of ``iterations`` is the last that has ended."""

    state: str
    nodes: tuple[str, ...]
    completed: int
    iterations: int


class Management:
    """The management address ``url``; ``ca_cert``: the authority to trust where it is https."""

    def __init__(self, url: str, ca_cert: Path | None) -> None:
        self._url = url
        authority = str(ca_cert) if ca_cert else None
        self._pool = urllib3.PoolManager(retries=False, timeout=_LIMIT_SECONDS, ca_certs=authority)

    def state(self) -> tuple[str, tuple[str, ...]]:
        """Return the cluster's state, as in :class:`FederatedState`, and its nodes."""
        answer = self.ask("state")
        nodes = tuple(str(node.get("tcp_address", "")) for node in answer.get("nodes", ()))
        name = str(answer.get("cluster_state", ""))
        return _STATES.get(name, name), nodes

    def ask(self, endpoint: str, body: object = None) -> dict[str, Any]:
        """Return the answer of ``state``, ``queryInstance``, ``enableFLS``, ``disableFLS`` or ``newInstance``.

        Raises :class:`ProtocolError` with the scheduler's own words where it refuses, :class:`TransportError` where it
        does not answer.
        """
        content = None if body is None else json.dumps(body).encode()
        try:
            response = self._pool.request("POST", f"{self._url}/{endpoint}", body=content)
            answer = json.loads(response.data)
            if not isinstance(answer, dict):
                raise ValueError(answer)
        except urllib3.exceptions.SSLError as error:
            raise TlsError(f"the scheduler at {self._url} has no certificate that is accepted: {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise TransportError(f"the scheduler at {self._url} does not answer: {error}") from None
        except ValueError:
            raise ProtocolError(f"the scheduler at {self._url} answered {endpoint} with no JSON object") from None
        if response.status != 200:
            raise ProtocolError(f"the scheduler refused {endpoint}: {answer.get('error_message', response.status)}")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
