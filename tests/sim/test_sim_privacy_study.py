"""The study of modes: it trains what simulate trains, measures the traffic, and continues where it was interrupted."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from folder_contents import contents
from hypothesis import given
from hypothesis import strategies as st

from mindfl.cli import main
from mindfl.data import make_synthetic, open_dataset
from mindfl.errors import OptionError, SimulationError, StorageError
from mindfl.experiments.mode_costs import Costs, measured_costs
from mindfl.experiments.mode_report import FILES, markdown, summary, table, table_csv, write_study
from mindfl.experiments.mode_results import EXPERIMENT, NAMES, ModeResult, Study
from mindfl.experiments.privacy50 import run_study
from mindfl.lite import LiteModel
from mindfl.sim import JobConfig
from mindfl.sim.run_folder import locked
from mindfl.sim.tables import number
from mindfl.sweeps.followed_runs import SweptRow

MODES = EXPERIMENT["sweep"]["mode"]
SMALL = {"client_num": 3, "iterations": 2, "epochs": 1, "workers": 2}
#: of LeNet
VALUES = 66_404


class StudyRecorder:
    """Keeps what is said, and the modes that were trained; ``on_row`` is called for each iteration."""

    def __init__(self, on_row: Callable[[str], None] = lambda mode: None) -> None:
        self.said: list[str] = []
        self.trained: list[str] = []
        self._on_row = on_row

    def row(self, swept: SweptRow) -> None:
        self.trained.append(swept.name.removeprefix("mode="))
        self._on_row(self.trained[-1])

    @property
    def keywords(self) -> dict[str, Any]:
        return {"say": self.said.append, "row": self.row}

    @property
    def warnings(self) -> list[str]:
        return [text for text in self.said if text.startswith("warning: ")]


Runner = Callable[..., Study]


@pytest.fixture
def run(models: Path, writers: Path, tmp_path: Path) -> Runner:
    def run(modes: Sequence[str] | None = ("plain", "both"), **changes: Any) -> Study:
        paths = {"train_dataset": writers, "train_model_path": models, "work_dir": tmp_path / "study"}
        return run_study(modes, **{**SMALL, **paths, **changes})

    return run


def result_of(key: str = "plain", **changes: Any) -> ModeResult:
    fields: dict[str, Any] = {
        "key": key,
        "name": key.upper(),
        "avg": 0.5,
        "top5": 0.75,
        "low5": 0.25,
        "loss": 0.125,
        "epsilon": math.nan,
        "seconds": 2.0,
        "costs": Costs(267_000.0, 532_000.0, 0.0025, 0.044),
        "weights_sha256": "ab" * 32,
        "avg_at": (0.25, 0.5),
    }
    return ModeResult(**{**fields, **changes})


def study_of(*results: ModeResult, **changes: Any) -> Study:
    return Study(
        **{"setting": "lenet, 3 clients", "data": "here", "machine": "this one", "results": results, **changes}
    )


@pytest.mark.slow
class TestRun:
    def test_each_mode_gives_the_weights_of_the_same_job(self, run: Runner, make_job: Any) -> None:
        study = run(["exact", "pw", "signds", "plain", "both", "dp50"])
        keys = [one.key for one in study.results]
        assert keys == ["plain", "both", "signds", "dp50", "pw", "exact"], "the table's order"
        for one in study.results:
            job = make_job(**SMALL, **MODES[one.key]).run()
            assert one.weights_sha256 == job.hash
            assert list(one.avg_at) == job.history.column("avg")
        assert len({one.weights_sha256 for one in study.results}) == 6

    def test_epsilon_is_that_of_the_whole_run(self, run: Runner) -> None:
        plain, signs = run(["plain", "signds"]).results
        assert math.isnan(plain.epsilon) and signs.epsilon == 200

    def test_writes_table_and_figure(self, run: Runner, tmp_path: Path) -> None:
        study = run(["plain"])
        assert study.missing == ()
        folder = tmp_path / "study"
        assert (folder / "privacy.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "privacy.md").read_text() == markdown(study)
        assert (folder / "runs" / "mode=plain" / "history.csv").exists()
        assert "SYNTHETIC handwriting, no measure of FEMNIST (3 synthetic writers)" in study.data

    def test_fewer_writers_than_asked_for_are_named_once(self, run: Runner) -> None:
        recorder = StudyRecorder()
        study = run(client_num=9, **recorder.keywords)
        assert len(recorder.warnings) == 1 and "9 were asked for" in recorder.warnings[0]
        assert "lenet, 5 clients" in study.setting

    def test_unusable_arguments_write_nothing(self, run: Runner, tmp_path: Path) -> None:
        for changes, what in (
            ({"modes": ["rot13"]}, "unknown mode 'rot13'"),
            ({"modes": []}, "no mode"),
            ({"dp_eps": 3.0}, "dp_eps is no setting of this study"),
            ({"epochs": 0}, "epochs"),
        ):
            with pytest.raises(OptionError, match=what):
                run(**changes)
        assert not (tmp_path / "study").exists()

    def test_modes_that_cannot_be_are_told_before_anything_is_trained(
        self, run: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(MODES, "late", {"encrypt_type": "SIGNDS", "sign_eps": 1e9})
        recorder = StudyRecorder()
        with pytest.raises(OptionError, match=r"mode late: sign_eps must be a number above 0 and at most 100"):
            run(["plain", "late"], **recorder.keywords)
        assert recorder.trained == []

    def test_folder_that_is_a_file(self, run: Runner, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError):
            run(work_dir=tmp_path / "file")

    def test_two_at_once(self, run: Runner, tmp_path: Path) -> None:
        with locked(tmp_path / "study"), pytest.raises(SimulationError, match="another run is working"):
            run()


@pytest.mark.slow
class TestGoingOn:
    def test_what_is_there_is_not_run_again(self, run: Runner, tmp_path: Path) -> None:
        first = run()
        again = StudyRecorder()
        second = run(["plain", "both", "sparse"], **again.keywords)
        assert "2 of 3 runs ended before" in again.said and set(again.trained) == {"sparse"}
        # Not compared as such: epsilon may be NaN.
        plain, sparse, both = second.results
        assert repr((plain, both)) == repr(first.results) and sparse.key == "sparse"

    @pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 2}, {"iterations": 1}, {"learning_rate": 0.02}])
    def test_other_settings_run_again_where_told_so(self, run: Runner, tmp_path: Path, change: dict[str, Any]) -> None:
        before = run(["plain"]).results[0]
        kept = contents(tmp_path / "study")
        with pytest.raises(OptionError, match=r"run mode=plain in .* was made with") as caught:
            run(["plain"], **change)
        assert "--overwrite" in caught.value.hint and contents(tmp_path / "study") == kept
        recorder = StudyRecorder()
        after = run(["plain"], **recorder.keywords, overwrite=True, **change).results[0]
        assert set(recorder.trained) == {"plain"}
        if "seed" not in change:  # which plays no part in a plain job of all clients from a model that is given
            assert after.weights_sha256 != before.weights_sha256

    def test_other_data_run_again_where_told_so(self, run: Runner, tmp_path: Path) -> None:
        run(["plain"])
        make_synthetic(tmp_path / "others", users=3, seed=8, progress=False)
        with pytest.raises(OptionError, match=r"run mode=plain in .* was made with"):
            run(["plain"], train_dataset=tmp_path / "others")
        recorder = StudyRecorder()
        run(["plain"], **recorder.keywords, overwrite=True, train_dataset=tmp_path / "others")
        assert set(recorder.trained) == {"plain"}

    def test_another_model_is_refused_and_replaces_nothing(self, run: Runner, models: Path, tmp_path: Path) -> None:
        run(["plain"])
        kept = contents(tmp_path / "study")
        model = LiteModel.load(models / "lenet_train.ms")
        model.save(models / "lenet_train.ms", {name: 2 * values for name, values in model.weights.items()})
        with pytest.raises(OptionError, match=r"run mode=plain in .* was made with"):
            run(["plain"])
        assert contents(tmp_path / "study") == kept

    def test_the_same_data_elsewhere_do_not(self, run: Runner, writers: Path, tmp_path: Path) -> None:
        run(["plain"])
        shutil.copytree(writers, tmp_path / "moved ä")
        recorder = StudyRecorder()
        run(["plain"], **recorder.keywords, train_dataset=tmp_path / "moved ä")
        assert recorder.trained == [] and "1 of 1 run ended before" in recorder.said

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"made_with": 1}', b"\xff\x00"])
    def test_broken_costs_are_measured_again(self, run: Runner, tmp_path: Path, content: bytes) -> None:
        before = run(["plain"]).results[0].costs
        (tmp_path / "study" / "costs" / "plain.json").write_bytes(content)
        again = StudyRecorder()
        after = run(["plain"], **again.keywords).results[0].costs
        assert (after.bytes_up, after.bytes_down) == (before.bytes_up, before.bytes_down)
        assert "plain: measuring what an iteration costs" in again.said and again.trained == []

    def test_interrupted_it_keeps_what_ended(self, run: Runner, tmp_path: Path) -> None:
        def stop(mode: str) -> None:
            if mode == "both":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(["plain", "signds", "both"], **StudyRecorder(stop).keywords)
        report = (tmp_path / "study" / "privacy.md").read_text()
        assert "| plain |" in report and "| QUANT + DIFF_SPARSE_QUANT |" not in report
        assert "not there yet: QUANT + DIFF_SPARSE_QUANT, SIGNDS" in report
        assert (tmp_path / "study" / "privacy.png").exists()
        recorder = StudyRecorder()
        study = run(["plain", "signds", "both"], **recorder.keywords)
        assert "1 of 3 runs ended before" in recorder.said
        # Before it was ended, the interrupted one may have trained its last iteration.
        assert [mode for mode in dict.fromkeys(recorder.trained) if mode != "both"] == ["signds"]
        assert study.missing == () and "not there yet" not in (tmp_path / "study" / "privacy.md").read_text()

    def test_a_run_that_fails_before_it_trains_replaces_nothing(self, run: Runner, tmp_path: Path) -> None:
        run(["plain"])
        kept = contents(tmp_path / "study")
        assert {path.name for path in kept} >= set(FILES)
        (tmp_path / "empty").mkdir()
        with pytest.raises(Exception, match="no data set"):
            run(["plain"], train_dataset=tmp_path / "empty", overwrite=True)
        assert contents(tmp_path / "study") == kept


class TestCosts:
    @pytest.fixture
    def measure(self, models: Path, writers: Path) -> Callable[[str], Costs]:
        model, dataset = LiteModel.load(models / "lenet_train.ms"), open_dataset(writers)

        def measure(key: str) -> Costs:
            config = JobConfig(**SMALL, **MODES[key])
            return measured_costs(config, model, dataset, dataset.users[:3])

        return measure

    def test_bytes_are_those_on_the_wire(self, measure: Callable[[str], Costs]) -> None:
        plain, both, signs, exact, pairs = map(measure, ("plain", "both", "signds", "exact", "pw"))
        weights = 4 * VALUES
        assert weights < plain.bytes_up < weights + 3000
        assert 2 * weights < plain.bytes_down < 2 * weights + 3000, "with startFLJob and with getModel"
        assert 0.4 * VALUES < both.bytes_up < 0.4 * VALUES + 3000
        assert 2 * VALUES < both.bytes_down < 2 * VALUES + 5000
        assert signs.bytes_up < 3000
        assert 8 * VALUES < exact.bytes_up < 8 * VALUES + 3000, "64 bits a value"
        assert plain.bytes_up + 96 < pairs.bytes_up < plain.bytes_up + 3000, "keys and shares"

    def test_bytes_are_the_same_again(self, measure: Callable[[str], Costs]) -> None:
        first, second = measure("sparse"), measure("sparse")
        assert (first.bytes_up, first.bytes_down) == (second.bytes_up, second.bytes_down)

    def test_times_are_told_apart(self, measure: Callable[[str], Costs]) -> None:
        costs = measure("dp50")
        assert costs.device_seconds > 0 and costs.server_seconds > 0

    def test_leaves_nothing_behind(
        self, measure: Callable[[str], Costs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        before = set(tmp_path.iterdir())
        measure("plain")
        assert set(tmp_path.iterdir()) == before


def test_each_mode_has_a_name_of_its_own() -> None:
    assert list(NAMES) == list(MODES) and len(set(NAMES.values())) == len(MODES) == 10


class TestReport:
    def test_table_shows_the_numbers_of_the_csv(self) -> None:
        study = study_of(result_of(), result_of("signds", epsilon=2000.0, avg=0.1234, seconds=12.345))
        first, second = csv.DictReader(table_csv(study).splitlines())
        assert (first["avg"], first["epsilon"], second["seconds"]) == ("0.5", "", "12.345")
        assert table(study)[2:] == [
            "| PLAIN | 0.500 | 0.750 | 0.250 | 0.125 | - | 267 | 532 | 2.0 | 2.5 | 44 | abababababab |",
            "| SIGNDS | 0.123 | 0.750 | 0.250 | 0.125 | 2,000 | 267 | 532 | 12 | 2.5 | 44 | abababababab |",
        ]

    @given(st.floats(1e-6, 1e9), st.integers(1, 5))
    def test_numbers_are_rounded_and_readable(self, value: float, digits: int) -> None:
        text = number(value, digits)
        assert "e" not in text
        assert math.isclose(float(text.replace(",", "")), value, rel_tol=0.5 * 10.0 ** (1 - digits) * 1.001)

    def test_numbers_that_are_none(self) -> None:
        assert [number(value, 3) for value in (math.nan, math.inf, 0.0)] == ["-", "infinite", "0"]

    @pytest.mark.parametrize("count", [0, 1, 10, 14])
    @pytest.mark.parametrize("iterations", [1, 20])
    def test_figure_of_any_number_of_modes(self, tmp_path: Path, count: int, iterations: int) -> None:
        results = [result_of(f"mode{place}", avg_at=(math.nan,) * iterations) for place in range(count)]
        study = study_of(*results, data="手書き $x^2$ \udcff".encode(errors="replace").decode(), missing=("one",))
        write_study(study, tmp_path)
        assert (tmp_path / "privacy.png").read_bytes().startswith(b"\x89PNG")
        assert "not there yet: one" in summary(study)


class TestCommand:
    @pytest.mark.slow
    def test_text_and_json(
        self, models: Path, writers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "with space ü"
        paths = ["--train_dataset", writers, "--train-model-path", models, "--work_dir", folder]
        small = [f"--{name}={value}" for name, value in SMALL.items()]
        command = ["experiment", "privacy50", *map(str, paths), *small, "--modes", "plain, quant"]
        main(command)
        text = capsys.readouterr()
        assert text.out.startswith("privacy and compression: lenet, 3 clients, 2 iterations, 1 epoch")
        assert text.out.endswith(f"written to {folder}: {', '.join(FILES)}\n")
        assert "mode=quant: iteration 2/2, 3 clients" in text.err and "warning" not in text.err
        main([*command, "--json", "--quiet"])
        again = capsys.readouterr()
        assert again.err == ""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        plain, quant = json.loads(again.out, parse_constant=refuse)["modes"]
        assert plain["epsilon"] is None and quant["name"] == "QUANT"
        assert plain["costs"]["bytes_down"] > quant["costs"]["bytes_down"]

    def test_unknown_mode(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["experiment", "privacy50", "--modes", "x", "--work_dir", str(tmp_path / "new")])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "unknown mode 'x' (choose from plain, quant" in error
        assert not (tmp_path / "new").exists()

    def test_unknown_experiment(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["experiment", "mnist"])
        assert caught.value.code == 2
        assert "No such command 'mnist'" in capsys.readouterr().err
