"""Data sets of tokens, of numbers and of regressions: read back unchanged from memory and disk, refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mindfl.cli.data import data_command
from mindfl.data import Dataset, check_dataset, fingerprint, inspect_dataset, open_dataset, partition
from mindfl.errors import DataError, OptionError
from mindfl.sim.job_data import PairedDataset, central_parts
from mindfl.sim.partition_plot import save_partition

Array = np.ndarray[Any, Any]


def tokens(count: int, *shape: int, vocabulary: int = 90) -> Array:
    return np.random.default_rng(3).integers(0, vocabulary, (count, *shape)).astype(np.int32)


LABELS = np.arange(10) % 4


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    vocabulary=st.sampled_from([2, 256, 257, 65536, 65537]),
    labels=st.sampled_from(["classes", "by token", "regression"]),
    count=st.integers(1, 5),
)
def test_what_is_given_is_read_and_stored(
    shape: list[int], vocabulary: int, labels: str, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = tokens(count, *shape, vocabulary=vocabulary)
    targets: Array = {
        "classes": np.arange(count),
        "by token": np.arange(count * shape[-1]).reshape(count, shape[-1]),
        "regression": np.linspace(-9, 9, 2 * count, dtype=np.float32).reshape(count, 2),
    }[labels]
    data = Dataset.from_arrays(
        {"ann": (ids, targets), "ben": (ids, targets, ids, targets)},
        vocabulary=vocabulary,
        central_test=(ids, targets),
    )
    folder = tmp_path_factory.mktemp("tokens") / "set"
    data.save(folder)  # type: ignore[attr-defined]
    stored = open_dataset(folder)
    assert fingerprint(data) == fingerprint(stored) and data.form == stored.form and not list(check_dataset(stored))
    assert (data.form.kind, data.form.shape, data.form.vocabulary) == ("tokens", tuple(shape), vocabulary)
    assert (stored.image_size, stored.channels, stored.grey) == (None, None, False)
    assert stored.classes == data.classes == (0 if labels == "regression" else targets.max() + 1)
    assert stored.central_test is not None
    for split in (stored.user("ann").train, stored.user("ben").test, stored.central_test, data.user("ben").train):
        assert np.array_equal(split.images(), ids) and np.array_equal(split.planes(), ids)
        assert split.images().dtype == np.int32 and split.labels.dtype == data.form.label_type
        assert np.array_equal(split.labels, targets)
    each = {1: "u1", 2: "<u2", 4: "<i4"}[1 if vocabulary <= 256 else 2 if vocabulary <= 65536 else 4]
    assert np.array_equal(np.fromfile(folder / "samples.raw", each)[: ids.size], ids.ravel())


def test_rows_of_numbers_for_a_regression() -> None:
    rows = np.linspace(-5, 300, 40, dtype=np.float32).reshape(10, 4)
    data = Dataset.from_arrays({"ann": (rows, rows[:, :1])}, test_share=0)
    assert data.form.words() == "4 numbers, labels of 1 number"
    assert np.array_equal(data.user(0).train.planes(), rows) and np.array_equal(data.user(0).train.labels, rows[:, :1])
    with pytest.raises(DataError, match="user ann: the samples are numbers, not pictures"):
        data.user(0).train.grey()


def test_the_fingerprint_changes_with_any_token_label_and_vocabulary() -> None:
    def of(ids: Array, labels: Array = LABELS, **more: Any) -> str:
        return fingerprint(Dataset.from_arrays({"ann": (ids, labels)}, classes=9, **more)).sha256

    ids = tokens(10, 6)
    other = ids.copy()
    other[9, 5] ^= 1
    by_token = np.repeat(LABELS[:, None], 6, axis=1)
    found = {of(ids, vocabulary=91), of(other, vocabulary=91), of(ids, LABELS[::-1].copy(), vocabulary=91)}
    found |= {of(ids, vocabulary=92), of(ids.reshape(10, 2, 3), vocabulary=91), of(ids, by_token, vocabulary=91)}
    assert len(found) == 6 and of(ids, vocabulary=91) in found


def negative() -> Array:
    ids = tokens(10, 6)
    ids[3, 2] = -1
    return ids


def not_finite() -> Array:
    targets = np.zeros((10, 2), np.float32)
    targets[4, 1] = np.nan
    return targets


FAULTS: dict[str, tuple[Callable[[], tuple[Array, Array]], dict[str, Any]]] = {
    "user ben: the train part: token -1 of sample 3 is outside 0..89": (lambda: (negative(), LABELS), {}),
    "user ben: the train part: token 90 of sample 0 is outside 0..89": (lambda: (tokens(10, 6) * 0 + 90, LABELS), {}),
    "user ben: train samples are 5 tokens, but those of ann are 6 tokens": (lambda: (tokens(10, 5), LABELS), {}),
    "user ben: train images are int64": (lambda: (tokens(10, 6).astype(np.int64), LABELS), {}),
    "user ben: train samples have shape (10,)": (lambda: (tokens(10), LABELS), {}),
    "user ben: train part has 10 samples, but 9 labels": (lambda: (tokens(10, 6), LABELS[:9]), {}),
    "user ben: train labels are int64 of shape (10, 5)": (lambda: (tokens(10, 6), np.zeros((10, 5), int)), {}),
    "user ben: train labels are float32 of shape (10,)": (lambda: (tokens(10, 6), np.zeros(10, np.float32)), {}),
    "user ben: train samples are 6 tokens, labels of 2 numbers, but those of ann are 6 tokens": (
        lambda: (tokens(10, 6), np.zeros((10, 2), np.float32)),
        {},
    ),
    "user ben: label 9 of sample 9 in the train part is outside 0..8": (
        lambda: (tokens(10, 6), np.arange(10)),
        {"classes": 9},
    ),
    "vocabulary must be a whole number from 1 to 2147483648, got '90'": (
        lambda: (tokens(10, 6), LABELS),
        {"vocabulary": "90"},
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_what_cannot_be_used_is_named(message: str) -> None:
    make, options = FAULTS[message]
    with pytest.raises(DataError) as caught:
        Dataset.from_arrays({"ann": (tokens(10, 6), LABELS), "ben": make()}, **{"vocabulary": 90, **options})
    assert str(caught.value).startswith(message)


def test_targets_that_are_not_finite_and_options_without_effect_are_refused() -> None:
    with pytest.raises(DataError, match=r"user ann: the label of sample 4 in the train part is nan, not a finite"):
        Dataset.from_arrays({"ann": (tokens(10, 6), not_finite())})
    with pytest.raises(DataError, match=r"user ann: train: sample 4 holds nan, not a finite number"):
        Dataset.from_arrays({"ann": (not_finite(), LABELS)})
    with pytest.raises(DataError, match="labels are numbers of a regression, so there are no classes"):
        Dataset.from_arrays({"ann": (tokens(10, 6), np.zeros((10, 1), np.float32))}, classes=3)
    with pytest.raises(DataError, match="vocabulary is for tokens"):
        Dataset.from_arrays({"ann": (np.zeros((10, 4, 4), np.uint8), LABELS)}, vocabulary=3)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("samples", "sounds"),
        ("samples", ["tokens"]),
        ("shape", [6.0]),
        ("shape", []),
        ("type", "float32"),
        ("vocabulary", 0),
        ("vocabulary", True),
        ("label_shape", [-1]),
        ("regression", 1),
        ("regression", True),
    ],
)
def test_a_broken_index_is_refused(entry: str, value: object, tmp_path: Path) -> None:
    Dataset.from_arrays({"ann": (tokens(10, 6), LABELS)}).save(tmp_path / "set")  # type: ignore[attr-defined]
    path = tmp_path / "set" / "arrays.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), entry: value}), encoding="utf-8")
    with pytest.raises(DataError, match=r"arrays\.json has no usable"):
        open_dataset(tmp_path / "set")


def test_stored_values_that_do_not_fit_are_named(tmp_path: Path) -> None:
    targets = np.zeros((10, 2), np.float32)
    Dataset.from_arrays({"ann": (tokens(10, 6), targets)}, vocabulary=90).save(tmp_path)  # type: ignore[attr-defined]
    (tmp_path / "samples.raw").write_bytes(bytes(59) + bytes([200]))
    with pytest.raises(DataError, match=r"user ann: token 200 of sample 0 is outside 0\.\.89"):
        open_dataset(tmp_path).user("ann").test.images()
    (tmp_path / "labels.raw").write_bytes(b"\xff" * 80)
    assert [str(each) for each in check_dataset(open_dataset(tmp_path))] == [
        f"user ann: the label of sample 0 in {tmp_path / 'labels.raw'} is nan, not a finite number"
    ]
    (tmp_path / "samples.raw").write_bytes(bytes(59))
    with pytest.raises(DataError, match=r"samples\.raw"):
        open_dataset(tmp_path)


def test_users_without_test_samples_get_some_of_their_own() -> None:
    ids = np.arange(60, dtype=np.int32).reshape(20, 3)
    users = {"ann": (ids, np.arange(20)), "ben": (ids[:1], np.arange(1)), "cleo": (ids, np.arange(20), [], [])}

    def parts(**options: Any) -> list[tuple[int, int]]:
        return [(user.train.size, user.test.size) for user in Dataset.from_arrays(users, **options)]

    assert parts() == [(18, 2), (1, 0), (20, 0)]
    assert parts(test_share=0.25) == [(15, 5), (1, 0), (20, 0)]
    assert parts(test_share=0) == parts(central_test=(ids, np.arange(20))) == [(20, 0), (1, 0), (20, 0)]
    data = Dataset.from_arrays(users, test_share=0.5, seed=4)
    train, test = data.user("ann").train, data.user("ann").test
    both = np.concatenate([train.images(), test.images()])
    assert np.array_equal(both[np.argsort(both[:, 0])], ids)
    assert np.array_equal(train.images(2, 5)[:, 0], 3 * train.labels[2:5]) and np.all(np.diff(train.labels) > 0)
    others = [Dataset.from_arrays(users, test_share=0.5, seed=seed).user("ann").test.labels for seed in (4, 5)]
    assert np.array_equal(test.labels, others[0]) and not np.array_equal(test.labels, others[1])
    for share in (1, -0.1, True, "0.1", float("nan")):
        with pytest.raises(DataError, match="test_share must be a number from 0 to below 1"):
            Dataset.from_arrays(users, test_share=share)  # type: ignore[arg-type]


def test_labels_that_are_no_classes_are_divided_by_iid_alone() -> None:
    targets = np.zeros((10, 2), np.float32)
    assert sorted(np.concatenate(partition(targets, "iid", 3))) == list(range(10))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"dirichlet divides by class, but the labels are float32 of shape \(10, 2\)"):
        partition(targets, "dirichlet:alpha=0.5", 3)  # type: ignore[arg-type]


def test_inspection_tells_what_samples_are(tmp_path: Path) -> None:
    by_token = np.repeat(LABELS[:, None], 6, axis=1)
    Dataset.from_arrays({"ann": (tokens(10, 6), by_token)}, vocabulary=90).save(tmp_path / "t")  # type: ignore[attr-defined]
    summary = inspect_dataset(tmp_path / "t")
    assert summary.classes == {"0": 18, "1": 18, "2": 12, "3": 12} and summary.image_size is None
    assert summary.samples == "6 tokens of a vocabulary of 90, labels of 6 classes"
    outcome = CliRunner().invoke(data_command, ["inspect", str(tmp_path / "t")])
    assert outcome.exit_code == 0 and f"each sample       {summary.samples}" in outcome.output
    assert "contact sheet" not in outcome.output and not list(tmp_path.glob("*.png"))
    with pytest.raises(OptionError, match="has no pictures but 6 tokens"):
        inspect_dataset(tmp_path / "t", sheet=tmp_path / "sheet.png")
    targets = np.zeros((10, 2), np.float32)
    Dataset.from_arrays({"ann": (tokens(10, 6), targets)}).save(tmp_path / "r")  # type: ignore[attr-defined]
    assert inspect_dataset(tmp_path / "r").classes == {}
    outcome = CliRunner().invoke(data_command, ["inspect", str(tmp_path / "r")])
    assert outcome.exit_code == 0 and "samples per class" not in outcome.output
    for name in ("t", "r"):
        save_partition(open_dataset(tmp_path / name), tmp_path / f"{name}.png", dpi=40)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_a_job_pairs_and_divides_tokens() -> None:
    train = Dataset.from_arrays({"ann": (tokens(10, 6), LABELS)}, vocabulary=90, name="train")
    test = Dataset.from_arrays({"ann": (tokens(10, 6), LABELS)}, vocabulary=90, test_share=0.5, name="test")
    paired = PairedDataset(train, test)
    assert paired.form == train.form and paired.user("ann").test.size == 5
    assert sum(part.test.size for part in central_parts(paired, ["ann"])) == 5
    larger = Dataset.from_arrays({"ann": (tokens(10, 6), LABELS)}, vocabulary=91, name="larger")
    with pytest.raises(DataError, match="train has 6 tokens of a vocabulary of 90, but its test data set larger has"):
        PairedDataset(train, larger)
