"""The keys of secure aggregation, derived once for both ends of a pair: the devices of a simulation are one process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mindfl.protocol.encryption import PW_EXACT

if TYPE_CHECKING:
    from mindfl.privacy.secagg import PairKeys

#: a device that the server lets lag behind may still be at work in the iteration before
_ITERATIONS_KEPT = 2


class PairKeyRing:
    """Gives all devices the same :class:`~mindfl.privacy.secagg.PairKeys` in an iteration; forgets old ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], PairKeys] = {}

    def __call__(self, encrypt_type: str, iteration: int) -> PairKeys:
        """Return what derives the keys of ``iteration``."""
        from mindfl.privacy.secagg import exact_keys, pairwise_keys

        with self._lock:
            known = self._kept.get((encrypt_type, iteration))
            if known is None:
                known = exact_keys() if encrypt_type == PW_EXACT else pairwise_keys()
                self._kept[encrypt_type, iteration] = known
                for old in [key for key in self._kept if key[1] <= iteration - _ITERATIONS_KEPT]:
                    self._kept.pop(old).forget()
            return known

    def close(self) -> None:
        """Forget all keys and end the threads. No device may be at work."""
        with self._lock:
            for keys in self._kept.values():
                keys.forget()
            self._kept.clear()
