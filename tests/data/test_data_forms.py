"""Both forms: written samples are read back bit for bit, and broken files are refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindfl.data import Dataset, check_dataset, convert_dataset, inspect_dataset, make_synthetic, open_dataset
from mindfl.data.array_samples import ArraySamples
from mindfl.data.pixels import grey_to_float
from mindfl.data.samples import ALPHABET, NO_SAMPLES, Samples, check_name, natural_key
from mindfl.data.writer import write_dataset
from mindfl.errors import DataError, MindflWarning, OptionError

MakeDataset = Callable[..., Path]

SIZES = {"f2": (5, 2), "f10": (8, 1), "f1": (1, 3)}
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_every_byte_becomes_its_255th() -> None:
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    floats = grey_to_float(bytes_)
    expected = bytes_.astype(np.float32) / np.float32(255)
    assert floats.dtype == np.float32 and floats.flags.c_contiguous and floats.shape == (1, 16, 16, 3)
    assert all(np.array_equal(floats[..., channel], expected) for channel in range(3))
    assert np.array_equal(ArraySamples(floats, "u", Dataset.form).read_grey(0, 1), bytes_)


@pytest.mark.parametrize("format", ["bin", "compact"])
def test_written_samples_are_read_back(
    format: str, make_dataset: MakeDataset, random_samples: Callable[..., Samples]
) -> None:
    dataset = open_dataset(make_dataset(format, SIZES, batch_size=4))
    rng = np.random.default_rng(5)
    assert dataset.kind == format and dataset.source == "test" and not dataset.synthetic
    assert dataset.users == ("f1", "f2", "f10") and len(dataset) == 3
    for name, sizes in SIZES.items():
        user = dataset.user(name)
        for split, size in zip((user.train, user.test), sizes, strict=True):
            grey, labels = random_samples(rng, size)
            assert split.size == size and split.labels.dtype == np.int32
            assert np.array_equal(split.labels[:size], labels)
            assert np.array_equal(split.images(), grey_to_float(grey))
            assert np.array_equal(split.images(1, 3), grey_to_float(grey)[1:3])
            assert np.array_equal(split.grey(), grey)
            assert np.array_equal(split.grey(1, 3), grey[1:3])
    assert not list(check_dataset(dataset))


def test_bins_fill_the_last_batch_from_the_first_sample(make_dataset: MakeDataset) -> None:
    root = make_dataset("bin", {"u": (5, 1)}, batch_size=4)
    files = {path.name: path.stat().st_size for path in (root / "u").iterdir()}
    train = open_dataset(root).user("u").train
    pixels = train.pixels
    assert files["u_bn_2_train_data.bin"] == 8 * 12288 and files["u_bn_1_test_label.bin"] == 4 * 4
    assert train.size == 5 and len(train.labels) == 8 and pixels.shape == (8, 32, 32, 3)
    assert np.array_equal(pixels[5:], pixels[:3]) and np.array_equal(train.labels[5:], train.labels[:3])
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


def test_compact_pixels_are_grey_and_read_only(make_dataset: MakeDataset) -> None:
    train = open_dataset(make_dataset("compact", SIZES)).user(0).train
    assert train.pixels.dtype == np.uint8 and train.pixels.shape == (1, 32, 32) and not train.pixels.flags.writeable
    assert np.array_equal(train.pixels, train.grey())


def test_conversion_there_and_back_changes_no_byte(make_dataset: MakeDataset, tmp_path: Path) -> None:
    compact = make_dataset("compact", SIZES)
    convert_dataset(compact, tmp_path / "bin", format="bin", batch_size=4, progress=False)
    convert_dataset(tmp_path / "bin", tmp_path / "again", format="compact", progress=False)
    first, second = open_dataset(compact), open_dataset(tmp_path / "again")
    assert first.users == second.users and second.source == "test"
    for one, other in zip(first, second, strict=True):
        for part in ("train", "test"):
            a, b = getattr(one, part), getattr(other, part)
            assert np.array_equal(a.grey(), b.grey()) and np.array_equal(a.labels, b.labels)


def test_a_data_set_is_not_converted_into_itself(make_dataset: MakeDataset) -> None:
    root = make_dataset("bin", SIZES)
    with pytest.raises(OptionError, match="lies in the input"):
        convert_dataset(root, root / "sub", format="compact", progress=False)
    assert open_dataset(root).users == ("f1", "f2", "f10")


def test_a_central_test_set_is_not_dropped_silently(tmp_path: Path) -> None:
    images, labels = np.zeros((3, 32, 32, 3), np.uint8), np.arange(3)
    dataset = Dataset.from_arrays(
        {"f0": (images, labels)}, class_names=tuple(ALPHABET), central_test=(images[:2], labels[:2])
    )
    dataset.save(tmp_path / "arrays")
    message = r"compact lacks the central test set of .* \(2 samples\): the form compact has none"
    with pytest.warns(MindflWarning, match=message):
        convert_dataset(tmp_path / "arrays", tmp_path / "compact", format="compact", progress=False)
    assert open_dataset(tmp_path / "compact").users == ("f0",)


def test_folders_without_manifest_count_every_stored_sample(make_dataset: MakeDataset) -> None:
    root = make_dataset("bin", {"u": (5, 1)}, batch_size=4)
    (root / "u" / "manifest.json").unlink()
    dataset = open_dataset(root)
    assert dataset.user("u").train.size == 8 and dataset.source == "unknown"


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_opened_users_hold_no_file_open(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset("bin", {f"u{number}": (2, 1) for number in range(30)}, batch_size=2))
    before = _open_files()
    held = [(user, user.train.images()) for user in dataset]
    assert len(held) == 30 and _open_files() == before


def test_colour_bins_are_read_but_not_made_grey(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset("bin", {"grey": (2, 1), "colour": (2, 1)}, batch_size=1)
    path = root / "colour" / "colour_bn_2_train_data.bin"
    values = np.fromfile(path, "<f4")
    values[0] = 0.1234
    values.tofile(path)
    assert open_dataset(root).user("colour").train.images()[0, 0, 0, 0] == np.float32(0.1234)
    report = convert_dataset(root, tmp_path / "compact", format="compact", progress=False)
    assert report.users == 1 and len(report.problems) == 1
    assert "user colour" in report.problems[0] and "not 8-bit grey" in report.problems[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_values_outside_zero_to_one_are_refused(value: float, make_dataset: MakeDataset) -> None:
    root = make_dataset("bin", {"u": (2, 1)}, batch_size=1)
    path = root / "u" / "u_bn_2_train_data.bin"
    values = np.fromfile(path, "<f4")
    values[4000] = value
    values.tofile(path)
    with pytest.raises(DataError, match=r"user u: .*u_bn_2_train_data\.bin holds NaN or values outside"):
        open_dataset(root).user("u").train.images()


def _delete_labels(folder: Path) -> None:
    (folder / "b_bn_2_train_label.bin").unlink()


def _second_data_file(folder: Path) -> None:
    (folder / "other_bn_2_train_data.bin").write_bytes(bytes(12288))


def _truncate_images(folder: Path) -> None:
    os.truncate(folder / "b_bn_2_train_data.bin", 20000)


def _one_image_less(folder: Path) -> None:
    os.truncate(folder / "b_bn_2_train_data.bin", 3 * 12288)


def _truncate_labels(folder: Path) -> None:
    os.truncate(folder / "b_bn_2_train_label.bin", 7)


def _label_too_large(folder: Path) -> None:
    np.array([1, 2, 62, 3], "<i4").tofile(folder / "b_bn_2_train_label.bin")


def _label_negative(folder: Path) -> None:
    np.array([1, 2, -1, 3], "<i4").tofile(folder / "b_bn_2_train_label.bin")


def _wrong_batches(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    for what in ("data", "label"):
        (folder / f"b_bn_2_train_{what}.bin").rename(folder / f"b_bn_3_train_{what}.bin")


def _manifest_random(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\x00{")


def _manifest_other_count(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["train"]["samples"] = 9
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _manifest_of_the_future(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))


def _emptied_test_part(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    for what in ("data", "label"):
        os.truncate(folder / f"b_bn_1_test_{what}.bin", 0)


def _empty_train_part(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    for what in ("data", "label"):
        (folder / f"b_bn_2_train_{what}.bin").unlink()
        (folder / f"b_bn_0_train_{what}.bin").touch()


def _misspelled_test_part(folder: Path) -> None:
    for what in ("data", "label"):
        (folder / f"b_bn_1_test_{what}.bin").rename(folder / f"b_bn_1_tset_{what}.bin")


def _image_file_is_folder(folder: Path) -> None:
    (folder / "b_bn_2_train_data.bin").unlink()
    (folder / "b_bn_2_train_data.bin").mkdir()


BREAKAGES = {
    _delete_labels: "no files b_bn_<batches>_train_label.bin",
    _second_data_file: "2 files b_bn_",
    _truncate_images: "not whole images",
    _one_image_less: "has 3 images but",
    _truncate_labels: "not whole int32",
    _label_too_large: "label 62 of sample 2 in",
    _label_negative: "is outside 0..61",
    _wrong_batches: "do not make the 3 batches",
    _manifest_random: "not valid JSON",
    _manifest_other_count: "says 9 train samples, but 4 are stored",
    _manifest_of_the_future: "version 2",
    _emptied_test_part: "0 test samples do not make the 1 batch",
    _empty_train_part: "has no train samples",
    _misspelled_test_part: "no files b_bn_<batches>_test_data.bin",
    _image_file_is_folder: "user b",
}


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda function: function.__name__)
def test_one_broken_user_is_named_and_stops_no_other(
    breakage: Callable[[Path], None], make_dataset: MakeDataset
) -> None:
    root = make_dataset("bin", {"a": (3, 1), "b": (4, 1), "c": (2, 2)}, batch_size=2)
    breakage(root / "b")
    dataset = open_dataset(root)
    problems = list(check_dataset(dataset))
    assert len(problems) == 1 and "user b" in str(problems[0]) and BREAKAGES[breakage] in str(problems[0])
    assert dataset.user("a").train.size == 3 and dataset.user("c").test.size == 2


def test_only_visible_folders_are_users_of_bins(make_dataset: MakeDataset) -> None:
    root = make_dataset("bin", {"a": (2, 1)}, batch_size=1)
    (root / "notes.txt").write_text("mine")
    (root / ".hidden").mkdir()
    assert open_dataset(root).users == ("a",)


def test_a_user_without_train_samples_is_named_and_stops_no_other(make_dataset: MakeDataset) -> None:
    root = make_dataset("compact", {"a": (3, 1), "b": (2, 2)})
    index = json.loads((root / "index.json").read_text("utf-8"))
    assert index["users"][1] == {"name": "b", "train": 2, "test": 2}
    index["users"][1] = {"name": "b", "train": 0, "test": 4}
    (root / "index.json").write_text(json.dumps(index), "utf-8")
    (problem,) = check_dataset(open_dataset(root))
    assert str(problem) == f"user b has no train samples in {root / 'index.json'}"


def test_the_index_is_readable_text(make_dataset: MakeDataset) -> None:
    root = make_dataset("compact", {"schön 状态": (1, 1)})
    assert '"name": "schön 状态"' in (root / "index.json").read_bytes().decode("utf-8")


@pytest.mark.parametrize("form", ["bin", "compact"])
def test_users_who_are_only_tested_on(form: str, make_dataset: MakeDataset) -> None:
    root = make_dataset(form, {"a": (3, 2), "b": (4, 1)}, batch_size=2)
    whole = open_dataset(root)
    expected = [whole.user(name).test.grey() for name in "ab"]
    if form == "bin":
        for path in root.glob("*/*_train_*.bin"):
            path.unlink()
    else:
        # What were train samples is now the test part of users that no test asks for.
        index = json.loads((root / "index.json").read_text())
        index["users"] = [
            {"name": name if part == "test" else f"of {name}", "train": 0, "test": size}
            for name, sizes in {"a": (3, 2), "b": (4, 1)}.items()
            for part, size in zip(("train", "test"), sizes, strict=True)
        ]
        (root / "index.json").write_text(json.dumps(index))
    dataset = open_dataset(root)
    for name, grey in zip("ab", expected, strict=True):
        assert np.array_equal(dataset.test_part(name).grey(), grey)
        assert np.array_equal(dataset.test_part(dataset.users.index(name)).grey(), grey)
        with pytest.raises(DataError, match=f"user {name}"):
            dataset.user(name)
    with pytest.raises(DataError, match="has no user 'c'"):
        dataset.test_part("c")


def _without_test_bins(folder: Path) -> None:
    for path in folder.glob("*_test_*.bin"):
        path.unlink()


def _with_empty_test_bins(folder: Path) -> None:
    """As the tutorial's own script leaves most users, which drops what does not fill a batch."""
    _without_test_bins(folder)
    for what in ("data", "label"):
        (folder / f"{folder.name}_bn_0_test_{what}.bin").touch()


@pytest.mark.parametrize("change", [_without_test_bins, _with_empty_test_bins])
def test_users_without_test_data(change: Callable[[Path], None], make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset("bin", {"a": (3, 1), "b": (4, 1)}, batch_size=2)
    for user in ("a", "b"):
        (root / user / "manifest.json").unlink()
    change(root / "b")
    assert list(check_dataset(open_dataset(root))) == []
    for form, name in (("compact", "one"), ("bin", "two"), ("compact", "three")):
        report = convert_dataset(root, tmp_path / name, format=form, batch_size=2, progress=False)
        assert (report.users, report.untested, report.problems) == (2, 1, ())
        root = report.output
        user = open_dataset(root).user("b")
        assert (user.train.size, user.test.size, user.test.labels.size) == (4, 0, 0)
        assert user.test.pixels.shape[0] == 0 and user.test.images().shape == (0, 32, 32, 3)
        assert user.test.grey().shape == (0, 32, 32)
    summary = inspect_dataset(root)
    assert (summary.users, summary.untested, summary.problems) == (2, 1, [])


def test_file_cut_after_opening_is_noticed(make_dataset: MakeDataset) -> None:
    root = make_dataset("compact", SIZES)
    split = open_dataset(root).user("f2").test
    os.truncate(root / "images.u8", 1024)
    with pytest.raises(DataError, match="ends too early"):
        split.images()


def test_wrong_labels_in_compact_are_the_users_fault(make_dataset: MakeDataset) -> None:
    root = make_dataset("compact", {"a": (2, 1), "b": (2, 1)})
    with (root / "labels.u8").open("r+b") as file:
        file.seek(4)
        file.write(b"\xff")
    problems = list(check_dataset(open_dataset(root)))
    assert [str(problem).split(":")[0] for problem in problems] == ["user b"]


def test_unknown_users_are_named(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset("compact", SIZES))
    for user in ("f3", 3, -1):
        with pytest.raises(DataError):
            dataset.user(user)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({}, "empty"),
        ({"train/x.json": b"{}"}, "mindfl data leaf"),
        ({"u/train/5/x.png": b""}, "mindfl data images"),
        ({"u_bn_1_train_data.bin": b""}, "the folder above"),
        ({"notes.txt": b""}, "expected index.json"),
    ],
)
def test_other_folders_get_advice(content: dict[str, bytes], advice: str, tmp_path: Path) -> None:
    for name, data in content.items():
        path = tmp_path / "räume und zeiten" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "räume und zeiten").mkdir(exist_ok=True)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "räume und zeiten")
    assert advice in caught.value.line()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        open_dataset(tmp_path / "nowhere")


def _read_everything(root: Path) -> None:
    dataset = open_dataset(root)
    for problem in check_dataset(dataset):
        assert isinstance(problem, DataError)


@fuzz
@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_flipped_bytes_in_the_index(position: int, byte: int, make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = tmp_path / "compact"
    index = (root if root.exists() else make_dataset("compact", SIZES)) / "index.json"
    original = index.read_bytes()
    changed = bytearray(original)
    changed[position % len(changed)] = byte
    index.write_bytes(changed)
    try:
        _read_everything(root)
    except DataError:
        pass
    finally:
        index.write_bytes(original)


@fuzz
@given(content=st.binary(max_size=200) | st.sampled_from([b"[" * 100_000, b"1" * 5000, b'{"format":"mindfl-compact"}']))
def test_random_index_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(DataError):
        open_dataset(tmp_path)


@fuzz
@given(
    name=st.sampled_from(["index.json", "images.u8", "labels.u8"]),
    share=st.floats(0, 0.999),
)
def test_truncated_compact_files_are_refused(
    name: str, share: float, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    root = tmp_path / "compact"
    path = (root if root.exists() else make_dataset("compact", SIZES)) / name
    original = path.read_bytes()
    path.write_bytes(original[: int(share * (len(original) - 1))])
    with pytest.raises(DataError):
        open_dataset(root)
    path.write_bytes(original)


@fuzz
@given(data=st.data())
def test_damaged_bins_are_valid_or_refused(data: st.DataObject, make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = tmp_path / "bin"
    user = (root if root.exists() else make_dataset("bin", {"u": (3, 1)}, batch_size=2)) / "u"
    path = data.draw(st.sampled_from(sorted(user.iterdir())))
    original = path.read_bytes()
    cut = data.draw(st.integers(0, len(original)))
    path.write_bytes(
        original[:cut] + data.draw(st.binary(max_size=40)) + original[cut + data.draw(st.integers(0, 40)) :]
    )
    _read_everything(root)
    path.write_bytes(original)


@given(st.text() | st.none() | st.integers())
def test_accepted_names_can_name_a_folder(name: object) -> None:
    try:
        check_name(name)
    except DataError:
        return
    assert isinstance(name, str) and name not in (".", "..") and "/" not in name and 0 < len(os.fsencode(name)) <= 200


@given(st.lists(st.text(alphabet="f0129_²٣")))
def test_natural_order_is_total(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def test_natural_order_counts() -> None:
    assert sorted(["f10", "f2", "f01", "f1"], key=natural_key) == ["f01", "f1", "f2", "f10"]
    assert sorted(["a1b3", "a01b002", "a2b1", "a1b10"], key=natural_key) == ["a01b002", "a1b3", "a1b10", "a2b1"]


@pytest.mark.parametrize(
    ("name", "good"), [("ü" * 100, True), ("ü" * 100 + "x", False), ("x" * 200, True), ("", False)]
)
def test_names_have_one_to_two_hundred_bytes(name: str, good: bool) -> None:
    if good:
        assert check_name(name) == name
    else:
        with pytest.raises(DataError, match="cannot name a folder"):
            check_name(name)


@pytest.mark.parametrize(
    ("name", "train", "test", "message"),
    [
        ("ok", 0, 1, "no train samples"),
        ("../up", 1, 1, "cannot name a folder"),
        ("", 1, 1, "cannot name a folder"),
        ("a\nb", 1, 1, "cannot name a folder"),
    ],
)
def test_unusable_users_are_not_written(name: str, train: int, test: int, message: str, tmp_path: Path) -> None:
    samples = Samples(np.zeros((1, 32, 32), np.uint8), np.zeros(1, int))
    with pytest.raises(DataError, match=message), write_dataset(tmp_path / "o", format="bin", source="test") as writing:
        writing.writer.add(name, samples.take(np.arange(train)), samples.take(np.arange(test)))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "arguments", [{"format": "tar"}, {"format": "bin", "batch_size": 0}, {"format": "bin", "batch_size": 10**9}]
)
def test_unusable_arguments(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"^{[*arguments][-1]} must be "):
        make_synthetic(tmp_path / "o", **arguments)
    assert not list(tmp_path.iterdir())


def test_an_index_without_a_list_of_users_is_refused(make_dataset: MakeDataset) -> None:
    root = make_dataset("compact", SIZES)
    index = json.loads((root / "index.json").read_text("utf-8"))
    (root / "index.json").write_text(json.dumps({**index, "users": {}}), "utf-8")
    with pytest.raises(DataError, match=r"index\.json has no list of users"):
        open_dataset(root)


def test_the_source_of_bins_is_that_of_the_first_manifest_that_can_be_read(make_dataset: MakeDataset) -> None:
    root = make_dataset("bin", {"a": (3, 1), "b": (3, 1)})
    (manifest,) = (root / "a").glob("*.json")
    manifest.write_text("{")
    assert open_dataset(root).source == "test"


def test_no_samples_are_images_and_labels_of_the_usual_shapes() -> None:
    assert (NO_SAMPLES.grey.shape, NO_SAMPLES.labels.shape) == ((0, 32, 32), (0,))
