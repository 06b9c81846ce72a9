"""Shamir's secret sharing: a polynomial over a prime field whose value at 0 is the secret."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

from mindfl.privacy.secagg.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.randomness import RandomBytes, random_below

#: secrets are 32 bytes, big endian, whatever their first bytes are
SECRET_BYTES = 32
_SECRET_LIMIT = 1 << 8 * SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Share:
    """The polynomial's value at ``x``."""

    x: int
    value: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shamir:
    """Sharing of 32-byte secrets such that ``threshold`` shares recover one and fewer say nothing about it.

    ``prime`` exceeds 2**256.
    """

    prime: int
    threshold: int

    def split(self, secret: bytes, xs: Sequence[int], random: RandomBytes) -> list[Share]:
        """Return one share for each of ``xs``, in their order. Coefficients are uniform in 1..prime - 1 (as in 0.1.0).

        Raises :class:`SecureAggregationError` where there are fewer ``xs`` than the threshold, one occurs twice, or one
        is 0: the share there would be the secret.
        """
        self._check_places(xs, "the places of shares")
        coefficients = [random_below(self.prime, random) for _ in range(self.threshold - 1)]
        coefficients.append(int.from_bytes(secret, "big"))
        return [Share(x, self._at(coefficients, x)) for x in xs]

    def recover(self, shares: Iterable[Share], owner: str) -> bytes:
        """Return the secret of ``owner``, padded to 32 bytes.

        All shares are looked at: with more than ``threshold`` of them, one that was altered is found. Raises
        :class:`SecureAggregationError`.
        """
        ordered = sorted(shares, key=lambda share: share.x)
        xs = tuple(share.x for share in ordered)
        self._check_places(xs, f"the shares of {owner}")
        if any(not 0 <= share.value < self.prime for share in ordered):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, f"the shares of {owner}")
        if not self._on_one_polynomial(ordered, xs):
            raise SecureAggregationError(Fault.SHARES_DIFFER, f"the shares of {owner}")
        secret = self.recover_unchecked(ordered[: self.threshold])
        if secret is None:
            raise SecureAggregationError(Fault.SHARES_DIFFER, f"the shares of {owner}", "no secret is that large")
        return secret

    def recover_unchecked(self, shares: Sequence[Share]) -> bytes | None:
        """Return the 32-byte secret of ``threshold`` shares of different places; None where the number is larger.

        For a secret that can be checked afterwards: altered shares give another one.
        """
        weights = _weights_at_zero(tuple(share.x for share in shares), self.prime)
        secret = sum(weight * share.value for weight, share in zip(weights, shares, strict=True)) % self.prime
        return secret.to_bytes(SECRET_BYTES, "big") if secret < _SECRET_LIMIT else None

    def _at(self, coefficients: Sequence[int], x: int) -> int:
        value = 0
        for coefficient in coefficients:
            value = value * x + coefficient
        return value % self.prime

    def _check_places(self, xs: Sequence[int], what: str) -> None:
        if not 1 <= self.threshold <= len(xs):
            detail = f"{len(xs)} of {self.threshold} that are needed"
            raise SecureAggregationError(Fault.TOO_FEW if self.threshold >= 1 else Fault.THRESHOLD, what, detail)
        if len(set(xs)) < len(xs) or not all(0 < x < self.prime for x in xs):
            raise SecureAggregationError(Fault.SHARE_MALFORMED, what, "an index is 0, too large, or used twice")

    def _on_one_polynomial(self, shares: Sequence[Share], xs: tuple[int, ...]) -> bool:
        """Tell whether all shares are of one polynomial of degree below the threshold: the dual code's checks are 0."""
        spare = len(shares) - self.threshold
        if not spare:
            return True
        terms = [weight * share.value for weight, share in zip(_dual_weights(xs, self.prime), shares, strict=True)]
        for _ in range(spare):
            if sum(terms) % self.prime:
                return False
            terms = [term * x % self.prime for term, x in zip(terms, xs, strict=True)]
        return True


@lru_cache(maxsize=1024)
def _weights_at_zero(xs: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """Return Lagrange's weights for the value at 0."""
    whole = prod(-x for x in xs)
    return tuple(
        whole // -x * pow(prod(x - other for other in xs if other != x) % prime, -1, prime) % prime for x in xs
    )


@lru_cache(maxsize=1024)
def _dual_weights(xs: tuple[int, ...], prime: int) -> tuple[int, ...]:
    return tuple(pow(prod(x - other for other in xs if other != x) % prime, -1, prime) for x in xs)
