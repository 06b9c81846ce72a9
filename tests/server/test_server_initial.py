"""Initial weights out of every kind of model file, and out of files that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindfl.convert.mindir import parameters, read_mindir
from mindfl.errors import MindflError, MindirError, ModelFormatError, StorageError
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.ckpt import encode_ckpt
from mindfl.server.initial import initial_weights

ModelFactory = Callable[..., Path]
LENET = ["conv1.weight", "conv2.weight", *(f"fc{number}.{kind}" for number in (1, 2, 3) for kind in ("bias", "weight"))]


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_ms_and_mindir_of_one_model_give_the_same_weights(
    exported: ModelFactory, converted: ModelFactory, optimizer: str
) -> None:
    from_ms, from_mindir = initial_weights(converted(optimizer)), initial_weights(exported(optimizer))
    assert sorted(from_ms) == sorted(from_mindir) == LENET
    for name, value in from_ms.items():
        assert value.dtype == np.float32
        assert value.shape == from_mindir[name].shape
        assert value.tobytes() == from_mindir[name].tobytes()
    assert from_ms["conv1.weight"].shape == (6, 5, 5, 3)
    Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1), from_ms)


def test_a_mindir_keeps_its_layout_on_demand(exported: ModelFactory) -> None:
    path = exported("momentum")
    kept = initial_weights(path, kchw=False)["conv1.weight"]
    assert np.array_equal(kept, parameters(read_mindir(path))["conv1.weight"])
    assert np.array_equal(initial_weights(path)["conv1.weight"], kept.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("suffix", [".ckpt", ".npz"])
def test_checkpoints_and_archives_give_their_float32_arrays(tmp_path: Path, suffix: str) -> None:
    weights = {"conv": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), "bias": np.ones(3, np.float32)}
    path = tmp_path / f"mödel{suffix}"
    if suffix == ".ckpt":
        path.write_bytes(encode_ckpt(weights))
    else:
        np.savez(path, allow_pickle=False, step=np.int64(3), **weights)
    found = initial_weights(path)
    assert sorted(found) == ["bias", "conv"]
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    assert initial_weights(path, kchw=True)["conv"].shape == (1, 3, 4, 2)


def test_the_content_counts_before_the_suffix(tmp_path: Path, converted: ModelFactory) -> None:
    archive, model = tmp_path / "weights.dat", tmp_path / "model.bin"
    with archive.open("wb") as file:
        np.savez(file, w=np.ones(2, np.float32))
    model.write_bytes(converted("momentum").read_bytes())
    assert list(initial_weights(archive)) == ["w"]
    assert sorted(initial_weights(model)) == LENET


@pytest.mark.parametrize("suffix", [".ms", ".mindir", ".ckpt", ".npz", ".txt", ""])
@pytest.mark.parametrize("content", [b"", b"junk of some length", b"PK\x03\x04junk", b"\0\0\0\0MSL2junk", bytes(100)])
def test_what_is_no_model_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises((ModelFormatError, MindirError)) as caught:
        initial_weights(path)
    assert str(path) in str(caught.value)


def test_truncated_files_of_every_kind_are_refused(
    tmp_path: Path, exported: ModelFactory, converted: ModelFactory
) -> None:
    np.savez(tmp_path / "a.npz", w=np.ones(1000, np.float32))
    (tmp_path / "a.ckpt").write_bytes(encode_ckpt({"w": np.ones(1000, np.float32)}))
    sources = [exported("momentum"), converted("momentum"), tmp_path / "a.npz", tmp_path / "a.ckpt"]
    for source in sources:
        content = source.read_bytes()
        path = tmp_path / f"cut{source.suffix}"
        for length in (9, len(content) // 2, len(content) * 9 // 10):
            path.write_bytes(content[:length])
            with pytest.raises(MindflError, match="cut"):
                initial_weights(path)


def test_archives_without_weights_and_with_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "ints.npz", w=np.ones(3, np.int32))
    with pytest.raises(ModelFormatError, match="no float32 weights"):
        initial_weights(tmp_path / "ints.npz")
    np.savez(tmp_path / "objects.npz", w=np.array([{}], object))
    with pytest.raises(ModelFormatError, match=r"objects\.npz is not a NumPy archive of plain arrays"):
        initial_weights(tmp_path / "objects.npz")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ms", tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            initial_weights(path)
