"""A data set of a user's own: three users, RGB images of 24x24, five classes."""

from __future__ import annotations

import numpy as np

from mindfl.data import Dataset

NAMES = ["top", "upper", "middle", "lower", "bottom"]


def stripes() -> Dataset:
    """Noise with a bright stripe, whose height is the class and whose colour says nothing."""
    rng, users = np.random.default_rng(7), {}
    for name in ("ann", "ben", "cleo"):
        labels = rng.integers(0, 5, 100)
        images = rng.integers(0, 100, (100, 24, 24, 3), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[1 + 4 * label : 5 + 4 * label, :, rng.integers(3)] += 100
        users[name] = (images[:70], labels[:70], images[70:], labels[70:])
    return Dataset.from_arrays(users, class_names=NAMES)
