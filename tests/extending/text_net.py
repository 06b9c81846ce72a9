"""A network of a user's own that takes texts, and a data set of them."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops

from mindfl.data import Dataset


class WordCounts(nn.Cell):
    """The sum of an embedding of all words of a text, and a dense layer."""

    def __init__(self, num_class: int, length: int = 12, vocabulary: int = 50, width: int = 8) -> None:
        super().__init__()
        self.inputs = [((length,), "int32", vocabulary)]
        self.words, self.dense = nn.Embedding(vocabulary, width), nn.Dense(length * width, num_class)
        self.flatten = nn.Flatten()

    def construct(self, words: Tensor) -> Tensor:
        return self.dense(self.flatten(self.words(words)))


class Weighted(nn.Cell):
    """Two inputs of its own: words, and a float32 weight of each."""

    inputs = (((6,), "int32", 20), ((6,), "float32"))

    def __init__(self) -> None:
        super().__init__()
        self.words, self.dense, self.flatten = nn.Embedding(20, 4), nn.Dense(24, 3), nn.Flatten()

    def construct(self, words: Tensor, weights: Tensor) -> Tensor:
        return self.dense(self.flatten(self.words(words) * weights.expand_dims(-1)))


class Tagger(nn.Cell):
    """A class for each word, from the word and the one before it."""

    def __init__(self, num_class: int, length: int, vocabulary: int, width: int = 8) -> None:
        super().__init__()
        self.inputs, self.labels = [((length,), "int32", vocabulary)], (length,)
        self.words, self.relu = nn.Embedding(vocabulary, width), nn.ReLU()
        self.hidden, self.dense = nn.Dense(2 * width, 16), nn.Dense(16, num_class)

    def construct(self, words: Tensor) -> Tensor:
        known = self.words(words)
        before = ops.cat((ops.zeros_like(known[:, :1]), known[:, :-1]), 1)
        return self.dense(self.relu(self.hidden(ops.cat((known, before), 2))))


class Untold(Tagger):
    """The same, which does not state its labels."""

    def __init__(self, num_class: int, length: int, vocabulary: int) -> None:
        super().__init__(num_class, length, vocabulary)
        self.labels = None


def tagged() -> Dataset:
    """Texts of 6 words out of 10; a word's class is the parity of itself and the one before, beside its size."""
    ids = np.random.default_rng(0).integers(0, 10, (21, 6)).astype(np.int32)
    before = np.concatenate((np.zeros((21, 1), int), ids[:, :-1]), 1)
    labels = (ids + before) % 2 + 2 * (ids > 6)
    return Dataset.from_arrays({"ann": (ids[:14], labels[:14], ids[14:], labels[14:])}, classes=4, vocabulary=10)


def counted() -> Dataset:
    """Return texts of 12 words out of 30, of two classes."""
    ids = np.random.default_rng(0).integers(0, 30, (40, 12)).astype(np.int32)
    labels = (ids[:, 0] < 15).astype(np.int64)
    return Dataset.from_arrays({"ann": (ids[:20], labels[:20]), "ben": (ids[20:], labels[20:])}, vocabulary=30)


class Priced(nn.Cell):
    """Numbers, in blocks, beside categories; all of them in one row of a table."""

    inputs = (((2, 1, 3, 1), "float32"), ((2,), "int32", 5))

    def __init__(self, num_class: int) -> None:
        super().__init__()
        self.kinds, self.numbers, self.dense = nn.Embedding(5, 4), nn.Dense(6, 8), nn.Dense(8, num_class)
        self.tanh, self.flatten = nn.Tanh(), nn.Flatten()

    def construct(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        return self.dense(self.tanh(self.numbers(self.flatten(numbers)) + self.flatten(self.kinds(kinds))))


def priced() -> Dataset:
    """Return two users with rows of six numbers and two categories."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        kinds = rng.integers(0, 5, (count, 2))
        return np.concatenate([rng.normal(size=(count, 6)), kinds], 1).astype(np.float32), kinds[:, 0] % 3

    return Dataset.from_arrays({name: (*part(21), *part(10)) for name in ("ann", "bob")})


class OneNumber(nn.Cell):
    """A regression of one number that loses the axis of the targets."""

    inputs = (((6,), "float32"),)

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(6, 1)

    def construct(self, x: Tensor) -> Tensor:
        return self.dense(x).reshape(-1)


def prices() -> Dataset:
    """Return a user with rows of six numbers, and the number to predict."""
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    return Dataset.from_arrays({"ann": (rows[:12], rows[:12, :1], rows[12:], rows[12:, :1])})
