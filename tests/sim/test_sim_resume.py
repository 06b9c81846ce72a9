"""Runs in a folder that was used before: refused, replaced, continued to the same bits, or repeated."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_contents import contents

from mindfl.data import make_synthetic
from mindfl.errors import DataError, ModelFormatError, OptionError
from mindfl.lite import LiteModel
from mindfl.sim import FederatedLeNetJob, History, JobConfig, run_record, weight_hash
from mindfl.sim.embedded_run import EmbeddedRun
from mindfl.sim.evaluation import Evaluated
from mindfl.sim.round_loop import TrainedRound
from mindfl.sim.run_record import RunRecord
from mindfl.sim.run_state import RunState

MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sampled": {"client_num": 5, "clients_per_iteration": 2},
    "quantised": {"download_compress_type": "QUANT"},
    "sparse": {"upload_compress_type": "DIFF_SPARSE_QUANT"},
    "private": {"encrypt_type": "DP_ENCRYPT"},
    "signs": {"encrypt_type": "SIGNDS"},
    "pairwise": {"encrypt_type": "PW_ENCRYPT", "reconstruct_secrets_threshold": 2},
    "stable": {"encrypt_type": "STABLE_PW_ENCRYPT"},
    "exact": {"encrypt_type": "PW_EXACT"},
    "http": {"transport": "http"},
    "some weights": {"train_weight_name": "fc3.weight,fc3.bias"},
    "shuffled": {"shuffle": True},
}
QUICK = ("sampled", "private", "exact")
OTHERS = tuple(mode for mode in MODES if mode not in QUICK)
KILLED = Path(__file__).parents[1] / "killed_run.py"
#: settings that may change when a run continues: where and how it runs, evaluation, and files
FREE = {
    *(
        "init_from",
        "evaluate",
        "evaluate_every",
        "per_class",
    ),  # of weights to begin with the content is compared: the model's
    "metric",  # compared with that of the rows that are there
    *("work_dir", "resume", "overwrite", "save_every", "save_best", "tensorboard"),
    *("iterations", "dp_budget", "callbacks"),
    *("train_dataset", "test_dataset", "infer_dataset", "data_format", "origin_train_model_path"),
    *("train_model_path", "train_ms_name", "infer_model_path", "infer_ms_name", "origin_infer_model_path"),
    *("infer_weight_name", "input_shape", "fl_name", "per_client_models", "converter", "device_target"),
    *("workers", "executor", "ray_address", "transport", "parallel", "thread_num", "cpu_bind_mode", "heap", "java"),
    *("jar_path", "case_jar_path", "lite_jar_path", "path_regex", "deploy_env", "vocal_file", "ids_file"),
    *("domain_name", "use_elb", "server_num", "enable_ssl", "redis_address", "python"),
    *("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path"),
}


@pytest.fixture
def fresh(make_job: Any) -> Any:
    """Make a job as a user does: without ``overwrite``."""

    def make(**settings: Any) -> FederatedLeNetJob:
        return make_job(**{"overwrite": False, **settings})

    return make


class StoppedError(Exception):
    """Ends a run after an iteration, as a power failure would."""


class StopAfter:
    """A reporter that ends the run after an iteration."""

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def stage(self, text: str) -> None:
        """Ignore."""

    def warning(self, text: str) -> None:
        """Ignore."""

    def progress(self, progress: object) -> None:
        """Ignore."""

    def row(self, row: Any) -> None:
        if row.iteration == self._iteration:
            raise StoppedError


def test_every_setting_is_known_to_decide_or_not() -> None:
    names = {item.name for item in fields(JobConfig)}
    assert set(run_record.DECIDING).isdisjoint(FREE)
    assert names == FREE | set(run_record.DECIDING)


def test_settings_that_an_earlier_version_did_not_have_were_their_defaults(tmp_path: Path) -> None:
    now = RunRecord.begin(JobConfig(work_dir=tmp_path, shuffle=True, weight_decay=0.1), {}, {})
    later = {"shuffle", "weight_decay", "lr_schedule"}
    earlier = replace(now, settings={name: value for name, value in now.settings.items() if name not in later})
    assert now.differences(earlier) == {"shuffle": (True, False)}  # the starting model tells the weight decay


class TestUsedFolder:
    def test_a_result_is_not_replaced(self, fresh: Any, tmp_path: Path) -> None:
        fresh().run()
        before = contents(tmp_path)

        with pytest.raises(OptionError, match="holds a run of 2 of 2 iterations") as caught:
            fresh(seed=5).run()

        assert "--resume" in caught.value.hint and "--overwrite" in caught.value.hint
        assert contents(tmp_path) == before

    def test_models_of_another_work_folder_are_set_aside(
        self, fresh: Any, models: Path, tmp_path: Path, recorder: Any
    ) -> None:
        fresh(save_best=True, save_every=1).run()
        names = ("lenet_train_trained.ms", "lenet_train_best.ms", "lenet_train_best.json", "lenet_train_iteration1.ms")
        before = {name: (models / name).read_bytes() for name in names}

        fresh(work_dir=tmp_path / "other", seed=1, epochs=2, reporter=recorder).run()

        (aside,) = models.glob("lenet_train_earlier_*")
        assert {name: (aside / name).read_bytes() for name in names} == before
        assert any(str(aside) in text for text in recorder.warnings)

    def test_overwrite_replaces_everything(self, fresh: Any, tmp_path: Path, models: Path) -> None:
        fresh(iterations=3, save_every=1, save_best=True).run()
        result = fresh(iterations=1, seed=4, overwrite=True).run()

        assert len(History.load(tmp_path / "run" / "history.jsonl")) == 1
        assert not list(models.glob("*_iteration*")) and not list(models.glob("*_best*"))
        assert RunRecord.load(tmp_path / "run" / "config.json").weights_sha256 == result.hash

    def test_a_run_without_an_iteration_is_no_result(self, fresh: Any) -> None:
        class Impatient(StopAfter):
            def progress(self, progress: object) -> None:
                raise StoppedError

        with pytest.raises(StoppedError):
            fresh(reporter=Impatient(1)).run()
        assert len(fresh().run().history) == 2

    def test_both_at_once(self) -> None:
        with pytest.raises(OptionError, match="resume and overwrite contradict each other"):
            JobConfig(resume=True, overwrite=True)

    @pytest.mark.parametrize(
        "settings",
        [
            {"domain_name": "http://127.0.0.1:9"},
            {"stack": "federated"},
            {"jar_path": "/a.jar", "case_jar_path": "/b.jar"},
        ],
        ids=["elsewhere", "federated", "java"],
    )
    def test_what_cannot_go_on_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match="resume needs the embedded server and clients"):
            JobConfig(resume=True, **settings)


class TestResume:
    @pytest.mark.parametrize("mode", [*QUICK, *(pytest.param(mode, marks=pytest.mark.slow) for mode in OTHERS)])
    def test_the_same_bits_as_undisturbed(self, mode: str, fresh: Any, tmp_path: Path) -> None:
        settings = {"iterations": 4, **MODES[mode]}
        whole = fresh(work_dir=tmp_path / "whole", workers=1, overwrite=True, **settings).run()
        with pytest.raises(StoppedError):
            fresh(reporter=StopAfter(2), overwrite=True, **settings).run()

        resumed = FederatedLeNetJob(work_dir=tmp_path / "run", resume=True, workers=3).run()

        assert resumed.hash == whole.hash
        assert [row.avg for row in resumed.history] == [row.avg for row in whole.history]
        assert [row.iteration for row in History.load(tmp_path / "run" / "history.jsonl")] == [1, 2, 3, 4]
        assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 5
        assert RunRecord.load(tmp_path / "run" / "config.json").weights_sha256 == whole.hash

    def test_killed_at_any_file_operation(self, fresh: Any, models: Path, writers: Path, tmp_path: Path) -> None:
        self._killed(fresh, models, writers, tmp_path, kills=2)

    @pytest.mark.slow
    def test_killed_thirty_times(self, fresh: Any, models: Path, writers: Path, tmp_path: Path) -> None:
        self._killed(fresh, models, writers, tmp_path, kills=30)

    def _killed(self, fresh: Any, models: Path, writers: Path, tmp_path: Path, *, kills: int) -> None:
        start = str(models / "lenet_train.ms")
        settings = {"client_num": 3, "epochs": 1, "iterations": 4, "workers": 2, "save_best": True}
        settings |= {"train_dataset": str(writers), "origin_train_model_path": start, "train_model_path": None}
        whole = fresh(work_dir=tmp_path / "whole", **settings).run()
        count = int(_run_killed(settings, [(str(tmp_path / "counted"), 0)]))
        assert count > 50
        # Of the whole range, and more often among the operations of iterations than of the beginning and the end.
        moments = sorted(random.Random(kills).sample(range(1, count), kills))
        folders = [(str(tmp_path / f"killed{moment}"), moment) for moment in moments]

        assert _run_killed(settings, folders) == "", "none came to its end"

        for folder, _ in folders:
            resumed = fresh(work_dir=folder, resume=True, **settings).run()
            assert resumed.hash == whole.hash, folder
            assert [row.iteration for row in resumed.history] == [1, 2, 3, 4]
            best = LiteModel.load(Path(folder, "ms", "lenet_train_best.ms"))
            assert weight_hash(best.weights) == weight_hash(
                LiteModel.load(tmp_path / "whole" / "ms" / "lenet_train_best.ms").weights
            )

    def test_killed_between_the_state_and_the_models_of_an_iteration(
        self, fresh: Any, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(*_: object) -> bytes:
            raise StoppedError

        settings = {"iterations": 1, "save_every": 1, "save_best": True}
        with monkeypatch.context() as patch, pytest.raises(StoppedError):
            patch.setattr("mindfl.sim.result_files.ResultFiles.keep", killed)
            fresh(**settings).run()
        resumed = fresh(resume=True, **settings).run()

        for name in ("lenet_train_iteration1.ms", "lenet_train_best.ms"):
            assert weight_hash(LiteModel.load(models / name).weights) == resumed.hash
        assert json.loads((models / "lenet_train_best.json").read_text())["iteration"] == 1

    def test_a_finished_run_goes_on_with_more_iterations(self, fresh: Any, tmp_path: Path) -> None:
        whole = fresh(work_dir=tmp_path / "whole", iterations=3).run()
        first = fresh(overwrite=True, iterations=1).run()
        assert first.hash != whole.hash
        assert fresh(resume=True, iterations=3).run().hash == whole.hash

    def test_a_finished_run_is_finished(self, fresh: Any, recorder: Any, tmp_path: Path) -> None:
        first = fresh().run()
        log = (tmp_path / "run" / "client_0" / "client.log").read_bytes()
        again = fresh(resume=True, reporter=recorder).run()
        assert again.hash == first.hash and again.summary() == first.summary()
        assert "all 2 iterations are done already" in recorder.stages
        assert (tmp_path / "run" / "client_0" / "client.log").read_bytes() == log

    def test_fewer_iterations_than_there_are(self, fresh: Any) -> None:
        fresh().run()
        with pytest.raises(OptionError, match="--iterations is 1, but 2 are done"):
            fresh(resume=True, iterations=1).run()

    def test_nothing_to_go_on_with_begins(self, fresh: Any, tmp_path: Path) -> None:
        assert fresh(resume=True).run().hash == fresh(work_dir=tmp_path / "whole", overwrite=True).run().hash

    def test_settings_need_not_be_given_again(self, fresh: Any, tmp_path: Path) -> None:
        fresh(iterations=1, epochs=2, seed=7, clients_per_iteration=2).run()
        config = FederatedLeNetJob(work_dir=tmp_path / "run", resume=True).config
        assert (config.epochs, config.seed, config.clients_per_iteration) == (2, 7, 2)
        assert config.train_model_path == tmp_path / "models"

    def test_a_recorded_option_without_effect_is_not_named_again(
        self, fresh: Any, tmp_path: Path, recorder: Any
    ) -> None:
        fresh(iterations=1, thread_num=2, parallel=3).run()
        FederatedLeNetJob(work_dir=tmp_path / "run", resume=True, thread_num=2, reporter=recorder)
        assert [text.partition(" has")[0] for text in recorder.warnings] == ["--thread_num 2"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("seed", 1), ("epochs", 3), ("learning_rate", 0.5), ("client_num", 2), ("encrypt_type", "DP_ENCRYPT")],
    )
    def test_other_settings_are_refused_by_name(self, fresh: Any, name: str, value: Any) -> None:
        fresh(iterations=1).run()
        with pytest.raises(OptionError, match=f"^--{name} is {value}, but the run in .* was made with"):
            fresh(resume=True, iterations=2, **{name: value}).run()

    def test_data_changed_in_place(self, fresh: Any, writers: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(writers, tmp_path / "own"))
        fresh(iterations=1, train_dataset=own).run()
        images = own / "images.u8"
        content = bytearray(images.read_bytes())
        content[0] ^= 1
        images.write_bytes(content)
        with pytest.raises(OptionError, match=r"the data are not those that the run in .* began with"):
            fresh(resume=True, iterations=2, train_dataset=own).run()

    def test_model_changed_in_place(self, fresh: Any, models: Path) -> None:
        fresh(iterations=1).run()
        model = LiteModel.load(models / "lenet_train.ms")
        model.save(models / "lenet_train.ms", {"fc3.bias": np.ones(62, np.float32)})
        with pytest.raises(OptionError, match="the model to start from is not the one"):
            fresh(resume=True, iterations=2).run()

    def test_moved_folder_and_data(self, fresh: Any, writers: Path, tmp_path: Path) -> None:
        whole = fresh(work_dir=tmp_path / "whole", overwrite=True, iterations=2).run()
        own = Path(shutil.copytree(writers, tmp_path / "own"))
        fresh(iterations=1, train_dataset=own, overwrite=True).run()
        own.rename(tmp_path / "moved data")
        (tmp_path / "run").rename(tmp_path / "verschobener Läufer")
        settings = {"work_dir": tmp_path / "verschobener Läufer", "train_dataset": tmp_path / "moved data"}
        assert fresh(resume=True, iterations=2, **settings).run().hash == whole.hash

    def test_other_versions_are_named(self, fresh: Any, recorder: Any, tmp_path: Path) -> None:
        fresh(iterations=1).run()
        path = tmp_path / "run" / "config.json"
        record = json.loads(path.read_text())
        record["versions"]["numpy"] = "1.0"
        path.write_text(json.dumps(record))
        fresh(resume=True, iterations=2, reporter=recorder).run()
        assert any("began with numpy 1.0 and goes on with" in text for text in recorder.warnings)

    def test_changed_code_is_named(self, fresh: Any, recorder: Any, tmp_path: Path) -> None:
        own = tmp_path / "own.py"
        own.write_text("from mindfl.algorithms import Algorithm\n\n\nclass Own(Algorithm):\n    pass\n")
        fresh(iterations=1, algorithm=f"{own}:Own").run()
        fresh(resume=True, iterations=2, algorithm=f"{own}:Own", reporter=recorder).run()
        assert not any("own.py" in text for text in recorder.warnings)
        own.write_text(f"{own.read_text()}    mu = 1\n")
        fresh(resume=True, iterations=3, algorithm=f"{own}:Own", reporter=recorder).run()
        assert f"{own} has changed since the run began, which goes on with it as it is now" in recorder.warnings

    def test_damaged_state(self, fresh: Any, tmp_path: Path) -> None:
        fresh(iterations=1).run()
        state = tmp_path / "run" / "resume.npz"
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 255
        state.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"the state in .*resume\.npz is damaged"):
            fresh(resume=True, iterations=2).run()

    def test_cut_history(self, fresh: Any, tmp_path: Path) -> None:
        fresh(iterations=2).run()
        (tmp_path / "run" / "history.jsonl").write_text("")
        with pytest.raises(DataError, match=r"history\.jsonl does not hold the 2 iterations"):
            fresh(resume=True, iterations=3).run()

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": 1}', '{"form": 1, "settings": 5}', "\xff"])
    def test_no_record(self, fresh: Any, tmp_path: Path, text: str) -> None:
        fresh(iterations=1).run()
        (tmp_path / "run" / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(OptionError, match=r"config\.json is not the config\.json of a mindfl run"):
            fresh(resume=True)

    def test_record_of_a_later_form(self, fresh: Any, tmp_path: Path) -> None:
        fresh(iterations=1).run()
        (tmp_path / "run" / "config.json").write_text('{"form": 99}')
        with pytest.raises(OptionError, match="has form 99, this mindfl reads 1"):
            fresh(resume=True)

    def test_folder_of_the_first_release(self, fresh: Any, tmp_path: Path) -> None:
        fresh(iterations=1).run()
        for name in ("config.json", "resume.npz"):
            (tmp_path / "run" / name).unlink()
        with pytest.raises(OptionError, match="holds a run of 1 "):
            fresh().run()
        with pytest.raises(OptionError, match=r"holds a run of mindfl 0\.1\.0, which left no state"):
            fresh(resume=True).run()


class TestRecord:
    def test_it_tells_how_the_run_was_made(self, fresh: Any, writers: Path, tmp_path: Path) -> None:
        result = fresh(seed=3).run()
        record = RunRecord.load(tmp_path / "run" / "config.json")
        assert record.settings.keys() == {item.name for item in fields(JobConfig)}
        assert record.settings["train_dataset"] == str(writers) and record.settings["seed"] == 3
        assert {"mindfl", "python", "numpy", "numba"} <= record.versions.keys()
        assert record.data["users"] == 3 and len(str(record.data["sha256"])) == 64
        assert record.weights_sha256 == result.hash and record.iterations == 2
        assert record.ended is not None and record.began <= record.ended
        assert record.command

    def test_an_interrupted_run_is_recorded_too(self, fresh: Any, tmp_path: Path) -> None:
        with pytest.raises(StoppedError):
            fresh(reporter=StopAfter(1)).run()
        record = RunRecord.load(tmp_path / "run" / "config.json")
        trained = LiteModel.load(tmp_path / "models" / "lenet_train_trained.ms")
        assert record.iterations == 1 and record.weights_sha256 == weight_hash(trained.weights)

    def test_a_run_interrupted_after_aggregating_has_the_model_of_its_latest_row(
        self, fresh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def evaluate(run: EmbeddedRun, trained: TrainedRound) -> Evaluated:
            if trained.iteration == 2:
                raise StoppedError
            return Evaluated()

        monkeypatch.setattr(EmbeddedRun, "evaluate", evaluate)
        with pytest.raises(StoppedError):
            fresh(iterations=2).run()
        record, state = RunRecord.load(tmp_path / "run" / "config.json"), RunState.load(tmp_path / "run")
        assert state is not None and (record.iterations, record.weights_sha256) == (1, weight_hash(state.weights))

    def test_the_path_may_be_no_text(self, fresh: Any, tmp_path: Path) -> None:
        odd = tmp_path / "bytes \udcff"
        fresh(work_dir=odd, iterations=1).run()
        assert RunRecord.load(odd / "config.json").settings["work_dir"] == str(odd)

    def test_it_repeats_the_run(self, fresh: Any, tmp_path: Path, recorder: Any) -> None:
        first = fresh(seed=3, epochs=2, client_num=4, clients_per_iteration=2).run()
        again = FederatedLeNetJob.from_config(
            tmp_path / "run" / "config.json", work_dir=tmp_path / "again", reporter=recorder
        )
        assert again.run().hash == first.hash
        assert recorder.warnings == []
        assert (tmp_path / "again" / "ms" / "lenet_train_trained.ms").exists(), "the first run's files stay as they are"

    def test_given_settings_count_instead(self, fresh: Any, tmp_path: Path) -> None:
        fresh(epochs=2).run()
        job = FederatedLeNetJob.from_config(tmp_path / "run" / "config.json", work_dir=tmp_path / "again", epochs=1)
        assert job.run().hash == fresh(overwrite=True, epochs=1).run().hash

    def test_changed_data_are_refused(self, fresh: Any, writers: Path, tmp_path: Path) -> None:
        own = tmp_path / "own"
        shutil.copytree(writers, own)
        fresh(train_dataset=own, iterations=1).run()
        shutil.rmtree(own)
        make_synthetic(own, users=5, seed=4, progress=False)
        config = tmp_path / "run" / "config.json"
        with pytest.raises(OptionError, match=r"the data are not those of .*config\.json"):
            FederatedLeNetJob.from_config(config, work_dir=tmp_path / "again").run()
        FederatedLeNetJob.from_config(config, work_dir=tmp_path / "again", train_dataset=own).run()

    def test_a_changed_model_is_refused(self, fresh: Any, models: Path, tmp_path: Path) -> None:
        fresh(iterations=1).run()
        LiteModel.load(models / "lenet_train.ms").save(models / "lenet_train.ms", {"fc3.bias": np.ones(62, np.float32)})
        with pytest.raises(OptionError, match=r"the model to start from is not that of .*config\.json"):
            FederatedLeNetJob.from_config(tmp_path / "run" / "config.json", work_dir=tmp_path / "again").run()

    def test_other_weights_are_named(self, fresh: Any, tmp_path: Path, recorder: Any) -> None:
        fresh(iterations=1).run()
        path = tmp_path / "run" / "config.json"
        record = json.loads(path.read_text())
        record["weights_sha256"] = "0" * 64
        record["versions"]["numba"] = "0.1"
        path.write_text(json.dumps(record))
        FederatedLeNetJob.from_config(path, work_dir=tmp_path / "again", reporter=recorder).run()
        assert any("the weights are not those of" in text and "numba 0.1 there" in text for text in recorder.warnings)

    def test_unknown_setting(self, fresh: Any, tmp_path: Path) -> None:
        fresh(iterations=1).run()
        path = tmp_path / "run" / "config.json"
        record = json.loads(path.read_text())
        record["settings"]["colour"] = "red"
        path.write_text(json.dumps(record))
        with pytest.raises(OptionError, match="has a setting 'colour', which this mindfl does not know"):
            FederatedLeNetJob.from_config(path)


class TestKeptModels:
    def test_every_second_iteration(self, fresh: Any, models: Path, tmp_path: Path) -> None:
        result = fresh(iterations=5, save_every=2).run()
        assert sorted(path.name for path in models.glob("*_iteration*")) == [
            "lenet_train_iteration2.ms",
            "lenet_train_iteration4.ms",
        ]
        four = fresh(work_dir=tmp_path / "four", iterations=4, overwrite=True, train_ms_name="lenet_train").run()
        assert four.hash != result.hash

    def test_checkpoints_hold_their_iteration(self, fresh: Any, models: Path) -> None:
        fresh(iterations=3, save_every=2).run()
        kept = LiteModel.load(models / "lenet_train_iteration2.ms")
        assert weight_hash(kept.weights) == fresh(iterations=2, overwrite=True).run().hash

    def test_the_best_is_the_first_of_the_highest(self, fresh: Any, models: Path) -> None:
        result = fresh(iterations=4, save_best=True).run()
        best = max(row.avg for row in result.history)
        iteration = next(row.iteration for row in result.history if row.avg == best)
        note = json.loads((models / "lenet_train_best.json").read_text())
        assert note == {"iteration": iteration, "avg": best}
        kept = weight_hash(LiteModel.load(models / "lenet_train_best.ms").weights)
        assert kept == fresh(iterations=iteration, overwrite=True).run().hash

    def test_a_resumed_run_knows_the_best_so_far(self, fresh: Any, models: Path, tmp_path: Path) -> None:
        whole = fresh(iterations=4, save_best=True).run()
        expected = (models / "lenet_train_best.ms").read_bytes()
        fresh(iterations=2, save_best=True, overwrite=True).run()
        assert fresh(iterations=4, resume=True).run().hash == whole.hash
        assert (models / "lenet_train_best.ms").read_bytes() == expected

    @pytest.mark.parametrize("value", [0, -1, 1.5, True])
    def test_save_every_is_a_count(self, value: Any) -> None:
        with pytest.raises(OptionError, match=r"^save_every must be a whole number"):
            JobConfig(save_every=value)


def test_state_is_what_was_saved(tmp_path: Path) -> None:
    weights = {"a.weight": np.arange(6, dtype=np.float32), "b/ü": np.array([math.pi], np.float32)}
    RunState(7, weights, {"momentum": 0.5, "names": ["x"]}).save(tmp_path)
    state = RunState.load(tmp_path)
    assert state is not None and state.iteration == 7 and state.values == {"momentum": 0.5, "names": ["x"]}
    assert list(state.weights) == list(weights)
    for name, values in weights.items():
        np.testing.assert_array_equal(state.weights[name], values)
    assert RunState.load(tmp_path / "nowhere") is None


def _run_killed(settings: dict[str, Any], moments: list[tuple[str, int]]) -> str:
    job = json.dumps({"settings": settings, "moments": moments})
    done = subprocess.run([sys.executable, KILLED, job], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.strip()
