"""Data sets on which networks are compared: real ones cut down, or random texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindfl.data import Dataset
from mindfl.data.samples import Split

#: networks for FEMNIST's own images of 28x28, which are the middle of those that mindfl stores
_SMALL = ("mlp", "leaf_cnn", "emnist_cnn")
#: samples for testing: one to so many for training, as LEAF divides a writer's
_TESTED = 9
#: ALBERT's demo: tokens of a text, different tokens, classes
_LENGTH, _VOCABULARY, _CLASSES = 8, 11682, 4


def cut_down(dataset: Dataset, network: str, clients: int, samples: int) -> Dataset:
    """Return the first users of a data set with ``samples`` training samples at most; pictures grey, of one channel."""

    def part(split: Split, most: int) -> tuple[Any, Any]:
        if dataset.form.kind != "pictures":
            return split.images(0, most), split.labels[: min(most, split.size)]
        grey = split.grey(0, most)
        return grey[:, 2:30, 2:30] if network in _SMALL else grey, split.labels[: len(grey)]

    users = {}
    for name in dataset.users[:clients]:
        user = dataset.user(name)
        users[name] = (*part(user.train, samples), *part(user.test, max(samples // _TESTED, 1)))
    return Dataset.from_arrays(users, class_names=dataset.class_names, vocabulary=dataset.form.vocabulary)


def random_texts(clients: int, samples: int) -> Dataset:
    """Return clients with as many random texts for ALBERT each: ids, segment ids and mask."""
    draw = np.random.default_rng(0)

    def part(count: int) -> tuple[Any, Any]:
        ids = draw.integers(0, _VOCABULARY, (count, 1, _LENGTH), np.int32)
        texts = np.concatenate([ids, np.zeros_like(ids), np.ones_like(ids)], axis=1)
        return texts, draw.integers(0, _CLASSES, count, np.int32)

    users = {f"user{index}": (*part(samples), *part(max(samples // _TESTED, 1))) for index in range(clients)}
    return Dataset.from_arrays(users, classes=_CLASSES, vocabulary=_VOCABULARY, name="random texts")
