"""Secure aggregation as a user runs it: simulations, servers, clusters and devices, each in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from free_ports import free_address
from redis_servers import RedisServer, redis_server
from server_yaml import server_yaml

from mindfl.client import HttpTransport
from mindfl.lite import LiteModel
from mindfl.protocol import Request, Response, ResponseShareSecrets
from mindfl.sim import weight_hash

PW, STABLE, EXACT = "PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT"
MODES = (PW, STABLE, EXACT)
JOB = """\
client: {{client_epoch_num: 1, client_batch_size: 32, client_learning_rate: 0.01}}
encrypt:
  encrypt_type: {mode}
  pw_encrypt:
    share_secrets_ratio: 1.0
    cipher_time_window: 120000
    reconstruct_secrets_threshold: 2
    exact_corrupt_ratio: 0.0
"""
#: after one iteration, float32 masks are off by this much at most
CLOSE = 1e-5

Weights = dict[str, np.ndarray]


class Processes:
    """``mindfl`` processes in ``folder``; standard error goes to files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        name = f"stderr {len(self._started)}"
        command = [sys.executable, "-m", "mindfl", *map(str, arguments)]
        with (self.folder / name).open("w") as errors:
            process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=errors, text=True)
        self._started.append(process)
        return process

    def errors(self, process: subprocess.Popen[str]) -> str:
        return (self.folder / f"stderr {self._started.index(process)}").read_text()

    def serve(self, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        """Start a server; return it and its URL once it is ready."""
        options = ["--config", "fl.yaml", "--model", "start.ms", *arguments]
        if "--http_server_address" not in arguments:
            options += ["--http_server_address", "127.0.0.1:0"]
        process = self.start("server", "start", *options)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready http"), (line, self.errors(process))
        return process, line.split()[1]

    def client(self, number: int, url: str, writers: Path, *options: object) -> subprocess.Popen[str]:
        """Start the device of the writer ``number``."""
        own = self.folder / f"client {number}.ms"
        own.write_bytes((self.folder / "start.ms").read_bytes())
        named = ["--train_model", own, "--train_data_dir", writers, "--user", number, "--domain_name", url, "--json"]
        return self.start("client", *named, "--log_file", f"client_{number}/client.log", *options)

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def folder(converted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose name has a blank and a letter beyond ASCII, with a model; the working folder."""
    folder = tmp_path / "a jöb"
    folder.mkdir()
    (folder / "start.ms").write_bytes(converted().read_bytes())
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def processes(folder: Path) -> Iterator[Processes]:
    """Processes that are killed in the end."""
    made = Processes(folder)
    yield made
    made.end()


@pytest.fixture
def settings(folder: Path) -> Callable[..., None]:
    """Return a function that writes ``fl.yaml``."""

    def write(mode: str, clients: int = 3, iterations: int = 1, ratio: float = 1.0) -> None:
        text = server_yaml(
            fl_name="Lenet é",
            iterations=iterations,
            clients=clients,
            window=120_000,
            ratio=ratio,
            cache='type: embedded, address: "127.0.0.1:1"',
            more=JOB.format(mode=mode),
        )
        (folder / "fl.yaml").write_text(text, "utf-8")

    return write


@pytest.fixture
def alone(small_job: list[str], mindfl: Callable[..., Any], tmp_path: Path) -> Callable[..., Weights]:
    """Return a function that trains without a server and returns the model."""

    def train(*options: object) -> Weights:
        assert mindfl(*small_job, *options, "--quiet", "--work_dir", tmp_path / "alone").code == 0
        return LiteModel.load(tmp_path / "models" / "lenet_train_trained.ms").weights

    return train


def difference(one: Weights, other: Weights) -> float:
    """Return the largest difference of two weights."""
    return max(float(np.abs(one[name].reshape(-1) - other[name].reshape(-1)).max()) for name in one)


def model_of(mindfl: Callable[..., Any], folder: Path, url: str, *options: object) -> Weights:
    """Fetch the server's model as ``mindfl client --task getModel`` does."""
    path = folder / "fetched.ms"
    path.write_bytes((folder / "start.ms").read_bytes())
    outcome = mindfl("client", "--task", "getModel", "--train_model", path, "--domain_name", url, *options)
    assert outcome.code == 0, outcome.err
    return LiteModel.load(path).weights


class TestSimulate:
    @pytest.mark.parametrize("mode", MODES)
    def test_the_summary_says_what_is_promised(self, mode: str, mindfl: Any, small_job: list[str]) -> None:
        outcome = mindfl(*small_job, "--encrypt_type", mode)
        assert outcome.code == 0 and "Traceback" not in outcome.err
        assert f"3 clients, {mode}\n" in outcome.out and f"\n{mode}: " in outcome.out
        lines = [line for line in outcome.err.splitlines() if "iteration" in line]
        assert [line.split(",")[:2] for line in lines] == [
            ["mindfl: iteration 1/2", " 3 clients"],
            ["mindfl: iteration 2/2", " 3 clients"],
        ]

    def test_json_and_dashes(self, mindfl: Any, small_job: list[str]) -> None:
        options = [
            "--encrypt-type",
            EXACT,
            "--exact-corrupt-ratio",
            "0.3",
            "--client_num",
            "4",
            "--json",
            "--quiet",
            "--overwrite",
        ]
        one, other = (mindfl(*small_job, *options, "--workers", workers) for workers in (1, 2))
        assert (one.code, one.err) == (0, "")
        assert json.loads(one.out)["weights_sha256"] == json.loads(other.out)["weights_sha256"]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--encrypt_type", "PW_SOMETHING"], "encrypt_type must be one of NOT_ENCRYPT"),
            (["--encrypt_type", EXACT, "--client_num", "2"], "nothing to protect (use at least 3 devices"),
            (["--encrypt_type", PW, "--client_num", "1"], "needs at least 2 clients"),
            (["--encrypt_type", PW, "--reconstruct_secrets_threshold", "3"], "must be from 1 to 2"),
            (["--encrypt_type", EXACT, "--executor", "ray"], "executor ray does not work with PW_EXACT"),
            (["--encrypt_type", EXACT, "--stack", "federated"], "MindSpore Federated's server does not know it"),
            (["--encrypt_type", PW, "--clients", "java"], "Java clients do not work with PW_ENCRYPT"),
            (["--encrypt_type", PW, "--train_weight_name", "fc3.bias"], "a mask covers all weights"),
        ],
    )
    def test_what_cannot_be(
        self, mindfl: Any, small_job: list[str], tmp_path: Path, options: list[str], reason: str
    ) -> None:
        outcome = mindfl(*small_job, *options)
        assert (outcome.code, outcome.out) == (2, "")
        assert reason in outcome.error()
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
class TestServer:
    @pytest.mark.parametrize("mode", MODES)
    def test_a_simulation_joins(
        self,
        mode: str,
        processes: Processes,
        settings: Callable[..., None],
        alone: Callable[..., Weights],
        mindfl: Any,
        small_job: list[str],
    ) -> None:
        settings(mode)
        expected = alone("--iterations", 1, "--encrypt_type", EXACT if mode == EXACT else "NOT_ENCRYPT")
        server, url = processes.serve("--manage_address", "127.0.0.1:0")
        joined = mindfl(*small_job, "--domain_name", url, "--encrypt_type", mode, "--json")
        assert joined.code == 0, joined.err
        assert "has no effect on a server that runs already" in joined.err
        got = model_of(mindfl, processes.folder, url)
        assert weight_hash(got) == json.loads(joined.out)["weights_sha256"]
        assert difference(got, expected) < CLOSE
        if mode == EXACT:  # other secrets, the same model
            assert weight_hash(got) == weight_hash(expected)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        said = processes.errors(server)
        assert f"{mode}: " in said and "Traceback" not in said
        (line,) = (processes.folder / "metrics.json").read_text().splitlines()
        assert json.loads(line)["iterationResult"] == "success"

    @pytest.mark.parametrize("mode", MODES)
    def test_devices_in_processes_of_their_own(
        self,
        mode: str,
        processes: Processes,
        settings: Callable[..., None],
        alone: Callable[..., Weights],
        writers: Path,
        mindfl: Any,
    ) -> None:
        settings(mode)
        _, url = processes.serve()
        devices = [processes.client(number, url, writers) for number in range(3)]
        for device in devices:
            out, _ = device.communicate(timeout=120)
            assert (device.returncode, json.loads(out)["iterations"]) == (0, 1), processes.errors(device)
        models = [LiteModel.load(processes.folder / f"client {number}.ms").weights for number in range(3)]
        assert len({weight_hash(each) for each in models}) == 1
        assert difference(models[0], alone("--iterations", 1)) < CLOSE
        assert difference(models[0], LiteModel.load(processes.folder / "start.ms").weights) > 100 * CLOSE
        log = (processes.folder / "client_0" / "client.log").read_text()
        assert f"[Encrypt] creating feature mask of <{mode}>" in log

    @pytest.mark.parametrize("mode", [PW, EXACT])
    def test_one_leaves_after_it_shared_its_secrets(
        self,
        mode: str,
        processes: Processes,
        settings: Callable[..., None],
        alone: Callable[..., Weights],
        writers: Path,
        mindfl: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Ctrl-C as soon as the server has its shares, before which no other device gets on: its masks are in the
        others' uploads, who reveal what takes them out."""
        settings(mode, clients=4, ratio=0.75)
        expected = alone("--iterations", 1)
        _, url = processes.serve()
        devices = [processes.client(number, url, writers) for number in range(3)]
        send = HttpTransport.send

        def leaves(transport: HttpTransport, request: Request, now_ms: int) -> Response:
            response = send(transport, request, now_ms)
            if isinstance(response, ResponseShareSecrets) and response.retcode == 200:
                raise KeyboardInterrupt
            return response

        monkeypatch.setattr(HttpTransport, "send", leaves)
        own = processes.folder / "leaves.ms"
        own.write_bytes((processes.folder / "start.ms").read_bytes())
        options = ["--train_data_dir", writers, "--user", 3, "--log_file", "leaves.log"]
        left = mindfl("client", "--train_model", own, "--domain_name", url, *options)
        assert left.code == 130 and "the model file is as before" in left.error()
        for device in devices:
            assert device.wait(120) == 0, processes.errors(device)
        got = LiteModel.load(processes.folder / "client 0.ms").weights
        assert difference(got, expected) < CLOSE
        assert own.read_bytes() == (processes.folder / "start.ms").read_bytes()

    def test_https(
        self,
        processes: Processes,
        settings: Callable[..., None],
        alone: Callable[..., Weights],
        small_job: list[str],
        writers: Path,
        mindfl: Any,
    ) -> None:
        """Two devices and a simulation of one more, all over TLS."""
        settings(EXACT)
        expected = alone("--iterations", 1, "--encrypt_type", EXACT)
        (processes.folder / "password").write_text("a secret\n")
        assert mindfl("server", "certs", "--out", "tls", "--password_file", "password").code == 0
        paths = {"server_cert_path": "server.p12", "client_cert_path": "client.p12", "ca_cert_path": "ca.crt"}
        options = [word for name, value in paths.items() for word in (f"--{name}", f"tls/{value}")]
        options += ["--enable_ssl", "--cipher_list", "ECDHE-ECDSA-AES128-GCM-SHA256", "--password_file", "password"]
        _, url = processes.serve(*options)
        assert url.startswith("https://")
        devices = [processes.client(number, url, writers, "--cert_path", "tls/ca.crt") for number in (1, 2)]
        joined = mindfl(*small_job, "--domain_name", url, "--client_num", 1, "--cert_path", "tls/ca.crt", "--json")
        assert joined.code == 0, joined.err
        for device in devices:
            assert device.wait(120) == 0, processes.errors(device)
        assert json.loads(joined.out)["weights_sha256"] == weight_hash(expected)

    def test_a_server_that_is_killed_goes_on(
        self,
        processes: Processes,
        settings: Callable[..., None],
        alone: Callable[..., Weights],
        small_job: list[str],
        mindfl: Any,
    ) -> None:
        """Keys, shares and masked uploads are in its journal: the result is that of a job without accidents."""
        settings(EXACT, iterations=12)
        expected = alone("--iterations", 12, "--encrypt_type", EXACT)
        address = free_address()
        first, url = processes.serve("--http_server_address", address)
        results: list[Any] = []
        job = [*small_job, "--domain_name", url, "--json", "--quiet"]
        joined = processes.start(*job)
        thread = threading.Thread(target=lambda: results.append(joined.communicate()))
        thread.start()
        self._await_iterations(processes, first, joined, 3)
        first.kill()
        first.wait()
        second, _ = processes.serve("--http_server_address", address)
        thread.join(240)
        assert joined.returncode == 0, processes.errors(joined)
        assert json.loads(results[0][0])["weights_sha256"] == weight_hash(expected)
        assert "goes on with iteration" in processes.errors(second)

    @staticmethod
    def _await_iterations(
        processes: Processes, server: subprocess.Popen[str], joined: subprocess.Popen[str], count: int
    ) -> None:
        """Wait until the server has told of so many iterations of the simulation that joined it."""
        wait = threading.Event()
        for _ in range(6000):
            if processes.errors(server).count("mindfl: iteration ") >= count:
                return
            assert server.poll() is None and joined.poll() is None, processes.errors(joined)
            wait.wait(0.02)
        raise AssertionError(processes.errors(server))

    def test_a_client_of_a_kind_that_does_not_know_it_is_told(
        self, processes: Processes, settings: Callable[..., None]
    ) -> None:
        """As the reference's, which announces nothing."""
        from mindfl.client import HttpSettings
        from mindfl.protocol import RequestFLJob

        settings(EXACT)
        _, url = processes.serve()
        with HttpTransport(HttpSettings(url=url)) as transport:
            request = RequestFLJob(fl_name="any", fl_id="a", data_size=1, timestamp="1")
            answer: Any = transport.send(request, 0)
        assert answer.retcode == 400 and EXACT in answer.reason


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.mark.slow
class TestCluster:
    @pytest.mark.parametrize("mode", MODES)
    def test_the_secure_endpoints_are_passed_on(
        self,
        mode: str,
        processes: Processes,
        settings: Callable[..., None],
        alone: Callable[..., Weights],
        writers: Path,
        mindfl: Any,
        store: RedisServer,
    ) -> None:
        """The first server keeps the job; two devices talk to the second."""
        settings(mode)
        path = processes.folder / "fl.yaml"
        shared = f'type: redis, address: "{store.address}"'
        path.write_text(path.read_text().replace('type: embedded, address: "127.0.0.1:1"', shared))
        urls = [processes.serve("--cluster", "--quiet")[1] for _ in range(2)]
        devices = [processes.client(number, urls[min(number, 1)], writers) for number in range(3)]
        for device in devices:
            assert device.wait(120) == 0, processes.errors(device)
        models = [model_of(mindfl, processes.folder, url) for url in urls]
        assert weight_hash(models[0]) == weight_hash(models[1])
        assert difference(models[0], alone("--iterations", 1)) < CLOSE


class TestSettings:
    @pytest.fixture
    def refused(self, folder: Path, settings: Callable[..., None], mindfl: Any) -> Callable[..., str]:
        """Return a function that starts a server with the file after replacements; it returns the error."""

        def start(mode: str, *options: object, **replaced: str) -> str:
            settings(mode)
            lines = (folder / "fl.yaml").read_text("utf-8").splitlines()
            kept = []
            for line in lines:
                key = line.strip().partition(":")[0]
                if key not in replaced:
                    kept.append(line)
                elif replaced[key]:
                    kept.append(f"{line.partition(':')[0]}: {replaced[key]}")
            (folder / "fl.yaml").write_text("\n".join(kept), "utf-8")
            before = sorted(folder.iterdir())
            outcome = mindfl("server", "start", "--config", "fl.yaml", "--model", "start.ms", *options)
            assert (outcome.code, outcome.out) == (2, "")
            assert sorted(folder.iterdir()) == before
            return outcome.error()

        return start

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("key", ["share_secrets_ratio", "cipher_time_window"])
    def test_a_missing_key_is_named(self, mode: str, key: str, refused: Callable[..., str]) -> None:
        assert f"encrypt.pw_encrypt.{key} is missing" in refused(mode, **{key: ""})

    @pytest.mark.parametrize("mode", [PW, STABLE])
    def test_the_threshold_must_be_there(self, mode: str, refused: Callable[..., str]) -> None:
        error = refused(mode, reconstruct_secrets_threshold="")
        assert "encrypt.pw_encrypt.reconstruct_secrets_threshold is missing" in error

    @pytest.mark.parametrize(
        ("mode", "key", "value", "reason"),
        [
            (PW, "share_secrets_ratio", "1.5", "share_secrets_ratio must be a number above 0 and at most 1, got 1.5"),
            (
                PW,
                "share_secrets_ratio",
                "half",
                "share_secrets_ratio must be a number above 0 and at most 1, got 'half'",
            ),
            (STABLE, "cipher_time_window", "0", "cipher_time_window must be a whole number of at least 1"),
            (EXACT, "cipher_time_window", "1.5", "cipher_time_window must be a whole number"),
            (PW, "reconstruct_secrets_threshold", "3", "reconstruct_secrets_threshold must be from 1 to 2"),
            (PW, "reconstruct_secrets_threshold", "-1", "_threshold must be a whole number of at least 1"),
            (EXACT, "exact_corrupt_ratio", "0.95", "corrupt_ratio must be a number of at least 0 and at most 0.9"),
            (EXACT, "exact_corrupt_ratio", "no", "exact_corrupt_ratio must be a number"),
            (EXACT, "start_fl_job_threshold", "2", "nothing to protect"),
            (PW, "start_fl_job_threshold", "1", "needs at least 2 clients"),
            (STABLE, "start_fl_job_threshold", "1", "needs at least 2 clients"),
            (EXACT, "update_model_ratio", "0.3", "cannot withstand 0 corrupt and 2 lost ones"),
            (PW, "encrypt_type", "pw_encrypt", "encrypt.encrypt_type must be one of NOT_ENCRYPT"),
        ],
    )
    def test_a_wrong_value_is_named(
        self, mode: str, key: str, value: str, reason: str, refused: Callable[..., str]
    ) -> None:
        assert reason in refused(mode, **{key: value})

    def test_the_line_is_named(self, refused: Callable[..., str]) -> None:
        assert "fl.yaml:18: encrypt.pw_encrypt.cipher_time_window" in refused(PW, cipher_time_window="soon")

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--reconstruct_secrets_threshold", "9"], "reconstruct_secrets_threshold must be from 1 to 2"),
            (["--encrypt_type", EXACT, "--exact_corrupt_ratio", "2"], "--exact_corrupt_ratio: "),
            (["--share_secrets_ratio", "0"], "--share_secrets_ratio: "),
            (["--cipher_time_window", "0"], "--cipher_time_window: "),
            (["--encrypt_type", EXACT, "--stack", "federated"], "--encrypt_type: PW_EXACT is mindfl's own"),
        ],
    )
    def test_options_count_instead_of_the_file(
        self, options: list[str], reason: str, refused: Callable[..., str]
    ) -> None:
        assert reason in refused(PW, *options)

    def test_compression_gives_way_with_a_warning(self, processes: Processes, settings: Callable[..., None]) -> None:
        settings(EXACT)
        server, _ = processes.serve("--upload_compress_type", "DIFF_SPARSE_QUANT")
        server.terminate()
        assert server.wait(30) == 0
        line = "warning: --upload_compress_type: uploads are not compressed, since encrypt_type is PW_EXACT\n"
        assert line in processes.errors(server)
