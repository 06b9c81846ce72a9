"""Resizing as the tutorial does: 8-bit grey, bilinear, from LEAF's 28 x 28 to the network's 32 x 32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindfl.data.pixels import IMAGE_SIZE


def enlarge(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize uint8 (k, h, w) to (k, 32, 32)."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = np.empty((len(grey), *size), np.uint8)
    for source, target in zip(grey, resized, strict=True):
        target[...] = np.asarray(Image.fromarray(source).resize(size, Image.Resampling.BILINEAR))
    return resized
