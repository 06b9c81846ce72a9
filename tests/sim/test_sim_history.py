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

from mindfl.client import Traffic
from mindfl.errors import DataError, StorageError
from mindfl.sim import Accuracy, History, IterationRow
from mindfl.sim.evaluation import ClientAccuracies, Evaluated
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
    rows = [a_row(1), a_row(2, avg=0.625, participants=(1, 4))]
    for row in rows:
        files.append(row)

    assert list(History.load(files.jsonl)) == rows
    with files.csv.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["avg"] for line in table] == ["0.5", "0.625"]
    # The columns and their order are promised to users.
    assert " ".join(table[0]) == (
        "iteration avg top5 low5 loss clients samples bytes_down bytes_up steps steps_per_s seconds epsilon"
        " evaluated measured aggregated test_samples weighted_avg learning_rate"
    )


def test_history_of_the_first_release(tmp_path: Path) -> None:
    line = (
        '{"iteration": 1, "avg": 0.5, "top5": 0.5, "low5": 0.5, "loss": 4.0, "clients": 2, "samples": 381,'
        ' "bytes_down": 1416448, "bytes_up": 708224, "steps": 26, "steps_per_s": 24.4, "seconds": 1.068,'
        ' "epsilon": null, "accuracies": {"f1": 0.25, "f2": 0.75}}\n'
    )
    (tmp_path / "history.jsonl").write_text(line)
    (row,) = History.load(tmp_path / "history.jsonl")
    assert (row.evaluated, row.measured) == (2, "drawn"), "it evaluated those that took part"
    assert row.aggregated and math.isnan(row.learning_rate)
    assert row.test_samples == 0 and math.isnan(row.weighted_avg), "it did not say how many samples"


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
    long_name = "f" * 5000  # longer than the rest of the file's last block
    before = full_disk.csv.read_bytes(), full_disk.jsonl.read_bytes()
    with pytest.raises(StorageError, match=r"history.jsonl: No space left"):
        full_disk.append(a_row(2, accuracies={long_name: 0.5}))
    assert (full_disk.csv.read_bytes(), full_disk.jsonl.read_bytes()) == before


class TestClientAccuracies:
    def test_clients_without_test_data_are_left_out(self) -> None:
        accuracies = ClientAccuracies.of([("f2", 0.75), ("f1", None), ("f0", 0.0)])
        assert list(accuracies.items()) == [("f2", 0.75), ("f0", 0.0)]

    def test_rows_of_the_same_clients_share_their_names(self) -> None:
        first = ClientAccuracies.of((f"f{i}", 0.0) for i in range(3))
        second = ClientAccuracies.of(((f"f{i}", 0.5) for i in range(3)), like=first)
        assert all(name is same for name, same in zip(first, second, strict=True))
        assert list(second.values()) == [0.5, 0.5, 0.5]

    @pytest.mark.parametrize("names", [("f0",), ("f1", "f0"), ("f0", "f1", "f2"), ()])
    def test_other_clients_keep_their_own_names(self, names: tuple[str, ...]) -> None:
        earlier = ClientAccuracies.of([("f0", 0.0), ("f1", 0.0)])
        assert tuple(ClientAccuracies.of(((name, 0.5) for name in names), like=earlier)) == names


def measured(accuracies: ClientAccuracies, steps: int, seconds: float) -> IterationRow:
    return IterationRow.ended(
        3,
        Evaluated(measured="all", accuracies=accuracies),
        loss=1.5,
        clients=4,
        samples=100,
        steps=steps,
        traffic=Traffic(requests=9, bytes_up=20, bytes_down=10),
        seconds=seconds,
    )


class TestMeasuredRow:
    def test_summary_and_speed_follow_from_what_was_measured(self) -> None:
        shares = [0.1, 0.9, 0.3, 0.7, 0.5, 0.2, 0.8]
        row = measured(ClientAccuracies.of((f"f{i}", share) for i, share in enumerate(shares)), 30, 1.00049)
        assert (row.avg, row.top5, row.low5) == Accuracy.of(shares)
        assert (row.steps_per_s, row.seconds) == (30.0, 1.0)
        assert (row.iteration, row.bytes_up, row.bytes_down) == (3, 20, 10)

    def test_without_test_data(self) -> None:
        row = measured(ClientAccuracies.of([("f0", None)]), 30, 2.0)
        assert all(math.isnan(value) for value in (row.avg, row.top5, row.low5)) and not row.accuracies

    @pytest.mark.parametrize("seconds", [0.0, math.nan])
    def test_time_that_is_not_known(self, files: HistoryFiles, seconds: float) -> None:
        row = measured(ClientAccuracies.of([("f0", 0.5)]), 30, seconds)
        files.append(row)
        assert math.isnan(row.steps_per_s) and math.isnan(History.load(files.jsonl)[0].steps_per_s)
