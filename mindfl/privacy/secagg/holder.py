"""What a device holds in one iteration, in every kind of secure aggregation, and the order of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.randomness import RandomBytes
from mindfl.privacy.secagg.keys import KeyPair, PairKeys, Secret
from mindfl.privacy.secagg.shares import Share, SharePair
from mindfl.protocol import ClientShare


class Steps:
    """The steps that ``who`` takes, each once and in this order."""

    def __init__(self, who: str, *names: str) -> None:
        self._who = who
        self._left = list(names)
        self._under_way = False

    def take(self, name: str) -> Steps:
        """Go on to ``name``, which ends with the context that is returned.

        Raises :class:`SecureAggregationError` where it is not the next one. After a step that fails none is: nothing of
        a device's state is trusted any more.
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
        """Raise :class:`SecureAggregationError` where steps are left."""
        if self._left:
            raise SecureAggregationError(Fault.ORDER, f"the last step of {self._who}", f"{self._left[0]} comes first")


def check_survivors(survivors: Iterable[str], possible: set[str], me: str, threshold: int) -> frozenset[str]:
    """Return the devices that uploaded, of ``possible`` ones, as named to ``me``.

    Raises :class:`SecureAggregationError` where one is unknown or named twice, ``me`` is not among them, or they are
    fewer than the threshold.
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
