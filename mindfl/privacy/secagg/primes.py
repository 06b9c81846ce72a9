"""The field in which secrets are shared: a random safe prime for ``PW_ENCRYPT``, a fixed prime for ``PW_EXACT``.

Own code, since the package cryptography makes no safe primes below 512 bits and the wire has room for 33 bytes.
"""

from __future__ import annotations

import os
from functools import cache

from mindfl.privacy.secagg.randomness import RandomBytes, random_below

#: MindSpore Federated 0.1.0's prime has 264 bits: 33 bytes, so that every 32-byte secret is smaller
PRIME_BITS = 264
PRIME_BYTES = PRIME_BITS // 8
#: the smallest safe prime of that many bits. The server of 0.1.0 draws one at its start; nothing hangs on which it is
PAIRWISE_PRIME = 2**263 + 14079
#: the smallest prime above 2**256
EXACT_PRIME = 2**256 + 297
#: Miller-Rabin rounds: a composite passes with probability 4**-64 at most
ROUNDS = 64
_SIEVE_BELOW = 4096


def is_prime(number: int, random: RandomBytes = os.urandom) -> bool:
    """Return whether ``number`` is prime, by Miller-Rabin with :data:`ROUNDS` random bases."""
    if number < 2 or any(number % prime == 0 for prime in _small_primes()):
        return number in _small_primes()
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    odd = (number - 1) >> twos
    return all(_passes(number, random_below(number - 1, random), odd, twos) for _ in range(ROUNDS))


def safe_prime(bits: int = PRIME_BITS, random: RandomBytes = os.urandom) -> int:
    """Return a random prime p of exactly ``bits`` bits (at least 16) whose (p - 1) / 2 is prime too."""
    small = [prime for prime in _small_primes() if prime.bit_length() < bits // 2 and prime > 2]
    while True:
        half = int.from_bytes(random((bits + 7) // 8), "big") >> (-bits % 8) >> 1
        half |= 1 << (bits - 2) | 1
        # 0: half itself is divisible; (prime - 1) / 2: twice half plus one is.
        if any(half % prime in (0, (prime - 1) // 2) for prime in small):
            continue
        whole = 2 * half + 1
        # Base 2 first: it refuses nearly every composite at the price of one power.
        if pow(2, half - 1, half) == 1 and pow(2, whole - 1, whole) == 1 and is_prime(half) and is_prime(whole):
            return whole


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


@cache
def _small_primes() -> tuple[int, ...]:
    sieve = bytearray([1]) * _SIEVE_BELOW
    for number in range(2, int(_SIEVE_BELOW**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, _SIEVE_BELOW, number)))
    return tuple(number for number in range(2, _SIEVE_BELOW) if sieve[number])
