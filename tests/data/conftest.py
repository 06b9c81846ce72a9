"""Small data sets for the tests of mindfl.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindfl.data import make_synthetic
from mindfl.data.samples import CLASSES, Samples
from mindfl.data.writer import write_dataset

MakeDataset = Callable[..., Path]


@pytest.fixture
def random_samples() -> Callable[[np.random.Generator, int], Samples]:
    """Make noise images with random labels."""
    return lambda rng, size: Samples(rng.integers(0, 256, (size, 32, 32), np.uint8), rng.integers(0, CLASSES, size))


@pytest.fixture
def make_dataset(tmp_path: Path, random_samples: Callable[[np.random.Generator, int], Samples]) -> MakeDataset:
    """Write a data set of noise: ``make_dataset("bin", {"u1": (train size, test size)}, batch_size=4)``."""

    def make(format: str, sizes: dict[str, tuple[int, int]], *, batch_size: int = 32, name: str = "") -> Path:
        rng = np.random.default_rng(5)
        output = tmp_path / (name or format)
        with write_dataset(output, format=format, source="test", batch_size=batch_size) as writing:
            for user, (train, test) in sizes.items():
                writing.writer.add(user, random_samples(rng, train), random_samples(rng, test))
        return output

    return make


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic writers in compact form; not to be changed."""
    output = tmp_path_factory.mktemp("synthetic") / "set"
    make_synthetic(output, users=4, seed=3, progress=False)
    return output
