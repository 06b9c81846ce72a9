"""A device's secrets in one iteration of secure aggregation: one interface for all modes.

Needs the package cryptography, so only jobs with secure aggregation import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from mindfl.client.conversation import Distrusted
from mindfl.errors import ProtocolError
from mindfl.privacy.secagg import (
    ExactDevice,
    ExactKeys,
    ExactPlan,
    FixedPoint,
    PairKeys,
    PairwiseDevice,
    RandomBytes,
    SecureAggregationError,
)
from mindfl.privacy.secagg.fixed import LEAST_FRACTION_BITS, RANGE_BITS
from mindfl.protocol import (
    ClientPublicKeys,
    ClientShare,
    CompressFeatureMap,
    CompressType,
    FloatVector,
    PWParams,
    RequestExchangeKeys,
    Weights,
    split_weights,
)

EXACT_BITS = 64
EXACT_ID_BYTES = 32
_LONGEST_FAULT = 300


class MaskedDevice(Protocol):
    """One device in one iteration. Each step is taken once, in this order.

    Every step raises :class:`Distrusted` for an invalid message of the server or of another device. The device must not
    upload or reveal anything then.
    """

    shares_secrets: bool
    """Whether the steps shares, receive and reveal are part of the mode."""

    def published(self) -> RequestExchangeKeys:
        """Return the request for exchangeKeys, without iteration and time."""

    def meet(self, keys: Sequence[ClientPublicKeys]) -> None:
        """Store the keys that getKeys returned."""

    def shares(self) -> tuple[ClientShare, ...]:
        """Return the shares for shareSecrets."""

    def receive(self, shares: Sequence[ClientShare]) -> None:
        """Store the shares that getSecrets returned."""

    def hide(self, trained: Weights, samples: int) -> dict[str, Any]:
        """Return the fields of RequestUpdateModel that hold the masked weights ``trained``.

        Raises :class:`SecureAggregationError` for weights that are not finite or out of range.
        """

    def reveal(self, survivors: Sequence[str]) -> tuple[ClientShare, ...]:
        """Return the shares for reconstructSecrets; ``survivors`` are the devices that getClientList returned."""

    def wipe(self) -> None:
        """Erase all secrets."""


class _Shared:
    """The steps that all modes share."""

    shares_secrets = True

    def __init__(self, device: PairwiseDevice | ExactDevice) -> None:
        self._device = device

    def shares(self) -> tuple[ClientShare, ...]:
        with _distrust():
            return self._device.shares()

    def receive(self, shares: Sequence[ClientShare]) -> None:
        with _distrust():
            self._device.receive(shares)

    def reveal(self, survivors: Sequence[str]) -> tuple[ClientShare, ...]:
        with _distrust():
            return self._device.reveal(survivors)

    def wipe(self) -> None:
        self._device.wipe()


class _Pairwise(_Shared):
    """``PW_ENCRYPT``, and with ``stable`` ``STABLE_PW_ENCRYPT``: plain float32 weights plus the mask."""

    def __init__(self, device: PairwiseDevice, stable: bool) -> None:
        super().__init__(device)
        self._pairwise = device
        self.shares_secrets = not stable

    def published(self) -> RequestExchangeKeys:
        return self._pairwise.request

    def meet(self, keys: Sequence[ClientPublicKeys]) -> None:
        with _distrust():
            self._pairwise.meet(keys)

    def hide(self, trained: Weights, samples: int) -> dict[str, Any]:
        flat = _flat(trained)
        flat *= np.float32(samples)
        with _distrust():
            flat += self._pairwise.mask(flat.size)
        return {"feature_map": split_weights(flat, _slices(trained))}


class _Exact(_Shared):
    """``PW_EXACT``: integers modulo 2**64 plus the mask, sent as one compressed weight."""

    def __init__(self, device: ExactDevice, fixed: FixedPoint) -> None:
        super().__init__(device)
        self._exact = device
        self._fixed = fixed

    def published(self) -> RequestExchangeKeys:
        keys = self._exact.keys
        return RequestExchangeKeys(fl_id=keys.fl_id, c_pk=keys.c_pk, s_pk=keys.s_pk, pw_salt=keys.commitment)

    def meet(self, keys: Sequence[ClientPublicKeys]) -> None:
        neighbours = (ExactKeys(k.fl_id or "", k.c_pk or b"", k.s_pk or b"", k.pw_salt or b"") for k in keys)
        with _distrust():
            self._exact.meet(neighbours)

    def hide(self, trained: Weights, samples: int) -> dict[str, Any]:
        words = self._fixed.encode(_flat(trained), samples, "this client")
        with _distrust():
            words = self._exact.hide(words)
        data = np.frombuffer(self._fixed.pack(words), np.int8)
        entry = CompressFeatureMap(weight_fullname=self._exact.upload_name, compress_data=data)
        return {"compress_feature_map": (entry,), "upload_compress_type": CompressType.NO_COMPRESS}


def pairwise_device(
    fl_id: str, params: PWParams, random: RandomBytes, pairs: PairKeys | None, *, stable: bool
) -> MaskedDevice:
    """Return the device ``fl_id`` with new secrets. Raises :class:`Distrusted` for a plan that protects nothing."""
    with _distrust():
        return _Pairwise(PairwiseDevice(fl_id, params, random=random, pairs=pairs, stable=stable), stable)


def exact_device(
    fl_id: str, params: PWParams, iteration: int, samples: int, random: RandomBytes, pairs: PairKeys | None
) -> MaskedDevice:
    """Return the device ``fl_id``, which has ``samples`` samples, with new secrets.

    Raises :class:`Distrusted` for a plan that protects nothing, and :class:`ProtocolError` for one that this device
    cannot follow.
    """
    instance = params.p or b""
    total = EXACT_BITS - 1 - RANGE_BITS - params.g
    if len(instance) != EXACT_ID_BYTES or params.t < 1:
        raise ProtocolError("got a plan for PW_EXACT without instance or threshold")
    if params.g < LEAST_FRACTION_BITS or not 0 <= samples.bit_length() <= total:
        raise ProtocolError(f"got a plan for PW_EXACT whose fixed point does not suit {samples} samples")
    with _distrust():
        plan = ExactPlan.of(instance, iteration, params.t)
        fixed = FixedPoint(EXACT_BITS, RANGE_BITS, params.g, (1 << total) - 1)
        return _Exact(ExactDevice(fl_id, plan, random=random, pairs=pairs), fixed)


@contextmanager
def _distrust() -> Iterator[None]:
    try:
        yield
    except SecureAggregationError as error:
        # It may quote ids of other devices.
        fault = "".join(filter(str.isprintable, str(error)))
    else:
        return
    raise Distrusted(fault[:_LONGEST_FAULT])


def _flat(weights: Weights) -> FloatVector:
    """Return all values end to end, names in ascending order; a new vector."""
    return np.concatenate([weights[name].reshape(-1) for name in sorted(weights)])


def _slices(weights: Weights) -> dict[str, slice]:
    slices, start = {}, 0
    for name in sorted(weights):
        slices[name] = slice(start, start + weights[name].size)
        start = slices[name].stop
    return slices
