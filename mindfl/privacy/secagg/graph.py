"""The sparse random graph of devices that share masks in ``PW_EXACT``, after SecAgg+ (Bell, Bonawitz, Gascon, Lepoint
and Raykova, "Secure single-server aggregation with (poly)logarithmic overhead", ACM CCS 2020).

The devices stand in a circle in random order, and each is a neighbour of the k/2 before and the k/2 after it. Secrets
are shared among the k neighbours such that t shares recover one. With n devices, c of them corrupt (they collude with
the server) and d of them lost before the end, both chosen without knowing the graph:

- **exposed**: a device of which the server and its X corrupt neighbours find both secrets. P <= n P[X >= 2 t - k], X
  hypergeometric (n - 1, c, k). That many would do if the server told half of the neighbours that the device survived
  and the other half that it did not: they give k + X shares in all, of 2 t that are needed. Otherwise X >= t are.
- **cut off**: honest survivors that the graph does not connect with the others, so that a partial sum shows. That takes
  k/2 neighbours in a row that are corrupt or lost. P <= n C(c + d, k/2) / C(n, k/2).
- **not recovered**: a device of whose neighbours fewer than t are left at the end: the iteration fails.
  P <= n P[D > k - t], D hypergeometric (n - 1, d, k).

All three bounds are computed with integers. They hold for an honest-but-curious server: it draws the graph at random,
hands out all shares, and names the same survivors to all devices. A malicious server can unmask an upload: with false
lists of survivors and withheld shares it collects the seed of a device and the mask keys of all its neighbours, without
getting both secrets of any device. It can also invent devices, or replace their keys by its own. Preventing both takes
signatures of the devices, which this protocol does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import comb, inf, log2

from mindfl.errors import OptionError
from mindfl.privacy.randomness import RandomBytes

LEAST_DEVICES = 3
PRIVACY_BITS = 40
FAILURE_BITS = 20


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """A graph's numbers: ``degree`` k, ``threshold`` t, and log2 of the three bounds (-inf: impossible)."""

    devices: int
    corrupt: int
    lost: int
    degree: int
    threshold: int
    exposed_log2: float
    cut_off_log2: float
    not_recovered_log2: float

    def lines(self) -> list[str]:
        """Return the plan as lines for reports."""
        return [
            f"{self.devices} devices, of which up to {self.corrupt} corrupt and {self.lost} lost: each shares its "
            f"secrets with {self.degree} others, and {self.threshold} of them recover one",
            "for an honest-but-curious server a device is exposed with probability "
            f"{_power(self.exposed_log2)}, or a group of them cut off with {_power(self.cut_off_log2)}; "
            f"the iteration fails with probability {_power(self.not_recovered_log2)}",
        ]

    def neighbours(self, devices: Iterable[str], random: RandomBytes) -> dict[str, tuple[str, ...]]:
        """Draw the graph of an iteration: the neighbours of each of ``devices``, in ascending order.

        ``random`` is the server's source; the order of ``devices`` does not matter. Raises :class:`OptionError` if
        their number is not the plan's.
        """
        ordered = sorted(set(devices))
        if len(ordered) != self.devices:
            raise OptionError(f"a graph for {self.devices} devices was planned, not for {len(ordered)}")
        circle = sorted(ordered, key=lambda _: random(16))
        if self.degree == self.devices - 1:
            return {device: tuple(other for other in ordered if other != device) for device in ordered}
        steps = [step for step in range(-(self.degree // 2), self.degree // 2 + 1) if step]
        return {
            device: tuple(sorted(circle[(place + step) % self.devices] for step in steps))
            for place, device in enumerate(circle)
        }


@lru_cache(maxsize=64)
def plan_graph(
    devices: int,
    corrupt: int,
    lost: int,
    *,
    privacy_bits: int = PRIVACY_BITS,
    failure_bits: int = FAILURE_BITS,
) -> GraphPlan:
    """Return the graph of the smallest degree for which privacy fails with at most 2**-``privacy_bits``, and the
    iteration with at most 2**-``failure_bits``.

    Args:
        devices: number of devices in an iteration, at least 3: with two, each can compute the other's weights.
        corrupt: number of devices that may collude with the server.
        lost: number of devices that may drop out before the last step.

    Raises :class:`OptionError` if not even a complete graph suffices.
    """
    if devices < LEAST_DEVICES or corrupt < 0 or lost < 0 or corrupt + lost >= devices:
        raise OptionError(
            f"{devices} devices of which {corrupt} are corrupt and {lost} lost: nothing to protect",
            hint=f"use at least {LEAST_DEVICES} devices, some of them neither corrupt nor lost",
        )
    for degree in (*range(2, devices - 1, 2), devices - 1):
        plan = _plan_of_degree(devices, corrupt, lost, degree, privacy_bits)
        if plan is None or plan.not_recovered_log2 > -failure_bits:
            continue
        if _sum_log2(plan.exposed_log2, plan.cut_off_log2) <= -privacy_bits:
            return plan
    raise OptionError(
        f"{devices} devices cannot withstand {corrupt} corrupt and {lost} lost ones",
        hint="allow fewer dropouts (a higher update_model_ratio), or fewer colluding devices",
    )


def least_threshold(degree: int) -> int:
    """Return the smallest threshold for which two lists of survivors do not expose a device among honest ones."""
    return degree // 2 + 1


def _plan_of_degree(devices: int, corrupt: int, lost: int, degree: int, privacy_bits: int) -> GraphPlan | None:
    """Return the plan with the smallest threshold that protects, if any."""
    exposure = _tails(devices - 1, corrupt, degree)
    losses = _tails(devices - 1, lost, degree)
    draws = comb(devices - 1, degree)
    for threshold in range(least_threshold(degree), degree + 1):
        exposed = _log2_ratio(devices * exposure[2 * threshold - degree], draws)
        # One bit is left for the other bound on privacy.
        if exposed <= -privacy_bits - 1:
            return GraphPlan(
                devices,
                corrupt,
                lost,
                degree,
                threshold,
                exposed,
                _cut_off_log2(devices, corrupt + lost, degree),
                _log2_ratio(devices * losses[degree - threshold + 1], draws),
            )
    return None


def _tails(population: int, marked: int, draws: int) -> list[int]:
    """Return, for i = 0..draws + 1, in how many of C(population, draws) ways i or more of the draws are marked."""
    ways = [comb(marked, hits) * comb(population - marked, draws - hits) for hits in range(draws + 1)]
    return [*accumulate(reversed(ways), initial=0)][::-1]


def _cut_off_log2(devices: int, removed: int, degree: int) -> float:
    if degree == devices - 1:
        return -inf
    return _log2_ratio(devices * comb(removed, degree // 2), comb(devices, degree // 2))


def _log2_ratio(numerator: int, denominator: int) -> float:
    return min(0.0, log2(numerator) - log2(denominator)) if numerator else -inf


def _sum_log2(first: float, second: float) -> float:
    larger, smaller = max(first, second), min(first, second)
    return larger if smaller == -inf else larger + log2(1 + 2.0 ** (smaller - larger))


def _power(exponent: float) -> str:
    return "0" if exponent == -inf else f"2^{exponent:.1f}"
