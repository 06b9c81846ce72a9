"""What users of the Python interface are told, and what passes through it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from mindfl import FederatedLeNetJob
from mindfl.data import convert_dataset, make_synthetic, open_dataset
from mindfl.errors import MindflError, MindflWarning
from mindfl.experiments.femnist50 import run_experiment
from mindfl.experiments.privacy50 import run_study
from mindfl.notices import announce
from mindfl.sim.device_job import DeviceJob, DeviceSettings


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writers") / "set"
    make_synthetic(folder, users=2, seed=3, progress=False)
    return folder


@pytest.fixture
def settings(converted: Callable[..., Path], writers: Path, tmp_path: Path) -> dict[str, object]:
    """Settings of a job that takes a moment."""
    return {
        "work_dir": tmp_path / "run",
        "train_dataset": writers,
        "origin_train_model_path": converted(),
        "client_num": 2,
        "iterations": 1,
        "epochs": 1,
    }


def test_a_job_without_reporter_warns_where_it_was_called(settings: dict[str, object]) -> None:
    job = FederatedLeNetJob(**{**settings, "client_num": 9})
    with pytest.warns(MindflWarning, match="2 usable users, 9 were asked for") as caught:
        job.train()
    assert {warning.filename for warning in caught} == {__file__}


def test_a_setting_without_effect_is_a_warning(settings: dict[str, object]) -> None:
    with pytest.warns(MindflWarning, match="--thread_num 4 has no effect"):
        FederatedLeNetJob(**settings, thread_num=4)


def test_stages_and_rows_are_logged(settings: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mindfl"):
        FederatedLeNetJob(**settings).train()
    assert "training 2 clients" in caplog.messages
    assert any(text.startswith("iteration 1: 2 clients, loss ") for text in caplog.messages)


def test_lines_of_text_are_logged_or_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mindfl"), pytest.warns(MindflWarning, match="^it is late$") as caught:
        announce("warning: it is late")
        announce("100% done")
    assert caplog.messages == ["100% done"] and caught[0].filename == __file__


def test_users_that_a_conversion_leaves_out_are_warned_of(writers: Path, tmp_path: Path) -> None:
    convert_dataset(writers, tmp_path / "bins", format="bin", progress=False)
    next((tmp_path / "bins").rglob("*train_data*")).write_bytes(b"cut")
    with pytest.warns(MindflWarning, match="left out: .*synthetic_0000"):
        report = convert_dataset(tmp_path / "bins", tmp_path / "out", format="compact", progress=False)
    assert report.users == 1 and len(open_dataset(tmp_path / "out").users) == 1


class TestInterrupts:
    """Ctrl-C in Python is ``KeyboardInterrupt``, so that ``except MindflError`` in a sweep does not continue."""

    @pytest.mark.parametrize(
        "work",
        [
            FederatedLeNetJob.train,
            FederatedLeNetJob.run,
            FederatedLeNetJob.infer,
            FederatedLeNetJob.get_model,
            FederatedLeNetJob.prepare_clients,
            FederatedLeNetJob.prepare_data,
        ],
    )
    def test_a_job(self, settings: dict[str, object], work: Callable[..., object]) -> None:
        class Stops:
            progress = row = warning = staticmethod(lambda _: None)

            def stage(self, text: str) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            try:
                work(FederatedLeNetJob(reporter=Stops(), **settings))
            except MindflError as error:
                raise AssertionError("a sweep would go on") from error
        assert not isinstance(caught.value, MindflError)

    @pytest.mark.parametrize("task", [DeviceJob.train, DeviceJob.get_model, DeviceJob.infer])
    def test_a_device(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Callable[[DeviceJob], object]
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(DeviceJob, "_client", stop)
        monkeypatch.setattr(DeviceJob, "_transport", stop)
        with pytest.raises(KeyboardInterrupt):
            task(DeviceJob(DeviceSettings(train_model_path=tmp_path / "a.ms", train_data="x", eval_data="y")))

    @pytest.mark.parametrize("run", [run_experiment, run_study])
    def test_an_experiment(
        self, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch, run: Callable[..., object]
    ) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("mindfl.sim.artefacts.Artefacts.starting_model", stop)
        del settings["origin_train_model_path"]
        with pytest.raises(KeyboardInterrupt):
            run(**settings)


def test_on_the_command_line_each_warning_is_a_line(
    settings: dict[str, object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from mindfl.cli import main

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert_dataset(settings["train_dataset"], tmp_path / "bins", format="bin", progress=False)
        next((tmp_path / "bins").rglob("*train_data*")).write_bytes(b"cut")
        with pytest.raises(SystemExit) as left:
            words = ["--input", tmp_path / "bins", "--output", tmp_path / "out", "--format", "compact"]
            main(["data", "convert", *map(str, words)])
    assert left.value.code == 40
    first, last = capsys.readouterr().err.splitlines()[-2:]
    assert first.startswith("mindfl: warning: left out: ") and last.startswith("mindfl: error: 1 problem")
