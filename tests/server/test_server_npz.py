"""Model files that say more of themselves than they hold: refused before anything of that size is allocated."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mindfl.errors import MindflError, ModelFormatError, StorageError
from mindfl.server import array_files as npz
from mindfl.server.array_files import read_npz
from mindfl.server.ckpt import _message_class, encode_ckpt, read_ckpt
from mindfl.server.initial import initial_weights

FEW_BYTES = 2**20


@contextmanager
def allocating_little() -> Iterator[None]:
    """Fail where more than a megabyte is allocated at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FEW_BYTES
    finally:
        tracemalloc.stop()


def header(shape: str, descr: str = "'<f4'", version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + struct.pack("<BBH" if version == 1 else "<BBI", version, 0, len(text)) + text


def archive(path: Path, content: bytes, name: str = "w.npy", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, content)
    return path


@settings(max_examples=60, deadline=None)
@given(array=arrays(np.float32, array_shapes(min_dims=0, max_dims=5, min_side=0)), compressed=st.booleans())
def test_arrays_come_back_as_numpy_wrote_them(
    tmp_path_factory: pytest.TempPathFactory, array: Any, compressed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, **{"a": array, "ä/b": np.array(array, order="F")})
    found = read_npz(path)
    assert list(found) == ["a", "ä/b"]
    for each in found.values():
        assert each.dtype == np.float32 and each.shape == array.shape
        np.testing.assert_array_equal(each, array)


def test_other_types_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    fields = np.zeros(2, [("ä", "<f4")])
    np.savez(path, i=np.ones(2, np.int32), d=np.ones(2), big=np.ones(2, ">f4"), fields=fields, f=np.ones(2, np.float32))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("readme.txt", "no array")
    assert list(read_npz(path)) == ["f"]


@pytest.mark.parametrize(
    "shape", ["(2**33,)".replace("2**33", str(2**33)), f"({2**20}, {2**20})", "(3,)", "(1,)", "()"]
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_shape_that_is_not_that_of_the_bytes(tmp_path: Path, shape: str, version: int) -> None:
    path = archive(tmp_path / "m.npz", header(shape, version=version) + bytes(8))
    with allocating_little(), pytest.raises(ModelFormatError, match=r"m\.npz .* has 8 bytes, which is not its shape"):
        initial_weights(path)


@pytest.mark.parametrize("shape", ["(-2,)", "(-1, -2)", f"({-(2**40)}, 0)"])
def test_a_negative_shape(tmp_path: Path, shape: str) -> None:
    with pytest.raises(ModelFormatError, match="is not its shape"):
        initial_weights(archive(tmp_path / "m.npz", header(shape) + bytes(8)))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2**22
    path = archive(tmp_path / "m.npz", header(f"({count},)") + bytes(4 * count), method=zipfile.ZIP_DEFLATED)
    assert initial_weights(path)["w"].size == count, "small ones are nobody's harm"
    monkeypatch.setattr(npz, "FREE_BYTES", 0)
    with allocating_little(), pytest.raises(ModelFormatError, match="made to fill the memory") as caught:
        initial_weights(path)
    assert "numpy.savez" in caught.value.hint


def test_a_lie_in_the_directory_costs_nothing(tmp_path: Path) -> None:
    """The size that the archive claims for its member, and the member's own shape, are both three gigabytes."""
    count = 3 * 2**28
    path = archive(tmp_path / "m.npz", header(f"({count},)") + bytes(8))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", len(header(f"({count},)")) + 4 * count)
    path.write_bytes(content)
    with allocating_little(), pytest.raises(ModelFormatError, match=r"m\.npz has .* bytes and unpacks to 32212"):
        initial_weights(path)


def test_a_damaged_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, w=np.arange(1000, dtype=np.float32))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="Bad CRC"):
        initial_weights(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_an_error_of_one_line_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, w=np.arange(50, dtype=np.float32), b=np.zeros(3, np.float32))
    content = bytearray(file.getvalue())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    try:
        read_npz(path)
    except MindflError as error:
        assert str(path) in error.line() and "\n" not in error.line()


def test_a_checkpoint_with_millions_of_dimensions(tmp_path: Path) -> None:
    """Their product alone would take hours."""
    message = _message_class()()
    tensor = message.value.add(tag="w").tensor
    tensor.dims.extend([2**62] * 200_000)
    tensor.tensor_type, tensor.tensor_content = "Float32", b""
    path = tmp_path / "m.ckpt"
    path.write_bytes(message.SerializeToString())
    with pytest.raises(ModelFormatError, match="w has 200000 dimensions"):
        initial_weights(path)


@pytest.mark.parametrize("dims", [(2**31, 2**31), (2**40,), (-1,), (3, 0)])
def test_a_checkpoint_whose_shape_is_not_that_of_its_bytes(tmp_path: Path, dims: tuple[int, ...]) -> None:
    message = _message_class()()
    tensor = message.value.add(tag="w").tensor
    tensor.dims.extend(dims)
    tensor.tensor_type, tensor.tensor_content = "Float32", bytes(8)
    path = tmp_path / "m.ckpt"
    path.write_bytes(message.SerializeToString())
    with allocating_little(), pytest.raises(ModelFormatError, match="8 bytes, which is not its shape"):
        read_ckpt(path)


def test_a_checkpoint_larger_than_any_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(encode_ckpt({"w": np.ones(3, np.float32)}))
    os.truncate(path, 2**33)
    with allocating_little(), pytest.raises(ModelFormatError, match=r"m\.ckpt .* larger than"):
        initial_weights(path)


@pytest.mark.parametrize("read", [read_npz, read_ckpt, initial_weights], ids=lambda read: read.__name__)
def test_a_missing_file_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*m\.npz"):
        read(tmp_path / "m.npz")


def test_what_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.npz")
    for path in (tmp_path / "m.npz", "/dev/zero"):
        with pytest.raises(ModelFormatError, match="not a regular file"):
            initial_weights(path)
