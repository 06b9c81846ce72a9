"""Checkpoints: MindSpore reads them, we read MindSpore's, three are kept, damage is seen."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, OptionError, StorageError
from mindfl.server import IterationRecord
from mindfl.server.checkpoint import CheckpointWriter, latest
from mindfl.server.ckpt import encode_ckpt, read_ckpt, read_marked_ckpt

Arrays = Mapping[str, NDArray[np.float32]]

SHAPES = {"conv1.weight": (6, 3, 5, 5), "fc3.bias": (62,), "scale": ()}
WEIGHTS = {name: np.random.default_rng(1).random(shape, np.float32).reshape(shape) for name, shape in SHAPES.items()}
FLAT = {name: value.reshape(-1) for name, value in WEIGHTS.items()}
SECOND = 1_795_333_460_000


def record(iteration: int, model: Arrays = FLAT) -> IterationRecord:
    return IterationRecord(
        iteration=iteration,
        valid=True,
        reason="",
        model=dict(model),
        loss=0.0,
        accuracy=0.0,
        started=1,
        uploads=1,
        data_size=1,
        eval_data_size=0,
        start_ms=SECOND,
        end_ms=SECOND + 1000 * iteration,
        visits={},
        refusals={},
    )


def same(found: Arrays, expected: Arrays) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].shape == value.shape and found[name].tobytes() == value.tobytes()
        for name, value in expected.items()
    )


def iterations(folder: Path) -> list[int]:
    return sorted(int(path.name.split("_")[-3]) for path in folder.iterdir())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=5, max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_back(tmp_path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(encode_ckpt(weights))
    assert same(read_ckpt(path), weights)


def test_mindspore_reads_ours_and_we_read_mindspores(tmp_path: Path) -> None:
    mindspore = pytest.importorskip("mindspore")
    ours, theirs = tmp_path / "ours.ckpt", tmp_path / "theirs.ckpt"
    ours.write_bytes(encode_ckpt(WEIGHTS))
    loaded = {name: np.asarray(value.asnumpy()) for name, value in mindspore.load_checkpoint(str(ours)).items()}
    assert same(loaded, WEIGHTS)

    tensors = [{"name": name, "data": mindspore.Tensor(value)} for name, value in WEIGHTS.items()]
    tensors.append({"name": "global_step", "data": mindspore.Tensor(7, mindspore.int32)})
    for crc_check in (False, True):
        mindspore.save_checkpoint(tensors, str(theirs), crc_check=crc_check)
        assert same(read_ckpt(theirs), WEIGHTS)
        theirs.unlink()


def test_a_tensor_that_mindspore_saved_in_slices_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mindspore = pytest.importorskip("mindspore")
    monkeypatch.setattr("mindspore.train.serialization.SLICE_SIZE", 1)  # KiB
    value = np.arange(1500, dtype=np.float32).reshape(3, 500)
    path = tmp_path / "x.ckpt"
    mindspore.save_checkpoint([{"name": "w", "data": mindspore.Tensor(value)}], str(path))
    assert path.read_bytes().count(b"\x0a\x01w") > 1
    assert same(read_ckpt(path), {"w": value})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_changed_bit_and_every_missing_end_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    good = encode_ckpt({"w": np.arange(9, dtype=np.float32), "v": np.ones((2, 2), np.float32)})
    path = tmp_path / "x.ckpt"
    position = data.draw(st.integers(0, 8 * len(good) - 1))
    broken = bytearray(good)
    broken[position // 8] ^= 1 << position % 8
    path.write_bytes(broken)
    # Only the tag of the checksum itself may change unseen: then there is none.
    if position // 8 != len(good) - 5:
        with pytest.raises(ModelFormatError, match=r"x\.ckpt"):
            read_ckpt(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40))
@example(b"")
@example(b"\x0a\x0c\x0a\x01w\x12\x07\x08\xff\xff\xff\xff\x0f")
def test_any_bytes_are_a_checkpoint_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"x\.ckpt"):
        read_ckpt(tmp_path / "x.ckpt")


def test_the_newest_three_are_kept_and_the_last_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "ck é pt"
    writer = CheckpointWriter(folder, "Lenet", SHAPES)
    assert latest(folder, "Lenet") is None
    for iteration in range(1, 13):
        model = {name: value + np.float32(iteration) for name, value in FLAT.items()}
        writer(record(iteration, model))
    assert iterations(folder) == [10, 11, 12]
    found = latest(folder, "Lenet")
    assert found is not None
    assert (found.iteration, found.path) == (12, writer.last_path)
    assert same(found.weights, {name: value + np.float32(12) for name, value in WEIGHTS.items()})
    assert found.path.stat().st_mode & 0o777 == 0o400
    assert found.path.name.startswith("Lenet_recovery_iteration_12_2026")


def test_other_jobs_and_other_files_are_left_alone(tmp_path: Path) -> None:
    others = ["Lenet2_recovery_iteration_99_20260101_000000.ckpt", "Lenet_recovery_iteration_x_1_2.ckpt", "notes.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    writer = CheckpointWriter(tmp_path, "Lenet", SHAPES)
    for iteration in range(1, 6):
        writer(record(iteration))
    assert all((tmp_path / name).read_text() == "mine" for name in others)
    found = latest(tmp_path, "Lenet")
    assert found is not None
    assert found.iteration == 5


def test_a_new_instance_replaces_the_higher_iterations_of_the_old_one(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, "Lenet", SHAPES)
    for iteration in (7, 8, 1):
        writer(record(iteration))
    assert iterations(tmp_path) == [1]


def test_a_damaged_newest_file_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = CheckpointWriter(tmp_path, "Lenet", SHAPES)
    writer(record(1))
    writer(record(2))
    newest = writer.last_path
    assert newest is not None
    content = newest.read_bytes()
    newest.unlink()
    newest.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        found = latest(tmp_path, "Lenet")
    assert found is not None
    assert found.iteration == 1
    assert str(newest) in caplog.text

    found.path.unlink()
    assert latest(tmp_path, "Lenet") is None


def test_a_full_disk_keeps_the_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CheckpointWriter(tmp_path, "Lenet", SHAPES)
    for iteration in (1, 2, 3):
        writer(record(iteration))

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        writer(record(4))
    assert iterations(tmp_path) == [1, 2, 3]
    assert all(path.suffix == ".ckpt" for path in tmp_path.iterdir())


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="file name"):
        CheckpointWriter(tmp_path, "a/b", SHAPES)
    writer = CheckpointWriter(tmp_path, "x" * 300, SHAPES)
    with pytest.raises(StorageError):
        writer(record(1))


def test_a_file_in_place_of_the_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        latest(tmp_path / "file", "Lenet")


def test_numbers_that_are_no_numbers_survive(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(encode_ckpt({"w": np.array([math.nan, math.inf, -0.0], np.float32)}))
    assert read_ckpt(path)["w"].tobytes() == np.array([math.nan, math.inf, -0.0], np.float32).tobytes()


def test_filters_are_written_in_mindspores_order_and_read_in_that_of_devices(tmp_path: Path) -> None:
    """A file of an earlier version, which has no mark, is in the order of devices, and so stays what it says."""
    shapes = {"0.weight": (3, 3, 3, 3), "fc.bias": (4,)}
    device = {name: np.random.default_rng(2).random(shape, np.float32) for name, shape in shapes.items()}
    flat = {name: value.reshape(-1) for name, value in device.items()}
    writer = CheckpointWriter(tmp_path, "Lenet", shapes, frozenset({"0.weight"}))
    writer(record(1, flat))
    assert writer.last_path is not None
    written = read_ckpt(writer.last_path)
    assert np.array_equal(written["0.weight"], device["0.weight"].transpose(0, 3, 1, 2))
    assert np.array_equal(written["fc.bias"], device["fc.bias"])
    found = latest(tmp_path, "Lenet")
    assert found is not None
    assert found.filters == {"0.weight"} and same(found.weights, device)

    old = tmp_path / "Lenet_recovery_iteration_2_20260101_101010.ckpt"
    old.write_bytes(encode_ckpt(device))
    found = latest(tmp_path, "Lenet")
    assert found is not None
    assert (found.iteration, found.filters) == (2, None) and same(found.weights, device)


def test_weights_of_unknown_order_say_so_in_the_files_name(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, "Lenet", SHAPES, None)
    for iteration in range(1, 6):
        writer(record(iteration))
    assert len(list(tmp_path.glob("Lenet_recovery_iteration_?_*_device_order.ckpt"))) == 3
    found = latest(tmp_path, "Lenet")
    assert found is not None
    assert found.iteration == 5 and same(found.weights, WEIGHTS)


def test_a_file_that_is_cut_off_does_not_lose_its_mark_alone(tmp_path: Path) -> None:
    whole = encode_ckpt({"w": np.ones((1, 1, 1, 1), np.float32), "v": np.ones(2, np.float32)}, {"w"})
    path = tmp_path / "x.ckpt"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            weights, filters = read_marked_ckpt(path)
        except ModelFormatError:
            continue
        assert "w" not in weights or filters == {"w"}
    path.write_bytes(whole)
    assert read_marked_ckpt(path)[1] == {"w"}
