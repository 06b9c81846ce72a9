"""A sign that a server has the job's model, which an emptied Redis still shows: a subscription, as that is no key."""

from __future__ import annotations

import logging
import threading
from typing import Any

import redis

_logger = logging.getLogger("mindfl.server")

_LOOK_SECONDS = 1.0
_RETURN_SECONDS = 0.2


class Holding:
    """Subscribes to ``channel``, and again whenever the connection was lost, until it is closed.

    Who finds no job in the Redis counts the subscribers, and leaves it to them: they put the job back.
    """

    def __init__(self, client: Any, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._subscription: Any = None
        self._warned = False
        self._ended = threading.Event()
        self._listen()
        threading.Thread(target=self._stay, name="holding", daemon=True).start()

    def close(self) -> None:
        """Show the sign no longer, within a second."""
        self._ended.set()

    def _stay(self) -> None:
        while not self._ended.is_set():
            if not self._listen():
                self._ended.wait(_RETURN_SECONDS)
        self._unsubscribe()

    def _listen(self) -> bool:
        """Wait for a message, which says nothing, for a moment; return whether the Redis answers."""
        try:
            if self._subscription is None:
                self._subscription = self._client.pubsub()
                self._subscription.subscribe(self._channel)
            if self._subscription.get_message(timeout=_LOOK_SECONDS) is None:
                self._subscription.ping()  # or a connection to a Redis that is gone would stay
        except redis.RedisError as error:
            self._warn_of(error)
            self._unsubscribe()
            return False
        return True

    def _warn_of(self, error: redis.RedisError) -> None:
        if isinstance(error, redis.exceptions.NoPermissionError) and not self._warned:
            self._warned = True
            _logger.warning(
                "the Redis permits no subscription to %s (%s): should it be emptied, a server that starts then may "
                "begin the job anew",
                self._channel,
                error,
            )

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
