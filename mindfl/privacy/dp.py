"""``DP_ENCRYPT`` of MindSpore Federated 0.1.0: a device clips its update and adds Gaussian noise before it uploads.

This is local differential privacy. With the update d = w_trained - w_received over all weights and the clip bound C,
the device uploads w_received + d * min(1, C / |d|) + noise. The noise of each value has the standard deviation
noise_multiplier * C. The server does nothing.

**Guarantee.** An observer of the upload, including the server, learns little about whether this device trained at all.
Adding or removing an update changes the mean by at most C, and the noise is calibrated to that (Balle and Wang,
"Improving the Gaussian mechanism for differential privacy", ICML 2018). Replacing a device's data by other data changes
the mean by up to 2 C; for that, account with half the noise multiplier. Each upload has its own cost: see
:mod:`mindfl.privacy.accountant`. C is computed from public models and costs nothing.

**Limits.** The proof is about real numbers. Here the noise is one of 2**52 quantiles of the normal distribution, cut at
8.2 standard deviations, and the sum is rounded to float32. The low bits of such numbers can reveal more than the proof
allows (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012). The training time,
the data size and the reported loss and accuracy are not protected.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.privacy.randomness import RandomBytes
from mindfl.protocol import Weights

FIRST_BOUND = 0.05
"""MindSpore Federated 0.1.0's clip bound before the first model has come back."""


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Return the least sigma / C for which one upload is (``epsilon``, ``delta``)-differentially private.

    It is alpha / sqrt(2 epsilon) of the analytic calibration, here as the root of one function instead of two. Raises
    :class:`OptionError` if ``epsilon`` is not above 0 or ``delta`` not between 0 and 1.
    """
    from scipy.optimize import brentq

    if not 0 < epsilon < math.inf:
        raise OptionError(f"dp_eps must be a number above 0, got {epsilon}")
    target = _log_of_delta(delta)
    low = high = 1 / math.sqrt(2 * epsilon)
    while gaussian_log_delta(low, epsilon) < target:
        low /= 2
    while gaussian_log_delta(high, epsilon) > target:
        high *= 2
    return _root(brentq, lambda multiplier: gaussian_log_delta(multiplier, epsilon) - target, low, high)


def gaussian_epsilon(multiplier: float, delta: float) -> float:
    """Return the least epsilon of one upload with noise ``multiplier`` at ``delta``; infinite without noise.

    n uploads are as one with ``multiplier`` / sqrt(n), exactly. Raises :class:`OptionError`.
    """
    from scipy.optimize import brentq

    if not 0 <= multiplier < math.inf:
        raise OptionError(f"the noise multiplier must be a number from 0 on, got {multiplier}")
    target = _log_of_delta(delta)
    if multiplier == 0:
        return math.inf
    if gaussian_log_delta(multiplier, 0.0) <= target:
        return 0.0
    high = 1.0
    while gaussian_log_delta(multiplier, high) > target:
        high *= 2
    return _root(brentq, lambda epsilon: gaussian_log_delta(multiplier, epsilon) - target, 0.0, high)


def gaussian_log_delta(multiplier: float, epsilon: float) -> float:
    """Return ln delta of one upload with noise ``multiplier`` z.

    delta = Phi(1 / 2z - epsilon z) - e**epsilon Phi(-1 / 2z - epsilon z), Phi the normal distribution.
    """
    from scipy.special import log_ndtr

    half = 0.5 / multiplier
    reached = float(log_ndtr(half - epsilon * multiplier))
    excess = epsilon + float(log_ndtr(-half - epsilon * multiplier)) - reached
    # A tiny delta may be rounded to 0.
    return reached + math.log(-math.expm1(excess)) if excess < 0 else -math.inf


def normal_noise(count: int, random: RandomBytes = os.urandom) -> NDArray[np.float64]:
    """Return ``count`` independent standard normal values from the bytes of ``random``.

    Each is the quantile of a uniform odd multiple of 2**-53, so the argument is never 0 or 1 and the values are
    symmetric.
    """
    from scipy.special import ndtri

    words = np.frombuffer(random(8 * count), "<u8")
    noise: NDArray[np.float64] = ndtri(((words >> 12 << 1) + 1) * 2.0**-53)
    return noise


@dataclass(frozen=True, slots=True)
class ClipBound:
    """The bound C on the norm of an update, which follows how far the global model moves."""

    value: float = FIRST_BOUND

    def after(self, iteration: int, before: Weights, new: Weights, dp_norm_clip: float) -> ClipBound:
        """Return the bound after ``iteration``, which made the model ``new`` of ``before``.

        It is dp_norm_clip * |before - new| after iteration 1, and never grows later. After a failed iteration, which
        changes nothing, it stays; the reference's bound would be 0 from then on.
        """
        moved = dp_norm_clip * distance(before, new)
        if not 0 < moved < math.inf:
            return self
        return ClipBound(moved if iteration == 1 else min(self.value, moved))


@dataclass(frozen=True, slots=True, eq=False)
class NoisyUpdate:
    """The weights to upload, not yet multiplied by the data size, and the norm of the update before clipping."""

    weights: Weights
    norm: float


def add_noise(
    trained: Weights, received: Weights, bound: ClipBound, multiplier: float, random: RandomBytes = os.urandom
) -> NoisyUpdate:
    """Return ``trained`` clipped to ``bound`` around ``received``, with noise; in the order of ``received``.

    A device whose weights did not change uploads ``received`` with noise, as in 0.1.0. Raises :class:`EncodingError` if
    the weights are not finite.
    """
    norm = distance(received, trained)
    if not math.isfinite(norm):
        raise EncodingError(EncodingFault.NOT_FINITE, "the trained weights")
    factor = min(1.0, bound.value / norm) if norm else 1.0
    deviation = multiplier * bound.value
    weights = {}
    for name, start in received.items():
        update = np.subtract(trained[name], start, dtype=np.float64) * factor
        update += deviation * normal_noise(start.size, random)
        weights[name] = (start + update).astype(np.float32)
    return NoisyUpdate(weights, norm)


def distance(one: Weights, other: Weights) -> float:
    """Return the L2 norm of the difference over all weights of ``one``, in float64.

    NumPy adds in an order that the sizes alone decide; ``np.dot`` adds in one that depends on the number of processors.
    """
    with np.errstate(invalid="ignore"):
        differences = (np.subtract(values, other[name], dtype=np.float64) for name, values in one.items())
        return math.sqrt(sum(float(np.square(part).sum()) for part in differences))


def _log_of_delta(delta: float) -> float:
    if not 0 < delta < 1:
        raise OptionError(f"delta must lie between 0 and 1, got {delta}")
    return math.log(delta)


def _root(brentq: Callable[..., float], function: Callable[[float], float], low: float, high: float) -> float:
    return low if low == high else float(brentq(function, low, high, xtol=1e-15 * high, rtol=1e-14))
