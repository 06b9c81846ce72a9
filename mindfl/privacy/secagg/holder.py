"""A device's secrets and steps in one iteration, in every mode of secure aggregation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes
from mindfl.privacy.secagg.keys import KeyPair, PairKeys, Secret
from mindfl.privacy.secagg.shares import Shamir, Share, SharePair, by_id
from mindfl.protocol import ClientShare

KeysT = TypeVar("KeysT")


class Steps:
    """The steps that ``who`` takes, each once and in this order."""

    def __init__(self, who: str, *names: str) -> None:
        self._who = who
        self._left = list(names)
        self._under_way = False

    def take(self, name: str) -> Steps:
        """Begin the step ``name``; it ends with the returned context.

        Raises :class:`SecureAggregationError` if it is not the next one. No step may follow a failed one, because the
        device's state is not trusted any more.
        """
        if self._under_way or self._left[:1] != [name]:
            raise SecureAggregationError(Fault.ORDER, f"the step {name} of {self._who}")
        self._under_way = True
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._under_way = False
            del self._left[0]

    def require_all(self) -> None:
        """Raise :class:`SecureAggregationError` if steps are left."""
        if self._left:
            raise SecureAggregationError(Fault.ORDER, f"the last step of {self._who}", f"{self._left[0]} comes first")


def check_survivors(survivors: Iterable[str], possible: set[str], me: str, threshold: int) -> frozenset[str]:
    """Return the devices that uploaded, as the server named them to ``me``.

    Raises :class:`SecureAggregationError` if one is not among ``possible`` or named twice, ``me`` is missing, or they
    are fewer than the threshold.
    """
    listed = list(survivors)
    named = frozenset(listed)
    what = "the list of survivors"
    if len(named) < len(listed):
        raise SecureAggregationError(Fault.PEER_TWICE, what)
    unknown = sorted(named - possible)
    if unknown or me not in named:
        raise SecureAggregationError(Fault.PEER_UNKNOWN, what, unknown[0] if unknown else f"{me} is missing")
    if len(named) < threshold:
        raise SecureAggregationError(Fault.TOO_FEW, what, f"{len(named)} of {threshold}")
    return named


class SecretHolder(Generic[KeysT]):
    """The secrets of the device ``fl_id``, the public keys of its peers, and the shares of theirs that it was given.

    Args:
        fl_id: its id on the wire.
        steps: its steps before it reveals shares.
        random: source of its secrets.
        pairs: derives the keys of pairs.
        own_pairs: no other device uses ``pairs``.
        shamir: the secret sharing.
        draw_seed: draws the seed of its own mask from ``random``.
    """

    def __init__(
        self,
        fl_id: str,
        steps: Steps,
        random: RandomBytes,
        pairs: PairKeys,
        *,
        own_pairs: bool,
        shamir: Shamir,
        draw_seed: Callable[[RandomBytes], bytes],
    ) -> None:
        self.fl_id = fl_id
        self._steps = steps
        self._random = random
        self._pairs = pairs
        self._owns_pairs = own_pairs
        self._shamir = shamir
        self._cipher_pair = KeyPair.generate(random)
        self._mask_pair = KeyPair.generate(random)
        self._seed = Secret(draw_seed(random))
        self._peers: dict[str, KeysT] = {}
        self._received: dict[str, SharePair] = {}
        self._survivors: frozenset[str] | None = None

    def wipe(self) -> None:
        """Erase all secrets: the iteration is over."""
        for secret in (self._cipher_pair.private, self._mask_pair.private, self._seed):
            secret.wipe()
        self._received.clear()
        if self._owns_pairs:
            self._pairs.forget()

    def shares(self) -> tuple[ClientShare, ...]:
        """Return the shares of both secrets: one encrypted pair for each peer, in the order of the peers."""
        with self._steps.take("shares"):
            owners = list(self._peers)
            places = range(1, len(owners) + 1)
            key_shares = self._shamir.split(self._mask_pair.private.reveal(), places, self._random)
            seed_shares = self._shamir.split(self._seed.reveal(), places, self._random)
            keys = self._share_keys(owners)
            return tuple(
                ClientShare(fl_id=owner, share=self._seal(owner, key, SharePair(*pair)))
                for owner, key, *pair in zip(owners, keys, key_shares, seed_shares, strict=True)
            )

    def receive(self, shares: Iterable[ClientShare]) -> None:
        """Store the shares that peers sent to this device. From now on it shares masks with their senders."""
        with self._steps.take("receive"):
            sealed = by_id(shares)
            for owner in sealed:
                if owner not in self._peers:
                    raise SecureAggregationError(Fault.PEER_UNKNOWN, "the list of shares", owner)
            if len(sealed) < self._shamir.threshold:
                raise SecureAggregationError(Fault.TOO_FEW, "the list of shares", f"{len(sealed)} peers")
            keys = self._share_keys(list(sealed))
            for (owner, message), key in zip(sealed.items(), keys, strict=True):
                self._received[owner] = self._open(owner, key, message.share or b"")

    def _share_keys(self, owners: Sequence[str]) -> list[bytes]:
        """Return the keys under which shares travel between this device and each of ``owners``."""
        raise NotImplementedError

    def _seal(self, owner: str, key: bytes, pair: SharePair) -> bytes:
        """Return ``pair`` encrypted for ``owner``."""
        raise NotImplementedError

    def _open(self, owner: str, key: bytes, data: bytes) -> SharePair:
        """Return what ``owner`` sealed for this device. Raises :class:`SecureAggregationError`."""
        raise NotImplementedError

    def _shares_for(
        self, survivors: Iterable[str], message: Callable[[str, Share], ClientShare]
    ) -> tuple[ClientShare, ...]:
        """Return a share for each peer: of its seed if it uploaded, of its mask key if not, never both."""
        self._steps.require_all()
        possible = {self.fl_id, *self._received}
        named = check_survivors(survivors, possible, self.fl_id, self._shamir.threshold)
        if self._survivors not in (None, named):
            raise SecureAggregationError(Fault.REVEAL_CHANGED, "the list of survivors")
        self._survivors = named
        return tuple(
            message(owner, pair.seed if owner in named else pair.key) for owner, pair in self._received.items()
        )
