"""``mindfl client`` as a user types it, against a server on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mindfl.cli.client import client_command
from mindfl.data import convert_dataset, open_dataset
from mindfl.errors import OptionError
from mindfl.lite import LiteModel, Session
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer


@pytest.fixture(scope="module")
def bins(writers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The writers as bins; not to be changed."""
    folder = tmp_path_factory.mktemp("client") / "bins"
    convert_dataset(writers, folder, format="bin", progress=False)
    return folder


@pytest.fixture
def model(converted: Callable[..., Path], tmp_path: Path) -> Path:
    path = tmp_path / "train 0.ms"
    path.write_bytes(converted().read_bytes())
    return path


@pytest.fixture
def job(model: Path, writers: Path, tmp_path: Path) -> list[str]:
    """Arguments of a client that trains on the first writer's data."""
    return [
        "client",
        *("--train_model", str(model)),
        *("--train_data_dir", str(writers), "--user", "0"),
        *("--log_file", str(tmp_path / "client_0" / "client.log")),
    ]


@pytest.fixture
def serve(model: Path) -> Callable[..., BackgroundServer]:
    """Return a function that makes a server, to be entered; its coordinator is ``.coordinator``."""

    def make(**settings: Any) -> BackgroundServer:
        plan = {"fl_iteration_num": 2, "start_fl_job_threshold": 1, **settings}
        coordinator = Coordinator(ServerConfig(**plan), LiteModel.load(model).weights)
        server = BackgroundServer(coordinator)
        server.coordinator = coordinator
        return server

    return make


def weights(path: Path) -> dict[str, list[float]]:
    return {name: values.reshape(-1).tolist() for name, values in LiteModel.load(path).weights.items()}


def latest(server: BackgroundServer) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in server.coordinator.model.items()}


def test_train(mindfl, job: list[str], serve, model: Path, writers: Path, tmp_path: Path) -> None:
    start = model.read_bytes()
    with serve() as server:
        outcome = mindfl(*job, "--domain_name", server.url, "--eval_data_dir", str(writers))

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"took part in 2 iterations; the last model is in {model}\n"
    assert weights(model) == latest(server)
    assert (tmp_path / "bak_train 0.ms").read_bytes() == start != model.read_bytes()
    log = (tmp_path / "client_0" / "client.log").read_text()
    assert "Backup model file:" in log and log.count("[evaluate] evaluate acc: ") == 3
    assert log.endswith("iterationCount: 2 resultCode: 200\n")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_job_in_which_nothing_was_aggregated(mindfl, job: list[str], serve, model: Path) -> None:
    start = model.read_bytes()
    windows = {"start_fl_job_time_window": 300, "update_model_time_window": 300, "global_iteration_time_window": 600}
    with serve(start_fl_job_threshold=2, **windows) as server:
        outcome = mindfl(*job, "--domain_name", server.url)
    assert (outcome.code, outcome.out) == (62, "")
    assert "none of 2 iterations was aggregated" in outcome.err and "[E-NOT-AGGREGATED]" in outcome.err
    assert "the model file is as before" in outcome.err and model.read_bytes() == start


def test_two_clients_in_processes_of_their_own(job: list[str], serve, model: Path, tmp_path: Path) -> None:
    with serve(start_fl_job_threshold=2) as server:
        processes = []
        for number in range(2):
            folder = tmp_path / f"client {number}"
            folder.mkdir()
            own = folder / "train.ms"
            own.write_bytes(model.read_bytes())
            options = ["--train_model", own, "--user", number, "--domain_name", server.url, "--log_file", "client.log"]
            command = [sys.executable, "-m", "mindfl", *job, *map(str, options), "--json"]
            processes.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True))
        for process in processes:
            out, _ = process.communicate(timeout=120)
            assert (process.returncode, json.loads(out)["iterations"]) == (0, 2)

    assert weights(tmp_path / "client 0" / "train.ms") == weights(tmp_path / "client 1" / "train.ms") == latest(server)


class TestGetModel:
    def test_into_the_file(self, mindfl, job: list[str], serve, model: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.ms"
        other.write_bytes(model.read_bytes())
        with serve() as server:
            mindfl(*job, "--domain_name", server.url)
            outcome = mindfl(*job, "--domain_name", server.url, "--task=getModel", "--train_model", other, "--json")
        assert json.loads(outcome.out) == {"iteration": 2, "train_model": str(other)}
        assert weights(other) == latest(server)

    def test_into_two_files(self, mindfl, job: list[str], serve, model: Path, tmp_path: Path) -> None:
        infer = tmp_path / "infer.ms"
        start = weights(model)
        infer.write_bytes(model.read_bytes())
        with serve() as server:
            mindfl(
                *job, "--domain_name", server.url, "--infer_model", infer, "--infer_weight_name", "fc3.bias,fc3.weight"
            )
        assert weights(model) == latest(server)
        assert weights(infer) == {**start, **{name: latest(server)[name] for name in ("fc3.bias", "fc3.weight")}}


def test_only_some_weights_are_trained_together(mindfl, job: list[str], serve, model: Path) -> None:
    start = weights(model)
    with serve(fl_iteration_num=1) as server:
        assert mindfl(*job, "--domain_name", server.url, "--train_weight_name", "fc3.bias").code == 0
    after = latest(server)
    assert after["fc3.bias"] != start["fc3.bias"]
    assert {name for name in start if after[name] != start[name]} == {"fc3.bias"}
    assert weights(model) == after


class TestData:
    def predicted(self, mindfl, model: Path, *options: object) -> list[int]:
        outcome = mindfl("client", "--task", "inference", "--train_model", model, *options, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        return json.loads(outcome.out)["labels"]

    def test_every_form_of_the_data_is_the_same_data(self, mindfl, model, bins, writers, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        name = open_dataset(writers).users[1]
        user = open_dataset(writers).user(name)
        expected = Session(LiteModel.load(model)).predict(user.test.images()).argmax(axis=1).tolist()
        (images,) = (bins / name).glob("*_test_data.bin")
        labels = images.with_name(images.name.replace("_data", "_label"))

        assert self.predicted(mindfl, model, "--infer_data_dir", writers, "--user", name) == expected
        assert self.predicted(mindfl, model, "--infer_data_dir", writers, "--user", 1) == expected
        assert self.predicted(mindfl, model, "--infer_data_dir", bins, "--user", 1) == expected
        assert self.predicted(mindfl, model, "--infer_data_dir", bins / name) == expected
        assert self.predicted(mindfl, model, "--eval_data_dir", bins / name) == expected
        pair = self.predicted(mindfl, model, "--infer_data_dir", f"{images}::{labels}", "--path_regex", ":+")
        assert pair[: len(expected)] == expected and len(pair) == images.stat().st_size // 12288

    def test_inference_is_logged_and_printed(self, mindfl, model: Path, bins: Path, tmp_path: Path) -> None:
        folder = next(bins.iterdir())
        log = tmp_path / "log" / "client.log"
        options = ["--infer_data_dir", folder, "--log_file", log, "--infer_model", model]
        outcome = mindfl("client", "--task", "inference", "--train_model", model, *options)
        assert outcome.out.startswith("the predicted labels: [")
        assert outcome.out.strip() in log.read_text()

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ("{bins}", "holds 4 users (choose one with --user)"),
            ("nowhere", "neither a folder nor two files"),
            ("a,b,c", "neither a folder nor two files"),
            ("nowhere,{labels}", "cannot read nowhere"),
            ("{images},nowhere", "cannot read nowhere"),
            ("{labels},{labels}", "is not whole images of 12288 bytes"),
            ("{images},{images}", "labels"),
        ],
    )
    def test_unusable(self, mindfl, model, bins: Path, tmp_path, monkeypatch, data: str, reason: str) -> None:
        monkeypatch.chdir(tmp_path)
        images = next(bins.glob("*/*_test_data.bin"))
        places = {"bins": bins, "images": images, "labels": images.with_name(images.name.replace("_data", "_label"))}
        options = ["--task", "inference", "--train_model", model, "--infer_data_dir", data.format(**places)]
        outcome = mindfl("client", *options)
        assert outcome.code in (3, 40)
        assert reason in outcome.error()


class TestFailures:
    @pytest.mark.parametrize(
        ("options", "code", "reason"),
        [
            (["--task", "dance"], 2, "task must be one of train, inference, getModel"),
            ([], 2, "this task needs a server (--domain_name http://HOST:PORT)"),
            (["--domain_name", "localhost"], 2, "the server's URL 'localhost' cannot be used"),
            (["--domain_name", "null"], 2, "this task needs a server"),
            (["--domain_name", "http://127.0.0.1:9"], 51, "cannot reach http://127.0.0.1:9/startFLJob"),
            (["--domain_name", "http://h:1", "--train_data_dir", "null"], 2, "training needs train_data"),
            (["--domain_name", "http://h:1", "--batch_size", "16"], 2, "use --batch_size 32"),
            (["--domain_name", "http://h:1", "--input_shape", "1,2"], 2, "the model file takes 32,32,32,3;32"),
            (
                ["--domain_name", "http://h:1", "--server_mode", "HYBRID_TRAINING"],
                2,
                "HYBRID_TRAINING is not supported",
            ),
            (["--domain_name", "http://h:1", "--train_model", "no.ms"], 3, "cannot read no.ms"),
            (["--domain_name", "https://h:1", "--cert_path", "no.pem"], 3, "cannot read no.pem"),
            (
                ["--domain_name", "https://h:1", "--ssl_protocol", "TLSv1.1"],
                2,
                "ssl_protocol must be one of TLSv1.2, TLSv1.3",
            ),
            (["--domain_name", "http://h:1", "--use_elb", "true"], 2, "use_elb needs a URL of an IP address"),
            (
                ["--domain_name", "http://h:1", "--timeout", "0"],
                2,
                "timeout must be a number above 0 and at most 3000000, got 0.0",
            ),
            (
                ["--domain_name", "http://h:1", "--sleep_time", "0"],
                2,
                "sleep_time must be a whole number of at least 1, got 0",
            ),
            (["--domain_name", "http://h:1", "--path_regex", "("], 2, "is no regular expression"),
            (["--domain_name", "http://h:1", "--train_weight_name", "a", "--name_regex", "("], 2, "regular expression"),
            (["--task", "inference"], 2, "inference needs infer_data"),
        ],
    )
    def test_one_line(self, mindfl, job, tmp_path, monkeypatch, options: list[str], code: int, reason: str) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = mindfl(*job, *options)
        assert (outcome.code, outcome.out) == (code, "")
        assert reason in outcome.error()

    def test_a_job_that_is_over(self, mindfl, job: list[str], serve, model: Path) -> None:
        before = model.read_bytes()
        with serve() as server:
            server.coordinator.job.disable(0)
            outcome = mindfl(*job, "--domain_name", server.url)
        assert outcome.code == 50
        assert "the server's job was over before this client's was: it took part in 0 iterations" in outcome.error()
        assert model.read_bytes() == before

    def test_training_that_diverges_leaves_the_file_as_it_was(self, mindfl, job, serve, model: Path, tmp_path) -> None:
        before = model.read_bytes()
        with serve(client_learning_rate=1e9) as server:
            outcome = mindfl(*job, "--domain_name", server.url)
        assert outcome.code == 61 and "the training loss is" in outcome.error()
        assert model.read_bytes() == before
        assert "Restore model file:train 0.ms from :bak_train 0.ms" in (tmp_path / "client_0/client.log").read_text()

    def test_a_model_of_another_network(self, mindfl, job: list[str], serve, model: Path, converted) -> None:
        with serve() as server:
            model.write_bytes(converted(classes=10).read_bytes())
            outcome = mindfl(*job, "--domain_name", server.url)
        assert outcome.code == 61
        assert "the model has no parameter fc3.bias of 62 elements" in outcome.error()

    def test_a_weight_that_nobody_has(self, mindfl, job: list[str], serve) -> None:
        with serve() as server:
            outcome = mindfl(*job, "--domain_name", server.url, "--train_weight_name", "fc9.bias")
        assert "the server's model has no weight fc9.bias (correct --train_weight_name)" in outcome.error()

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_while_it_waits_for_the_others(self, job: list[str], serve, model, number: int) -> None:
        before = model.read_bytes()
        asked = threading.Event()
        with serve(start_fl_job_threshold=2) as server:
            handle = server.coordinator.handle

            def watch(request: Any, now_ms: int, **options: Any) -> Any:
                if type(request).__name__ == "RequestGetModel":
                    asked.set()
                return handle(request, now_ms, **options)

            server.coordinator.handle = watch
            command = [sys.executable, "-m", "mindfl", *job, "--domain_name", server.url]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert asked.wait(60)
            os.kill(process.pid, number)
            out, err = process.communicate(timeout=60)
        message = "mindfl: error: interrupted (the model file is as before) [E-INTERRUPTED]\n"
        assert (process.returncode, out, err) == (130, "", message)
        assert model.read_bytes() == before


def test_the_command_line_of_the_reference_works(mindfl, job: list[str], serve, model: Path, writers: Path) -> None:
    """Options of its simulator that say nothing to this client are taken and named, and "null" is nothing."""
    options = ["--deploy_env=x86", "--thread_num=1", "--cpu_bind_mode=NOT_BINDING_CORE", "--input_shape=null"]
    options += ["--server_mode=FEDERATED_LEARNING", "--vocab_path=null", "--ids_path=null", "--use_elb=False"]
    options += ["--train_weight_name=null", "--infer_weight_name=null", f"--infer_model_path={model}"]
    options += ["--fl_name=com.mindspore.flclient.demo.lenet.LenetClient", "--cert_path=null", "--batch_size=32"]
    with serve() as server:
        outcome = mindfl(*job, *options, "--domain_name", server.url)
    assert outcome.code == 0
    warned = [line.split()[2] for line in outcome.err.splitlines() if line.startswith("mindfl: warning: ")]
    assert warned == ["--deploy_env", "--thread_num", "--cpu_bind_mode", "--server_mode"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--thread_num", "4"], "--thread_num 4 has no effect on this client: it chooses its threads itself"),
        (["--vocab_path", "v.txt"], "--vocab_path v.txt has no effect on image classification"),
        (["--ids_path", "i.txt"], "--ids_path i.txt has no effect on image classification"),
        (["--cert_path", "c.crt"], "--cert_path c.crt has no effect on http://: nothing is encrypted"),
        (["--client_key", "c.key"], "--client_key c.key has no effect on http://"),
        (["--ssl_protocol", "TLSv1.3"], "--ssl_protocol TLSv1.3 has no effect on http://"),
        (["--server_num", "4"], "--server_num 4 has no effect on a server that runs already: without --use_elb"),
        (["--infer_weight_name", "fc3.bias"], "--infer_weight_name fc3.bias has no effect on the model file"),
        (["--name_regex", ";"], "--name_regex ; has no effect on the weights"),
    ],
)
def test_what_has_no_effect_is_named(mindfl, job: list[str], monkeypatch, options: list[str], text: str) -> None:
    monkeypatch.setattr("mindfl.sim.device_job.DeviceJob.train", _stop)
    outcome = mindfl(*job, "--domain_name", "http://h:1", *options)
    assert f"mindfl: warning: {text}" in outcome.err


def _stop(job: object) -> None:
    raise OptionError("far enough")


def test_every_option_has_both_spellings() -> None:
    for parameter in client_command.params:
        for name in parameter.opts:
            assert "_" not in name or name.replace("_", "-") in parameter.opts, name


@pytest.fixture
def two_ports(serve) -> Iterator[BackgroundServer]:
    """A job that is served on two consecutive ports; its first server."""
    with ExitStack() as stack:
        for _ in range(20):
            first = stack.enter_context(serve(fl_iteration_num=20))
            port = int(first.url.rpartition(":")[2])
            try:
                stack.enter_context(BackgroundServer(first.coordinator, f"127.0.0.1:{port + 1}"))
                break
            except OptionError:  # somebody else has that port
                continue
        else:
            pytest.fail("no two consecutive ports are free")
        yield first


def test_consecutive_ports(mindfl, job: list[str], two_ports: BackgroundServer, model: Path) -> None:
    """Requests go to both ports, which are one job."""
    outcome = mindfl(*job, "--domain_name", two_ports.url, "--use_elb", "true", "--server_num", "2", "--json")
    assert json.loads(outcome.out)["iterations"] == 20
    assert weights(model) == latest(two_ports)


def test_the_page_names_every_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    names = {option.opts[0] for option in client_command.params}
    assert {name for name in names if f"`{name}`" not in page and f"`{name.removeprefix('--')}`" not in page} == set()
