"""What goes wrong is said in one line that names it, and costs nothing that was done before."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import numpy as np
import pytest

from mindfl.cli import main
from mindfl.errors import (
    ClientError,
    DataError,
    ModelFormatError,
    SimulationError,
    StorageError,
)
from mindfl.lite import LiteModel
from mindfl.sim import History


def damage(folder: Path, user: int, what: str) -> Path:
    """Damage one user of a data set of bins; return the file."""
    (path,) = (folder / f"synthetic_{user:04d}").glob("*_train_data.bin")
    if what == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "NaN":
        images = np.fromfile(path, np.float32)
        images[images.size // 2] = np.nan
        images.tofile(path)
    elif what == "label":
        (label,) = path.parent.glob("*_train_label.bin")
        np.full(label.stat().st_size // 4, 62, np.int32).tofile(label)
    else:
        path.unlink()
    return path


class TestBrokenUsers:
    @pytest.mark.parametrize("what", ["cut", "NaN", "label", "missing"])
    def test_one_is_named_and_the_others_train(self, make_job, recorder, own_bins: Path, what: str) -> None:
        damage(own_bins, 1, what)
        result = make_job(train_dataset=own_bins, iterations=1, reporter=recorder).run()
        (warning,) = recorder.warnings
        assert "left out" in warning and "user synthetic_0001" in warning
        assert list(result.history[0].accuracies) == ["synthetic_0000", "synthetic_0002", "synthetic_0003"]

    @pytest.mark.parametrize("name", ["line\nbreak", "not utf-8 \udcff"])
    def test_names_that_no_log_can_hold(self, make_job, recorder, own_bins: Path, name: str) -> None:
        (own_bins / "synthetic_0001").rename(own_bins / name)
        result = make_job(train_dataset=own_bins, client_num=4, iterations=1, reporter=recorder).run()
        (warning,) = recorder.warnings
        assert repr(name) in warning
        assert len(result.history[0].accuracies) == 4

    def test_all(self, make_job, own_bins: Path) -> None:
        for user in range(5):
            damage(own_bins, user, "cut")
        with pytest.raises(DataError, match=r"user synthetic_0000.*truncated"):
            make_job(train_dataset=own_bins).run()

    def test_fewer_than_asked_for(self, make_job, recorder) -> None:
        result = make_job(client_num=50, iterations=1, reporter=recorder).run()
        (warning,) = recorder.warnings
        assert "5 usable users, 50 were asked for" in warning
        assert result.history[0].clients == 5

    def test_no_user_folder(self, make_job, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match=r"no data set in"):
            make_job(train_dataset=tmp_path / "empty").run()

    def test_data_that_break_during_the_run(self, make_job, own_bins: Path) -> None:
        class Saboteur:
            stage = warning = progress = staticmethod(lambda _: None)

            def row(self, row: object) -> None:
                damage(own_bins, 1, "cut")

        with pytest.raises(
            ClientError, match=r"client synthetic_0001 failed in iteration 2: .*ends too early"
        ) as caught:
            make_job(train_dataset=own_bins, reporter=Saboteur()).run()
        assert (caught.value.client, caught.value.iteration) == ("synthetic_0001", 2)


def test_diverging_training_names_client_and_iteration(make_job, tmp_path: Path) -> None:
    with pytest.raises(
        ClientError, match=r"client synthetic_000\d failed in iteration 1: the training loss is"
    ) as caught:
        make_job(learning_rate=1e9).run()
    assert "learning rate" in caught.value.hint
    assert len(History.load(tmp_path / "run" / "history.jsonl")) == 0
    assert "interrupted after 0 of 2 iterations" in (tmp_path / "run" / "summary.txt").read_text()


def test_failure_keeps_the_iterations_before_it(make_job, own_bins: Path, tmp_path: Path) -> None:
    class Saboteur:
        stage = warning = progress = staticmethod(lambda _: None)

        def row(self, row: object) -> None:
            if row.iteration == 2:
                damage(own_bins, 0, "cut")

    job = make_job(train_dataset=own_bins, iterations=5, reporter=Saboteur())
    with pytest.raises(ClientError, match=r"iteration 3"):
        job.run()
    folder = tmp_path / "run"
    assert [row.iteration for row in History.load(folder / "history.jsonl")] == [1, 2]
    assert "interrupted after 2 of 5 iterations" in (folder / "summary.txt").read_text()
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    LiteModel.load(job.trained_model_path)


def test_keyboard_interrupt_passes_through(make_job, tmp_path: Path) -> None:
    class Impatient:
        stage = warning = row = staticmethod(lambda _: None)

        def progress(self, progress: object) -> None:
            if progress.iteration == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_job(reporter=Impatient()).run()
    assert "interrupted after 1 of 2 iterations" in (tmp_path / "run" / "summary.txt").read_text()


class TestFolders:
    def test_two_runs_in_one_work_dir(self, make_job, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        with (tmp_path / "run" / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for method in ("run", "infer", "get_model"):
                with pytest.raises(SimulationError, match=r"another run is working in .*run"):
                    getattr(make_job(), method)()
        make_job(iterations=1).run()

    def test_file_in_the_place_of_work_dir(self, make_job, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("mine")
        with pytest.raises(StorageError, match=r"cannot create folder .*run"):
            make_job().run()
        assert (tmp_path / "run").read_text() == "mine"

    @pytest.mark.parametrize("name", ["client_1/client.log", "history.csv", "summary.txt", "accuracy.png"])
    def test_folder_in_the_place_of_a_file(self, make_job, tmp_path: Path, name: str) -> None:
        (tmp_path / "run" / name / "x").mkdir(parents=True)
        with pytest.raises(StorageError, match=name):
            make_job(iterations=1).run()

    def test_odd_names(self, make_job, writers: Path, tmp_path: Path) -> None:
        odd = tmp_path / "a$_{$ b 手写\udcff"
        shutil.copytree(writers, odd)
        (odd / "index.json").write_text((odd / "index.json").read_text().replace('"synthetic"', '"leaf"'))
        result = make_job(train_dataset=odd, work_dir=tmp_path / "wörk \udcff dir", iterations=1).run()
        assert "a$_{$ b 手写" in result.title
        assert (tmp_path / "wörk \udcff dir" / "accuracy.png").is_file()


@pytest.mark.parametrize("content", [b"", b"\0" * 64, bytes(range(256)) * 8])
def test_user_model_that_is_no_model(make_job, models: Path, content: bytes) -> None:
    (models / "lenet_train.ms").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"lenet_train\.ms"):
        make_job().run()
    assert sorted(path.name for path in models.iterdir()) == [".lock", "lenet_train.ms"]


def test_full_disk(small_disk: Path, writers: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The logs of a long run fill the disk: the rows until then are whole, and nothing is half-written."""
    arguments = ["simulate", "--work_dir", small_disk / "run", "--train_dataset", writers, "--train_model_path", models]
    plan = ["--client_num", 2, "--iterations", 100000, "--epochs", 1, "--quiet"]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3_200_000))
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in (*arguments, *plan)])

    assert leaving.value.code == StorageError.exit_code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and "No space left on device" in output.err and "[E-STORAGE]" in output.err
    rows = History.load(small_disk / "run" / "history.jsonl")
    assert len(rows) >= 1
    lines = (small_disk / "run" / "history.csv").read_bytes().split(b"\n")
    assert lines[-1] == b"" and len(lines) in (len(rows) + 2, len(rows) + 1)
    assert not list(small_disk.rglob("*.tmp"))


def test_full_disk_at_the_start(small_disk: Path, models: Path, make_job) -> None:
    own = Path(shutil.copytree(models, small_disk / "ms"))
    (small_disk / "filler").write_bytes(bytes(2_000_000))
    with pytest.raises(StorageError, match=r"lenet_train1\.ms: No space left"):
        make_job(work_dir=small_disk / "run", train_model_path=own).prepare_clients()
    assert sorted(path.name for path in own.iterdir()) == ["lenet_train.ms", "lenet_train0.ms"]


def test_damaged_client_model_is_named(make_job, models: Path) -> None:
    make_job(iterations=1).run()
    (models / "lenet_train1.ms").write_bytes(b"nonsense")
    with pytest.raises(ModelFormatError, match=r"lenet_train1\.ms"):
        make_job().infer()
