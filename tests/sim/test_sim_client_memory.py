"""What clients remember: in files that a killed run leaves whole, and that no other run's can replace."""

from __future__ import annotations

import errno
import io
import json
import mmap
import shutil
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from mindfl.errors import OptionError, StorageError
from mindfl.sim.client_memory import FOLDER, ClientMemory, Memories, StoredMemories, remove_memories
from mindfl.sim.tensor_file import map_tensors, read_head, write_tensors

MODEL = {"fc.weight": np.zeros((4, 3), np.float32), "fc.bias": np.zeros(4, np.float32)}
Found = dict[str, Any]


def remembered(value: float) -> Found:
    return {"fc.weight": np.full((4, 3), value, np.float32), "count": np.array(value > 0), "wide": np.arange(3) + 0.5}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def same(one: Found, other: Found) -> bool:
    return one.keys() == other.keys() and all(
        (one[n].dtype, one[n].shape, one[n].tobytes()) == (other[n].dtype, other[n].shape, other[n].tobytes())
        for n in one
    )


class TestStored:
    def test_arrays_come_back_mapped_and_read_only(self, tmp_path: Path) -> None:
        memories = StoredMemories(tmp_path, MODEL)
        assert memories.read(3) == {} and memories.arrays == {} and not (tmp_path / FOLDER).exists()
        memories.write(3, 1, remembered(2))
        found = memories.read(3)
        assert same(found, remembered(2)) and memories.read(2) == {}
        base = found["fc.weight"]
        while isinstance(base, np.ndarray):
            assert not base.flags.writeable
            base = base.base
        assert isinstance(getattr(base, "obj", base), mmap.mmap)

    def test_a_round_that_was_not_saved_is_not_seen(self, tmp_path: Path) -> None:
        first = StoredMemories(tmp_path, MODEL)
        for client in range(3):
            first.write(client, 1, remembered(client))
        saved = first.arrays
        first.saved(1)
        first.write(1, 2, remembered(7))
        first.write(4, 2, remembered(8))
        (tmp_path / FOLDER / ".client_2_iteration_2.safetensors.tmp").write_bytes(b"half of")
        (tmp_path / FOLDER / "notes.txt").write_text("of the user")

        again = StoredMemories(tmp_path, MODEL, {}, saved)

        assert [same(again.read(client), remembered(client)) for client in range(3)] == [True] * 3
        assert again.read(4) == {}
        assert names(tmp_path) == [*(f"client_{n}_iteration_1.safetensors" for n in range(3)), "notes.txt"]

    def test_a_round_writes_its_cohort_and_saving_it_removes_what_it_replaced(self, tmp_path: Path) -> None:
        memories = StoredMemories(tmp_path, MODEL)
        for client in (0, 1, 2):
            memories.write(client, 1, remembered(client))
        memories.saved(1)
        untouched = (tmp_path / FOLDER / "client_0_iteration_1.safetensors").stat()
        memories.write(1, 2, remembered(5))
        memories.write(2, 2, {})
        assert len(names(tmp_path)) == 4, "those of the saved state are there"
        memories.saved(2)
        assert names(tmp_path) == ["client_0_iteration_1.safetensors", "client_1_iteration_2.safetensors"]
        assert (tmp_path / FOLDER / "client_0_iteration_1.safetensors").stat() == untouched
        assert memories.read(2) == {} and memories.arrays["files"][:, :2].tolist() == [[0, 1], [1, 2]]

    def test_without_saved_states_nothing_piles_up(self, tmp_path: Path) -> None:
        memories = StoredMemories(tmp_path, MODEL)
        for iteration in (1, 2, 2, 3):
            before = memories.read(0)
            memories.write(0, iteration, remembered(iteration))
            assert not before or before["fc.weight"].size, "what was replaced can still be used"
        assert names(tmp_path) == ["client_0_iteration_3.safetensors"]
        assert same(memories.read(0), remembered(3))

    def test_a_run_without_a_state_begins_without(self, tmp_path: Path) -> None:
        StoredMemories(tmp_path, MODEL).write(0, 1, remembered(1))
        assert StoredMemories(tmp_path, MODEL).read(0) == {} and not (tmp_path / FOLDER).exists()
        StoredMemories(tmp_path, MODEL).write(0, 1, remembered(1))
        remove_memories(tmp_path)
        assert not (tmp_path / FOLDER).exists()

    def test_memory_does_not_grow_with_the_clients(self, tmp_path: Path) -> None:
        memories, big = StoredMemories(tmp_path, MODEL), np.zeros(250_000, np.float32)
        tracemalloc.start()
        try:
            for client in range(40):
                ClientMemory(lambda: memories, client).write(1, {"big": big})
            total = sum(float(memories.read(client)["big"].sum()) for client in range(40))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert total == 0 and peak < 3_000_000, "of 40 MB"

    def test_a_part_travels_in_memory(self, tmp_path: Path) -> None:
        memories = StoredMemories(tmp_path, MODEL, {"1": {"bound": 0.5}})
        memories.write(1, 1, remembered(1))
        memories.write(2, 1, remembered(2))
        part = memories.part((1, 3))
        shutil.rmtree(tmp_path / FOLDER)
        assert type(part) is Memories and part.values == {1: {"bound": 0.5}}
        assert same(part.read(1), remembered(1)) and part.read(3) == part.read(2) == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def of_another(path: Path, model: Found, client: int, value: float) -> None:
    other = StoredMemories(path.parent / "other", model)
    other.write(client, 1, remembered(value))
    shutil.copy(path.parent / "other" / FOLDER / f"client_{client}_iteration_1.safetensors", path)


DAMAGES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "missing": ("No such file", Path.unlink),
    "empty": ("it is no safetensors file", lambda path: path.write_bytes(b"")),
    "foreign": ("it is no safetensors file", lambda path: path.write_bytes(b"\x93NUMPY" * 99)),
    "long head": ("it is no safetensors file", lambda path: path.write_bytes(b"\xff" * 64)),
    "truncated": ("it has [0-9]+ bytes in place of [0-9]+", cut),
    "folder": ("Is a directory", lambda path: (path.unlink(), path.mkdir())),
    "no memory": (
        "it is not a client's memory",
        lambda path: path.write_bytes(written(remembered(1), {"format": "pt"})),
    ),
    "another network": ("it is of another network", lambda path: of_another(path, {"fc": np.zeros(9)}, 7, 1)),
    "another client": ("it is of another client or iteration", lambda path: of_another(path, MODEL, 6, 1)),
}


def written(found: Found, notes: dict[str, str]) -> bytes:
    file = io.BytesIO()
    write_tensors(file, found, notes)
    return file.getvalue()


class TestUnusable:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_file_of_something_else_is_named_before_training(self, damage: str, tmp_path: Path) -> None:
        memories = StoredMemories(tmp_path, MODEL)
        memories.write(7, 1, remembered(1))
        path = tmp_path / FOLDER / "client_7_iteration_1.safetensors"
        cause, act = DAMAGES[damage]
        act(path)
        with pytest.raises(StorageError, match=rf"^cannot read {path}, which a client remembers: {cause}") as caught:
            StoredMemories(tmp_path, MODEL, {}, memories.arrays)
        assert "start again with --overwrite" in caught.value.hint

    @pytest.mark.parametrize("act", [flip, lambda path: of_another(path, MODEL, 7, 2)], ids=["damaged", "another run"])
    def test_other_content_is_found_when_the_client_is_drawn(self, act: Callable[[Path], Any], tmp_path: Path) -> None:
        memories = StoredMemories(tmp_path, MODEL)
        memories.write(7, 1, remembered(1))
        path = tmp_path / FOLDER / "client_7_iteration_1.safetensors"
        act(path)
        with pytest.raises(StorageError, match=rf"cannot read {path}, .*: it is damaged, or of another run$"):
            StoredMemories(tmp_path, MODEL, {}, memories.arrays).read(7)

    def test_a_state_of_an_earlier_form(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=f"the state in {tmp_path} keeps .* in the form of an earlier mindfl"):
            StoredMemories(tmp_path, MODEL, {}, {"0/fc.weight": np.zeros(12, np.float32)})

    def test_no_folder_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / FOLDER).write_text("in the way")
        with pytest.raises(StorageError, match=f"cannot write {tmp_path}/memory/client_0_iteration_1.safetensors"):
            StoredMemories(tmp_path, MODEL).write(0, 1, remembered(1))

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        memories = StoredMemories(tmp_path, MODEL)
        memories.write(0, 1, remembered(1))
        monkeypatch.setattr("mindfl.sim.client_memory.write_tensors", full)
        with pytest.raises(StorageError, match=r"cannot write .*client_0_iteration_2.*: No space left") as caught:
            memories.write(0, 2, remembered(2))
        assert "free some space" in caught.value.hint
        assert names(tmp_path) == ["client_0_iteration_1.safetensors"] and same(memories.read(0), remembered(1))

    @pytest.mark.parametrize("found", [{"wide": np.zeros(1, np.longdouble)}, {"__metadata__": np.zeros(1)}])
    def test_arrays_that_the_form_cannot_hold(self, found: Found, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"the array '[_a-z]+' of type float[0-9]+ cannot be stored"):
            StoredMemories(tmp_path, MODEL).write(0, 1, found)
        assert names(tmp_path) == []


numbers = scalar_dtypes().filter(lambda kind: kind.kind in "biuf" and kind.itemsize <= 8)
many = st.dictionaries(
    st.text(min_size=1), numbers.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, max_side=3))), max_size=4
)


@given(many)
def test_a_file_holds_the_bits_of_any_arrays(tmp_path_factory: Any, found: Found) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(written(found, {"a": "ü"}))
    with path.open("rb") as file:
        head = read_head(file)
        again, _ = map_tensors(file, head)
    assert head.notes == {"a": "ü"} and again.keys() == found.keys()
    for name, array in found.items():
        assert again[name].shape == array.shape and again[name].flags.aligned
        assert again[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_the_form_is_that_of_safetensors() -> None:
    """As its specification says: length of the head, head, and the arrays without gaps."""
    content = written({"b": np.array([True]), "a": np.array([[1, 2]], ">i4")}, {"made by": "a test"})
    length = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    assert head == {
        "__metadata__": {"made by": "a test"},
        "a": {"dtype": "I32", "shape": [1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "BOOL", "shape": [1], "data_offsets": [8, 9]},
    }
    assert data == b"\x01\0\0\0\x02\0\0\0\x01" and length % 8 == 0


@given(st.data())
def test_a_broken_head_is_one_error(tmp_path_factory: Any, data: Any) -> None:
    content = bytearray(written(remembered(1), {"a": "b"}))
    place = data.draw(st.integers(0, int.from_bytes(content[:8], "little") + 7))
    content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with path.open("rb") as file, suppress(ValueError):
        map_tensors(file, read_head(file))
