"""Checks that several steps have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from mindfl.privacy.secagg.faults import Fault, SecureAggregationError


class _OfDevice(Protocol):
    @property
    def fl_id(self) -> str | None: ...


OfDeviceT = TypeVar("OfDeviceT", bound=_OfDevice)


class Steps:
    """The steps that ``who`` takes, each once and in this order."""

    def __init__(self, who: str, *names: str) -> None:
        self._who = who
        self._left = list(names)
        self._under_way = False

    def take(self, name: str) -> Steps:
        """Go on to ``name``, which ends with the context that is returned.

        Raises :class:`SecureAggregationError` where it is not the next one. After a step that fails none is: nothing of
        a device's state is trusted any more.
        """
        if self._under_way or self._left[:1] != [name]:
            raise SecureAggregationError(Fault.ORDER, f"the step {name} of {self._who}")
        self._under_way = True
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._under_way = False
            del self._left[0]

    def require_all(self) -> None:
        """Raise :class:`SecureAggregationError` where steps are left."""
        if self._left:
            raise SecureAggregationError(Fault.ORDER, f"the last step of {self._who}", f"{self._left[0]} comes first")


def by_id(items: Iterable[OfDeviceT]) -> dict[str, OfDeviceT]:
    """Return ``items`` by their device. Raises :class:`SecureAggregationError` where one is named twice or not."""
    found: dict[str, OfDeviceT] = {}
    for item in items:
        if not item.fl_id:
            raise SecureAggregationError(Fault.PEER_UNKNOWN, "a list of devices", "an entry without id")
        if item.fl_id in found:
            raise SecureAggregationError(Fault.PEER_TWICE, "a list of devices", item.fl_id)
        found[item.fl_id] = item
    return found


def check_survivors(survivors: Iterable[str], possible: set[str], me: str, threshold: int) -> frozenset[str]:
    """Return the devices that uploaded, of ``possible`` ones, as named to ``me``.

    Raises :class:`SecureAggregationError` where one is unknown or named twice, ``me`` is not among them, or they are
    fewer than the threshold.
    """
    listed = list(survivors)
    named = frozenset(listed)
    what = "the list of survivors"
    if len(named) < len(listed):
        raise SecureAggregationError(Fault.PEER_TWICE, what)
    unknown = sorted(named - possible)
    if unknown or me not in named:
        raise SecureAggregationError(Fault.PEER_UNKNOWN, what, unknown[0] if unknown else f"{me} is missing")
    if len(named) < threshold:
        raise SecureAggregationError(Fault.TOO_FEW, what, f"{len(named)} of {threshold}")
    return named
