"""Synthetic handwriting: a data set of 62 classes, partitioned by synthetic writers. It is not FEMNIST.

Its shape is that of FEMNIST (LEAF): about 227 +- 89 samples per writer, split 9:1, half of them digits; each writer has
its own class mix; 8-bit grey, ink on white paper.

All pixels come from float32 additions, multiplications and square roots, so a seed gives the same bytes everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.glyphs import SEGMENTS, templates
from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import CLASSES, SYNTHETIC, Samples
from mindfl.data.writer import Report, progress_bar, write_dataset
from mindfl.files import PathLike
from mindfl.options import declared_arguments
from mindfl.options.data_options import SyntheticOptions
from mindfl.options.job_options import DataForm

#: Mean and standard deviation of FEMNIST's samples per writer (MindSpore Federated's data set description).
_MEAN, _DEVIATION = 226.83, 88.94
_FEWEST, _MOST = 40, 480
#: FEMNIST's rough share of digits; the rest falls equally on capitals and small letters.
_CLASS_SHARES = np.repeat([0.48 / 10, 0.26 / 26, 0.26 / 26], [10, 26, 26])
#: Dirichlet concentration: the smaller, the more a writer's mix differs from the shares above.
_CONCENTRATION = 60.0


@declared_arguments(SyntheticOptions)
def make_synthetic(
    output: PathLike,
    *,
    users: int = 50,
    seed: int = 0,
    format: DataForm = "compact",
    batch_size: int = 32,
    progress: bool = True,
) -> Report:
    """Draw a data set of synthetic handwriting: 62 classes, partitioned by writer. It is not FEMNIST.

    Args:
        output: the new folder.
        users: writers, 1 to 3500, named ``synthetic_0000`` and so on.
        seed: a writer depends on it and on the writer's number alone, not on how many others there are.
        format: ``"compact"`` (one file of 8-bit images) or ``"bin"`` (the tutorial's files of each user).
        batch_size: samples per file of the form ``bin``.
        progress: show a progress bar.

    Returns:
        The report.

    Raises:
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> make_synthetic("two writers", users=2, progress=False).users
        2
    """
    with (
        write_dataset(output, format=format, source=SYNTHETIC, batch_size=batch_size) as writing,
        progress_bar("drawing synthetic writers", users, "user", shown=progress) as bar,
    ):
        for number in range(users):
            writing.writer.add(f"{SYNTHETIC}_{number:04d}", *draw_writer(seed, number))
            bar.update()
    return writing.report


def draw_writer(seed: int, number: int) -> tuple[Samples, Samples]:
    """Return the train and test samples of writer ``number``."""
    rng = np.random.default_rng([seed, number])
    size = int(np.clip(round(rng.normal(_MEAN, _DEVIATION)), _FEWEST, _MOST))
    mix = rng.dirichlet(_CLASS_SHARES * _CONCENTRATION)
    labels = rng.choice(CLASSES, size, p=mix)
    return Samples(Hand.choose(rng).write(labels, rng), labels).split(rng)


Array = NDArray[np.float32]

_WAVES = 6
_MARGIN = 2.5
_REACH = 3
#: A glyph's height above which it is shrunk to fit, in pixels.
_LARGEST = IMAGE_SIZE - 2 * _MARGIN - 2
#: Blurred ink below the first value is paper, above the second solid: gives an edge about one pixel wide.
_EDGE = (0.22, 0.85)


@dataclass(frozen=True)
class Hand:
    """The handwriting of one writer. Lengths are in glyph units (capitals are 10 high) unless in pixels."""

    height: float  # of a capital, pixels
    aspect: float
    slant: float
    turn: float
    small: float  # small letters' size against capitals'
    pen: float  # radius, pixels
    ink: float  # darkness of solid ink, 0..1
    care: float  # size of the differences between two letters of one class
    bend: Array  # (2, _WAVES, CLASSES): this writer's own shape of each class
    habit: NDArray[np.floating[Any]]  # (CLASSES,): which form of each class is preferred, 0..1

    @classmethod
    def choose(cls, rng: np.random.Generator) -> Hand:
        """Draw the parameters of a writer."""
        height = float(np.clip(rng.normal(14.5, 2.4), 10.0, 20.0))
        return cls(
            height=height,
            aspect=float(np.clip(rng.normal(0.92, 0.13), 0.6, 1.3)),
            slant=float(np.clip(rng.normal(0.14, 0.2), -0.35, 0.7)),
            turn=float(np.clip(rng.normal(0.0, 0.05), -0.15, 0.15)),
            small=float(np.clip(rng.normal(1.2, 0.14), 0.9, 1.5)),
            pen=float(np.clip(height * rng.normal(0.052, 0.008), 0.5, 1.1)),
            ink=float(rng.uniform(0.85, 1.0)),
            care=float(np.clip(rng.normal(0.42, 0.15), 0.15, 0.9)),
            bend=_waves(rng, 0.5, CLASSES),
            habit=rng.random(CLASSES),
        )

    def write(self, labels: NDArray[np.integer[Any]], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Write one character per label; return uint8 (k, 32, 32), 255 is paper."""
        table = templates()
        forms = table.first[labels] + self._choose_forms(labels, rng)
        bend = self.bend[:, :, labels] + _waves(rng, self.care, len(labels))
        x = table.x[forms] + _displacement(bend[0])
        y = table.y[forms] + _displacement(bend[1])
        x, y = self._place(x, y, labels, rng)
        pressure = table.pen[forms] * (1 + 0.5 * _middles(_displacement(_waves(rng, 0.5, len(labels))[0])))
        return self._inked(_splat(x, y, np.maximum(pressure, 0)), rng)

    def _choose_forms(self, labels: NDArray[np.integer[Any]], rng: np.random.Generator) -> NDArray[np.intp]:
        strays = rng.random(len(labels)) < 0.12
        wish = np.where(strays, rng.random(len(labels)), self.habit[labels])
        # squared: the first, plainest form is the most common one
        chosen: NDArray[np.intp] = (wish * wish * templates().forms[labels]).astype(np.intp)
        return chosen

    def _place(
        self, x: Array, y: Array, labels: NDArray[np.integer[Any]], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Slant, turn, scale to pixels and centre by the bounding box, with small differences for each sample."""
        slant, turn, aspect, size = (
            _column(rng, mean, deviation, len(labels))
            for mean, deviation in ((self.slant, 0.06), (self.turn, 0.05), (self.aspect, 0.08), (1.0, 0.09))
        )
        y = y - np.float32(5)
        x, y = x * aspect - y * slant, y
        x, y = x - y * turn, y + x * turn
        size *= np.float32(self.height / 10) * np.where(labels >= 36, np.float32(self.small), np.float32(1))[:, None]
        extent = np.maximum(np.ptp(x, axis=1), np.ptp(y, axis=1))[:, None]
        size = np.minimum(np.maximum(size, np.float32(0.4)), np.float32(_LARGEST) / extent)
        return _centred(x * size, rng), _centred(y * size, rng)

    def _inked(self, density: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
        kernel = _kernel(self.pen)
        ink = _blur(_blur(density, kernel, 1), kernel, 2)
        # 1 / kernel peak: a long straight stroke of normal pressure has 1 along its middle
        gain = _column(rng, 1.45, 0.12, len(ink))[..., None] / kernel[_REACH]
        ink *= gain
        ink -= np.float32(_EDGE[0])
        ink *= np.float32(1 / (_EDGE[1] - _EDGE[0]))
        np.clip(ink, 0, 1, out=ink)
        darkness = np.clip(_column(rng, self.ink, 0.03, len(ink)), 0.7, 1)[..., None]
        return np.asarray(255 - np.rint(ink * (255 * darkness)), np.uint8)


def _waves(rng: np.random.Generator, amplitude: float, count: int) -> Array:
    """Random coefficients (2, _WAVES, count) that fall off with the wave number."""
    fall = np.float32(amplitude) / np.arange(1, _WAVES + 1, dtype=np.float32)
    waves: Array = rng.standard_normal((2, _WAVES, count), np.float32) * fall[:, None]
    return waves


def _displacement(waves: Array) -> Array:
    """Sum of Chebyshev polynomials along the path: (_WAVES, count) -> (count, SEGMENTS + 1)."""
    along = np.linspace(-1, 1, SEGMENTS + 1, dtype=np.float32)
    before, current = np.ones_like(along), along
    total = np.zeros((waves.shape[1], SEGMENTS + 1), np.float32)
    for wave in waves:
        total += wave[:, None] * current
        before, current = current, np.float32(2) * along * current - before
    return total


def _column(rng: np.random.Generator, mean: float, deviation: float, count: int) -> Array:
    column: Array = np.float32(mean) + np.float32(deviation) * rng.standard_normal((count, 1), np.float32)
    return column


def _centred(values: Array, rng: np.random.Generator) -> Array:
    middle = (values.min(axis=1) + values.max(axis=1))[:, None] * np.float32(0.5)
    shifted: Array = values - middle + _column(rng, (IMAGE_SIZE - 1) / 2, 0.6, len(values))
    return np.clip(shifted, np.float32(_MARGIN), np.float32(IMAGE_SIZE - 1 - _MARGIN))


def _middles(values: Array) -> Array:
    middles: Array = (values[:, 1:] + values[:, :-1]) * np.float32(0.5)
    return middles


def _splat(x: Array, y: Array, pressure: Array) -> Array:
    """Spread each piece's length x pressure over the four pixels around its middle: float32 (k, 32, 32)."""
    weight = np.sqrt(np.diff(x) ** 2 + np.diff(y) ** 2) * pressure
    middle_x, middle_y = _middles(x), _middles(y)
    column, row = middle_x.astype(np.int32), middle_y.astype(np.int32)
    right, down = middle_x - column, middle_y - row
    corner = row * IMAGE_SIZE + column + (np.arange(len(x), dtype=np.int32) * IMAGE_SIZE**2)[:, None]
    upper, lower = weight * (1 - down), weight * down
    places = np.stack([corner, corner + 1, corner + IMAGE_SIZE, corner + IMAGE_SIZE + 1]).ravel()
    shares = np.stack([upper * (1 - right), upper * right, lower * (1 - right), lower * right]).ravel()
    total = np.bincount(places, shares, len(x) * IMAGE_SIZE**2)
    return total.astype(np.float32).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)


def _kernel(radius: float) -> list[np.float32]:
    """A Gaussian, rounded to 1/4096 so that it does not depend on the C library's exp."""
    weights = [math.exp(-((offset / radius) ** 2) / 2) for offset in range(-_REACH, _REACH + 1)]
    return [np.float32(round(4096 * weight / sum(weights)) / 4096) for weight in weights]


def _blur(images: Array, kernel: list[np.float32], axis: int) -> Array:
    source = np.moveaxis(images, axis, 0)
    blurred = images * kernel[_REACH]
    target = np.moveaxis(blurred, axis, 0)
    for offset in range(1, _REACH + 1):
        weight = kernel[_REACH + offset]
        target[offset:] += weight * source[:-offset]
        target[:-offset] += weight * source[offset:]
    return blurred
