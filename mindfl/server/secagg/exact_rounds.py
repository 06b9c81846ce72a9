"""The steps of an iteration with ``PW_EXACT``: whole numbers, secrets shared with neighbours only and verified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mindfl.privacy.secagg import (
    ExactKeys,
    ExactPlan,
    ExactUnmasking,
    FixedPoint,
    SeededRandom,
    check_deposit,
    check_exact_keys,
)
from mindfl.privacy.secagg.ciphers import WordMask
from mindfl.privacy.secagg.exact import SEALED_BYTES, upload_name
from mindfl.protocol import (
    ClientPublicKeys,
    ClientShare,
    FLPlan,
    RequestExchangeKeys,
    RequestShareSecrets,
    Weights,
)
from mindfl.server.aggregate import FeatureFault, FeatureLayout, UploadSum
from mindfl.server.secagg.rounds import Rounds, workers
from mindfl.server.server_config import ServerConfig


class ExactRounds(Rounds[ExactUnmasking]):
    """``PW_EXACT``. A device learns keys, shares and survivors of its neighbours only, and nothing of the others."""

    def __init__(self, config: ServerConfig, plan: FLPlan, iteration: int) -> None:
        super().__init__(config, plan, iteration)
        self._plan = ExactPlan.of(self.params.p or b"", iteration, self.params.t)
        self._draws = hashlib.sha256()

    def check_published(self, request: RequestExchangeKeys) -> None:
        """See :meth:`Rounds.check_published`."""
        check_exact_keys(_exact_keys(request))

    def keys_for(self, fl_id: str) -> tuple[ClientPublicKeys, ...]:
        """Return the keys of its neighbours, by ascending id."""
        return tuple(
            ClientPublicKeys(fl_id=owner, c_pk=keys.c_pk, s_pk=keys.s_pk, pw_salt=keys.pw_salt)
            for owner in self._neighbours[fl_id]
            for keys in (self.published[owner],)
        )

    def check_deposited(self, request: RequestShareSecrets) -> None:
        """See :meth:`Rounds.check_deposited`."""
        sender = request.fl_id or ""
        check_deposit(sender, request.encrypted_shares or (), self._neighbours[sender], SEALED_BYTES)

    def shares_for(self, fl_id: str) -> tuple[ClientShare, ...]:
        """Return the shares that its neighbours deposited for it, by ascending sender."""
        return tuple(
            ClientShare(fl_id=sender, share=self.deposits[sender][fl_id].share)
            for sender in self._neighbours[fl_id]
            if sender in self.deposits
        )

    def survivors_for(self, fl_id: str) -> tuple[str, ...]:
        """Return the survivors among its neighbours, and itself."""
        survivors = self.survivors or frozenset()
        return tuple(sorted(survivors.intersection((*self._neighbours[fl_id], fl_id))))

    def upload_name(self, fl_id: str) -> str:
        """See :meth:`Rounds.upload_name`."""
        return upload_name(_exact_keys(self.published[fl_id]), self._plan)

    def bare(self, request: RequestExchangeKeys) -> RequestExchangeKeys:
        """See :meth:`Rounds.bare`."""
        return RequestExchangeKeys(
            fl_id=request.fl_id,
            iteration=request.iteration,
            c_pk=request.c_pk,
            s_pk=request.s_pk,
            pw_salt=request.pw_salt,
        )

    @property
    def certain(self) -> bool:
        """Every secret is checked against what its owner published."""
        return self.ready

    def average(self, total: UploadSum, previous: Weights) -> Weights:
        """See :meth:`Rounds.average`."""
        return total.average(previous, lambda words: self._unmasking_now.unmask(words, workers()))

    def publish(self, request: RequestExchangeKeys, draw: bytes, now_ms: int) -> None:
        """Take in an accepted exchangeKeys."""
        super().publish(request, draw, now_ms)
        self._draws.update(draw)

    def _make_unmasking(self, survivors: frozenset[str]) -> ExactUnmasking | None:
        published = {owner: _exact_keys(keys) for owner, keys in self.published.items()}
        return ExactUnmasking(self._plan, published, self._neighbours, self.sharers, survivors)

    @cached_property
    def _neighbours(self) -> Mapping[str, tuple[str, ...]]:
        """The neighbours of each client; drawn once all keys are there, so that no client can choose its place."""
        return self.config.graph.neighbours(self.published, SeededRandom(self._draws.digest(), "graph"))


def _exact_keys(request: RequestExchangeKeys) -> ExactKeys:
    return ExactKeys(request.fl_id or "", request.c_pk or b"", request.s_pk or b"", request.pw_salt or b"")


@dataclass(frozen=True, slots=True, eq=False)
class MaskedWords:
    """An upload of masked whole numbers. All of its values are possible, so it has no faults."""

    words: WordMask
    fault: FeatureFault | None = None


class WordSum:
    """Running sum of ``PW_EXACT`` uploads modulo 2**64, and of their data sizes.

    Weights named in ``constant`` keep their values.
    """

    def __init__(self, layout: FeatureLayout, fixed: FixedPoint, constant: Set[str] = frozenset()) -> None:
        self.layout = layout
        self._constant = constant
        self._fixed = fixed
        self._total: WordMask = np.zeros(layout.size, fixed.dtype)
        self._data_size = 0

    @contextmanager
    def convert(self, upload: WordMask) -> Iterator[MaskedWords]:
        """Yield ``upload``, words of the layout's size."""
        yield MaskedWords(upload)

    def add(self, contribution: MaskedWords, data_size: int) -> None:
        """Add an upload, masked and multiplied by ``data_size``."""
        np.add(self._total, contribution.words, out=self._total)
        self._data_size += data_size

    def average(self, previous: Weights, correction: Callable[[WordMask], WordMask] | None = None) -> Weights:
        """Return the new model, read-only; ``correction`` takes the masks out of the sum."""
        clear = correction(self._total) if correction else self._total
        flat = self._fixed.decode(clear, self._data_size)
        for name in self._constant:
            flat[self.layout.slices[name]] = previous[name]
        return self.layout.split(flat)

    def reset(self) -> None:
        """Forget all uploads."""
        self._total.fill(0)
        self._data_size = 0
