"""A test of primality, for the constants that must be prime."""

from __future__ import annotations

import random

SMALL = tuple(number for number in range(2, 1000) if all(number % other for other in range(2, number)))
ROUNDS = 40


def is_prime(number: int) -> bool:
    """Return whether ``number`` is prime, by Miller-Rabin: a composite passes with probability 4**-40 at most."""
    if number < 2 or any(number % prime == 0 for prime in SMALL):
        return number in SMALL
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    generator = random.Random(number)
    return all(_passes(number, generator.randrange(2, number - 1), twos) for _ in range(ROUNDS))


def _passes(number: int, base: int, twos: int) -> bool:
    power = pow(base, (number - 1) >> twos, number)
    if power == 1:
        return True
    return any((power := power if step == 0 else power * power % number) == number - 1 for step in range(twos))
