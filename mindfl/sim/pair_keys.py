"""The keys of secure aggregation, derived once for both ends of a pair: the devices of a simulation are one process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mindfl.modes import UploadMode

if TYPE_CHECKING:
    from mindfl.privacy.secagg import PairKeys

#: a device that the server lets lag behind may still be at work in the iteration before
_ITERATIONS_KEPT = 2


class PairKeyRing:
    """Gives all devices the same :class:`~mindfl.privacy.secagg.PairKeys` in an iteration; forgets old ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], PairKeys] = {}

    def __call__(self, mode: UploadMode, iteration: int) -> PairKeys:
        """Return what derives the keys of ``iteration``."""
        with self._lock:
            known = self._kept.get((mode.name, iteration))
            if known is None:
                known = mode.pair_keys()
                self._kept[mode.name, iteration] = known
                for old in [key for key in self._kept if key[1] <= iteration - _ITERATIONS_KEPT]:
                    self._kept.pop(old).forget()
            return known

    def close(self) -> None:
        """Forget all keys and end the threads. No device may be at work."""
        with self._lock:
            for keys in self._kept.values():
                keys.forget()
            self._kept.clear()
