"""The ciphers, key derivations and masks of secure aggregation.

Constants are those of MindSpore Federated 0.1.0 unless it says ``PW_EXACT``. A mask is a long vector made from a short
key. It covers all weights end to end, names in ascending order. MindSpore Federated 0.1.0's Java client starts the mask
anew in every weight, which no server can remove. Here it is one vector, as the server of 0.1.0 expects.
"""

from __future__ import annotations

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from numpy.typing import NDArray

KEY_BYTES = 32
IV_BYTES = 16
SALT_BYTES = 32
PBKDF2_ROUNDS = 10_000
NONCE_BYTES = 12
TAG_BYTES = 16

_BLOCK_BITS = 128


def pbkdf2(password: bytes, salt: bytes) -> bytes:
    """Return 32 bytes of PBKDF2-HMAC-SHA256 with :data:`PBKDF2_ROUNDS` rounds. Runs without the interpreter lock."""
    return PBKDF2HMAC(hashes.SHA256(), KEY_BYTES, salt, PBKDF2_ROUNDS).derive(password)


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA256, RFC 5869 (``PW_EXACT``)."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, info).derive(secret)


def keystream(key: bytes, iv: bytes, out: NDArray[np.uint8], zeros: bytes) -> None:
    """Fill ``out`` with AES-256-CTR's keystream. ``zeros`` are at least as many zero bytes.

    Runs without the interpreter lock.
    """
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(iv)).encryptor()
    encryptor.update_into(memoryview(zeros)[: out.nbytes], out.data)


def cbc_encrypt(key: bytes, iv: bytes, plain: bytes) -> bytes:
    """Return ``iv`` and the AES-256-CBC encryption of ``plain`` with PKCS#7 padding."""
    padder = padding.PKCS7(_BLOCK_BITS).padder()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def cbc_decrypt(key: bytes, data: bytes) -> bytes | None:
    """Return the text that :func:`cbc_encrypt` encrypted, or None. CBC does not detect every alteration."""
    body = data[IV_BYTES:]
    if not body or len(body) % IV_BYTES:
        return None
    decryptor = Cipher(algorithms.AES256(key), modes.CBC(data[:IV_BYTES])).decryptor()
    unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
    try:
        return unpadder.update(decryptor.update(body) + decryptor.finalize()) + unpadder.finalize()
    except ValueError:
        return None


def gcm_encrypt(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    """Return ``nonce``, the AES-256-GCM encryption of ``plain`` and the tag, which covers ``bound`` (``PW_EXACT``)."""
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def gcm_decrypt(key: bytes, data: bytes, bound: bytes) -> bytes | None:
    """Return the text that :func:`gcm_encrypt` encrypted; None if key, data or ``bound`` differ in any bit."""
    if len(data) < NONCE_BYTES + TAG_BYTES:
        return None
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound)
    except InvalidTag:
        return None


FloatMask = NDArray[np.float32]
#: "<u4" or "<u8"
WordMask = NDArray[np.uint32] | NDArray[np.uint64]

# float32(2147483647) is 2**31, so that this division is an exact scaling.
_SCALE = np.float32(1 / 2147483648)


class FloatMasks:
    """Masks of ``PW_ENCRYPT`` with ``length`` values in -1..1; holds the memory to make them in. One thread's."""

    def __init__(self, length: int) -> None:
        self._words = np.zeros(length, "<i4")
        self._zeros = bytes(self._words.nbytes)

    def make(self, key: bytes, iv: bytes) -> FloatMask:
        """Return float32(word) / float32(2147483647) for each int32 of the keystream."""
        keystream(key, iv, self._words.view(np.uint8), self._zeros)
        mask = self._words.astype(np.float32)
        mask *= _SCALE
        return mask


class WordMasks:
    """Masks of ``PW_EXACT``, uniform modulo 2**32 or 2**64; holds the memory to make them in. One thread's.

    The initial vector is 0: a key makes one mask only.
    """

    def __init__(self, length: int, bits: int) -> None:
        self._mask: WordMask = np.zeros(length, f"<u{bits // 8}")
        self._zeros = bytes(self._mask.nbytes)

    def add(self, total: WordMask, key: bytes, sign: int) -> None:
        """Add (``sign`` 1) the mask of ``key`` to ``total``, or subtract it (-1), in place and modulo the word."""
        keystream(key, bytes(16), self._mask.view(np.uint8), self._zeros)
        operation = np.add if sign > 0 else np.subtract
        operation(total, self._mask, out=total)


def sign_of(me: str, peer: str) -> int:
    """Return with which sign ``me`` adds the mask it has in common with ``peer``.

    Ids are compared by their UTF-8 bytes, which is the order of their code points.
    """
    return 1 if me > peer else -1
