"""History in memory and in its two files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import DataError, StorageError
from mindfl.sim import History, IterationRow
from mindfl.sim.history import HistoryFiles


def a_row(iteration: int = 1, **values: Any) -> IterationRow:
    usual = {
        "avg": 0.5,
        "top5": 0.75,
        "low5": 0.25,
        "loss": 1.5,
        "clients": 2,
        "samples": 100,
        "bytes_down": 10,
        "bytes_up": 20,
        "steps": 4,
        "steps_per_s": 8.0,
        "seconds": 0.5,
        "accuracies": {"f1": 0.25, "f2": 0.75},
    }
    return IterationRow(iteration=iteration, **{**usual, **values})


@pytest.fixture
def files(tmp_path: Path) -> HistoryFiles:
    files = HistoryFiles(tmp_path)
    files.begin()
    return files


def test_both_files_hold_the_rows(files: HistoryFiles) -> None:
    rows = [a_row(1), a_row(2, avg=0.625)]
    for row in rows:
        files.append(row)

    assert list(History.load(files.jsonl)) == rows
    with files.csv.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["avg"] for line in table] == ["0.5", "0.625"]
    # The columns and their order are promised to users.
    assert " ".join(table[0]) == (
        "iteration avg top5 low5 loss clients samples bytes_down bytes_up steps steps_per_s seconds"
    )


def test_beginning_again_forgets_the_earlier_run(files: HistoryFiles) -> None:
    files.append(a_row())
    files.begin()
    assert len(History.load(files.jsonl)) == 0
    assert len(files.csv.read_text().splitlines()) == 1


def test_values_that_are_not_numbers_survive(files: HistoryFiles) -> None:
    files.append(a_row(avg=math.nan))
    assert "NaN" not in files.jsonl.read_text(), "NaN is not JSON"
    (row,) = History.load(files.jsonl)
    assert math.isnan(row.avg) and row.top5 == 0.75


@pytest.mark.parametrize("name", ["f,1", 'f"1', "手写", "line\u2028separator", "f 1"])
def test_any_client_name(files: HistoryFiles, name: str) -> None:
    files.append(a_row(accuracies={name: 0.5}))
    files.append(a_row(2))
    assert dict(History.load(files.jsonl)[0].accuracies) == {name: 0.5}


def test_torn_last_line_is_left_out(files: HistoryFiles) -> None:
    files.append(a_row(1))
    whole = files.jsonl.read_bytes()
    files.append(a_row(2, accuracies={"手写": 0.5}))
    torn = files.jsonl.read_bytes()
    for length in range(len(whole) + 1, len(torn) - 1):
        files.jsonl.write_bytes(torn[:length])
        assert [row.iteration for row in History.load(files.jsonl)] == [1], length


def test_torn_line_in_the_middle_is_an_error(files: HistoryFiles) -> None:
    files.append(a_row(1))
    files.jsonl.write_text('{"iteration": 1, "av\n' + files.jsonl.read_text())
    with pytest.raises(DataError, match=r"line 1 of .*history.jsonl"):
        History.load(files.jsonl)


def test_missing_history(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"history.jsonl"):
        History.load(tmp_path / "history.jsonl")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_history_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    try:
        rows = History.load(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(row, IterationRow) for row in rows)


def test_history_is_a_sequence() -> None:
    history = History([a_row(1), a_row(2)])
    history.append(a_row(3, avg=0.75))
    assert len(history) == 3
    assert history[-1].avg == 0.75
    assert [row.iteration for row in history[:2]] == [1, 2]
    assert history.column("iteration") == [1, 2, 3]


@pytest.fixture
def full_disk(tmp_path: Path, small_disk: Path) -> Iterator[HistoryFiles]:
    """History files with one row, on a disk that is full afterwards."""
    files = HistoryFiles(small_disk)
    files.begin()
    files.append(a_row())
    with pytest.raises(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    yield files


def test_full_disk_leaves_whole_rows(full_disk: HistoryFiles) -> None:
    long_name = "f" * 5000  # longer than what is left of the file's last block
    before = full_disk.csv.read_bytes(), full_disk.jsonl.read_bytes()
    with pytest.raises(StorageError, match=r"history.jsonl: No space left"):
        full_disk.append(a_row(2, accuracies={long_name: 0.5}))
    assert (full_disk.csv.read_bytes(), full_disk.jsonl.read_bytes()) == before
