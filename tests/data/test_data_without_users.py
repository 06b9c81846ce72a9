"""IDX files, tables and rows of other libraries become data sets; the stored form of arrays."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from mindfl.cli.data import data_command
from mindfl.data import Dataset, convert_csv, convert_dataset, convert_idx, fingerprint, inspect_dataset, open_dataset
from mindfl.data.idx import read_idx
from mindfl.errors import DataError, OptionError
from mindfl.sim.partition_plot import save_partition

RNG = np.random.default_rng(4)
IMAGES, LABELS = RNG.integers(0, 256, (90, 9, 7), np.uint8), RNG.integers(0, 4, 90).astype(np.uint8)
TESTED, ANSWERS = RNG.integers(0, 256, (30, 9, 7), np.uint8), RNG.integers(0, 4, 30).astype(np.uint8)


def idx(array: NDArray[Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder as Fashion-MNIST's, one of its files compressed."""
    folder = tmp_path / "some été files"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(TESTED))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(ANSWERS))
    return folder


def all_samples(dataset: Dataset, part: str) -> list[tuple[bytes, int]]:
    """Return pixels and labels of all users, sorted."""
    return sorted(
        (image.tobytes(), int(label))
        for user in dataset
        for split in [getattr(user, part)]
        for image, label in zip(split.pixels, split.labels, strict=True)
    )


def test_idx_files_are_divided_and_read_back(files: Path, tmp_path: Path) -> None:
    made = convert_idx(files, tmp_path / "out", partition="dirichlet:alpha=0.5", users=12, seed=3)
    stored = open_dataset(tmp_path / "out")
    assert stored.users == tuple(f"client{n:02}" for n in range(12))
    assert (stored.image_size, stored.channels, stored.classes, stored.grey) == ((9, 7), 1, 4, True)
    for name, images, labels in (("train", IMAGES, LABELS), ("test", TESTED, ANSWERS)):
        expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
        assert all_samples(stored, name) == all_samples(made, name) == expected
    assert fingerprint(stored) == fingerprint(made)


def test_emnists_images_are_turned(files: Path, tmp_path: Path) -> None:
    turned = convert_idx(files, tmp_path / "out", users=1, transpose=True)
    assert turned.image_size == (7, 9)
    np.testing.assert_array_equal(turned.user(0).train.pixels[5, :, :, 0], IMAGES[5].T)


def test_without_test_files_a_tenth_is_tested(files: Path, tmp_path: Path) -> None:
    for file in files.glob("t10k*"):
        file.unlink()
    made = convert_idx(files, tmp_path / "out", users=3)
    assert [(user.train.size, user.test.size) for user in made] == [(27, 3)] * 3
    again = convert_idx(files, tmp_path / "again", users=3)
    assert fingerprint(again) == fingerprint(made) != fingerprint(convert_idx(files, tmp_path / "x", users=3, seed=1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), "no *train-labels*"),
        (lambda f: (f / "t10k-labels-idx1-ubyte").unlink(), "no *t10k-labels* or *test-labels*"),
        (lambda f: (f / "train-labels-copy").write_bytes(b""), "are both train labels"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08"), "is not an IDX file"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"PK\x08\x01"), "is not an IDX file"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x0d\x01\0\0\0\0"), "numbers of type 13"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x03\0\0"), "ends within its 3 dimensions"),
        (
            lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(LABELS)[:-1]),
            "should hold 90 bytes of data, it holds 89",
        ),
        (
            lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:-1])),
            "images should be (n, height, width)",
        ),
        (
            lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES))[:99]),
            "cannot be unpacked",
        ),
    ],
)
def test_broken_idx_files_are_named(files: Path, tmp_path: Path, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(files)
    with pytest.raises(DataError) as refused:
        convert_idx(files, tmp_path / "out")
    assert words in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_labels_alone_are_read(files: Path) -> None:
    np.testing.assert_array_equal(read_idx(files / "train-labels-idx1-ubyte"), LABELS)


def table(path: Path, columns: str, rows: list[str]) -> Path:
    path.write_text("\n".join([columns, *rows]) + "\n", "utf-8")
    return path


def test_a_table_with_users_keeps_them(tmp_path: Path) -> None:
    rows = [f"{'ann' if n % 3 else 'ben é'},{n % 2}," + ",".join(map(str, IMAGES[n, 0, :6])) for n in range(30)]
    path = table(tmp_path / "t.csv", "who,digit,a,b,c,d,e,f", rows)
    made = convert_csv(path, tmp_path / "out", user="who", label="digit", image_size=(2, 3))
    stored = open_dataset(tmp_path / "out")
    assert stored.users == ("ann", "ben é")
    assert [(user.train.size, user.test.size) for user in stored] == [(18, 2), (9, 1)]
    assert all_samples(stored, "train") + all_samples(stored, "test") == all_samples(made, "train") + all_samples(
        made, "test"
    )
    assert (IMAGES[1, 0, :6].tobytes(), 1) in all_samples(made, "train") + all_samples(made, "test")


def test_a_table_without_users_is_divided(tmp_path: Path) -> None:
    rows = [f"{n % 2},1,2,3,{n}" for n in range(20)]
    made = convert_csv(table(tmp_path / "t.csv", "label,a,b,c,d", rows), tmp_path / "o", users=2, partition="classes:1")
    assert [np.unique(user.train.labels).tolist() for user in made] == [[0], [1]]


@pytest.mark.parametrize(
    ("columns", "rows", "words"),
    [
        ("lable,a", ["1,2"], "no column 'label' (did you mean lable?)"),
        ("label", ["1"], "has no pixel columns"),
        ("label,a,a", ["1,2,3"], "two columns of one name"),
        ("label,a", [], "a header and no rows"),
        ("", [], "no column 'label'"),
        ("label,a", ["1,2", "1"], "line 3: 1 values for 2 columns"),
        ("label,a", ["1,2", "1,x"], "line 3: 'x' in the column a is no pixel"),
        ("label,a", ["1,256"], "line 2: a pixel is outside 0..255"),
        ("label,a", ["-1,25"], "line 2: the label -1 is outside 0..1048575"),
        ("label,a", ["1,25", "99999999999,25"], "line 3: the label 99999999999 is outside"),
        ("label,a", ["1,25", "cat,25"], "line 3: the label 'cat' is no whole number"),
        ("label,a,b", ["1,2,3"] * 20, "has 2 pixel columns: no square image"),
    ],
)
def test_broken_tables_are_refused_by_line(tmp_path: Path, columns: str, rows: list[str], words: str) -> None:
    with pytest.raises((DataError, OptionError)) as refused:
        convert_csv(table(tmp_path / "t.csv", columns, rows), tmp_path / "out", users=1)
    assert words in refused.value.line()
    assert not (tmp_path / "out").exists()


def test_a_row_that_is_no_csv_is_named(tmp_path: Path) -> None:
    path, limit = table(tmp_path / "t.csv", "label,a", ["1,2", "1," + "9" * 200]), csv.field_size_limit(100)
    try:
        with pytest.raises(DataError, match=r"t\.csv, line 3: field larger than field limit"):
            convert_csv(path, tmp_path / "out", users=1)
    finally:
        csv.field_size_limit(limit)


class Rows(list[dict[str, Any]]):
    """A stand-in for a Hugging Face data set: rows, and features that name the classes."""

    def __init__(self, rows: list[dict[str, Any]], names: list[str]) -> None:
        super().__init__(rows)
        self.features = {"character": type("ClassLabel", (), {"names": names})()}


def test_rows_of_another_library_are_grouped_by_user() -> None:
    pictures = [Image.fromarray(image) for image in IMAGES[:20]]
    rows = [{"image": p, "character": n % 2, "writer_id": f"f{n // 10}"} for n, p in enumerate(pictures)]
    data = Dataset.from_huggingface(Rows(rows, ["zero", "one", "two"]), user="writer_id", label="character")
    assert (data.users, data.class_names, data.image_size) == (("f0", "f1"), ("zero", "one", "two"), (9, 7))
    assert (IMAGES[3].tobytes(), 1) in all_samples(data, "train") + all_samples(data, "test")


def test_rows_without_users_are_divided() -> None:
    rows = [{"img": image, "label": label} for image, label in zip(IMAGES, LABELS, strict=True)]
    data = Dataset.from_huggingface(rows, user=None, image="img", partition="dirichlet:alpha=1", users=3)
    assert sum(user.train.size + user.test.size for user in data) == 90


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "there are no rows"),
        ([{"image": IMAGES[0], "lable": 1, "who": 2}], "row 0 has no column 'label'"),
        ([{"image": IMAGES[0], "label": 1}], "row 0 has no column 'who'"),
        (
            [{"image": a, "label": 1, "who": 2} for a in (IMAGES[0], IMAGES[0][1:])],
            "row 1 has an image of shape (8, 7) (uint8), row 0 has (9, 7) (uint8)",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError) as refused:
        Dataset.from_huggingface(rows, user="who")
    assert words in str(refused.value)


def coloured() -> Any:
    floats = RNG.random((10, 4, 5, 3), np.float32)
    return Dataset.from_arrays({"b": (floats, LABELS[:10])}, class_names=["ä", "b", "c", "d"], test_share=0)


def test_arrays_in_colour_and_floats_are_saved(tmp_path: Path) -> None:
    data = coloured()
    data.save(tmp_path / "out")
    stored = open_dataset(tmp_path / "out")
    assert (stored.class_names, stored.channels, stored.grey) == (("ä", "b", "c", "d"), 3, False)
    np.testing.assert_array_equal(stored.user("b").train.images(), data.user("b").train.images())
    assert stored.user("b").test.size == 0
    with pytest.raises(OptionError, match="is not empty"):
        data.save(tmp_path / "out")
    assert inspect_dataset(tmp_path / "out", sheet=tmp_path / "sheet.png").classes.keys() == {"ä", "b", "c", "d"}


@pytest.mark.parametrize(
    ("size", "names", "words"),
    [
        ((28, 28), None, "has images of 28x28; the forms bin and compact hold 32x32"),
        ((32, 32), ["cat", "dog", "ox", "yak"], "has the classes cat, dog, ox, yak; the forms"),
    ],
)
def test_other_images_and_classes_than_femnists_are_not_converted(
    tmp_path: Path, size: tuple[int, int], names: list[str] | None, words: str
) -> None:
    data = Dataset.from_arrays({"b": (np.zeros((4, *size), np.uint8), np.arange(4))}, class_names=names)
    data.save(tmp_path / "in")
    with pytest.raises(DataError, match=words):
        convert_dataset(tmp_path / "in", tmp_path / "out", format="compact")


def changed(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        index = json.loads((folder / "arrays.json").read_text("utf-8"))
        (folder / "arrays.json").write_text(json.dumps({**index, **fields}), "utf-8")

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "images.raw").write_bytes(b"1"), "has 1 bytes, the index says 2400"),
        (lambda f: (f / "labels.raw").unlink(), "cannot read"),
        (lambda f: (f / "arrays.json").write_text("[]"), "is not the index"),
        (changed(version=2), "is not the index"),
        (changed(image=[4, 5]), "no usable image shape"),
        (changed(image=[4, 5, -3]), "no usable image shape"),
        (changed(type="int8"), "no usable image shape or type"),
        (changed(class_names=[1]), "no list of class names"),
        (changed(class_names=["a"]), "is outside 0..0"),
        (changed(users=[]), "no list of users"),
        (changed(users=[{"name": "b", "train": 10}]), "broken user entry"),
        (changed(users=[{"name": "b", "train": 0, "test": 10}]), "broken user entry"),
        (changed(users=[{"name": "b", "train": 5, "test": 0}] * 2), "names a user twice"),
    ],
)
def test_a_broken_folder_is_refused(tmp_path: Path, spoil: Callable[[Path], Any], words: str) -> None:
    coloured().save(tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(DataError) as refused:
        open_dataset(tmp_path / "out").user(0)
    assert words in str(refused.value)


def test_commands_say_what_they_made_and_draw_who_has_what(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = CliRunner().invoke(data_command, ["idx", "--input", str(files), "--output", str(out), "--users", "3"]).output
    assert text.startswith(f"{out}: 3 users, 90 train and 30 test samples of 4 classes; who has what: ")
    with Image.open(tmp_path / "out-partition.png") as picture:
        assert picture.size[0] > 300
    rows = [f"{n % 2},1,2,3,{n}" for n in range(20)]
    path = table(tmp_path / "t.csv", "label,a,b,c,d", rows)
    arguments = ["csv", "--input", str(path), "--output", str(tmp_path / "csv"), "--json"]
    found = json.loads(CliRunner().invoke(data_command, arguments).output)
    assert (found["users"], found["classes"]) == (10, 2)


def test_many_clients_are_drawn_as_areas_of_the_same_height(tmp_path: Path) -> None:
    images = np.zeros((6, 2, 2), np.uint8)
    users = {f"u{n}": (images[: n % 5 + 1], np.arange(n % 5 + 1) % 3) for n in range(101)}
    few = dict(list(users.items())[:100])
    for name, some in (("areas", users), ("bars", few)):
        save_partition(Dataset.from_arrays(some, classes=3, name="x"), tmp_path / f"{name}.png", dpi=40)
    areas, bars = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("areas", "bars"))
    shares = [
        [(each == colour).all(axis=2).mean() for colour in ((68, 1, 84), (253, 231, 37))] for each in (areas, bars)
    ]
    np.testing.assert_allclose(shares[0], np.divide(shares[1], 0.9), rtol=0.1)
    assert shares[0][0] > shares[0][1] > 0.05
