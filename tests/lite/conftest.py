"""Sessions and their MindSpore twins, made from networks that the tests define."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lite_reference import MakePair, Reference

from mindfl.convert import convert_model
from mindfl.lite import LiteModel, Session


@pytest.fixture(scope="session")
def make_pair(converter_library: Path, tmp_path_factory: pytest.TempPathFactory) -> MakePair:
    """Return a function that exports a MindSpore network with its optimizer and converts it."""
    folder = tmp_path_factory.mktemp("pairs")
    made: list[Path] = []

    def pair(
        network: Any,
        image_shape: tuple[int, ...],
        batch: int,
        optimizer: str = "momentum",
        one_hot: int | None = None,
    ) -> tuple[Session, Reference]:
        reference = Reference(network, optimizer, one_hot=one_hot)
        made.append(reference.export(folder / f"network{len(made)}", image_shape, batch))
        return Session(convert_model(made[-1], made[-1].with_suffix(".ms")).model), reference

    return pair


@pytest.fixture(scope="session")
def lenet(converted: Callable[..., Path]) -> LiteModel:
    """LeNet for 62 classes and 3 channels with the momentum optimizer, batch 32."""
    return LiteModel.load(converted())
