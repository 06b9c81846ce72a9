"""One device's part of ``PW_EXACT`` in one iteration: secure aggregation whose sums are exact to the bit.

Like ``PW_ENCRYPT`` (:mod:`mindfl.privacy.secagg.pairwise`, same steps), but for these:

- uploads and masks are integers modulo 2**64 (or 2**32): a masked upload is uniformly distributed and reveals nothing
  about the weights, while a float mask between -1 and 1 only blurs them;
- devices share masks and secrets with their neighbours in a sparse random graph, not with all devices;
- keys come from HKDF-SHA256 and shares travel under AES-256-GCM, both bound to job and iteration, so that a replayed,
  redirected or altered share is refused;
- each device publishes a SHA-256 commitment to its seed: a recovered secret is checked before it is used.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes
from mindfl.privacy.secagg.ciphers import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    WordMask,
    WordMasks,
    gcm_decrypt,
    gcm_encrypt,
    hkdf,
    sign_of,
)
from mindfl.privacy.secagg.graph import least_threshold
from mindfl.privacy.secagg.holder import SecretHolder, Steps
from mindfl.privacy.secagg.keys import PairKeys, Peer, check_length, check_public_key
from mindfl.privacy.secagg.shares import EXACT_PRIME, MAX_PLACE, SECRET_BYTES, Shamir, Share, SharePair, by_id
from mindfl.protocol import ClientShare

COMMITMENT_BYTES = 32
#: a number below the prime above 2**256
SHARE_BYTES = SECRET_BYTES + 1
PLACE_BYTES = 4
_ITERATION_BYTES = 8
SEALED_BYTES = NONCE_BYTES + PLACE_BYTES + 2 * SHARE_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class ExactKeys:
    """A device's public keys: two X25519 keys and the commitment to its seed, 32 bytes each."""

    fl_id: str
    c_pk: bytes
    s_pk: bytes
    commitment: bytes


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """Parameters that all devices of an iteration share.

    Args:
        context: identifies job, instance and iteration; keys, shares and uploads of another context are refused.
        threshold: how many shares recover a secret; see :class:`GraphPlan`.
        bits: of a word, 32 or 64.
    """

    context: bytes
    threshold: int
    bits: int = 64

    @staticmethod
    def of(instance: bytes, iteration: int, threshold: int) -> ExactPlan:
        """Return the round of ``iteration`` in the job's ``instance``, as the server's plan names it."""
        return ExactPlan(instance + iteration.to_bytes(_ITERATION_BYTES, "big", signed=True), threshold)

    @property
    def shamir(self) -> Shamir:
        """The secret sharing of this round."""
        return Shamir(EXACT_PRIME, self.threshold)

    def salt(self, purpose: str) -> bytes:
        """Return a salt that separates the keys for ``purpose`` in this iteration from all others."""
        return hashlib.sha256(b"mindfl PW_EXACT 1 " + purpose.encode() + b"\0" + self.context).digest()


def exact_keys(workers: int | None = None) -> PairKeys:
    """Return an object that derives the keys of pairs in this mode, for all devices of a process."""
    return PairKeys(derive_key, workers)


def derive_key(secret: bytes, salt: bytes) -> bytes:
    """Return a pair's key for the purpose in ``salt``, see :meth:`Round.salt`."""
    return hkdf(secret, salt, b"pair")


def commit(seed: bytes, fl_id: str, context: bytes) -> bytes:
    """Return the commitment of ``fl_id`` to its seed."""
    return hashlib.sha256(
        b"mindfl PW_EXACT 1 seed\0" + seed + hashlib.sha256(context).digest() + fl_id.encode()
    ).digest()


def upload_name(keys: ExactKeys, plan: ExactPlan) -> str:
    """Return the name of the upload of the owner of ``keys``: unique to this device and iteration."""
    name = b"mindfl PW_EXACT 1 upload\0" + hashlib.sha256(plan.context).digest()
    name += keys.s_pk + keys.commitment + keys.fl_id.encode()
    return f"PW_EXACT {hashlib.sha256(name).hexdigest()[:32]}"


def check_exact_keys(keys: ExactKeys) -> None:
    """Raise :class:`SecureAggregationError` if a key or commitment has a wrong length, or a key is weak."""
    check_public_key(keys.c_pk, keys.fl_id)
    check_public_key(keys.s_pk, keys.fl_id)
    check_length(keys.commitment, COMMITMENT_BYTES, keys.fl_id)


class ExactDevice(SecretHolder[ExactKeys]):
    """Secrets and steps of the device ``fl_id`` in one iteration.

    Args:
        fl_id: its id on the wire.
        plan: see :class:`ExactPlan`.
        random: where secrets come from; a :class:`SeededRandom` of this client and iteration in a simulation.
        pairs: see :func:`exact_keys`; None: its own.

    Steps: :attr:`keys`, :meth:`meet`, :meth:`shares`, :meth:`receive`, :meth:`hide`, :meth:`reveal`; each once, in
    order. Every step raises :class:`SecureAggregationError` for an invalid message of the server or of another device;
    the device must not upload then.
    """

    def __init__(
        self, fl_id: str, plan: ExactPlan, *, random: RandomBytes = os.urandom, pairs: PairKeys | None = None
    ) -> None:
        steps = Steps(fl_id, "meet", "shares", "receive", "hide")
        super().__init__(
            fl_id,
            steps,
            random,
            pairs or exact_keys(),
            own_pairs=pairs is None,
            shamir=plan.shamir,
            draw_seed=lambda draw: draw(KEY_BYTES),
        )
        self._plan = plan

    @property
    def keys(self) -> ExactKeys:
        """The public keys and the commitment to the seed."""
        commitment = commit(self._seed.reveal(), self.fl_id, self._plan.context)
        return ExactKeys(self.fl_id, self._cipher_pair.public, self._mask_pair.public, commitment)

    @property
    def upload_name(self) -> str:
        """See :func:`upload_name`."""
        return upload_name(self.keys, self._plan)

    def meet(self, neighbours: Iterable[ExactKeys]) -> None:
        """Store the neighbours that the server chose, and their keys."""
        with self._steps.take("meet"):
            known = by_id(neighbours)
            if self.fl_id in known:
                raise SecureAggregationError(Fault.PEER_SELF, "the list of neighbours")
            if not least_threshold(len(known)) <= self._plan.threshold <= len(known):
                detail = f"{self._plan.threshold} of {len(known)}"
                raise SecureAggregationError(Fault.THRESHOLD, "the list of neighbours", detail)
            for peer in known.values():
                check_length(peer.c_pk, KEY_BYTES, peer.fl_id)
                check_length(peer.s_pk, KEY_BYTES, peer.fl_id)
            self._peers = dict(sorted(known.items()))

    def hide(self, words: WordMask) -> WordMask:
        """Return ``words`` (see :class:`FixedPoint`) with all masks added, modulo 2**bits; a new vector."""
        with self._steps.take("hide"):
            masks = WordMasks(len(words), self._plan.bits)
            hidden: WordMask = words.copy()
            masks.add(hidden, mask_key(self._seed.reveal(), self._plan), 1)
            owners = list(self._received)
            salt = self._plan.salt("mask")
            peers = [Peer(owner, self._peers[owner].s_pk, salt) for owner in owners]
            for owner, key in zip(owners, self._pairs.keys(self._mask_pair, peers), strict=True):
                masks.add(hidden, key, sign_of(self.fl_id, owner))
            return hidden

    def reveal(self, survivors: Iterable[str]) -> tuple[ClientShare, ...]:
        """Return a share of the seed of each neighbour that uploaded, and of the key of each that did not.

        ``survivors``: all that uploaded, or those of the neighbours, and this device. Never both of one device: a
        second call is answered for the same neighbours only.
        """
        near = [survivor for survivor in survivors if survivor == self.fl_id or survivor in self._received]
        return self._shares_for(near, _client_share)

    def _share_keys(self, owners: Sequence[str]) -> list[bytes]:
        salt = self._plan.salt("share")
        return self._pairs.keys(self._cipher_pair, [Peer(owner, self._peers[owner].c_pk, salt) for owner in owners])

    def _seal(self, owner: str, key: bytes, pair: SharePair) -> bytes:
        numbers = ((pair.key.x, PLACE_BYTES), (pair.key.value, SHARE_BYTES), (pair.seed.value, SHARE_BYTES))
        plain = b"".join(number.to_bytes(size, "big") for number, size in numbers)
        return gcm_encrypt(key, self._random(NONCE_BYTES), plain, _direction(self.fl_id, owner))

    def _open(self, owner: str, key: bytes, data: bytes) -> SharePair:
        plain = gcm_decrypt(key, data, _direction(owner, self.fl_id)) if len(data) == SEALED_BYTES else None
        if plain is None:
            raise SecureAggregationError(Fault.SHARE_UNREADABLE, f"a share from {owner}")
        x = int.from_bytes(plain[:PLACE_BYTES], "big")
        starts = (PLACE_BYTES, PLACE_BYTES + SHARE_BYTES)
        key_share, seed_share = (int.from_bytes(plain[start : start + SHARE_BYTES], "big") for start in starts)
        if not 0 < x <= MAX_PLACE or max(key_share, seed_share) >= EXACT_PRIME:
            raise SecureAggregationError(Fault.SHARE_MALFORMED, f"a share from {owner}")
        return SharePair(Share(x, key_share), Share(x, seed_share))


def mask_key(seed: bytes, plan: ExactPlan) -> bytes:
    """Return the key of a device's individual mask."""
    return hkdf(seed, plan.salt("seed"), b"individual")


def seed_fits(seed: bytes, keys: ExactKeys, context: bytes) -> bool:
    """Return whether ``seed`` fits the commitment in ``keys``."""
    return hmac.compare_digest(commit(seed, keys.fl_id, context), keys.commitment)


def _client_share(owner: str, share: Share) -> ClientShare:
    return ClientShare(fl_id=owner, share=share.value.to_bytes(SHARE_BYTES, "big"), index=share.x)


def _direction(sender: str, receiver: str) -> bytes:
    """Return the associated data of a sealed share: both devices of a pair have the same key."""
    # The length separates ("a", "bc") from ("ab", "c").
    return len(sender.encode()).to_bytes(4, "big") + sender.encode() + receiver.encode()
