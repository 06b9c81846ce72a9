"""``mindfl server`` as a user runs it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from server_yaml import server_yaml

from mindfl.live.run_header import read_header
from mindfl.protocol import (
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    decode,
    encode,
)

YAML = server_yaml(fl_name="Lenet é")


EXTENDING = Path(__file__).parents[1] / "extending"
OWN = """
from mindfl.algorithms import Algorithm, Step, zeros_like


class Own(Algorithm):
    def __init__(self, beta=0.5, broken=0):
        self.beta, self.broken = beta, broken

    def state(self, model):
        return zeros_like(model)

    def step(self, round):
        1 / (round.iteration - self.broken)
        moved = {n: self.beta * round.state[n] + round.average[n] - round.model[n] for n in round.model}
        return Step(model={n: round.model[n] + moved[n] for n in moved}, state=moved)


def rate(iteration):
    return 0.5 ** iteration
"""


class Server:
    """A server process in ``folder``."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "mindfl", "server", "start", "--config", "fl.yaml", "--model", "model.npz"]
        if "--http_server_address" not in arguments:
            command += ["--http_server_address", "127.0.0.1:0"]
        environment = {**os.environ, "MINDFL_CACHE": str(folder / "cache")}
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.url = ""

    def ready(self) -> Server:
        """Wait for the line that says so."""
        line = self.process.stdout.readline()
        assert line.startswith("ready http://"), (line, self.process.stderr.read())
        self.url = line.split()[1]
        return self

    def connect(self) -> HTTPConnection:
        return HTTPConnection(urlsplit(self.url).netloc, timeout=20)

    def start(self, fl_id: str) -> ResponseFLJob:
        request = RequestFLJob(fl_name="any", fl_id=fl_id, data_size=1, timestamp="1")
        return decode(self._post("startFLJob", encode(request)), ResponseFLJob)

    def update(self, fl_id: str, iteration: int, value: float) -> ResponseUpdateModel:
        request = RequestUpdateModel(
            fl_name="any",
            fl_id=fl_id,
            iteration=iteration,
            feature_map={"w": np.full(6, value, np.float32)},
            timestamp="1",
        )
        return decode(self._post("updateModel", encode(request)), ResponseUpdateModel)

    def model(self, iteration: int) -> ResponseGetModel:
        request = RequestGetModel(fl_name="any", iteration=iteration)
        return decode(self._post("getModel", encode(request)), ResponseGetModel)

    def _post(self, endpoint: str, body: bytes) -> bytes:
        connection = self.connect()
        connection.request("POST", f"/{endpoint}", body)
        content = connection.getresponse().read()
        connection.close()
        return content

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return code, the rest of standard output, and standard error."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose name has a blank and a letter beyond ASCII, with settings and a model."""
    folder = tmp_path / "a jöb"
    folder.mkdir()
    (folder / "fl.yaml").write_text(YAML, "utf-8")
    np.savez(folder / "model.npz", w=np.zeros((2, 3), np.float32))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINDFL_CACHE", str(folder / "cache"))
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server; all are killed in the end."""
    started = []

    def run(*arguments: str) -> Server:
        started.append(Server(folder, *arguments))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_a_job_from_start_to_stop(server, folder: Path, mindfl) -> None:
    """Two iterations, files, restart in the middle of the third, management, status, stop."""
    first = server("--checkpoint_dir", "checkpoints").ready()
    for iteration in (1, 2):
        for fl_id in "ab":
            assert first.start(fl_id).iteration == iteration
        for fl_id in "ab":
            assert first.update(fl_id, iteration, float(iteration)).retcode == 200
    assert first.model(2).feature_map["w"].tolist() == [2.0] * 6
    assert first.start("a").retcode == first.start("b").retcode == 200
    assert first.update("a", 3, 5.0).retcode == 200
    first.process.kill()
    assert first.wait()[0] == -signal.SIGKILL
    assert [json.loads(line)["iterationResult"] for line in (folder / "metrics.json").read_text().splitlines()] == [
        "success",
        "success",
    ]
    assert (folder / "event.txt").read_text() == ""
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert [name.rsplit("_", 2)[0] for name in names] == [f"Lenet é_recovery_iteration_{k}" for k in (1, 2)]

    second = server("--manage_address", "127.0.0.1:0").ready()
    outcome = mindfl("server", "status")
    assert outcome.code == 0 and f"{second.url}: Lenet é, running, iteration 3 of 3" in outcome.out
    (found,) = json.loads(mindfl("server", "status", "--json").out)
    assert found["pid"] == second.process.pid
    assert second.update("a", 3, 5.0).retcode == 300
    assert second.update("b", 3, 7.0).retcode == 200
    assert second.model(3).feature_map["w"].tolist() == [6.0] * 6
    manage = HTTPConnection(urlsplit(found["manage_url"]).netloc, timeout=20)
    manage.request("GET", "/state")
    assert json.loads(manage.getresponse().read())["cluster_state"] == "CLUSTER_FINISH"
    manage.close()
    assert mindfl("server", "stop").out == f"stopped {second.url}\n"
    code, out, err = second.wait()
    assert (code, out) == (0, "")
    assert "goes on with iteration 3: 1 of its uploads were read back" in err
    assert re.search(r"^mindfl: iteration 3: 2 clients, loss 0\.0000, accuracy 0\.0000, \d+\.\d s$", err, re.M)
    assert mindfl("server", "status").out == "no server runs\n"
    assert "no server of this user runs" in mindfl("server", "stop").error()


def test_an_algorithm_of_the_users_own_survives_kill_9(server, folder: Path, mindfl) -> None:
    """FedAvgM, of uploads 1, 2 and 3: 1, then 1 + (1 + .5), then 2.5 + (.5 + .75)."""
    (folder / "own.py").write_text(OWN)
    algorithm = ("--algorithm", "own.py:Own:beta=0.5", "--start_fl_job_threshold", "2")
    options = (*algorithm, "--lr_schedule", "own.py:rate")
    first = server(*options).ready()
    for iteration in (1, 2):
        assert [first.start(fl_id).fl_plan_config.lr for fl_id in "ab"] == [0.5**iteration] * 2
        assert [first.update(fl_id, iteration, float(iteration)).retcode for fl_id in "ab"] == [200, 200]
    assert first.model(2).feature_map["w"].tolist() == [2.5] * 6
    assert first.start("b").fl_plan_config.lr == 0.125
    assert first.update("b", 3, 3.0).retcode == 200
    first.process.kill()
    first.wait()
    start = ("server", "start", "--config", "fl.yaml", "--model", "model.npz")
    outcome = mindfl(*start, "--start_fl_job_threshold", "2", "--lr_schedule", "own.py:rate")
    assert "begun differently: algorithm Own beta=0.5 broken=0 -> FedAvg" in outcome.error()
    outcome = mindfl(*start, *algorithm)
    assert "own.py:rate -> constant" in outcome.error()
    second = server(*options).ready()
    assert second.start("a").fl_plan_config.lr == 0.125
    assert second.update("a", 3, 3.0).retcode == 200
    assert second.model(3).feature_map["w"].tolist() == [3.75] * 6


@pytest.mark.slow
def test_single_uploads_survive_kill_9(server, folder: Path, mindfl) -> None:
    """The mean of 2 and 30 is not their median with 4, of which two came before the server was killed."""
    options = ("--algorithm", "median", "--start_fl_job_threshold", "3")
    first = server(*options).ready()
    assert [first.start(fl_id).retcode for fl_id in "abc"] == [200] * 3
    assert [first.update("b", 1, 30.0).retcode, first.update("a", 1, 2.0).retcode] == [200, 200]
    first.process.kill()
    first.wait()
    second = server(*options).ready()
    assert second.update("c", 1, 4.0).retcode == 200
    assert second.model(1).feature_map["w"].tolist() == [4.0] * 6


def test_a_step_that_fails_fails_its_iteration_and_the_server_goes_on(server, folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    running = server("--algorithm", "own.py:Own:broken=1", "--start_fl_job_threshold", "1").ready()
    for iteration in (1, 2):
        assert running.start("a").iteration == iteration
        assert running.update("a", iteration, 4.0).retcode == 200
    assert running.model(1).feature_map["w"].tolist() == [0.0] * 6
    assert running.model(2).feature_map["w"].tolist() == [4.0] * 6
    _, _, err = running.end()
    assert "algorithm Own beta=0.5 broken=1 failed in iteration 1: step: ZeroDivisionError: division by zero" in err


def test_the_state_of_an_algorithm_is_not_in_a_checkpoint_and_that_is_said(server, folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    options = ("--algorithm", "own.py:Own", "--no-journal", "--checkpoint_dir", "c", "--start_fl_job_threshold", "1")
    first = server(*options).ready()
    assert first.start("a").retcode == first.update("a", 1, 4.0).retcode == 200
    assert "begins anew" not in first.end()[2]
    second = server(*options).ready()
    assert second.start("a").iteration == 2
    assert "the state of algorithm Own beta=0.5 broken=0 begins anew" in second.end()[2]


def test_status_follows_the_management(server, mindfl) -> None:
    running = server("--manage_address", "127.0.0.1:0").ready()

    def manage(path: str, body: str = "") -> None:
        (found,) = json.loads(mindfl("server", "status", "--json").out)
        connection = HTTPConnection(urlsplit(found["manage_url"]).netloc, timeout=20)
        connection.request("POST", path, body)
        assert connection.getresponse().status == 200
        connection.close()

    def await_status(text: str) -> None:
        for _ in range(1000):
            if f": Lenet é, {text}, process" in mindfl("server", "status").out:
                return
        raise AssertionError(mindfl("server", "status").out)

    await_status("running, iteration 1 of 3")
    manage("/disableFLS")
    await_status("disabled, iteration 2 of 3")
    manage("/enableFLS")
    await_status("running, iteration 2 of 3")
    manage("/newInstance", '{"fl_iteration_num": 9}')
    await_status("running, iteration 1 of 9")
    assert running.end()[0] == 0


def test_a_job_within_a_privacy_budget(server) -> None:
    running = server(
        "--encrypt_type", "SIGNDS", "--sign_eps", "10", "--dp_budget", "25", "--manage_address", "127.0.0.1:0"
    ).ready()
    plan = running.start("a").fl_plan_config
    assert (plan.iterations, plan.cipher.encrypt_type, plan.cipher.ds_params.sign_eps) == (2, "SIGNDS", 10)
    told = [running.process.stderr.readline() for _ in range(2)]
    assert told[0] == "mindfl: warning: the privacy budget of 25 pays for 2 of 3 iterations\n"
    manage = HTTPConnection(urlsplit(told[1].split()[-1]).netloc, timeout=20)
    manage.request("POST", "/newInstance", b"{}")
    assert "the privacy budget (dp_budget) is that of one instance" in manage.getresponse().read().decode()
    manage.close()


def test_without_a_journal_a_checkpoint_is_gone_on_from(server, folder: Path) -> None:
    (folder / "fl.yaml").write_text(YAML + "checkpoint_dir: here\n", "utf-8")
    options = ("--no-journal", "--start_fl_job_threshold", "1", "--quiet")
    first = server(*options).ready()
    assert first.start("a").fl_plan_config.iterations == 3
    assert first.update("a", 1, 4.0).retcode == 200
    assert first.end() == (0, "", "")
    assert not list(folder.glob("*_state"))
    second = server(*options).ready()
    assert second.start("a").iteration == 2
    assert second.model(0).feature_map["w"].tolist() == [4.0] * 6
    code, out, err = second.end(signal.SIGINT)
    assert (code, out) == (130, "") and err == "mindfl: error: interrupted [E-INTERRUPTED]\n"


def test_a_server_whose_messages_nobody_reads_any_more_goes_on(server, folder: Path) -> None:
    """The program behind its standard error, such as ``tee``, has ended."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    running = server("--checkpoint_dir", "checkpoints").ready()
    running.process.stderr.close()
    for fl_id in ("a", "b"):
        assert running.start(fl_id).retcode == 200
    for fl_id in ("a", "b"):
        assert running.update(fl_id, 1, 1.0).retcode == 200
    assert running.end()[0] == 0
    assert len(list(checkpoints.glob("*_iteration_1_*.ckpt"))) == 1


def test_sigterm_finishes_what_is_in_flight(server) -> None:
    running = server("--server_num", "2").ready()
    place = urlsplit(running.url)
    with socket.create_connection((place.hostname, place.port + 1), 20) as second_port:
        body = encode(RequestFLJob(fl_name="any", fl_id="a", data_size=1, timestamp="1"))
        head = f"POST /startFLJob HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        second_port.sendall(head.encode())
        assert second_port.recv(100).startswith(b"HTTP/1.1 100")
        running.process.send_signal(signal.SIGTERM)
        second_port.sendall(body)
        answer = b""
        while piece := second_port.recv(10_000):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 OK") and b"success" in answer
    assert running.wait()[0] == 0


def test_a_second_server_at_the_same_place(server) -> None:
    first = server("--no-journal").ready()
    code, out, err = server("--http_server_address", urlsplit(first.url).netloc).wait()
    assert (code, out) == (2, "")
    assert err.startswith(f"mindfl: error: --http_server_address: cannot listen on {urlsplit(first.url).netloc}: ")
    assert "in use" in err and len(err.splitlines()) == 1
    third = server("--state_dir", "state").ready()
    code, out, err = server("--state_dir", "state").wait()
    assert (code, out) == (3, "") and f"in use by the process {third.process.pid}" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--http_server_address", "nowhere"], "--http_server_address must be host:port"),
        (["--http_server_address", "127.0.0.1:99999"], "--http_server_address must be host:port"),
        (["--http_server_address", "::1:80"], "--http_server_address must be host:port"),
        (["--http_server_address", "203.0.113.7:6668"], "this machine has no such address"),
        (["--http_server_address", "no.such.host.invalid:6668"], "there is no host of this name"),
        (["--http_server_address", "127.0.0.1:65535", "--server_num", "2"], "there is no port above 65535"),
        (["--http_server_address", "127.0.0.1:0", "--manage_address", "here"], "--manage_address must be host:port"),
        (["--start_fl_job_threshold", "0"], "start_fl_job_threshold"),
        (["--server_num", "0"], "server_num must be"),
        (["--enable_ssl"], "server_cert_path is missing"),
        (["--config", "missing.yaml"], "cannot read missing.yaml"),
        (["--model", "missing.npz"], "cannot read missing.npz"),
        (["--model", "fl.yaml"], "fl.yaml"),
        (["--password_file", "missing"], "cannot read missing"),
        (["--encrypt_type", "PW"], "--encrypt_type: encrypt.encrypt_type must be one of NOT_ENCRYPT"),
        (
            ["--encrypt_type", "DP_ENCRYPT", "--dp_eps", "0"],
            "--dp_eps: encrypt.dp_encrypt.dp_eps must be a finite number above",
        ),
        (["--upload_sparse_rate", "2"], "compression.upload_sparse_rate must be a number above 0 and at most 1"),
        (["--dp_budget", "5"], "dp_budget is given, but encrypt_type is NOT_ENCRYPT"),
        (["--encrypt_type", "SIGNDS", "--dp_budget", "5"], "dp_budget 5 does not pay for one iteration"),
        (["--encrypt_type", "SIGNDS", "--dp_budget", "500", "--cluster"], "--dp_budget is for one server"),
        (["--stack", "federated", "--dp_budget", "5"], "--dp_budget is for --stack embedded"),
        (["--algorithm", "fedprix"], "algorithm: unknown name 'fedprix'"),
        (["--algorithm", "no.py:Own"], "/a jöb/no.py"),
        (["--algorithm", f"{EXTENDING}/fedprox.py:FedProx"], "it replaces begin, and devices only train"),
        (["--algorithm", f"{EXTENDING}/fedexp.py:FedExP"], "it replaces end, extras, and devices only train"),
        (["--algorithm", f"{EXTENDING}/fedprox.py:FedProx", "--cluster"], "--algorithm is for one server"),
        (["--algorithm", "x.py:Y", "--stack", "federated"], "--algorithm is for --stack embedded"),
        (["--lr_schedule", "cosin"], "lr_schedule: unknown name 'cosin'"),
        (["--lr_schedule", "cosine:rounds=1"], "lr_schedule cosine:rounds=1,least=0.0 failed in iteration"),
        (["--lr_schedule", "step", "--cluster"], "--lr_schedule is for one server"),
        (["--lr_schedule", "step", "--stack", "federated"], "--lr_schedule is for --stack embedded"),
        (["--algorithm", "krum", "--start_fl_job_threshold", "4"], "f=1 faulty clients take at least 5 clients in an"),
        (["--algorithm", "median", "--encrypt_type", "SIGNDS"], "needs single uploads, and SIGNDS uploads the signs"),
    ],
)
def test_what_cannot_be_served_is_one_line(folder: Path, mindfl, arguments: list[str], reason: str) -> None:
    before = sorted(folder.iterdir())
    outcome = mindfl("server", "start", "--config", "fl.yaml", "--model", "model.npz", *arguments)
    assert outcome.code in (2, 3, 30) and outcome.out == ""
    assert reason in outcome.error()
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "warnings"),
    [
        (
            ["start", "--model", "model.npz", "--http_server_address", "nowhere", "--tcp_server_ip", "10.0.0.1"],
            ["--tcp_server_ip 10.0.0.1 has no effect on one server", "the password has no effect on this server"],
        ),
        (["scheduler", "--manage_address", "nowhere"], ["the password has no effect on this server"]),
    ],
)
def test_options_without_effect_are_named(folder: Path, mindfl, command: list[str], warnings: list[str]) -> None:
    (folder / "password").write_text("hunter2")
    outcome = mindfl("server", *command, "--config", "fl.yaml", "--password_file", "password")
    assert outcome.code == 2 and "hunter2" not in outcome.err
    *lines, _ = outcome.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mindfl"] * len(warnings)
    assert [text in line for text, line in zip(warnings, lines, strict=True)] == [True] * len(warnings)


@pytest.mark.parametrize(
    "command", ["start --model model.npz --config fl.yaml", "scheduler --config fl.yaml", "certs --out tls"]
)
def test_a_pipe_holds_no_password(folder: Path, mindfl, command: str) -> None:
    os.mkfifo(folder / "pipe")
    outcome = mindfl("server", *command.split(), "--password_file", "pipe")
    assert (outcome.code, outcome.out) == (3, "")
    assert "cannot read pipe: it is not a regular file" in outcome.error()


def test_certificates_and_https(server, folder: Path, mindfl) -> None:
    (folder / "password").write_text("a secret\n")
    outcome = mindfl("server", "certs", "--out", "tls", "--password_file", "password")
    assert outcome.code == 0 and outcome.out.splitlines()[0].endswith("server.p12")
    paths = {"server_cert_path": "server.p12", "client_cert_path": "client.p12", "ca_cert_path": "ca.crt"}
    options = [word for name, value in paths.items() for word in (f"--{name}", f"tls/{value}")]
    options += ["--enable_ssl", "--cipher_list", "ECDHE-ECDSA-AES128-GCM-SHA256", "--no-journal"]
    wrong = mindfl("server", "start", "--config", "fl.yaml", "--model", "model.npz", *options)
    assert "needs a password" in wrong.error()
    running = server(*options, "--password_file", "password")
    line = running.process.stdout.readline()
    assert line.startswith("ready https://127.0.0.1:")
    assert running.end()[0] == 0


def test_records_of_dead_servers_are_cleared_away(server, folder: Path, mindfl) -> None:
    dead = server("--no-journal").ready()
    records = folder / "cache" / "servers"
    assert len(list(records.iterdir())) == 2
    dead.process.kill()
    dead.wait()
    assert mindfl("server", "status").out == "no server runs\n"
    assert list(records.iterdir()) == []
    alive = server("--no-journal").ready()
    assert alive.end()[0] == 0
    assert list(records.iterdir()) == []


def test_a_server_that_cannot_be_registered_still_serves(server, folder: Path) -> None:
    (folder / "cache").write_text("in the way")
    running = server("--no-journal").ready()
    assert running.model(0).retcode == 200
    code, _, err = running.end()
    assert code == 0 and "will not find this server" in err and "Traceback" not in err


def test_the_live_page_of_a_server(server, folder: Path) -> None:
    """It shows iterations and refusals, also of a server that was killed and goes on."""
    first = server("--live", "--quiet").ready()
    url = re.fullmatch(r"mindfl: live page (http://127\.0\.0\.1:\d+/)\n", first.process.stderr.readline())[1]
    with urllib.request.urlopen(url + "events", timeout=20) as events:
        assert first.start("a").retcode == first.start("b").retcode == 200
        assert first.start("a").retcode != 200
        for fl_id in "ab":
            assert first.update(fl_id, 1, 1.0).retcode == 200
        line = next(
            line for line in events if line.startswith(b"data: ") and b'"iteration":1,' in line and b'"names"' in line
        )
    row = json.loads(line[6:])
    assert (row["clients"], row["names"], row["values"], row["aggregated"]) == (2, ["a", "b"], [None, None], True)
    assert sum(row["refusals"].values()) == 1 and row["bytes_up"] > 48 and row["bytes_down"] > 48
    first.process.kill()
    first.wait()

    second = server("--live").ready()
    for fl_id in "ab":
        assert second.start(fl_id).iteration == 2
    for fl_id in "ab":
        assert second.update(fl_id, 2, 1.0).retcode == 200
    assert second.end()[0] == 0
    live = folder / "Lenet_é_live"
    rows = [json.loads(line) for line in (live / "history.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2]
    header = json.loads((live / "server.json").read_text())
    assert header["ended"] and (header["iterations"], header["settings"]["iterations"]) == (2, 3)
    assert read_header(live)["state"] == "stopped", "it may be started again"
