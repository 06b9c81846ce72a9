"""The benchmark of label skew: its data, its published table, its report, and that it goes on where it was stopped."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindfl.cli import main
from mindfl.data.idx import read_idx_folder
from mindfl.errors import DataError, OptionError, SimulationError
from mindfl.experiments import niid_published as setting
from mindfl.experiments.niid_bench import run_niid_bench
from mindfl.experiments.niid_published import (
    CELLS,
    chosen_algorithms,
    chosen_cells,
    chosen_seeds,
    known_data,
    published,
)
from mindfl.experiments.niid_report import FILES, Bench, CellResult, markdown, summary, table, table_csv, write_bench
from mindfl.experiments.runner import shipped_text
from mindfl.lite import LiteModel, Session
from mindfl.options.command_options import NiidBenchOptions
from mindfl.sim.history import History
from mindfl.sim.run_record import RunRecord
from mindfl.sweeps import read_experiment
from mindfl.sweeps.followed_runs import SweptRow

TRAIN, TEST = 400, 130


def idx(array: NDArray[Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with images that can be told apart: each class has its row lit."""
    folder, rng = tmp_path_factory.mktemp("idx") / "été", np.random.default_rng(1)
    folder.mkdir()
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def result_of(cell: str = "iid", algorithm: str = "fedavg", seed: int = 0, *curve: float) -> CellResult:
    values = curve or (0.5, 0.875, 0.75)
    return CellResult(cell=cell, algorithm=algorithm, seed=seed, curve=values, seconds=60, weights_sha256="ab" * 32)


def bench_of(*results: CellResult, **changes: Any) -> Bench:
    fields = {"data": "fashion_mnist", "train": 60_000, "test": 10_000, "rounds": 50, "epochs": 10, "machine": "this"}
    return Bench(**{**fields, "results": results, **changes})


class TestPublished:
    def test_each_cell_and_algorithm_has_a_value_for_both_data_sets(self) -> None:
        for data in ("fashion_mnist", "mnist"):
            for cell in CELLS:
                for algorithm in (*setting.EXPERIMENT["sweep"]["algorithm"], "scaffold_niid"):
                    value = published(data, cell, algorithm)
                    assert value is not None and 9 < value.mean < 100 and 0 <= value.spread < 42

    def test_values(self) -> None:
        assert published("fashion_mnist", "dirichlet", "fedprox:mu=0.01") == (88.15, 0.42)
        assert published("fashion_mnist", "classes:3", "fednova") == (81.97, 1.34)
        assert published("mnist", "dirichlet", "fedavg") == (98.89, 0.07)
        assert published("fashion_mnist", "classes:2", "scaffold_niid") == (33.80, 41.22)
        assert published("mnist", "iid", "scaffold") is None and published(None, "iid", "fedavg") is None

    def test_data_are_known_by_their_labels(self) -> None:
        train, test = np.zeros(60_000, np.uint8), np.zeros(10_000, np.uint8)
        assert known_data(train, test) is None
        train[:10] = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)
        assert known_data(train, test) == "fashion_mnist"
        assert known_data(train[:-1], test) is None
        train[:10] = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)
        assert known_data(train, test) == "mnist"

    def test_lists(self) -> None:
        assert chosen_cells(None) == ("iid", "dirichlet", "classes:3")
        assert chosen_cells("classes:1, iid,iid") == ("classes:1", "iid")
        assert chosen_seeds("2,0") == (2, 0) and chosen_seeds([1]) == (1,)
        assert chosen_algorithms(["fedprox", "fedprox:mu=1"]) == ("fedprox:mu=0.01", "fedprox:mu=1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cells": "iid,klasses:3"}, "unknown cell 'klasses:3'"),
        ({"cells": ""}, "no cell is given"),
        ({"algorithms": "fedavgg"}, "fedavgg"),
        ({"algorithms": []}, "no algorithm is given"),
        ({"algorithms": "fedprox:mu=-1"}, "mu"),
        ({"seeds": "0,x"}, "a seed must be a whole number of at least 0, got 'x'"),
        ({"seeds": [-1]}, "-1"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"epochs": True}, "epochs"),
        ({"data": "cifar"}, "data must be one of fashion_mnist, mnist"),
        ({"round": 3}, "no keyword round"),
    ],
)
def test_unusable_arguments_write_nothing(tmp_path: Path, files: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as refused:
        run_niid_bench(**{"dataset": files, "work_dir": tmp_path / "new", **changes})
    assert words in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_missing_files_are_named_with_the_package_that_has_them(
    tmp_path: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work_dir", str(tmp_path / "new")]
    with pytest.raises(SystemExit) as left:
        main(["experiment", "niid_bench", "--dataset", str(tmp_path), *work])
    line = capsys.readouterr().err
    assert left.value.code == DataError.exit_code and line.count("\n") == 1
    assert "dataset-fashion-mnist" in line and "train-images-idx3-ubyte" in line and "t10k-labels" in line
    with pytest.raises(SystemExit):
        main(["experiment", "niid_bench", "--dataset", str(files), "--data", "mnist", *work])
    assert "does not hold MNIST, but images without a published table" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


class TestReport:
    def test_table_stands_beside_the_published_values(self) -> None:
        bench = bench_of(result_of("iid", "fedavg", 0, 0.5, 0.89), result_of("iid", "fedavg", 1, 0.9, 0.4))
        assert table(bench)[2:] == ["| iid | fedavg | 89.50 +- 0.71 | 2, 1 | 89.23 +- 0.45 | +0.27 |"]
        assert bench.changes == () and "NOT" not in summary(bench) + markdown(bench)

    def test_table_of_csv_can_be_read(self) -> None:
        bench = bench_of(result_of(), result_of("classes:2", "fednova"), result_of("iid", "scaffold"))
        first, second, third = csv.DictReader(table_csv(bench).splitlines())
        assert (first["best"], first["best_round"], first["last"]) == ("87.5", "2", "75.0")
        assert float(first["difference"]) == pytest.approx(87.5 - 89.23)
        assert second["published_mean"] == "" and second["algorithm"] == "scaffold"
        assert (third["cell"], float(third["published_spread"])) == ("classes:2", 2.34)

    def test_another_setting_is_said_and_not_compared(self) -> None:
        bench = bench_of(result_of(), rounds=2, epochs=1)
        assert bench.changes == ("2 rounds instead of 50", "1 epoch instead of 10")
        assert table(bench)[2] == "| iid | fedavg | 87.50 | 2 | 89.23 +- 0.45 | - |"
        assert "NOT COMPARED: this is not the published setting" in markdown(bench)
        assert next(csv.DictReader(table_csv(bench).splitlines()))["difference"] == ""
        assert math.isnan(bench.difference(next(iter(bench.lines()))))

    @pytest.mark.parametrize("cells", [(), tuple(CELLS)])
    def test_figure_of_any_number_of_cells(self, tmp_path: Path, cells: tuple[str, ...]) -> None:
        results = [result_of(cell, name, 0, 0.5) for cell in cells for name in ("fedavg", "own$^.py:X")]
        bench = bench_of(*results, missing=("iid fednova seed 0",))
        write_bench(bench, tmp_path)
        assert (tmp_path / "niid_bench.png").read_bytes().startswith(b"\x89PNG")
        assert "not there yet: iid fednova seed 0" in summary(bench)


SMALL = {"rounds": 2, "epochs": 1, "workers": 2}


class Recorder:
    """Keeps what is said, and which rounds were trained; ``on_row`` is called after each round."""

    def __init__(self, on_row: Callable[[str], None] = lambda run: None) -> None:
        self.said: list[str] = []
        self.rounds: list[tuple[str, int]] = []
        self._on_row = on_row

    def row(self, swept: SweptRow) -> None:
        self.rounds.append((swept.name, swept.row.iteration))
        self._on_row(swept.name)

    @property
    def keywords(self) -> dict[str, Any]:
        return {"say": self.said.append, "row": self.row}


def test_the_file_and_the_command_have_the_published_setting(tmp_path: Path) -> None:
    (tmp_path / "exp.toml").write_text(shipped_text("niid_bench"))
    found = read_experiment(tmp_path / "exp.toml")
    names = ("client_num", "iterations", "epochs", "batch_size", "learning_rate", "momentum", "weight_decay")
    assert tuple(found.settings[name] for name in names) == (10, 50, 10, 64, 0.01, 0.9, 1e-5)
    assert len(found.runs) == 9 and found.runs[0].settings["train_dataset"] == str(tmp_path / "samples" / "iid")
    assert (NiidBenchOptions.rounds, NiidBenchOptions.epochs) == (50, 10)


@pytest.mark.slow
class TestRun:
    def test_two_cells_on_the_command_line(
        self, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "with space ü"
        small = [f"--{name}={value}" for name, value in {**SMALL, "rounds": 3}.items()]
        command = ["experiment", "niid_bench", "--dataset", str(files), "--work_dir", str(folder), *small]
        main([*command, "--cells", "iid,classes:3", "--algorithms", "fedavg"])
        text = capsys.readouterr()
        assert "NOT the published setting: 3 rounds instead of 50, 1 epoch instead of 10" in text.out
        assert text.out.endswith(f"written to {folder}: {', '.join(FILES)}\n")
        assert "cell=classes_3,algorithm=fedavg,seed=0: iteration 3/3, 10 clients" in text.err
        assert "warning" not in text.err and "2 of 2: cell=" in text.err
        lines = list(csv.DictReader((folder / "niid_bench.csv").read_text().splitlines()))
        assert [(line["cell"], line["data"]) for line in lines] == [("iid", ""), ("classes:3", "")]
        main([*command, "--cells", "iid,classes:3", "--algorithms", "fedavg", "--json", "--quiet"])
        again = json.loads(capsys.readouterr().out)
        assert again["changes"] == ["3 rounds instead of 50", "1 epoch instead of 10"]
        assert [line["mean"] for line in again["lines"]] == [float(line["best"]) for line in lines]
        self.check_accuracy_and_division(
            folder / "runs" / "cell=classes_3,algorithm=fedavg,seed=0", files, again["lines"][1]["jobs"][0]
        )

    def check_accuracy_and_division(self, folder: Path, files: Path, told: dict[str, Any]) -> None:
        """Measure the last model on the whole test set, and count what the clients had."""
        images, labels = read_idx_folder(files)["test"]
        scores = Session(LiteModel.load(folder / "ms" / "lenet_train_trained.ms")).predict(images / np.float32(255))
        assert told["curve"][-1] == np.mean(scores.argmax(1) == labels)
        record, rows = RunRecord.load(folder / "config.json"), History.load(folder / "history.jsonl")
        assert record.data["samples"] == TRAIN + TEST and rows[-1].samples == TRAIN
        assert record.settings["weight_decay"] == pytest.approx(1e-5) and record.settings["shuffle"] is True
        assert (rows[-1].clients, record.settings["batch_size"], record.settings["momentum"]) == (10, 64, 0.9)

    def test_interrupted_it_goes_on_to_the_same_bits(self, files: Path, tmp_path: Path) -> None:
        settings = {**SMALL, "dataset": files, "cells": "iid,dirichlet", "algorithms": ["fednova"], "workers": 1}
        whole = run_niid_bench(**settings, work_dir=tmp_path / "whole", **Recorder().keywords)

        def stop(run: str) -> None:
            if run.startswith("cell=dirichlet"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_niid_bench(**settings, work_dir=tmp_path / "parts", **Recorder(stop).keywords)
        missing = "cell=dirichlet,algorithm=fednova,seed=0"
        assert f"not there yet: {missing}" in (tmp_path / "parts" / "niid_bench.md").read_text()
        recorder = Recorder()
        parts = run_niid_bench(**settings, work_dir=tmp_path / "parts", **recorder.keywords)
        assert "1 of 2 runs ended before" in recorder.said
        assert set(recorder.rounds) <= {(missing, 2)}
        assert [one.weights_sha256 for one in parts.results] == [one.weights_sha256 for one in whole.results]
        assert [one.curve for one in parts.results] == [one.curve for one in whole.results]
        reports = [(tmp_path / "parts" / name).read_bytes() for name in FILES]
        with pytest.raises(OptionError, match="made with"):
            run_niid_bench(**{**settings, "epochs": 2}, work_dir=tmp_path / "parts", **Recorder().keywords)
        assert [(tmp_path / "parts" / name).read_bytes() for name in FILES] == reports

    def test_a_job_that_fails_is_named_and_the_others_end(self, files: Path, tmp_path: Path) -> None:
        settings = {**SMALL, "dataset": files, "cells": "iid", "algorithms": ["qfedavg:q=1e5", "fedavg"]}
        recorder, name = Recorder(), "cell=iid,algorithm=qfedavg_q=1e5,seed=0"
        with pytest.raises(SimulationError, match=rf"1 of 2 runs failed: {name}: client \S+ failed"):
            run_niid_bench(**settings, work_dir=tmp_path / "new", **recorder.keywords)
        text = (tmp_path / "new" / "niid_bench.md").read_text()
        assert f"failed: {name}: client" in text and "not there yet" not in text
        assert "| iid | fedavg |" in text
        warned = [text for text in recorder.said if text.startswith("warning: ")]
        assert len(warned) == 1 and f"the run {name} failed: client" in warned[0]

    def test_killed_it_goes_on(self, files: Path, tmp_path: Path) -> None:
        arguments = [f"--{name}={value}" for name, value in {**SMALL, "rounds": 4, "dataset": files}.items()]
        command = ["experiment", "niid_bench", *arguments, "--cells=iid", "--algorithms=fedavg", "--work_dir"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mindfl", *command, str(tmp_path / "killed")], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "iteration 2/4" in line:
                os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        for name in ("killed", "whole"):
            main([*command, str(tmp_path / name), "--quiet"])
        killed, whole = (
            next(csv.DictReader((tmp_path / name / "niid_bench.csv").read_text().splitlines()))
            for name in ("killed", "whole")
        )
        assert killed["weights_sha256"] == whole["weights_sha256"] and killed["rounds"] == "4"


@pytest.mark.hours
def test_the_published_table_is_reproduced(tmp_path: Path) -> None:
    """The nine cells of the default setting, within a point of the published mean. MINDFL_NIID: folder to go on in."""
    folder = Path(os.environ.get("MINDFL_NIID", tmp_path))
    bench = run_niid_bench(work_dir=folder)
    lines = list(bench.lines())
    assert len(lines) == 9 and bench.data == "fashion_mnist"
    wrong = [f"{line.cell} {line.algorithm} {line.mean:.2f}" for line in lines if abs(bench.difference(line)) > 1]
    assert not wrong, re.sub(r"\s+", " ", summary(bench))
