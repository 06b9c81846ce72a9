"""FederatedLeNetJob: the whole way from nothing, and each method alone."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from empty_figures import figures_drawn
from PIL import Image

from mindfl.data import open_dataset
from mindfl.errors import MindflError, ModelFormatError, OptionError
from mindfl.files import make_dir
from mindfl.lite import LiteModel, Session
from mindfl.sim import FederatedLeNetJob, History, Result, weight_hash
from mindfl.sim.history import COLUMNS

CLIENTS, ITERATIONS, EPOCHS = 3, 2, 2


@pytest.fixture(scope="module")
def job(converter_library: Path, tmp_path_factory: pytest.TempPathFactory) -> FederatedLeNetJob:
    """A job in a fresh folder: everything is made by the job itself."""
    folder = tmp_path_factory.mktemp("fresh") / "my work 手写"
    return FederatedLeNetJob(work_dir=folder, client_num=CLIENTS, iterations=ITERATIONS, epochs=EPOCHS)


@pytest.fixture(scope="module")
def result(job: FederatedLeNetJob) -> Result:
    with figures_drawn():
        return job.run()


class TestWholeRun:
    def test_history(self, job: FederatedLeNetJob, result: Result) -> None:
        users = list(job.prepare_data())
        samples = sum(user.train.size for user in users)
        steps = EPOCHS * sum(-(-user.train.size // 32) for user in users)
        model_bytes = 4 * sum(values.size for values in result.weights.values())

        assert [row.iteration for row in result.history] == [1, 2]
        for row in result.history:
            assert (row.clients, row.samples, row.steps) == (CLIENTS, samples, steps)
            assert row.bytes_up == CLIENTS * model_bytes
            assert row.bytes_down == 2 * CLIENTS * model_bytes, "one model to train, one to evaluate"
            assert set(row.accuracies) == {user.name for user in users}
            assert row.avg == pytest.approx(np.mean(list(row.accuracies.values())))
            assert row.seconds > 0 and row.steps_per_s > 0

    def test_files_hold_the_history(self, job: FederatedLeNetJob, result: Result) -> None:
        folder = job.config.work_dir
        assert list(History.load(folder / "history.jsonl")) == list(result.history)
        with (folder / "history.csv").open(newline="") as file:
            table = list(csv.reader(file))
        assert tuple(table[0]) == COLUMNS
        assert [float(line[1]) for line in table[1:]] == result.history.column("avg")

    def test_accuracies_are_those_of_the_aggregated_model(self, job: FederatedLeNetJob, result: Result) -> None:
        session = Session(LiteModel.load(job.trained_model_path))
        for user in job.prepare_data():
            right = session.predict(user.test.images()).argmax(axis=1) == user.test.labels[: user.test.size]
            assert result.history[-1].accuracies[user.name] == pytest.approx(right.mean())

    def test_model_files_hold_the_aggregated_weights(self, job: FederatedLeNetJob, result: Result) -> None:
        for path in [*(job.config.client_model(i) for i in range(CLIENTS)), job.trained_model_path]:
            weights = LiteModel.load(path).weights
            assert weights.keys() == result.weights.keys()
            for name, values in weights.items():
                np.testing.assert_array_equal(values.reshape(-1), result.weights[name])
            assert weight_hash(weights) == result.hash

    def test_start_is_kept(self, job: FederatedLeNetJob, result: Result) -> None:
        start = LiteModel.load(job.config.models / "lenet_train.ms").weights
        assert weight_hash(start) != result.hash

    def test_picture(self, job: FederatedLeNetJob, result: Result) -> None:
        with Image.open(job.config.work_dir / "accuracy.png") as picture:
            picture.load()
            assert (picture.format, picture.size) == ("PNG", (960, 600))
            assert len(picture.convert("RGB").getcolors(100_000)) > 10, "curves, text and grid"

    def test_summary(self, job: FederatedLeNetJob, result: Result) -> None:
        text = (job.config.work_dir / "summary.txt").read_text()
        assert text == result.summary() + "\n"
        assert f"weights sha256 {result.hash}" in text
        assert "synthetic" in text and "FEMNIST" not in text
        assert f"AVG {result.history[-1].avg:.4f}" in text
        assert "interrupted" not in text

    def test_log_satisfies_the_tutorials_greps(self, job: FederatedLeNetJob, result: Result) -> None:
        job.infer()
        job.get_model()
        for index, name in enumerate(job.prepare_data().users):
            lines = job.config.client_log(index).read_text().splitlines()
            losses = [line for line in lines if "average loss:" in line]
            accuracies = [line for line in lines if "evaluate acc:" in line]
            assert len(losses) == ITERATIONS * EPOCHS
            assert len(accuracies) == ITERATIONS + 1, "the start and each aggregated model"
            last = float(accuracies[-1].rpartition(":")[2])
            assert last == pytest.approx(result.history[-1].accuracies[name], abs=1e-6)
            assert any("[getModel] get response from server ok!" in line for line in lines)
            (predicted,) = (line for line in lines if "the predicted labels:" in line)
            assert re.search(r"the predicted labels: \[\d+(, \d+)*\]$", predicted)

    def test_inference(self, job: FederatedLeNetJob, result: Result) -> None:
        predicted = job.infer()
        with (job.config.work_dir / "predictions.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(table) == sum(len(labels) for labels in predicted.values())
        for user in job.prepare_data():
            rows = [row for row in table if row["user"] == user.name]
            assert [int(row["label"]) for row in rows] == user.test.labels[: user.test.size].tolist()
            assert [int(row["predicted"]) for row in rows] == predicted[user.name].tolist()
            right = np.mean([row["label"] == row["predicted"] for row in rows])
            assert right == pytest.approx(result.history[-1].accuracies[user.name])

    def test_get_model_returns_the_result(self, job: FederatedLeNetJob, result: Result) -> None:
        assert weight_hash(job.get_model()) == result.hash

    def test_nothing_temporary_is_left(self, job: FederatedLeNetJob, result: Result) -> None:
        hidden = [path for path in job.config.work_dir.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
        assert {path.name for path in hidden} == {".lock"}


class TestItsFolder:
    """What ``Result.load`` makes of the folder of the whole run, and of copies that are damaged."""

    @pytest.fixture
    def copy(self, job: FederatedLeNetJob, result: Result, tmp_path: Path) -> Path:
        return Path(shutil.copytree(job.config.work_dir, tmp_path / "moved run"))

    def test_a_moved_folder_gives_the_same_result(self, job: FederatedLeNetJob, result: Result, copy: Path) -> None:
        found = Result.load(copy)
        assert not {"weights", "model", "confusion"} & vars(found).keys(), "read when they are used"
        for name in ("title", "iterations", "privacy", "untested", "network", "stopped", "about", "settings", "ended"):
            assert getattr(found, name) == getattr(result, name), name
        assert list(found.history) == list(result.history)
        assert found.card == result.card == json.loads((copy / "result.json").read_text())
        assert found.summary() == result.summary()
        assert list(found.weights) == list(result.weights)
        assert all(np.array_equal(found.weights[name], result.weights[name]) for name in result.weights)
        ours, theirs = found.mindspore_weights(), result.mindspore_weights()
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs) and ours.keys() == theirs.keys()
        for kind in ("confusion", "best_confusion"):
            assert np.array_equal(getattr(found, kind).matrix, getattr(result, kind).matrix)
            assert vars(getattr(found, kind)) == {**vars(getattr(result, kind)), "matrix": getattr(found, kind).matrix}

    def test_frames(self, result: Result) -> None:
        frame = result.to_pandas()
        assert frame["avg"].tolist() == result.history.column("avg") and frame["aggregated"].all()
        clients = result.to_pandas(clients=True)
        means = clients.groupby("iteration")["accuracy"].mean()
        assert means.tolist() == pytest.approx(result.history.column("avg"))
        assert set(clients["client"]) == result.history[0].accuracies.keys()

    def test_a_run_that_has_not_ended(self, result: Result, copy: Path) -> None:
        (copy / "result.json").unlink()
        with (copy / "history.jsonl").open("r+") as file:
            file.truncate(len(file.readline()) + 9)  # killed while it wrote the second row
        found = Result.load(copy)
        assert (found.ended, len(found.history), found.confusion) == (False, 1, None)
        assert "not ended: 1 of 2 iterations so far" in found.summary()
        assert found.hash == result.hash, "the latest model"
        (copy / "history.jsonl").unlink()
        assert len(Result.load(copy).history) == 0

    def test_another_model_is_refused(self, copy: Path) -> None:
        shutil.copy(copy / "ms" / "lenet_train.ms", copy / "ms" / "lenet_train_trained.ms")
        found = Result.load(copy)
        with pytest.raises(ModelFormatError, match=r"lenet_train_trained.ms does not hold the weights .* ended with"):
            found.mindspore_weights()

    @pytest.mark.parametrize(
        ("name", "content", "error"),
        [
            ("config.json", None, r"holds no run: it has no config\.json"),
            ("config.json", "{}", "is not the config.json"),
            ("result.json", "[]", "is not the result.json"),
            ("result.json", '{"form": 2, "weights_sha256": ""}', "has form 2, this mindfl reads 1"),
            ("result.json", '{"form": 1, "weights_sha256": "", "iterations": "2"}', "is not the result.json"),
            ("confusion.csv", "class,a\na,x\n", "is no confusion matrix"),
            ("history.jsonl", "", "history.jsonl has 0 iterations, and the run ended with 2"),
        ],
    )
    def test_damaged_files_are_named(self, copy: Path, name: str, content: str | None, error: str) -> None:
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_text(content)
        with pytest.raises(MindflError, match=error):
            _ = Result.load(copy).confusion

    def test_a_sweep_is_no_run(self, tmp_path: Path) -> None:
        (tmp_path / "sweep.json").touch()
        with pytest.raises(OptionError, match="holds no run") as caught:
            Result.load(tmp_path)
        assert "its runs are" in caught.value.hint
        with pytest.raises(OptionError, match="nowhere holds no run"):
            Result.load(tmp_path / "nowhere")


class TestMethodsAlone:
    def test_export_and_convert_happen_once(self, job: FederatedLeNetJob, result: Result) -> None:
        mindir, model = Path(job.export()), Path(job.convert())
        before = mindir.stat().st_mtime_ns, model.stat().st_mtime_ns

        again = FederatedLeNetJob(work_dir=job.config.work_dir, client_num=2, iterations=9)
        assert (again.export(), again.convert()) == (str(mindir), str(model))
        assert (mindir.stat().st_mtime_ns, model.stat().st_mtime_ns) == before

    def test_another_setting_exports_again(self, job: FederatedLeNetJob, result: Result, tmp_path: Path) -> None:
        shutil.copytree(job.config.models, tmp_path / "ms")
        old = Path(job.convert()).read_bytes()
        changed = FederatedLeNetJob(work_dir=tmp_path, batch_size=8)
        assert Path(changed.convert()).read_bytes() != old
        assert Session(LiteModel.load(changed.convert())).batch_size == 8

    @pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "cut"])
    def test_damaged_model_is_made_again(
        self, job: FederatedLeNetJob, result: Result, tmp_path: Path, content: bytes | None
    ) -> None:
        shutil.copytree(job.config.models, tmp_path / "ms")
        good = Path(job.convert()).read_bytes()
        (tmp_path / "ms" / "lenet_train.ms").write_bytes(good[:1000] if content is None else content)
        assert Path(FederatedLeNetJob(work_dir=tmp_path).convert()).read_bytes() == good

    def test_prepare_clients_copies_the_start(self, job: FederatedLeNetJob, result: Result, tmp_path: Path) -> None:
        shutil.copytree(job.config.models, tmp_path / "ms")
        start = (tmp_path / "ms" / "lenet_train.ms").read_bytes()
        mine = FederatedLeNetJob(work_dir=tmp_path, client_num=4)
        for _ in range(2):
            paths = mine.prepare_clients()
            assert paths == [str(tmp_path / "ms" / f"lenet_train{i}.ms") for i in range(4)]
            assert all(Path(path).read_bytes() == start for path in paths)

    def test_many_clients_share_one_file(self, make_job, models: Path) -> None:
        job = make_job(client_num=101, train_dataset=None)
        assert job.prepare_clients() == []
        assert [path.name for path in models.iterdir()] == ["lenet_train.ms"]

    def test_shared_model_trains_and_predicts(self, make_job, models: Path) -> None:
        job = make_job(per_client_models=False, iterations=1)
        result = job.run()
        assert sorted(path.name for path in models.iterdir() if path.suffix == ".ms") == [
            "lenet_train.ms",
            "lenet_train_trained.ms",
        ]
        assert len(job.infer()) == 3
        assert weight_hash(job.get_model()) == result.hash

    def test_inference_without_training_uses_the_model_as_it_is(self, make_job, recorder, models: Path) -> None:
        predicted = make_job(reporter=recorder).infer()
        assert recorder.warnings == [
            f"no training left the models in {models}: they are used as they are, perhaps untrained"
        ]
        session = Session(LiteModel.load(models / "lenet_train.ms"))
        test = open_dataset(make_job().config.train_dataset).user("synthetic_0000").test
        np.testing.assert_array_equal(predicted["synthetic_0000"], session.predict(test.images()).argmax(axis=1))

    def test_get_model_without_training_gives_the_start(self, make_job, models: Path) -> None:
        start = LiteModel.load(models / "lenet_train.ms").weights
        assert weight_hash(make_job().get_model()) == weight_hash(start)

    def test_training_again_forgets_the_earlier_run(self, make_job, tmp_path: Path) -> None:
        first = make_job().run()
        make_job().infer()
        second = make_job(iterations=1).run()
        folder = tmp_path / "run"
        assert len(History.load(folder / "history.jsonl")) == 1
        assert second.hash in (folder / "summary.txt").read_text() and second.hash != first.hash
        assert not (folder / "predictions.csv").exists(), "those were the earlier model's"
        assert (folder / "client_0" / "client.log").read_text().count("flJobRun finish") == 1

    def test_reporter_is_told_everything(self, make_job, recorder) -> None:
        job = make_job(reporter=recorder, clients_per_iteration=2)
        result = job.run()
        assert recorder.seen == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]
        assert recorder.rows == list(result.history)
        assert any("training 3 clients" in stage for stage in recorder.stages)

    def test_relative_work_dir(self, make_job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        make_job(work_dir="here/there", iterations=1).run()
        assert (tmp_path / "here" / "there" / "summary.txt").is_file()


class TestOwnModels:
    def test_only_the_first_clients_file(self, make_job, models: Path) -> None:
        expected = make_job().run().hash
        start = (models / "lenet_train.ms").read_bytes()
        for path in models.iterdir():
            path.unlink()
        (models / "lenet_train0.ms").write_bytes(start)

        assert [make_job().run().hash for _ in range(2)] == [expected, expected], "the start is kept for the second run"

    def test_other_name(self, make_job, models: Path) -> None:
        (models / "lenet_train.ms").rename(models / "my net.ms")
        make_job(train_ms_name="my net", iterations=1).run()
        assert (models / "my net2.ms").exists() and not (models / "lenet_train0.ms").exists()

    def test_batch_size_of_the_file_counts(self, make_job) -> None:
        with pytest.raises(OptionError, match=r"batch_size is 16.*exported for 32") as caught:
            make_job(batch_size=16).run()
        assert caught.value.hint == "use --batch_size 32"

    def test_adam(self, make_job, converted, models: Path) -> None:
        shutil.copy(converted("adam"), models / "lenet_train.ms")
        result = make_job(optimizer="adam", iterations=1).run()
        assert np.isfinite(result.history[-1].loss)


def test_learns_clearly_above_chance(make_job, tmp_path: Path) -> None:
    result = make_job(train_dataset=None, client_num=8, iterations=8, epochs=8).run()
    assert result.history[-1].avg > 0.25, "chance is 1/62, the commonest class is about 0.05"
    assert result.history[-1].loss < result.history[0].loss / 2
    assert open_dataset(tmp_path / "run" / "data" / "synthetic_8_seed0_compact").synthetic


@pytest.mark.parametrize("state", ["drawing", "moving", "empty"])
def test_synthetic_data_after_a_kill_while_they_were_made(make_job, tmp_path: Path, state: str) -> None:
    job = make_job(train_dataset=None, client_num=2)
    folder = Path(job.prepare_data().root)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    leftover = make_dir(folder / {"drawing": ".mindfl-staging-x", "moving": ".mindfl-moving-x", "empty": "x"}[state])
    for name in whole if state == "drawing" else list(whole)[1:]:
        (folder / name).rename(leftover / name)
    if state == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    assert len(job.prepare_data()) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_json_lines_are_json(job: FederatedLeNetJob, result: Result) -> None:
    for line in (job.config.work_dir / "history.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == {*COLUMNS, "accuracies"}
