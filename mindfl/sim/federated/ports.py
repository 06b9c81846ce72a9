"""Addresses for the processes of one real stack."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass

from mindfl.server.http import Address, bound_address, listen
from mindfl.sim.federated.config import FederatedConfig


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each process is to listen: ``redis`` None: it runs already; ``manage`` None: no scheduler."""

    http: tuple[Address, ...]
    manage: Address | None
    redis: Address | None


def choose_addresses(config: FederatedConfig) -> Addresses:
    """Return addresses that are free now.

    Nothing holds them until the processes listen there themselves. Raises :class:`OptionError` naming one in use.
    """
    with ExitStack() as held:

        def free(text: str, option: str, count: int = 1) -> tuple[Address, ...]:
            address = Address.parse(text, option)
            # For several ports `listen` draws from those that the system does not give to clients. One of those could
            # be taken by any client in the seconds until the real server listens.
            sockets = listen(address, option, count if address.port else max(count, 2))
            for each in sockets:
                held.enter_context(closing(each))
            return tuple(Address(address.host, bound_address(each).port) for each in sockets[:count])

        http = free(config.http_address, "http_address", config.server_num)
        manage = None if config.manage_address is None else free(config.manage_address, "manage_address")[0]
        redis = free("127.0.0.1:0", "redis_address")[0] if config.redis_address is None else None
        return Addresses(http, manage, redis)
