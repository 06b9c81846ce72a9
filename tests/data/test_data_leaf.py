"""LEAF JSON: values, splits, streaming, and every way in which a shard or a user can be broken."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mindfl.data import convert_leaf, leafjson, open_dataset
from mindfl.data.leafjson import open_shard, read_shard
from mindfl.errors import DataError, MindflWarning

fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def entry(size: int, seed: int = 0) -> dict[str, Any]:
    """One user's part: noise of n/255, as LEAF writes it."""
    rng = np.random.default_rng([size, seed])
    return {"x": (rng.integers(0, 256, (size, 784)) / 255).tolist(), "y": rng.integers(0, 62, size).tolist()}


def shard(users: dict[str, Any]) -> dict[str, Any]:
    """A LEAF shard of ``users``."""
    sizes = [len(value["y"]) if isinstance(value, dict) and "y" in value else 0 for value in users.values()]
    return {"users": list(users), "num_samples": sizes, "user_data": users}


def write(path: Path, content: object) -> None:
    """Write JSON, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)


def convert(folder: Path, output: Path, **options: Any) -> Any:
    """Convert without a progress bar."""
    return convert_leaf(folder, output, progress=False, **options)


def test_pixels_are_resized_as_eight_bit_images(tmp_path: Path) -> None:
    data = entry(3)
    write(tmp_path / "in/train/a.json.gz", shard({"f1": data}))
    write(tmp_path / "in/test/a.json", shard({"f1": entry(1)}))
    report = convert(tmp_path / "in", tmp_path / "out")
    grey = np.rint(np.array(data["x"]) * 255).astype(np.uint8).reshape(-1, 28, 28)
    resized = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in grey]
    user = open_dataset(tmp_path / "out").user("f1")
    assert np.array_equal(user.train.grey(), np.stack(resized)) and user.train.labels[:3].tolist() == data["y"]
    assert (report.users, report.train_samples, report.test_samples, report.problems) == (1, 3, 1, ())
    assert report.source == open_dataset(tmp_path / "out").source == "leaf"


def test_users_without_a_test_folder_have_no_test_data(tmp_path: Path) -> None:
    write(tmp_path / "in/train/a.json", shard({"f1": entry(3), "f2": entry(4)}))
    (tmp_path / "in/test").mkdir()
    report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.untested, report.train_samples, report.test_samples) == (2, 2, 7, 0)


@pytest.mark.parametrize("place", ["", "all_data/"])
def test_whole_data_is_split_nine_to_one_by_seed_and_user(place: str, tmp_path: Path) -> None:
    users = {f"f{number}": entry(20, number) for number in range(3)}
    for name, seed, chosen in (("one", 7, ["f0", "f1", "f2"]), ("two", 7, ["f2"]), ("other", 8, ["f2"])):
        write(tmp_path / name / place / "s.json", shard({user: users[user] for user in chosen}))
        convert(tmp_path / name, tmp_path / f"{name}-out", seed=seed, format="compact")
    one, two, other = (open_dataset(tmp_path / f"{name}-out").user("f2") for name in ("one", "two", "other"))
    assert (one.train.size, one.test.size) == (18, 2)
    assert np.array_equal(one.test.grey(), two.test.grey()) and np.array_equal(one.train.grey(), two.train.grey())
    assert not np.array_equal(one.test.grey(), other.test.grey())
    together = np.concatenate([one.train.grey(), one.test.grey()])
    assert len(np.unique(together.reshape(20, -1), axis=0)) == 20


def test_key_order_and_extra_keys_do_not_matter(tmp_path: Path) -> None:
    content = shard({"f1": entry(4)})
    shuffled = {"hierarchies": ["f1"], "user_data": content["user_data"], "note": None, "n": 1.5e3, **content}
    write(tmp_path / "in/s.json", shuffled)
    assert convert(tmp_path / "in", tmp_path / "out").problems == ()


BROKEN_USERS: dict[str, tuple[Any, str]] = {
    "no y": ({"x": [[0.5] * 784]}, "lacks 'x' or 'y'"),
    "list": ([1, 2], "lacks 'x'"),
    "short": ({"x": [[0.5] * 783], "y": [1]}, "783 values, not 28x28"),
    "ragged": ({"x": [[0.5] * 784, [0.5]], "y": [1, 2]}, "lists of numbers of equal length"),
    "labels": ({"x": [[0.5] * 784] * 2, "y": [[1], [2]]}, "y is not a list of numbers of equal length"),
    "images": ({"x": [0.5] * 784, "y": [1]}, "x is not lists of numbers of equal length"),
    "text": ({"x": [["a"] * 784], "y": [1]}, "not a number"),
    "null": ({"x": [[None] * 784], "y": [1]}, "not a number"),
    "nan": ({"x": [[float("nan")] * 784], "y": [1]}, "outside 0..1"),
    "huge": ({"x": [[10**400] * 784], "y": [1]}, "not a number"),
    "dark": ({"x": [[-0.1] * 784], "y": [1]}, "outside 0..1"),
    "label": ({"x": [[0.5] * 784], "y": [62]}, "integer in 0..61"),
    "half": ({"x": [[0.5] * 784], "y": [1.5]}, "integer in 0..61"),
    "more": ({"x": [[0.5] * 784], "y": [1, 2]}, "1 image but 2 labels"),
    "none": ({"x": [], "y": []}, "no samples"),
    "bright": ({"x": [[1.0000001] * 784], "y": [1]}, "outside 0..1"),
    "below": ({"x": [[0.5] * 784], "y": [-1]}, "integer in 0..61"),
}


@pytest.mark.parametrize("kind", BROKEN_USERS)
def test_a_broken_user_is_named_and_the_others_are_kept(kind: str, tmp_path: Path) -> None:
    broken, message = BROKEN_USERS[kind]
    write(tmp_path / "in/all.json", shard({"f1": entry(3), "bad": broken, "f2": entry(3)}))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.users == 2 and len(report.problems) == 1
    assert "user bad" in report.problems[0] and "all.json" in report.problems[0] and message in report.problems[0]
    assert open_dataset(tmp_path / "out").users == ("f1", "f2")


def test_the_darkest_and_the_brightest_pixel_and_the_first_and_the_last_label_are_taken(tmp_path: Path) -> None:
    user = {"x": [[0.0] * 784, [1.0] * 784], "y": [0, 61]}
    write(tmp_path / "in/train/a.json", shard({"f1": user}))
    write(tmp_path / "in/test/a.json", shard({"f1": user}))
    assert convert(tmp_path / "in", tmp_path / "out").problems == ()
    train = open_dataset(tmp_path / "out").user("f1").train
    assert train.labels[:2].tolist() == [0, 61] and train.grey()[:, 0, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"users": ,}', "a value expected, ',}' found"),
        ('{"users": 1 ' + "x" * 50, "',' expected, '" + "x" * 20 + "' found"),
        ('{"users": 1}' + "y" * 50, "the end of the file expected, '" + "y" * 20 + "' found"),
        ("{7: 1}", "a key expected, '7: 1}' found"),
        ('{"users" 1}', "':' expected, '1}' found"),
    ],
)
def test_broken_json_is_shown_where_it_breaks(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught, open_shard(path, lambda _: None) as stream:
        list(read_shard(stream, path))
    assert str(caught.value) == f"{path} is not valid JSON: {message}"


def test_a_user_in_two_shards_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "in/a.json", shard({"f1": entry(3), "f2": entry(3)}))
    write(tmp_path / "in/b.json", shard({"f1": entry(4)}))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.users == 1 and "user f1 appears twice" in report.problems[0]
    assert "a.json" in report.problems[0] and "b.json" in report.problems[0]


def test_users_without_test_samples_are_kept_and_those_without_train_samples_left_out(tmp_path: Path) -> None:
    write(tmp_path / "in/train/a.json", shard({"f1": entry(3), "f2": entry(3)}))
    write(tmp_path / "in/test/a.json", shard({"f1": entry(1), "f3": entry(1)}))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.untested, report.test_samples) == (2, 1, 1)
    (problem,) = report.problems
    assert problem.startswith("user f3 has no train samples (") and "-t user" in problem
    kept = open_dataset(tmp_path / "out").user("f2")
    assert (kept.train.size, kept.test.size) == (3, 0)


def test_an_empty_test_entry(tmp_path: Path) -> None:
    write(tmp_path / "in/train/a.json", shard({"f1": entry(3)}))
    write(tmp_path / "in/test/a.json", shard({"f1": {"x": [], "y": []}}))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.untested, report.problems) == (1, 1, ())


def test_a_single_sample_is_for_training(tmp_path: Path) -> None:
    write(tmp_path / "in/a.json", shard({"f1": entry(1), "f2": entry(2)}))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.untested, report.train_samples, report.test_samples) == (2, 1, 2, 1)


def test_names_that_no_folder_can_have(tmp_path: Path) -> None:
    write(tmp_path / "in/a.json", shard({"../f": entry(2), "\ud800": entry(2), "": entry(2), "schön 1": entry(2)}))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert open_dataset(tmp_path / "out").users == ("schön 1",) and len(report.problems) == 3


def test_a_shard_without_data_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "in/good.json", shard({"f1": entry(3)}))
    content = shard({"f2": entry(3)})
    del content["user_data"]
    write(tmp_path / "in/bad.json", content)
    report = convert(tmp_path / "in", tmp_path / "out")
    assert any("bad.json" in problem and "'user_data'" in problem for problem in report.problems)


@pytest.mark.parametrize("key", ["users", "num_samples"])
def test_a_shard_without_its_lists_is_taken_and_named(key: str, tmp_path: Path) -> None:
    content = shard({"f2": entry(3)})
    del content[key]
    write(tmp_path / "in/bad.json", content)
    with pytest.warns(MindflWarning, match=rf"bad\.json has no '{key}': its users are taken"):
        report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.problems) == (1, ())


def test_counts_that_disagree_are_reported(tmp_path: Path) -> None:
    content = shard({"f1": entry(3), "f2": entry(3), "f3": entry(3)})
    content["num_samples"][1] = 5
    content["users"].append("f4")
    content["num_samples"].append(1)
    write(tmp_path / "in/a.json", content)
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.users == 2 and len(report.problems) == 2
    assert "user f2" in report.problems[0] and "num_samples says 5" in report.problems[0]
    assert "'f4' is listed" in report.problems[1]


def test_what_is_named_as_a_shard_and_is_no_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in/a.json", shard({"f1": entry(3)}))
    os.mkfifo(tmp_path / "in/b.json")
    (tmp_path / "in/c.json").mkdir()
    (tmp_path / "in/d.json").symlink_to("none")
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.users == 1
    assert [problem.partition("in/")[2] for problem in report.problems] == [
        "b.json: it is not a regular file",
        "c.json: Is a directory",
        "d.json: No such file or directory",
    ]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_byte_order_mark_is_taken(name: str, tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + json.dumps(shard({"f1": entry(3)})).encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.problems) == (1, ())


def test_a_user_who_is_not_listed_is_left_out_by_name(tmp_path: Path) -> None:
    content = shard({"f1": entry(3), "f2": entry(3)})
    del content["users"][1], content["num_samples"][1]
    write(tmp_path / "in/a.json", content)
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.users == 1
    (problem,) = report.problems
    assert "user f2 has data in" in problem and "but is not listed in its users" in problem


def test_a_user_who_is_listed_twice_is_left_out_by_name(tmp_path: Path) -> None:
    content = shard({"f1": entry(3), "f2": entry(3)})
    content["users"].append("f2")
    content["num_samples"].append(3)
    write(tmp_path / "in/a.json", content)
    (problem,) = convert(tmp_path / "in", tmp_path / "out").problems
    assert "user f2 is listed 2 times in the users of" in problem


@pytest.mark.parametrize("number", ["3", " 3 ", 3.0])
def test_numbers_of_samples_as_texts_are_taken(number: object, tmp_path: Path) -> None:
    content = shard({"f1": entry(3)})
    content["num_samples"] = [number]
    write(tmp_path / "in/a.json", content)
    assert convert(tmp_path / "in", tmp_path / "out").problems == ()


@pytest.mark.parametrize("number", ["three", "", None, 3.5, True, [3], float("nan"), float("inf")])
def test_what_is_no_number_of_samples_is_named(number: object, tmp_path: Path) -> None:
    content = shard({"f1": entry(3), "f2": entry(3)})
    content["num_samples"][1] = number
    write(tmp_path / "in/a.json", content)
    (problem,) = convert(tmp_path / "in", tmp_path / "out").problems
    assert f"user f2 in {tmp_path / 'in/a.json'} has num_samples {number!r}, which is not a whole number" in problem


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


@pytest.mark.parametrize("name", ["b.json", "b.json.gz"])
@pytest.mark.parametrize(
    "damage", [_cut, lambda _: b"", lambda _: random.Random(1).randbytes(5000), lambda _: b"[" * 9999]
)
def test_a_broken_shard_is_named_and_the_others_are_kept(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    write(tmp_path / "in/a.json", shard({"f1": entry(3)}))
    write(tmp_path / "in" / name, shard({"f2": entry(3), "f3": entry(3)}))
    path = tmp_path / "in" / name
    path.write_bytes(damage(path.read_bytes()))
    report = convert(tmp_path / "in", tmp_path / "out")
    assert "f1" in open_dataset(tmp_path / "out").users
    assert len(report.problems) == 1 and name in report.problems[0] and "\n" not in report.problems[0]


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "in/a.json", {"users": 3})
    with pytest.raises(DataError, match=r"no usable user .*a\.json"):
        convert(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_of_several_broken_users_the_first_is_named_and_all_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "in/a.json", shard({"f2": {}, "f10": {}, "f1": {}}))
    with pytest.raises(DataError, match=r"no usable user \(3 problems\): user f1 in "):
        convert(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("parts", [[], ["test"], ["file"]])
def test_folders_that_are_not_leafs(parts: list[str], tmp_path: Path) -> None:
    for part in parts:
        write(tmp_path / "in" / part / ("s.txt" if part == "file" else "s.json"), shard({"f1": entry(2)}))
    with pytest.raises(DataError, match=r"LEAF shards"):
        convert(tmp_path / "in", tmp_path / "out")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@fuzz
@given(
    before=st.dictionaries(st.text().filter(lambda key: key != "user_data"), json_values, max_size=3),
    users=st.dictionaries(st.text(), json_values, max_size=4),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 30),
)
def test_the_stream_equals_the_json_module(
    before: dict[str, Any], users: dict[str, Any], indent: int | None, ascii_only: bool, chunk: int, tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    text = json.dumps({**before, "user_data": users}, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode("utf-8", "replace"))
    expected = json.loads(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch, open_shard(path, lambda _: None) as stream:
        patch.setattr(leafjson, "_CHUNK", chunk)
        found = list(read_shard(stream, path))
    assert {user: value for _, user, value in found if user is not None} == expected["user_data"]
    assert {key: value for key, user, value in found if user is None and key != "user_data"} == {
        key: value for key, value in expected.items() if key != "user_data"
    }


@fuzz
@given(content=st.binary(max_size=300) | st.text(alphabet='{}[]",:\\ 1ue', max_size=60).map(str.encode))
def test_random_bytes_never_surprise(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    try:
        with open_shard(path, lambda _: None) as stream:
            list(read_shard(stream, path))
    except DataError as error:
        assert "s.json" in str(error)


def test_a_value_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leafjson, "_CHUNK", 100)
    monkeypatch.setattr(leafjson, "_LONGEST_VALUE", 1000)
    write(tmp_path / "in/s.json", {"users": ["f"] * 10_000})
    with pytest.raises(DataError, match="a value of more than"):
        convert(tmp_path / "in", tmp_path / "out")


def test_memory_does_not_grow_with_the_shards(tmp_path: Path) -> None:
    """A child converts 2 or 12 shards; holding all floats would take 30 MB more for 12."""
    script = (
        "import resource, sys; from mindfl.data import convert_leaf; convert_leaf(*sys.argv[1:], progress=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    peaks = []
    for count in (2, 12):
        for number in range(count):
            users = {f"f{number}_{user}": entry(40, user) for user in range(3)}
            write(tmp_path / f"in{count}" / f"{number}.json", shard(users))
        arguments = [sys.executable, "-c", script, f"{tmp_path}/in{count}", f"{tmp_path}/out{count}"]
        peaks.append(int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < 10_000_000


def test_real_writers(femnist: Path, tmp_path: Path) -> None:
    report = convert(femnist, tmp_path / "out", format="compact")
    assert (report.users, report.train_samples + report.test_samples, report.problems) == (93, 15417, ())
    user = open_dataset(tmp_path / "out").user("f0424_27")
    path = femnist / "train" / "all_data_0_niid_05_keep_0_train_9.json.gz"
    raw = json.loads(gzip.decompress(path.read_bytes()))["user_data"]["f0424_27"]
    assert (user.train.size, user.test.size) == (284, 32) and user.train.labels.tolist() == raw["y"]
    corners = user.train.images()[:, 0, 0, 0]
    assert np.array_equal(corners, np.array(raw["x"], np.float32)[:, 0]) and np.median(corners) == 1.0


def test_a_shard_without_one_number_of_samples_for_each_user_is_named(tmp_path: Path) -> None:
    content = shard({"f1": entry(3), "f2": entry(3)})
    content["num_samples"].pop()
    write(tmp_path / "in/a.json", content)
    with pytest.warns(
        MindflWarning, match=r"a\.json does not have one entry of num_samples for each user: its users are"
    ):
        report = convert(tmp_path / "in", tmp_path / "out")
    assert (report.users, report.problems) == (2, ())


def test_bins_have_the_samples_of_a_batch(tmp_path: Path) -> None:
    write(tmp_path / "in/train/a.json", shard({"f1": entry(5)}))
    write(tmp_path / "in/test/a.json", shard({"f1": entry(1)}))
    convert(tmp_path / "in", tmp_path / "out", format="bin", batch_size=2)
    assert (tmp_path / "out/f1/f1_bn_3_train_data.bin").is_file()
