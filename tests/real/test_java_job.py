"""A whole job with the stand-in for the Java client: through the object and through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from java_programs import FakeJars, Jars

from mindfl.errors import MindflError, OptionError
from mindfl.lite import LiteModel
from mindfl.real.java_run import java_settings
from mindfl.real.process_registry import ProcessRegistry
from mindfl.server import Coordinator
from mindfl.sim import FederatedLeNetJob, History
from mindfl.sim.config import JobConfig

MakeJob = Callable[..., FederatedLeNetJob]


class Listener:
    """Keeps what a job tells."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.uploads = 0

    def stage(self, text: str) -> None:
        self.said.append(text)

    def warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")

    def progress(self, progress: object) -> None:
        self.uploads += 1

    def row(self, row: object) -> None:
        self.said.append("row")


@pytest.fixture
def make_job(jars: Jars, bins: Path, converted: Callable[..., Path], tmp_path: Path) -> MakeJob:
    """Return a function that makes a job of three stand-ins, two iterations."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(converted(), models / "lenet_train.ms")

    def make(**given: Any) -> FederatedLeNetJob:
        settings = {
            "work_dir": tmp_path / "run",
            "train_dataset": bins,
            "train_model_path": models,
            "jar_path": jars.client,
            "case_jar_path": jars.case,
            "heap": "64m",
            "client_num": 3,
            "iterations": 2,
            "epochs": 1,
        }
        return FederatedLeNetJob(**{**settings, **given})

    return make


def arguments(job: FederatedLeNetJob, index: int) -> list[str]:
    return (job.clients[index].log.parent / "arguments.txt").read_text().splitlines()


@pytest.mark.parametrize("lite", [False, True], ids=["tutorial", "0.1.0"])
def test_training(make_job: MakeJob, jars: Jars, tmp_path: Path, lite: bool) -> None:
    listener = Listener()
    job = make_job(reporter=listener, lite_jar_path=jars.lite if lite else None)
    with job:
        result = job.train()
        assert isinstance(job.server, Coordinator)
        for name, values in job.server.model.items():
            np.testing.assert_array_equal(values, result.weights[name])

    assert [(row.iteration, row.clients) for row in result.history] == [(1, 3), (2, 3)]
    assert list(History.load(tmp_path / "run" / "history.jsonl")) == list(result.history)
    assert result.title.endswith("3 Java clients")
    assert listener.uploads == 6
    trained = LiteModel.load(job.trained_model_path).weights
    start = LiteModel.load(tmp_path / "models" / "lenet_train.ms").weights
    assert any(not np.array_equal(values, start[name]) for name, values in trained.items())
    assert (tmp_path / "run" / "accuracy.png").is_file()
    assert ProcessRegistry(tmp_path / "run").running() == []


def test_options_reach_the_clients(make_job: MakeJob) -> None:
    job = make_job(
        iterations=1,
        thread_num=2,
        cpu_bind_mode="BIND_MIDDLE_CORE",
        path_regex=";",
        name_regex="!",
        train_weight_name="fc1.bias!fc2.bias",
        infer_weight_name="fc2.bias",
        server_mode="FEDERATED_LEARNING",
        input_shape="32,32,32,3;32",
        ssl_protocol=None,
    )
    with suppress(MindflError):  # the stand-in need not like them
        job.train()
    given = arguments(job, 1)
    client = job.clients[1]
    assert given[3:7] == [";", job.config.fl_name, str(client.model), str(client.model)]
    assert given[7:9] == ["TLSv1.2", "x86"] and given[9].startswith("http://127.0.0.1:")
    assert given[13:22] == [
        *("train", "2", "BIND_MIDDLE_CORE", "fc1.bias!fc2.bias", "fc2.bias", "!"),
        *("FEDERATED_LEARNING", "32", "32,32,32,3;32"),
    ]


def test_test_data_of_another_data_set(make_job: MakeJob, bins: Path, tmp_path: Path) -> None:
    tests = Path(shutil.copytree(bins, tmp_path / "tests"))
    job = make_job(iterations=1, test_dataset=tests)
    job.train()
    train, evaluation, inference = (text.split(",")[0] for text in arguments(job, 0)[:3])
    assert Path(train).is_relative_to(bins)
    assert Path(evaluation).is_relative_to(tests) and inference == evaluation


def test_the_model_is_fetched_and_used(make_job: MakeJob) -> None:
    listener = Listener()
    result = make_job().train()
    job = make_job(reporter=listener)
    job.get_model()
    assert arguments(job, 0)[13] == "getModel"
    job.infer()
    assert arguments(job, 2)[13] == "inference"
    assert len(result.history) == 2


def test_a_failure_in_iteration_1(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dstandin.mode=failed")
    job = make_job()
    with pytest.raises(MindflError, match=r"its log ends: ") as caught:
        job.train()
    assert "client.log" in caught.value.hint
    assert job.result is None
    assert ProcessRegistry(tmp_path / "run").running() == []


@pytest.mark.parametrize("tls", [False, True])
def test_a_real_server_with_tls_goes_with_java_clients(fake_jars: FakeJars, tls: bool) -> None:
    config = JobConfig(
        stack="federated", enable_ssl=tls, jar_path=fake_jars.client, case_jar_path=fake_jars.case, server_num=2
    )
    config.client_side.check(config)
    url = "https://127.0.0.1:1" if tls else "http://127.0.0.1:1"
    reached = config.derived(domain_name=url, cert_path=Path("/ca.pem") if tls else None, use_elb=True)
    assert java_settings(reached, "train").domain_name == url


def test_relative_paths(
    jars: Jars, bins: Path, converted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(converted(), tmp_path / "models" / "lenet_train.ms")
    for name, path in (("fl", jars.client.parent), ("case", jars.case.parent), ("bins", bins)):
        (tmp_path / name).symlink_to(path)
    with FederatedLeNetJob(
        work_dir="run",
        train_dataset="bins",
        train_model_path="models",
        jar_path=f"fl/{jars.client.name}",
        case_jar_path=f"case/{jars.case.name}",
        heap="64m",
        client_num=2,
        iterations=1,
        epochs=1,
    ) as job:
        assert len(job.run().history) == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"jar_path": Path("/none/fl.jar")}, r"--jarPath /none/fl\.jar does not exist"),
        ({"heap": "much"}, r"heap must be a size"),
        ({"domain_name": "https://127.0.0.1:6668"}, r"https, so --cert_path is needed"),
    ],
)
def test_refused_before_anything_is_made(
    fake_jars: FakeJars, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    given = {"jar_path": fake_jars.client, "case_jar_path": fake_jars.case, **settings}
    with pytest.raises(OptionError, match=reason):
        FederatedLeNetJob(work_dir=tmp_path / "run", **given).train()
    assert [path.name for path in (tmp_path / "run").glob("*")] == ([] if "heap" in settings else [".lock"])


def test_command_line(make_job: MakeJob, jars: Jars, bins: Path, tmp_path: Path, capsys) -> None:
    from mindfl.cli import main

    command = ["simulate", "--jarPath", jars.client, "--case_jarPath", jars.case, "--train_dataset", bins]
    command += ["--train_model_path", tmp_path / "models", "--work_dir", tmp_path / "run", "--client_num", 2]
    main([*map(str, command), "--iterations", "1", "--epochs", "1", "--heap", "64m", "--workers", "2", "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["iterations"] == 1
    assert "warning: --workers 2 has no effect on the Java clients" in err
