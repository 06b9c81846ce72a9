"""Where the servers of a job meet: in the Redis that their settings name."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

from mindfl.errors import OptionError
from mindfl.extras import lacks
from mindfl.server.refusal import StoreDownError
from mindfl.server.settings import JobSettings
from mindfl.server.settings.sections import EMBEDDED

if TYPE_CHECKING:
    from mindfl.server.cluster.redis_store import RedisStore

_logger = logging.getLogger("mindfl.server")

WAIT_SECONDS = 60.0
"""How long a server that starts waits for the Redis, which may start at the same time."""
_PAUSE_SECONDS = 0.2


def find_store(settings: JobSettings) -> RedisStore:
    """Return the Redis in which the servers with these settings meet.

    Raises :class:`OptionError` where the settings name none, or the package redis is not installed.
    """
    if settings.distributed_cache.type == EMBEDDED:
        raise OptionError(
            f"{settings.origin.place('distributed_cache.type')}: servers of one job meet in a Redis, and "
            f"distributed_cache.type is {EMBEDDED}",
            hint="write distributed_cache: {type: redis, address: HOST:PORT}, or start one server without --cluster",
        )
    try:
        from mindfl.server.cluster.redis_store import RedisStore
    except ModuleNotFoundError:
        raise lacks("servers of one job meet in a Redis, which", "redis") from None
    return RedisStore(settings)


async def reach(store: RedisStore) -> None:
    """Return once ``store`` can be reached. Raises :class:`StoreDownError` where it cannot within a minute."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    told = False
    while True:
        try:
            await asyncio.to_thread(store.check)
        except StoreDownError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            if not told:
                _logger.warning("%s: waiting up to %.0f s for it", error, WAIT_SECONDS)
            told = True
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


def keeper_tls(settings: JobSettings) -> ssl.SSLContext | None:
    """Return how a server on another machine is checked: its certificate must be for its address, and of the authority.

    None where the settings want no TLS. Raises :class:`OptionError`.
    """
    if not settings.enable_ssl:
        return None
    try:
        return ssl.create_default_context(cafile=settings.ssl.ca_cert_path)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"{settings.ssl.ca_cert_path} holds no certificate of an authority: {error}") from None
