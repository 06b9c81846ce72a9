"""One device's part of ``PW_ENCRYPT`` and ``STABLE_PW_ENCRYPT`` in one iteration, without sockets or clocks.

The steps follow the endpoints: :attr:`PairwiseDevice.request` (exchangeKeys), :meth:`~PairwiseDevice.meet` (getKeys),
:meth:`~PairwiseDevice.shares` (shareSecrets), :meth:`~PairwiseDevice.receive` (getSecrets),
:meth:`~PairwiseDevice.mask` (updateModel), :meth:`~PairwiseDevice.reveal` (getClientList and reconstructSecrets).
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Sequence

import numpy as np

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes
from mindfl.privacy.secagg.ciphers import IV_BYTES, KEY_BYTES, SALT_BYTES, FloatMask, FloatMasks, pbkdf2, sign_of
from mindfl.privacy.secagg.holder import SecretHolder, Steps
from mindfl.privacy.secagg.keys import PairKeys, Peer, check_length, check_public_key, draw_secret
from mindfl.privacy.secagg.shares import (
    PRIME_BITS,
    Shamir,
    Share,
    SharePair,
    by_id,
    number_bytes,
    open_shares,
    seal_shares,
)
from mindfl.protocol import ClientPublicKeys, ClientShare, PWParams, RequestExchangeKeys


def pairwise_keys(workers: int | None = None) -> PairKeys:
    """Return an object that derives the keys of pairs in these modes, for all devices of a process."""
    return PairKeys(pbkdf2, workers)


class PairwiseDevice(SecretHolder[ClientPublicKeys]):
    """Secrets and steps of the device ``fl_id`` in one iteration.

    Args:
        fl_id: its id on the wire.
        params: threshold and prime from the server's plan.
        random: where secrets come from; a :class:`SeededRandom` of this client and iteration in a simulation.
        pairs: see :func:`pairwise_keys`; None: its own.
        stable: ``STABLE_PW_ENCRYPT``: only keys and masks, no shares; no device may drop out.

    Every step raises :class:`SecureAggregationError` for an invalid message of the server or of another device; the
    device must not upload then. Each step is taken once, in order.
    """

    def __init__(
        self,
        fl_id: str,
        params: PWParams,
        *,
        random: RandomBytes = os.urandom,
        pairs: PairKeys | None = None,
        stable: bool = False,
    ) -> None:
        steps = Steps(fl_id, "meet", "mask") if stable else Steps(fl_id, "meet", "shares", "receive", "mask")
        super().__init__(
            fl_id,
            steps,
            random,
            pairs or pairwise_keys(),
            own_pairs=pairs is None,
            shamir=Shamir(0, 0) if stable else check_params(params),
            draw_seed=draw_secret,
        )
        self._stable = stable
        self._ind_iv, self._pw_iv, self._pw_salt = random(IV_BYTES), random(IV_BYTES), random(SALT_BYTES)

    @property
    def request(self) -> RequestExchangeKeys:
        """The request for exchangeKeys, without iteration, timestamp and signature."""
        if self._stable:
            return RequestExchangeKeys(
                fl_id=self.fl_id, s_pk=self._mask_pair.public, pw_iv=self._pw_iv, pw_salt=self._pw_salt
            )
        return RequestExchangeKeys(
            fl_id=self.fl_id,
            c_pk=self._cipher_pair.public,
            s_pk=self._mask_pair.public,
            ind_iv=self._ind_iv,
            pw_iv=self._pw_iv,
            pw_salt=self._pw_salt,
        )

    def meet(self, keys: Iterable[ClientPublicKeys]) -> None:
        """Store the public keys of all devices, including this one."""
        with self._steps.take("meet"):
            known = by_id(keys)
            own = known.pop(self.fl_id, None)
            if own is None or not hmac.compare_digest(own.s_pk or b"", self._mask_pair.public):
                raise SecureAggregationError(Fault.KEYS_NOT_MINE, "the list of keys")
            if len(known) < max(1, self._shamir.threshold):
                raise SecureAggregationError(Fault.TOO_FEW, "the list of keys", f"{len(known)} others")
            for fl_id, peer in known.items():
                check_lengths(peer, fl_id, self._stable)
            self._peers = known

    def mask(self, length: int) -> FloatMask:
        """Return the float32 vector of ``length`` values that hides the upload.

        The masks of pairs are summed in the order of ids, then the individual mask is added, all in float32.
        """
        with self._steps.take("mask"):
            masks = FloatMasks(length)
            total = np.zeros(length, np.float32)
            for partner, key in zip(self._partners, self._mask_keys(), strict=True):
                mask = masks.make(key, self._pair_settings(partner)[1])
                total = total + mask if sign_of(self.fl_id, partner) > 0 else total - mask
            if not self._stable:
                total += masks.make(self._seed.reveal(), self._ind_iv)
            return total

    def reveal(self, survivors: Iterable[str]) -> tuple[ClientShare, ...]:
        """Return a share of the seed of each device that uploaded, and of the key of each that did not.

        Never both of one device: a second call is answered for the same survivors only.
        """
        return self._shares_for(survivors, _client_share)

    @property
    def _partners(self) -> list[str]:
        """The devices that this one shares masks with, in ascending order."""
        return sorted(self._peers if self._stable else self._received)

    def _seal(self, owner: str, key: bytes, pair: SharePair) -> bytes:
        return seal_shares(pair, key, self._random)

    def _open(self, owner: str, key: bytes, data: bytes) -> SharePair:
        return open_shares(data, key, self._shamir.prime, owner)

    def _share_keys(self, owners: Sequence[str]) -> list[bytes]:
        peers = [Peer(owner, self._peers[owner].c_pk or b"") for owner in owners]
        return self._pairs.keys(self._cipher_pair, peers)

    def _mask_keys(self) -> list[bytes]:
        peers = [
            Peer(partner, self._peers[partner].s_pk or b"", self._pair_settings(partner)[0])
            for partner in self._partners
        ]
        return self._pairs.keys(self._mask_pair, peers)

    def _pair_settings(self, partner: str) -> tuple[bytes, bytes]:
        """Return salt and initial vector: those of the smaller id."""
        other = self._peers[partner]
        if self.fl_id < partner:
            return self._pw_salt, self._pw_iv
        return other.pw_salt or b"", other.pw_iv or b""


def check_params(params: PWParams) -> Shamir:
    """Return the secret sharing of a plan. Raises :class:`SecureAggregationError` for an invalid threshold or prime."""
    prime = int.from_bytes(params.prime or b"", "big")
    if params.t < 1:
        raise SecureAggregationError(Fault.THRESHOLD, "the server's plan", f"threshold {params.t}")
    # Secrets of 32 bytes must be smaller, and shares must fit into the bytes that they are given.
    if not 1 << 8 * 32 < prime < 1 << PRIME_BITS or not prime % 2:
        raise SecureAggregationError(Fault.THRESHOLD, "the server's plan", "its prime cannot be one")
    return Shamir(prime, params.t)


def check_keys(keys: RequestExchangeKeys, stable: bool = False) -> None:
    """Raise :class:`SecureAggregationError` for an exchangeKeys request with missing fields or a weak key.

    Devices need not check for weak keys: they find them when they agree on a secret.
    """
    who = keys.fl_id or "a device without id"
    check_lengths(keys, who, stable)
    for public in (keys.s_pk,) if stable else (keys.s_pk, keys.c_pk):
        check_public_key(public, who)
    if not stable:
        check_length(keys.ind_iv, IV_BYTES, who)


def check_lengths(keys: ClientPublicKeys | RequestExchangeKeys, who: str, stable: bool) -> None:
    """Raise :class:`SecureAggregationError` if a key or salt of ``who`` is missing or has the wrong length."""
    check_length(keys.s_pk, KEY_BYTES, who)
    check_length(keys.pw_iv, IV_BYTES, who)
    check_length(keys.pw_salt, SALT_BYTES, who)
    if not stable:
        check_length(keys.c_pk, KEY_BYTES, who)


def _client_share(owner: str, share: Share) -> ClientShare:
    return ClientShare(fl_id=owner, share=number_bytes(share.value), index=share.x)
