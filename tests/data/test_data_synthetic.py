"""Imaginary writers: reproducible, of the right shape, and with a hand of their own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from mindfl.data import check_dataset, make_synthetic, open_dataset
from mindfl.data.glyphs import SEGMENTS, templates
from mindfl.data.synthetic import Hand, draw_writer
from mindfl.errors import OptionError


def digest(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_seed_gives_the_same_bytes(synthetic: Path, tmp_path: Path) -> None:
    make_synthetic(tmp_path / "same", users=4, seed=3, progress=False)
    make_synthetic(tmp_path / "other", users=4, seed=4, progress=False)
    assert digest(tmp_path / "same") == digest(synthetic) != digest(tmp_path / "other")


def test_a_writer_does_not_depend_on_the_others(synthetic: Path) -> None:
    train, test = draw_writer(3, 2)
    stored = open_dataset(synthetic).user("synthetic_0002")
    assert np.array_equal(train.grey, stored.train.grey()) and np.array_equal(test.labels, stored.test.labels)


def test_both_forms_hold_the_same_values(synthetic: Path, tmp_path: Path) -> None:
    make_synthetic(tmp_path / "bin", users=4, seed=3, format="bin", progress=False)
    for compact, bins in zip(open_dataset(synthetic), open_dataset(tmp_path / "bin"), strict=True):
        assert compact.name == bins.name and compact.train.size == bins.train.size
        assert np.array_equal(compact.train.images(), bins.train.images())
        assert np.array_equal(compact.test.images(), bins.test.images())


@pytest.mark.parametrize("format", ["bin", "compact"])
def test_the_set_says_that_it_is_synthetic(format: str, tmp_path: Path) -> None:
    make_synthetic(tmp_path / "out", users=2, format=format, progress=False)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.synthetic and dataset.source == "synthetic" and not list(check_dataset(dataset))
    assert dataset.users == ("synthetic_0000", "synthetic_0001")


def test_sizes_and_classes_are_spread_like_femnists() -> None:
    writers = [draw_writer(0, number) for number in range(60)]
    sizes = np.array([len(train.labels) + len(test.labels) for train, test in writers])
    shares = np.array([len(test.labels) for _, test in writers]) / sizes
    labels = np.concatenate([train.labels for train, _ in writers])
    digits = [float((train.labels < 10).mean()) for train, _ in writers]
    assert 190 < sizes.mean() < 265 and 60 < sizes.std() < 120 and sizes.min() >= 40
    assert np.all((shares >= 0.1) & (shares < 0.125))
    assert len(np.unique(labels)) == 62 and 0.43 < (labels < 10).mean() < 0.53
    assert np.std(digits) > 0.04  # a mix of its own for each writer; equal mixes would give 0.035


def test_images_are_dark_ink_on_white_paper() -> None:
    train, _ = draw_writer(1, 1)
    ink = (255 - train.grey.astype(int)).sum(axis=(1, 2)) / 255
    border = np.concatenate([train.grey[:, [0, -1]].ravel(), train.grey[:, :, [0, -1]].ravel()])
    assert (border == 255).all() and train.grey.min() < 60
    assert ink.min() > 5 and ink.max() < 400
    shades = np.unique(train.grey)
    assert len(shades) > 100  # edges are smooth


def test_every_class_has_forms_that_can_be_told_apart_mostly() -> None:
    """Nearest class mean, over many hands, is far better than chance and far from perfect."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(62), 4)
    images = (
        np.stack([Hand.choose(rng).write(labels, rng) for _ in range(24)]).reshape(24, 62, 4, -1).astype(np.float32)
    )
    means = images[:18].mean(axis=(0, 2))
    distances = ((images[18:].reshape(-1, 1, 1024) - means) ** 2).sum(axis=2)
    accuracy = (distances.argmin(axis=1) == np.tile(labels, 6)).mean()
    assert 0.2 < accuracy < 0.9


def test_a_writers_letters_are_alike() -> None:
    rng = np.random.default_rng(1)
    labels = np.full(20, 10)
    first, second = (Hand.choose(rng).write(labels, rng).astype(np.float32).mean(axis=0) for _ in range(2))
    again = Hand.choose(np.random.default_rng(1))
    same = again.write(labels, np.random.default_rng(9)).astype(np.float32).mean(axis=0)
    assert np.abs(first - same).mean() < np.abs(first - second).mean()


def test_paths_are_traced_evenly() -> None:
    table = templates()
    lengths = np.hypot(np.diff(table.x), np.diff(table.y))
    assert table.x.shape == (len(table.pen), SEGMENTS + 1) and table.forms.sum() == len(table.pen)
    assert len(table.first) == 62 and (table.pen[:, [0, -1]] == 1).all()
    assert lengths[table.pen == 1].max() < 1.0


@pytest.mark.parametrize("arguments", [{"users": 0}, {"users": 3501}, {"users": 1, "seed": -1}])
def test_unusable_arguments(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        make_synthetic(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
