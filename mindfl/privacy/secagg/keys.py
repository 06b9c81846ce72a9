"""Secret bytes, X25519 key pairs (RFC 7748) and the keys that two devices agree upon."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes
from mindfl.privacy.secagg.ciphers import KEY_BYTES


class Secret:
    """Bytes that are not printed, not pickled, and compared in constant time.

    :meth:`wipe` overwrites them, but not the copies that :meth:`reveal` returned or that a cipher library made.
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: bytes) -> None:
        self._value = bytearray(value)

    def reveal(self) -> bytes:
        """Return a copy. Raises ``ValueError`` after :meth:`wipe`."""
        if not self._value:
            raise ValueError("this secret was wiped")
        return bytes(self._value)

    def wipe(self) -> None:
        """Overwrite and forget the bytes."""
        self._value[:] = bytes(len(self._value))
        self._value = bytearray()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "Secret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


#: (agreed secret, salt) -> 32-byte key
Derive: TypeAlias = Callable[[bytes, bytes], bytes]
_Agreed: TypeAlias = "Future[list[Secret | None]]"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A pair of raw 32-byte keys. The private one is kept as drawn, unclamped."""

    public: bytes
    private: Secret = field(repr=False)
    _key: X25519PrivateKey = field(repr=False, compare=False)

    @staticmethod
    def generate(random: RandomBytes) -> KeyPair:
        """Draw a pair. See :func:`draw_secret` for the first byte."""
        return KeyPair.from_private(draw_secret(random))

    @staticmethod
    def from_private(private: bytes) -> KeyPair:
        """Return the pair of a raw private key of 32 bytes."""
        key = X25519PrivateKey.from_private_bytes(private)
        return KeyPair(key.public_key().public_bytes_raw(), Secret(private), key)

    def agree(self, public: bytes) -> bytes | None:
        """Return the 32-byte secret shared with the owner of ``public``; None if that is a point of low order."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of an agreement: its name (for errors), its public key, and the salt of the derivation."""

    name: str
    public: bytes
    salt: bytes = b""


class PairKeys:
    """Derives the keys of pairs, each pair once: in a simulation both its ends ask the same object.

    Args:
        derive: see :data:`Derive`; it should run without the interpreter lock.
        workers: threads that derive. None: one per processor.

    Safe to call from many threads. Keys are kept until :meth:`forget`, which belongs to the end of each iteration.
    """

    def __init__(self, derive: Derive, workers: int | None = None) -> None:
        self._derive = derive
        self._workers = workers or os.cpu_count() or 1
        self._pool: ThreadPoolExecutor | None = None
        self._known: dict[tuple[bytes, ...], tuple[_Agreed, int]] = {}
        self._lock = threading.Lock()

    def keys(self, own: KeyPair, peers: Sequence[Peer]) -> list[bytes]:
        """Return the key shared with each of ``peers``. Raises :class:`SecureAggregationError` naming a weak one."""
        with self._lock:
            missing = [peer for peer in peers if _name(own, peer) not in self._known]
            for part in (missing[start :: self._workers] for start in range(self._workers)):
                if part:
                    agreed = self._executor().submit(self._derive_part, own, part)
                    self._known.update((_name(own, peer), (agreed, place)) for place, peer in enumerate(part))
            places = [self._known[_name(own, peer)] for peer in peers]
        found = []
        for peer, (agreed, place) in zip(peers, places, strict=True):
            key = agreed.result()[place]
            if key is None:
                raise SecureAggregationError(Fault.KEY_WEAK, peer.name)
            found.append(key.reveal())
        return found

    def forget(self) -> None:
        """Wipe all keys and end the threads; the next call starts them again. No call may be under way."""
        with self._lock:
            if self._pool:
                self._pool.shutdown()
            for agreed, place in self._known.values():
                key = agreed.result()[place]
                if key is not None:
                    key.wipe()
            self._known, self._pool = {}, None

    def _executor(self) -> ThreadPoolExecutor:
        self._pool = self._pool or ThreadPoolExecutor(self._workers, "mindfl-pair-keys")
        return self._pool

    def _derive_part(self, own: KeyPair, peers: Sequence[Peer]) -> list[Secret | None]:
        secrets = [own.agree(peer.public) for peer in peers]
        return [
            None if secret is None else Secret(self._derive(secret, peer.salt))
            for secret, peer in zip(secrets, peers, strict=True)
        ]


def draw_secret(random: RandomBytes) -> bytes:
    """Return 32 random bytes, the first of which is not 0.

    The server of MindSpore Federated 0.1.0 loses leading zero bytes of a recovered secret, and then silently corrupts
    the model. Drawing again costs 0.006 bits of 256.
    """
    while True:
        secret = random(KEY_BYTES)
        if secret[0]:
            return secret


def check_public_key(public: bytes | None, who: str) -> bytes:
    """Return ``public``, a raw X25519 key that ``who`` published.

    Raises :class:`SecureAggregationError` if it is absent, not 32 bytes long, or of low order.
    """
    key = check_length(public, KEY_BYTES, who)
    if _PROBE.agree(key) is None:
        raise SecureAggregationError(Fault.KEY_WEAK, who)
    return key


def check_length(value: bytes | None, length: int, who: str) -> bytes:
    """Return ``value``. Raises :class:`SecureAggregationError` if it is not ``length`` bytes long."""
    if value is None or len(value) != length:
        got = "none" if value is None else f"{len(value)} bytes"
        raise SecureAggregationError(Fault.KEY_LENGTH, who, f"{got} instead of {length}")
    return value


def _name(own: KeyPair, peer: Peer) -> tuple[bytes, ...]:
    return (*sorted((own.public, peer.public)), peer.salt)


# Any private key detects the points of low order, since clamping makes it a multiple of the cofactor.
_PROBE = KeyPair.from_private(bytes(range(1, 33)))
