"""ALBERT, the network of MindSpore Federated's second demo, for the classification of short texts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mindfl.errors import OptionError
from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_least
from mindfl.models.network_inputs import Input

_mindspore = import_mindspore()
_nn, _ops = _mindspore.nn, _mindspore.ops

_POSITIONS, _SEGMENTS = 512, 2
_EPSILON = 1e-12
#: added to the scores of tokens that the mask excludes
_EXCLUDED = -10000.0
_HEAD_SIZE = 26  # of the demo: 312 values in 12 heads


class _SelfAttention(_nn.Cell):  # type: ignore[misc, name-defined]
    """Attention of each token to all tokens, in several heads."""

    def __init__(self, length: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (_nn.Dense(hidden, hidden) for _ in range(3))
        self.output = _nn.Dense(hidden, hidden)
        self.scores, self.mix = _ops.BatchMatMul(transpose_b=True), _ops.BatchMatMul()
        self.softmax = _nn.Softmax(-1)
        self.by_head, self.joined = (-1, length, heads, hidden // heads), (-1, length, hidden)
        self.scale = 1.0 / math.sqrt(hidden // heads)

    def construct(self, x: Any, excluded: Any) -> Any:
        """Return what each token takes from the others; ``excluded`` is added to the scores."""
        query, key, value = self._heads(self.query(x)), self._heads(self.key(x)), self._heads(self.value(x))
        shares = self.softmax(self.scores(query, key) * self.scale + excluded)
        return self.output(self.mix(shares, value).transpose(0, 2, 1, 3).reshape(self.joined))

    def _heads(self, x: Any) -> Any:
        return x.reshape(self.by_head).transpose(0, 2, 1, 3)


class _AlbertLayer(_nn.Cell):  # type: ignore[misc, name-defined]
    """Attention and two dense layers, each with a shortcut and LayerNorm."""

    def __init__(self, length: int, hidden: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.attention = _SelfAttention(length, hidden, heads)
        self.norm1, self.norm2 = (_nn.LayerNorm((hidden,), epsilon=_EPSILON) for _ in range(2))
        self.wide, self.narrow, self.gelu = _nn.Dense(hidden, intermediate), _nn.Dense(intermediate, hidden), _nn.GELU()

    def construct(self, x: Any, excluded: Any) -> Any:
        """Return the layer's output."""
        x = self.norm1(x + self.attention(x, excluded))
        return self.norm2(x + self.narrow(self.gelu(self.wide(x))))


class Albert(_nn.Cell):  # type: ignore[misc, name-defined]
    """ALBERT: int32 ids, segment ids and mask, each [N, length] -> logits of the text, float32 [N, num_class].

    Factorised embeddings of tokens, segments and positions, ``layers`` layers of attention that share one set of
    weights, and a dense layer with tanh on the first token (Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised
    Learning of Language Representations"). The default is the configuration of MindSpore Federated's demo: 2,872,684
    values. There is no dropout, as there.

    Args:
        num_class: number of labels, at least 1.
        length: tokens of a text, from 1 to 512.
        vocabulary: number of different tokens, at least 1.
        embedding: values for each token, at least 1.
        hidden: values of each token between layers, at least 1.
        layers: how often the layer is applied, at least 1.
        heads: heads of attention, which ``hidden`` must be a multiple of; default: of 26 values or a little more.
        intermediate: outputs of the wide dense layer; default: four times ``hidden``.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in Albert().trainable_params())
        2872684
    """

    def __init__(
        self,
        num_class: int = 4,
        *,
        length: int = 8,
        vocabulary: int = 11682,
        embedding: int = 128,
        hidden: int = 312,
        layers: int = 4,
        heads: int | None = None,
        intermediate: int | None = None,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        heads = _heads(hidden) if heads is None else heads
        wide = 4 * hidden if intermediate is None else intermediate
        check_least(num_class=num_class, length=length, vocabulary=vocabulary, embedding=embedding)
        check_least(hidden=hidden, layers=layers, heads=heads, intermediate=wide)
        if length > _POSITIONS:
            raise OptionError(f"albert takes texts of at most {_POSITIONS} tokens, not {length}")
        if hidden % heads:
            raise OptionError(f"albert: {hidden} hidden values cannot be divided into {heads} heads")
        self.inputs = tuple(Input((length,), "int32", below) for below in (vocabulary, _SEGMENTS, 2))
        self.words, self.segments = _nn.Embedding(vocabulary, embedding), _nn.Embedding(_SEGMENTS, embedding)
        self.positions = _nn.Embedding(_POSITIONS, embedding)
        self.numbers = _mindspore.Tensor(np.arange(length, dtype=np.int32).reshape(1, length))
        self.norm = _nn.LayerNorm((embedding,), epsilon=_EPSILON)
        self.widen = _nn.Dense(embedding, hidden)
        self.layer = _AlbertLayer(length, hidden, heads, wide)
        self.layers = layers
        self.pool, self.tanh = _nn.Dense(hidden, hidden), _nn.Tanh()
        self.head = _nn.Dense(hidden, num_class)
        self.cast = _ops.Cast()
        self.mask_shape = (-1, 1, 1, length)
        set_weights(self, init, seed)

    def construct(self, ids: Any, segments: Any, mask: Any) -> Any:
        """Return the logits of texts; ``mask`` is 1 where ``ids`` has a token and 0 elsewhere."""
        present = self.cast(mask, _mindspore.float32).reshape(self.mask_shape)
        excluded = (1.0 - present) * _EXCLUDED
        x = self.widen(self.norm(self.words(ids) + self.segments(segments) + self.positions(self.numbers)))
        for _ in range(self.layers):
            x = self.layer(x, excluded)
        return self.head(self.tanh(self.pool(x[:, 0])))


def _heads(hidden: int) -> int:
    """Return the greatest number of heads that divides ``hidden`` and leaves each at least the demo's size."""
    return next(heads for heads in range(max(hidden // _HEAD_SIZE, 1), 0, -1) if hidden % heads == 0)
