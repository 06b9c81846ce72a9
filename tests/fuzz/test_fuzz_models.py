"""Model files of every kind, changed: weights come out, or a mindfl error that names the file."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_budget import budget, fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st
from lite_fuzz import changed as changed_graph
from lite_fuzz import small_models

from mindfl.convert.mindir import mindir_protocol
from mindfl.errors import MindflError, ModelFormatError
from mindfl.lite import Executable, LiteModel
from mindfl.server.ckpt import encode_ckpt
from mindfl.server.initial import initial_weights

WEIGHTS = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "fc.bias": np.zeros(5, np.float32)}


def _npz(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _mindir() -> bytes:
    """Return the smallest MINDIR with weights that an optimizer trains."""
    model = mindir_protocol().ModelProto()
    graph = model.graph
    for name, values in WEIGHTS.items():
        for part in (name, f"accum.{name}"):
            tensor = graph.parameter.add(name=f"net:{part}", data_type=1, raw_data=values.tobytes())
            tensor.dims.extend(values.shape)
        inputs = [f"net:{name}", f"net:accum.{name}", "net:fc.bias", f"net:{name}", "net:fc.bias"]
        graph.node.add(name=name, op_type="ApplyMomentum", input=inputs, output=[f"updated {name}"])
    graph.output.add(name="updated fc.bias")
    return bytes(model.SerializeToString())


MEMBERS = {f"{name}.npy": _npy(values) for name, values in WEIGHTS.items()}
SEEDS = {
    ".npz": _npz(MEMBERS),
    ".ckpt": encode_ckpt(WEIGHTS),
    ".mindir": _mindir(),
    ".ms": small_models()[0].write(),
}


def _read(content: bytes, suffix: str, unpacked: int = 0) -> dict[str, Any] | None:
    """Return the weights; ``unpacked`` is the size of what the file holds where that is more than the file's own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a model{suffix}")
        path.write_bytes(content)
        size = max(len(content), unpacked)
        try:
            with budget(memory=30 * size + 2**19, calls=60 * len(content) + 50_000):
                return initial_weights(path)
        except MindflError as error:
            assert "a model" in str(error) and "\n" not in error.line()
            return None


@pytest.mark.parametrize("suffix", SEEDS)
def test_the_seeds_are_read(suffix: str) -> None:
    weights = _read(SEEDS[suffix], suffix)
    assert weights is not None
    if suffix != ".ms":
        assert {name: values.size for name, values in weights.items()} == {"conv.weight": 24, "fc.bias": 5}


@pytest.mark.parametrize("suffix", SEEDS)
@fuzz(80)
@given(data=st.data())
def test_changed_bytes(suffix: str, data: st.DataObject) -> None:
    _read(data.draw(changed(SEEDS[suffix])), suffix)


@fuzz(80)
@given(data=st.data())
def test_changed_arrays_in_a_sound_archive(data: st.DataObject) -> None:
    members = {name: data.draw(changed(content)) for name, content in MEMBERS.items()}
    unpacked = sum(map(len, members.values()))
    _read(_npz(members, data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))), ".npz", unpacked)


@fuzz(60)
@given(
    shape=st.sampled_from([[2**40], [2**31, 2], [2**62, 4], [-1], [10**30], [0], [True], "x", [3.5], [1] * 80, {}]),
    dtype=st.sampled_from(["<f4", ">f4", "|O", "<U9", "<f4, <f4", "[('a', '<f4')]", "<V8", "f999", 7]),
    order=st.sampled_from([True, False, 1, None]),
    size=st.sampled_from([0, 3, 40, 5000]),
)
def test_arrays_that_say_they_are_something_else(shape: object, dtype: object, order: object, size: int) -> None:
    shown = repr(tuple(shape)) if isinstance(shape, list) else repr(shape)
    text = f"{{'descr': {dtype!r}, 'fortran_order': {order!r}, 'shape': {shown}, }}".encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(size)
    _read(_npz({"w.npy": member}), ".npz", len(member))


@fuzz(80)
@given(data=st.data())
def test_changed_checkpoints_whose_checksum_is_right(data: st.DataObject) -> None:
    body = data.draw(changed(SEEDS[".ckpt"][:-5]))
    _read(body + SEEDS[".ckpt"][-5:-4] + struct.pack("<I", zlib.crc32(body)), ".ckpt")


@fuzz(120)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_changed_graphs_are_planned_or_refused(seed: int, data: st.DataObject) -> None:
    draw = random.Random(seed)
    content = changed_graph(draw.choice(small_models()), draw)
    if data.draw(st.integers(0, 3)) == 0:
        content = data.draw(changed(content))
    with budget(memory=64 * 2**20, calls=3_000_000):
        try:
            model = LiteModel.from_bytes(content)
            model.summary()
            executable = Executable(model)
            for folded in {False, executable.graph.equal_channels}:
                executable.programs(folded=folded)
        except ModelFormatError as error:
            assert "\n" not in error.line()


def test_a_member_that_unpacks_to_a_thousand_times_its_size() -> None:
    """The content of the archive decides, not its header."""
    values = np.zeros(4_000_000, np.float32)
    content = _npz({"w.npy": _npy(values)})
    assert len(content) * 500 < values.nbytes
    weights = _read(content, ".npz", values.nbytes)
    assert weights is not None and weights["w"].size == values.size
