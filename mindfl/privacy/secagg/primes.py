"""The fields in which secrets are shared: their primes."""

from __future__ import annotations

#: MindSpore Federated 0.1.0's prime has 264 bits: 33 bytes, so that every 32-byte secret is smaller
PRIME_BITS = 264
PRIME_BYTES = PRIME_BITS // 8
#: the smallest safe prime of that many bits. The server of 0.1.0 draws one at its start; nothing hangs on which it is
PAIRWISE_PRIME = 2**263 + 14079
#: the smallest prime above 2**256
EXACT_PRIME = 2**256 + 297
