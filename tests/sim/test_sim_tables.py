"""CSV and pictures: line ends, values that are no numbers, and formats by suffix."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mindfl.data import inspect_dataset
from mindfl.errors import OptionError
from mindfl.sim import History, IterationRow
from mindfl.sim.history import HistoryFiles
from mindfl.sim.plot import plot_history
from mindfl.sim.result import Result
from mindfl.sim.tables import csv_text, decimals, json_text

ROW = IterationRow(
    iteration=1,
    avg=0.5,
    top5=math.nan,
    low5=0.1,
    loss=math.inf,
    clients=2,
    samples=3,
    bytes_down=4,
    bytes_up=5,
    steps=6,
    steps_per_s=7.0,
    seconds=8.0,
)
#: how files of these formats begin
BEGINNINGS = {
    "png": b"\x89PNG",
    "pdf": b"%PDF",
    "svg": b"<?xml",
    "eps": b"%!PS",
    "jpg": b"\xff\xd8",
    "JPEG": b"\xff\xd8",
}


def test_lines_end_with_lf_and_what_is_no_number_is_an_empty_cell() -> None:
    assert csv_text([["a,b", "c"], [math.nan, -math.inf], [0.5, 'x"y']]) == '"a,b",c\n,\n0.5,"x""y"\n'


def test_decimals() -> None:
    assert [decimals(value) for value in (0.5, -0.0510000001, math.nan)] == ["0.500000", "-0.051000", ""]


def test_history_in_both_forms(tmp_path: Path) -> None:
    files = HistoryFiles(tmp_path)
    files.begin()
    files.append(ROW)
    table = files.csv.read_bytes()
    assert b"\r" not in table and table.count(b"\n") == 2
    (cells,) = csv.DictReader(table.decode().splitlines())
    (line,) = files.jsonl.read_text().splitlines()
    entry = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    for name in ("top5", "loss", "epsilon"):
        assert cells[name] == "" and entry[name] is None
    assert cells["avg"] == "0.5" and math.isnan(History.load(files.jsonl)[0].top5)


def test_predictions(make_job: Callable[..., object], tmp_path: Path) -> None:
    make_job().infer(samples=1)
    table = (tmp_path / "run" / "predictions.csv").read_bytes()
    assert table.startswith(b"client,user,sample,label,predicted\n") and b"\r" not in table


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_pictures_are_of_the_format_that_their_name_says(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curve.{suffix}"
    plot_history(History([ROW]), path, title="a title")
    assert path.read_bytes().startswith(BEGINNINGS[suffix])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("curve.gif", "suffix .gif of .*curve.gif is no picture"),
        ("curve.pngg", "suffix .pngg"),
        ("curve", "has no suffix"),
    ],
)
def test_other_names_are_refused(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(OptionError, match=what):
        plot_history(History([ROW]), tmp_path / name, title="a title")
    assert list(tmp_path.iterdir()) == []


def test_contact_sheets(writers: Path, tmp_path: Path) -> None:
    for suffix in ("png", "pdf", "jpg"):
        path = tmp_path / f"sheet.{suffix}"
        inspect_dataset(writers, sheet=path)
        assert path.read_bytes().startswith(BEGINNINGS[suffix])
    with pytest.raises(OptionError, match=r"sheet\.doc' does not end as a picture's name does"):
        inspect_dataset(writers, sheet=tmp_path / "sheet.doc")


def test_json_is_readable_and_takes_paths_that_are_not_utf_8() -> None:
    assert json_text(["ä"]) == '[\n  "ä"\n]\n'
    assert json.loads(json_text(["\udcff"]).encode()) == ["\udcff"]


def test_a_card_without_known_times_is_json() -> None:
    rows = [replace(ROW, iteration=number, seconds=math.nan) for number in (1, 2)]
    card = Result("title", 2, History(rows), {}).card
    assert (card["seconds"], card["last"]["iteration"]) == (None, 2)
    json.loads(json_text(card), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
