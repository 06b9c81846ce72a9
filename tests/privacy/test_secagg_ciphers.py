"""Known answers for every cipher, derivation and generator; secrets stay out of sight."""

from __future__ import annotations

import hashlib
import hmac
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_primes import is_prime

from mindfl.privacy.randomness import random_below
from mindfl.privacy.secagg import Fault, KeyPair, PairKeys, Peer, Secret, SecureAggregationError, SeededRandom
from mindfl.privacy.secagg.ciphers import (
    FloatMasks,
    WordMasks,
    cbc_decrypt,
    cbc_encrypt,
    gcm_decrypt,
    gcm_encrypt,
    hkdf,
    keystream,
    pbkdf2,
)
from mindfl.privacy.secagg.keys import check_public_key, draw_secret
from mindfl.privacy.secagg.shares import EXACT_PRIME, PAIRWISE_PRIME, PRIME_BITS

raw = bytes.fromhex


@pytest.mark.parametrize(
    ("private", "public", "shared"),
    [  # RFC 7748, section 5.2
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519(private: str, public: str, shared: str) -> None:
    assert KeyPair.from_private(raw(private)).agree(raw(public)) == raw(shared)


def test_a_private_key_is_kept_unclamped() -> None:
    private = raw("07" + "ff" * 31)

    assert KeyPair.from_private(private).private.reveal() == private
    assert KeyPair.from_private(private) == KeyPair.from_private(private)


def pbkdf2_of_rfc_8018(password: bytes, salt: bytes, rounds: int) -> bytes:
    block = hmac.digest(password, salt + (1).to_bytes(4, "big"), "sha256")
    result = int.from_bytes(block, "big")
    for _ in range(rounds - 1):
        block = hmac.digest(password, block, "sha256")
        result ^= int.from_bytes(block, "big")
    return result.to_bytes(32, "big")


def test_pbkdf2_has_the_specified_rounds() -> None:
    # RFC 7914, section 11, first block
    first = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
    assert pbkdf2_of_rfc_8018(b"passwd", b"salt", 1) == raw(first)

    for salt in (b"", bytes(range(32))):
        assert pbkdf2(bytes(range(100, 132)), salt) == pbkdf2_of_rfc_8018(bytes(range(100, 132)), salt, 10_000)


def test_hkdf() -> None:
    # RFC 5869, A.1 and A.3: the first 32 bytes
    first = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    third = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert hkdf(b"\x0b" * 22, raw("000102030405060708090a0b0c"), raw("f0f1f2f3f4f5f6f7f8f9")) == raw(first)
    assert hkdf(b"\x0b" * 22, b"", b"") == raw(third)


def test_aes_ctr() -> None:
    # RFC 3686, test vector 8: the key stream is ciphertext XOR plaintext
    key = raw("f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884")
    ciphertext = np.frombuffer(raw("f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c"), np.uint8)
    out = np.zeros(32, np.uint8)

    keystream(key, raw("00faac24c1585ef15a43d87500000001"), out, bytes(100))

    assert (out ^ np.arange(32, dtype=np.uint8)).tobytes() == ciphertext.tobytes()


def test_aes_cbc() -> None:
    # NIST AESVS MMT, CBC, 256 bits, count 1; PKCS#7 adds a block behind it
    key = raw("dce26c6b4cfb286510da4eecd2cffe6cdf430f33db9b5f77b460679bd49d13ae")
    iv = raw("fdeaa134c8d7379d457175fd1a57d3fc")
    plain = raw("50e9eee1ac528009e8cbcd356975881f957254b13f91d7c6662d10312052eb00")
    ciphertext = raw("2fa0df722a9fd3b64cb18fb2b3db55ff2267422757289413f8f657507412a64c")

    sealed = cbc_encrypt(key, iv, plain)

    assert sealed[:48] == iv + ciphertext and len(sealed) == 64
    assert cbc_decrypt(key, sealed) == plain
    for broken in (b"", iv, sealed[:-1], sealed[:-16], cbc_encrypt(bytes(32), iv, plain)):
        assert cbc_decrypt(key, broken) != plain


def test_aes_gcm() -> None:
    # NIST GCMVS, encrypt, 256 bits, PTlen 256, AADlen 160, count 0
    key = raw("5853c020946b35f2c58ec427152b840420c40029636adcbb027471378cfdde0f")
    nonce = raw("eec313dd07cc1b3e6b068a47")
    plain = raw("ce7458e56aef9061cb0c42ec2315565e6168f5a6249ffd31610b6d17ab64935e")
    bound = raw("1389b522c24a774181700553f0246bbabdd38d6f")
    ciphertext = raw("eadc3b8766a77ded1a58cb727eca2a9790496c298654cda78febf0da16b6903b")
    tag = raw("3d49a5b32fde7eafcce90079217ffb57")

    assert gcm_encrypt(key, nonce, plain, bound) == nonce + ciphertext + tag
    assert gcm_decrypt(key, nonce + ciphertext + tag, bound) == plain
    assert gcm_decrypt(key, nonce + ciphertext + tag, b"") is None
    assert gcm_decrypt(key, b"short", bound) is None


def test_the_seeded_generator_is_chacha20() -> None:
    context = [b"mindfl seeded random", b"5", b"f00001", b"3"]
    key = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in context)).digest()

    assert SeededRandom(5, "f00001", 3)(150) == chacha20_of_rfc_8439(key, 150)


def chacha20_of_rfc_8439(key: bytes, count: int, start: int = 0, nonce: bytes = bytes(12)) -> bytes:
    """Return the key stream by the RFC's own description."""
    words = np.frombuffer(b"expand 32-byte k" + key + bytes(4) + nonce, "<u4")
    stream = b""
    for block in range(start, start + -(-count // 64)):
        state = words.copy()
        state[12] = block
        mixed = state.copy()
        for _ in range(10):
            for quarter in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
                _quarter_round(mixed, *quarter)
            for quarter in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                _quarter_round(mixed, *quarter)
        stream += (mixed + state).tobytes()
    return stream[:count]


def _quarter_round(state: np.ndarray, a: int, b: int, c: int, d: int) -> None:
    for target, source, mixed, left in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        with np.errstate(over="ignore"):
            state[target] += state[source]
        word = state[mixed] ^ state[target]
        state[mixed] = (word << np.uint32(left)) | (word >> np.uint32(32 - left))


def test_chacha20_as_described_gives_the_rfcs_key_stream() -> None:
    # RFC 8439, A.1, test vector 1
    expected = (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )
    assert chacha20_of_rfc_8439(bytes(32), 64) == raw(expected)


def test_streams_differ_by_seed_and_by_every_part_of_the_context() -> None:
    contexts = [(1, "a", 1), (2, "a", 1), (1, "b", 1), (1, "a", 2), (1, "a1", ""), (1, "a")]

    assert len({SeededRandom(*context)(32) for context in contexts}) == len(contexts)
    stream = SeededRandom(1, "a", 1)
    assert stream(5) + stream(27) == SeededRandom(1, "a", 1)(32)


@given(st.integers(2, 2**70), st.integers())
def test_random_numbers_stay_below_their_bound(bound: int, seed: int) -> None:
    assert 0 < random_below(bound, SeededRandom(seed)) < bound


def test_random_numbers_are_uniform() -> None:
    random = SeededRandom("dice")
    counts = np.bincount([random_below(7, random) for _ in range(6000)], minlength=7)

    assert counts[0] == 0 and ((counts[1:] - 1000) ** 2 / 1000).sum() < 30  # 5 degrees of freedom: P < 2e-5


def test_primes() -> None:
    assert [number for number in range(60) if is_prime(number)] == [
        *(2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59)
    ]
    assert is_prime(2**255 - 19) and is_prime(2**521 - 1)
    # Carmichael numbers, a strong pseudoprime to the bases 2 to 37, and a product of two large primes
    for composite in (561, 41041, 318665857834031151167461, (2**255 - 19) * (2**127 - 1)):
        assert not is_prime(composite)


def test_the_exact_prime_is_the_first_above_all_secrets() -> None:
    assert is_prime(EXACT_PRIME) and not any(is_prime(number) for number in range(2**256 + 1, EXACT_PRIME, 2))


def test_the_pairwise_prime_is_the_first_safe_one_of_its_size() -> None:
    assert PAIRWISE_PRIME.bit_length() == PRIME_BITS
    assert is_prime(PAIRWISE_PRIME) and is_prime((PAIRWISE_PRIME - 1) // 2)
    smaller = range(2**263 + 1, PAIRWISE_PRIME, 2)
    assert not any(pow(2, number - 1, number) == 1 and is_prime((number - 1) // 2) for number in smaller)


def test_a_secret_never_begins_with_zero() -> None:
    stream = iter([bytes(32), b"\0" + b"\1" * 31, b"\1" + bytes(31)])

    assert draw_secret(lambda count: next(stream)[:count]) == b"\1" + bytes(31)


def test_secrets_are_not_shown_kept_or_copied() -> None:
    secret = Secret(b"sesame")
    pair = KeyPair.generate(SeededRandom(1))

    assert secret == Secret(b"sesame") != Secret(b"other!") and secret != b"sesame"
    assert "sesame" not in repr(secret) + str(secret)
    assert pair.private.reveal().hex() not in repr(pair) and repr(pair.private.reveal()) not in repr(pair)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    secret.wipe()
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()


LOW_ORDER = [bytes(32), b"\1" + bytes(31), ((1 << 255) - 20).to_bytes(32, "little")]


@pytest.mark.parametrize("key", LOW_ORDER, ids=["zero", "one", "minus one"])
def test_a_key_that_makes_the_secret_public_is_refused(key: bytes) -> None:
    with pytest.raises(SecureAggregationError, match="device x") as caught:
        check_public_key(key, "device x")
    assert caught.value.fault is Fault.KEY_WEAK
    with pytest.raises(SecureAggregationError) as caught:
        PairKeys(hkdf_of).keys(KeyPair.generate(SeededRandom(1)), [Peer("device x", key)])
    assert caught.value.fault is Fault.KEY_WEAK and caught.value.who == "device x"


@pytest.mark.parametrize("key", [None, b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key: bytes | None) -> None:
    with pytest.raises(SecureAggregationError) as caught:
        check_public_key(key, "x")
    assert caught.value.fault is Fault.KEY_LENGTH


def test_without_the_package_cryptography_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['cryptography'] = None; import mindfl.privacy.secagg"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "OptionError: secure aggregation needs the package cryptography" in ended.stderr


def hkdf_of(secret: bytes, salt: bytes) -> bytes:
    return hkdf(secret, salt, b"")


def test_a_pair_is_derived_once_for_both_of_its_ends() -> None:
    calls = []

    def derive(secret: bytes, salt: bytes) -> bytes:
        calls.append(salt)
        return hkdf_of(secret, salt)

    owners = [KeyPair.generate(SeededRandom(number)) for number in range(4)]
    pairs = PairKeys(derive, workers=3)
    found = {}
    for place, owner in enumerate(owners):
        others = [other for other in range(4) if other != place]
        for other, key in zip(
            others, pairs.keys(owner, [Peer("p", owners[other].public) for other in others]), strict=True
        ):
            found[place, other] = key

    assert len(calls) == 6 and all(found[one, two] == found[two, one] for one, two in found)
    assert len(set(found.values())) == 6
    assert pairs.keys(owners[0], [Peer("p", owners[1].public, b"salt")])[0] not in found.values()
    pairs.forget()
    assert pairs.keys(owners[0], [Peer("p", owners[1].public)]) == [found[0, 1]] and len(calls) == 8


@given(st.integers(1, 300), st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_a_float_mask_is_the_key_stream_scaled(length: int, key: bytes, iv: bytes) -> None:
    stream = np.zeros(4 * length, np.uint8)
    keystream(key, iv, stream, bytes(4 * length))
    expected = stream.view("<i4").astype(np.float32) / np.float32(2147483647)

    mask = FloatMasks(length).make(key, iv)

    assert mask.dtype == np.float32 and mask.tobytes() == expected.tobytes() and np.abs(mask).max() <= 1


@pytest.mark.parametrize("bits", [32, 64])
def test_word_masks_are_added_modulo_the_word(bits: int) -> None:
    total = np.full(5, 2**bits - 1, f"<u{bits // 8}")
    masks = WordMasks(5, bits)

    masks.add(total, bytes(32), 1)
    once = total.copy()
    masks.add(total, b"k" * 32, 1)
    masks.add(total, bytes(32), -1)
    masks.add(total, b"k" * 32, -1)

    stream = np.zeros(5 * bits // 8, np.uint8)
    keystream(bytes(32), bytes(16), stream, bytes(stream.size))
    assert [int(word) for word in once] == [int(word) - 1 for word in stream.view(total.dtype)]
    assert (total == 2**bits - 1).all()


def test_key_pairs_of_the_same_bytes_are_equal() -> None:
    pair = KeyPair.from_private(bytes(range(32)))
    assert pair == KeyPair.from_private(bytes(range(32))) != KeyPair.from_private(bytes(range(1, 33)))
