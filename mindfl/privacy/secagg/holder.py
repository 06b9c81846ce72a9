"""What a device holds in one iteration, in every kind of secure aggregation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mindfl.privacy.secagg.checks import Steps, check_survivors
from mindfl.privacy.secagg.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.keys import KeyPair, PairKeys
from mindfl.privacy.secagg.randomness import RandomBytes
from mindfl.privacy.secagg.secret import Secret
from mindfl.privacy.secagg.shamir import Share
from mindfl.privacy.secagg.shares import SharePair
from mindfl.protocol import ClientShare


class SecretHolder:
    """The secrets of the device ``fl_id``, and those shares of others' that it was given.

    Args:
        fl_id: its id on the wire.
        steps: what it does before it reveals shares.
        random: where secrets come from.
        pairs: what derives the keys of pairs.
        own_pairs: no other device has a part in ``pairs``.
        draw_seed: makes the seed of its own mask from ``random``.
    """

    def __init__(
        self,
        fl_id: str,
        steps: Steps,
        random: RandomBytes,
        pairs: PairKeys,
        *,
        own_pairs: bool,
        draw_seed: Callable[[RandomBytes], bytes],
    ) -> None:
        self.fl_id = fl_id
        self._steps = steps
        self._random = random
        self._pairs = pairs
        self._owns_pairs = own_pairs
        self._cipher_pair = KeyPair.generate(random)
        self._mask_pair = KeyPair.generate(random)
        self._seed = Secret(draw_seed(random))
        self._received: dict[str, SharePair] = {}
        self._survivors: frozenset[str] | None = None

    def wipe(self) -> None:
        """Forget all secrets: the iteration is over."""
        for secret in (self._cipher_pair.private, self._mask_pair.private, self._seed):
            secret.wipe()
        self._received.clear()
        if self._owns_pairs:
            self._pairs.forget()

    def _shares_for(
        self, survivors: Iterable[str], threshold: int, message: Callable[[str, Share], ClientShare]
    ) -> tuple[ClientShare, ...]:
        """Return what is revealed of each device: of its seed if it uploaded, of its key if it did not, never both."""
        self._steps.require_all()
        named = check_survivors(survivors, {self.fl_id, *self._received}, self.fl_id, threshold)
        if self._survivors not in (None, named):
            raise SecureAggregationError(Fault.REVEAL_CHANGED, "the list of survivors")
        self._survivors = named
        return tuple(
            message(owner, pair.seed if owner in named else pair.key) for owner, pair in self._received.items()
        )
