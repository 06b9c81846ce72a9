"""Event files, as TensorBoard and tbparse read them."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindfl.errors import StorageError
from mindfl.sim import History, IterationRow, JobConfig, Result
from mindfl.tracking.event_files import event_files
from mindfl.tracking.measurements import hyperparameters
from mindfl.tracking.tensorboard import TensorBoardWriter

pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install tensorboard)")
from tbparse import SummaryReader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PAGE = Path(__file__).parents[2] / "docs" / "tracking.md"
ALL = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
MakeRow = Callable[..., IterationRow]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "accuracy.png"
    Image.new("RGB", (8, 5), "red").save(path)
    return path


@pytest.fixture
def write(tmp_path: Path, picture: Path, model: Any) -> Callable[..., None]:
    """Return a function that writes the rows of a start of the run; ``done`` are those it goes on from."""

    def write(
        rows: list[IterationRow], *, done: tuple[IterationRow, ...] = (), ends: bool = True, **settings: Any
    ) -> None:
        writer = TensorBoardWriter(done, picture)
        writer.begin(JobConfig(work_dir=tmp_path, tensorboard=True, **settings), model)
        for row in rows:
            writer.row(row, model)
        if ends:
            writer.end(Result("a run", 4, History([*done, *rows]), model))

    return write


@pytest.fixture
def read(tmp_path: Path) -> Callable[[], EventAccumulator]:
    def read() -> EventAccumulator:
        found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance=ALL)
        return found.Reload()

    return read


def scalars(found: EventAccumulator, tag: str) -> dict[int, float]:
    events = found.Scalars(tag)
    assert len({event.step for event in events}) == len(events)
    return {event.step: round(event.value, 6) for event in events}


def test_tensorboard_reads_scalars_histograms_and_the_figure(write: Any, read: Any, make_row: MakeRow) -> None:
    write([make_row(1, metrics={"best": 0.5}), make_row(2, epsilon=3.0, learning_rate=0.25)])
    found = read()
    assert scalars(found, "accuracy/avg") == {1: 0.1, 2: 0.2}
    percentiles = [scalars(found, f"accuracy/p{each}")[1] for each in (10, 50, 90)]
    assert percentiles == [0.1, 0.5, 0.9]  # of 0, 0.5 and 1
    assert (scalars(found, "metrics/best"), scalars(found, "epsilon")) == ({1: 0.5}, {2: 3.0})
    assert (scalars(found, "bytes/up"), scalars(found, "loss")) == ({1: 200, 2: 200}, {1: 1.0, 2: 0.5})
    image = found.Images("accuracy")[0]
    assert (image.step, image.width, image.height) == (2, 8, 5)
    clients = found.Histograms("accuracy/clients")[0].histogram_value
    assert (clients.min, clients.max, clients.num, clients.sum, clients.sum_squares) == (0.0, 1.0, 3, 1.5, 1.25)
    assert scalars(found, "weights/not_finite") == {1: 2, 2: 2}
    assert found.Histograms("weights/fc.bias")[0].histogram_value.num == 1


def test_the_intervals_of_a_histogram_hold_the_weights(write: Any, read: Any, make_row: MakeRow, model: Any) -> None:
    write([make_row(1)])
    weights = read().Histograms("weights/fc.weight")[0].histogram_value
    below = np.cumsum(weights.bucket)
    # values on the border of two intervals may belong to either
    for limit, count in zip(weights.bucket_limit, below, strict=True):
        values = model["fc.weight"].astype(np.float64)
        assert np.sum(values < limit - 1e-6) <= count <= np.sum(values <= limit + 1e-6)
    assert below[-1] == values.size


def test_tbparse_reads_settings_and_every_number_once(
    write: Any, tmp_path: Path, make_row: MakeRow, unevaluated: Any
) -> None:
    rows = [make_row(1), make_row(2, **unevaluated), make_row(3, loss=math.nan)]
    write(rows, algorithm="fedprox:mu=0.5", workers=2, seed=10**400 + 1)
    found = SummaryReader(str(tmp_path / "tensorboard"))
    settings = dict(zip(found.hparams.tag, found.hparams.value, strict=True))
    assert settings["algorithm"] == "fedprox:mu=0.5" and settings["client_num"] == 50
    assert float(settings["learning_rate"]) == 0.01, "the default is told too"
    assert settings["seed"] == str(10**400 + 1), "a float would not hold it"
    assert hyperparameters({"seed": 2**53, "iterations": 2**53 + 1}) == {"seed": 2**53, "iterations": str(2**53 + 1)}
    assert not {"workers", "momentum", "work_dir"} & settings.keys()
    told = found.scalars
    assert told[told.tag == "accuracy/low5"].step.tolist() == [1, 3]  # no value where nothing was evaluated
    assert told[told.tag == "loss"].value.isna().tolist() == [False, False, True]
    assert not told.duplicated(["step", "tag"]).any()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from mindfl.sim import History, IterationRow, JobConfig
from mindfl.tracking.tensorboard import TensorBoardWriter
folder = Path(sys.argv[1])
writer = TensorBoardWriter((), folder / "accuracy.png")
writer.begin(JobConfig(work_dir=folder, tensorboard=True), {})
for row in History.load(folder / "history.jsonl"):
    writer.row(row, {"w": np.ones(3, np.float32)})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_readable_files_and_goes_on_without_doubled_steps(
    write: Any, read: Any, make_row: MakeRow, tmp_path: Path
) -> None:
    from mindfl.sim.history import HistoryFiles

    rows = [make_row(number) for number in (1, 2, 3)]
    HistoryFiles(tmp_path).begin(rows)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -9
    assert scalars(read(), "loss").keys() == {1, 2, 3}
    (path,) = event_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])  # killed while the last record was written
    assert scalars(read(), "loss").keys() == {1, 2, 3}

    # The state of round 3 was not saved: it is trained again.
    write([make_row(3, loss=7.0), make_row(4)], done=tuple(rows[:2]))
    assert scalars(read(), "loss") == {1: 1.0, 2: 0.5, 3: 7.0, 4: 0.25}
    assert [event.step for event in read().Histograms("weights/w")] == [1, 2]
    parsed = SummaryReader(str(tmp_path / "tensorboard"))
    assert not parsed.scalars.duplicated(["step", "tag"]).any() and not parsed.hparams.duplicated(["tag"]).any()


def test_going_on_replaces_the_figure_and_writes_rounds_that_are_missing(
    write: Any, read: Any, make_row: MakeRow
) -> None:
    write([make_row(1)])
    write([], done=(make_row(1),))  # nothing is left to do
    write([make_row(3)], done=(make_row(1), make_row(2)))
    found = read()
    assert scalars(found, "loss").keys() == {1, 2, 3}
    assert [event.step for event in found.Images("accuracy")] == [3]
    assert [event.step for event in found.Histograms("weights/fc.weight")] == [1, 2, 3]


def test_damage_ends_what_is_kept(write: Any, read: Any, make_row: MakeRow, tmp_path: Path) -> None:
    write([make_row(1), make_row(2)], ends=False)
    (path,) = event_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content + b"\xff" * 40)
    write([make_row(3)], done=(make_row(1), make_row(2)))
    assert scalars(read(), "loss").keys() == {1, 2, 3}


def test_the_page_names_all_tags_and_its_program_runs(
    write: Any, read: Any, make_row: MakeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write([make_row(1, epsilon=1.0, learning_rate=0.1)])
    page = PAGE.read_text()
    tags = read().Tags()
    named = [tag for kind in ("scalars", "images") for tag in tags[kind]]
    assert [tag for tag in named if f"`{tag}`" not in page] == []
    (tmp_path / "mindfl_work").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```py\n(.*?)```", page, re.DOTALL)[0], {})
    assert "accuracy/avg" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_named(write: Any, tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(StorageError, match=r"tensorboard"):
        write([])


def test_a_simulation_without_it_imports_nothing_of_it() -> None:
    code = "import sys, mindfl.sim.training; sys.exit(any('tensorboard' in n or 'tracking' in n for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
