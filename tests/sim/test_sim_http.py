"""The simulation over HTTP: on this machine's own network, and in the job of a server that runs already."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from revocation import revoke

from mindfl.errors import NotAggregatedError, OptionError, SimulationError, TransportError
from mindfl.lite import LiteModel
from mindfl.protocol import RequestUpdateModel
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.certificates import make_certificates
from mindfl.server.http import BackgroundServer
from mindfl.server.server_tls import ServerTls, load_tls
from mindfl.sim import History, weight_hash
from mindfl.sim.engines import LiteEngine
from mindfl.sim.evaluation import affordable_every

Served = Callable[..., Any]
SHORT = {"start_fl_job_time_window": 300, "update_model_time_window": 300, "global_iteration_time_window": 600}


@pytest.fixture
def served(models: Path) -> Served:
    """Return a context manager that serves a job; its value has ``url``, ``coordinator`` and ``records``."""

    @contextmanager
    def serve(tls: ServerTls | None = None, **settings: Any) -> Iterator[Any]:
        records: list[IterationRecord] = []
        plan = {"fl_iteration_num": 2, "start_fl_job_threshold": 3, "client_learning_rate": 0.01, **settings}
        weights = LiteModel.load(models / "lenet_train.ms").weights
        coordinator = Coordinator(ServerConfig(**plan), weights, on_iteration_end=records.append)
        with BackgroundServer(coordinator, tls=load_tls(tls).context if tls else None) as server:
            server.coordinator, server.records = coordinator, records
            yield server

    return serve


class TestLoopback:
    def test_the_result_is_that_of_calls_in_the_process(self, make_job) -> None:
        plain, http = (make_job(transport=name, client_num=5).run() for name in ("in_process", "http"))
        assert http.hash == plain.hash
        for ours, theirs in zip(http.history, plain.history, strict=True):
            assert (ours.loss, ours.accuracies) == (theirs.loss, dict(theirs.accuracies))
            assert (ours.bytes_up, ours.bytes_down, ours.samples) == (
                theirs.bytes_up,
                theirs.bytes_down,
                theirs.samples,
            )

    @pytest.mark.parametrize("workers", [1, 3])
    def test_more_clients_than_threads(self, make_job, workers: int) -> None:
        result = make_job(transport="http", client_num=5, workers=workers, iterations=1).run()
        assert result.history[0].clients == 5

    def test_no_thread_is_left(self, make_job) -> None:
        make_job(transport="http", iterations=1).run()
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("mindfl-http")] == []


class TestJoining:
    def test_the_servers_job_is_done_as_in_process(self, make_job, served: Served) -> None:
        plain = make_job(epochs=2).run()
        with served(client_epoch_num=2) as server:
            joined = make_job(domain_name=server.url, epochs=7, iterations=99).run()

        assert joined.hash == plain.hash == weight_hash(server.records[-1].model)
        assert [row.iteration for row in joined.history] == [1, 2]
        for row, record, expected in zip(joined.history, server.records, plain.history, strict=True):
            assert row.loss == pytest.approx(record.loss, rel=1e-6)
            assert (row.clients, row.samples, row.steps) == (3, record.data_size, expected.steps)
            assert row.accuracies == dict(expected.accuracies)
        assert "interrupted" not in joined.summary()

    def test_files_are_written(self, make_job, served: Served, tmp_path: Path) -> None:
        with served() as server:
            job = make_job(domain_name=server.url)
            result = job.run()
        assert weight_hash(LiteModel.load(job.trained_model_path).weights) == result.hash
        assert len(History.load(tmp_path / "run" / "history.jsonl")) == 2
        assert "[startFLJob] startFLJob succeed" in (tmp_path / "run" / "client_2" / "client.log").read_text()

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_server_that_wants_fewer_clients(self, make_job, served: Served, workers: int) -> None:
        """Five clients, two at a time: no client blocks a thread, every iteration is reported."""
        with served(start_fl_job_threshold=2, fl_iteration_num=3) as server:
            result = make_job(domain_name=server.url, client_num=5, workers=workers).run()
        assert [(row.iteration, row.clients) for row in result.history] == [(1, 2), (2, 2), (3, 2)]
        assert [record.valid for record in server.records] == [True] * 3
        assert result.hash == weight_hash(server.records[-1].model)

    @pytest.mark.parametrize(("whose", "evaluated"), [("all", 5), ("drawn", 2)])
    def test_clients_that_the_server_did_not_choose_are_evaluated_too(
        self, make_job, served: Served, whose: str, evaluated: int
    ) -> None:
        with served(start_fl_job_threshold=2, fl_iteration_num=2) as server:
            job = make_job(domain_name=server.url, client_num=5, evaluate=whose, evaluate_every=1)
            result = job.run()
        assert [(row.clients, row.evaluated, row.measured) for row in result.history] == [(2, evaluated, whose)] * 2
        trained = LiteEngine(LiteModel.load(job.trained_model_path))
        for user in job.prepare_data():
            expected = trained.trainer(user, threading.Event())
            expected.load(result.weights)
            accuracy = result.history[-1].accuracies.get(user.name, None if whose == "drawn" else -1.0)
            assert accuracy in (None, expected.evaluate())

    def test_a_central_test_set(self, make_job, served: Served) -> None:
        with served(start_fl_job_threshold=2, fl_iteration_num=2) as server:
            job = make_job(domain_name=server.url, client_num=5, evaluate="central", evaluate_every=1)
            last = job.run().history[-1]
        assert (last.measured, last.evaluated) == ("central", 0)
        trained = LiteEngine(LiteModel.load(job.trained_model_path))
        right = 0.0
        for user in job.prepare_data():
            trainer = trained.trainer(user, threading.Event())
            trainer.load(job.result.weights)
            right += trainer.evaluate() * user.test.size
        assert last.avg == pytest.approx(right / last.test_samples)

    def test_automatic_intervals_follow_from_how_many_the_server_chose(self, make_job, served: Served) -> None:
        with served(start_fl_job_threshold=1, fl_iteration_num=3, client_epoch_num=1) as server:
            job = make_job(domain_name=server.url, client_num=5, epochs=1)
            result = job.run()
        sizes = [(user.train.size, user.test.size) for user in job.prepare_data()]
        every = affordable_every(sizes, batch_size=32, epochs=1, cohort=1)
        assert [row.evaluated for row in result.history] == [
            5 if number % every == 0 or number == 3 else 0 for number in (1, 2, 3)
        ]

    def test_a_threshold_above_the_number_of_devices_is_no_success(
        self, make_job, served: Served, recorder: Any, tmp_path: Path
    ) -> None:
        with served(start_fl_job_threshold=5, fl_iteration_num=2, client_epoch_num=1, **SHORT) as server:
            job = make_job(domain_name=server.url, reporter=recorder)
            with pytest.raises(NotAggregatedError, match="none of 2 iterations was aggregated") as caught:
                job.run()
        assert [record.valid for record in server.records] == [False, False]
        assert "start_fl_job_threshold is likely above" in caught.value.hint
        assert (caught.value.code, caught.value.exit_code) == ("E-NOT-AGGREGATED", 62)
        assert [row.aggregated for row in History.load(tmp_path / "run" / "history.jsonl")] == [False, False]
        assert sum("start_fl_job_threshold" in text for text in recorder.warnings) == 1
        assert "none of 2 iterations was aggregated" in (tmp_path / "run" / "summary.txt").read_text()
        assert (tmp_path / "run" / "accuracy.png").exists()
        assert job.result is None and not Path(job.trained_model_path).exists(), "nothing was trained"

    def test_two_simulations_share_a_job(self, make_job, served: Served, tmp_path: Path, models: Path) -> None:
        results: dict[int, Any] = {}
        folders = [models, Path(shutil.copytree(models, tmp_path / "models of the other"))]
        with served(start_fl_job_threshold=6) as server:

            def take_part(number: int) -> None:
                own = {"work_dir": tmp_path / f"run {number}", "train_model_path": folders[number], "seed": number}
                results[number] = make_job(domain_name=server.url, workers=1, **own).run()

            threads = [threading.Thread(target=take_part, args=(number,)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results[0].hash == results[1].hash == weight_hash(server.records[-1].model)
        assert [record.uploads for record in server.records] == [6, 6]

    def test_get_model(self, make_job, served: Served, models: Path) -> None:
        with served() as server:
            job = make_job(domain_name=server.url)
            before = job.get_model()
            trained = job.run()
            after = job.get_model()
        start = LiteModel.load(models / "lenet_train.ms").weights
        assert weight_hash(before) == weight_hash(start) != trained.hash == weight_hash(after)
        for name, values in after.items():
            assert values.shape == start[name].shape
        np.testing.assert_array_equal(LiteModel.load(job.config.client_model(0)).weights["fc3.bias"], after["fc3.bias"])

    def test_a_server_that_demands_certificates(self, make_job, served: Served, tmp_path: Path) -> None:
        files = make_certificates(tmp_path / "tls")
        demanding = ServerTls(
            certificate=files.server_cert,
            key=files.server_key,
            ca_path=files.ca_cert,
            require_client_certificate=True,
        )
        own = {"client_cert": files.client_cert, "client_key": files.client_key}
        with served(demanding) as server:
            settings: dict[str, Any] = {"domain_name": server.url, "cert_path": files.ca_cert}
            with pytest.raises(TransportError, match="it demands a client certificate") as refusal:
                make_job(**settings).run()
            assert "--client_cert" in refusal.value.hint
            revoked = revoke(tmp_path / "tls", [files.server_cert])
            with pytest.raises(TransportError, match="revoked"):
                make_job(**settings, **own, crl_path=revoked).run()
            joined = make_job(**settings, **own).run()
        assert joined.hash == make_job().run().hash

    def test_a_job_that_is_over(self, make_job, served: Served) -> None:
        with served() as server:
            server.coordinator.job.disable(0)
            with pytest.raises(SimulationError, match="the server's job was over before any client took part"):
                make_job(domain_name=server.url).run()

    def test_nobody_there(self, make_job) -> None:
        with pytest.raises(TransportError, match=r"^cannot reach http://127\.0\.0\.1:9: "):
            make_job(domain_name="http://127.0.0.1:9").run()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"domain_name": "127.0.0.1:80"}, "server's URL '127.0.0.1:80' cannot be used"),
        ({"domain_name": "http://h:1", "clients_per_iteration": 2}, "the server in domain_name chooses its clients"),
        ({"domain_name": "http://h:1", "use_elb": True}, "use_elb needs a URL of an IP address"),
        ({"domain_name": "http://h:1", "executor": "ray"}, "executor ray"),
        ({"transport": "http", "executor": "ray"}, "executor ray"),
        ({"transport": "pigeon"}, "transport must be one of in_process, http"),
        ({"use_elb": True}, "use_elb is given, but no domain_name"),
        ({"ssl_protocol": "TLSv1.2"}, "ssl_protocol is given, but no domain_name"),
        ({"client_cert": "client.crt"}, "client_cert is given, but no domain_name"),
        ({"client_key": "client.key", "domain_name": "https://h:1"}, "client_key is given, but no client_cert"),
    ],
)
def test_settings_that_do_not_go_together(make_job, settings: dict[str, Any], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        make_job(**settings)


class TestCommand:
    """The command in a process of its own."""

    @pytest.fixture
    def command(self, models: Path, writers: Path, tmp_path: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "mindfl", "simulate"),
            *("--work_dir", str(tmp_path / "run")),
            *("--train_dataset", str(writers)),
            *("--train_model_path", str(models)),
            *("--client_num", "3"),
        ]

    def test_progress_counts_the_servers_iterations(self, command: list[str], served: Served) -> None:
        with served(fl_iteration_num=3) as server:
            done = subprocess.run([*command, "--domain-name", server.url], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if "iteration" in line]
        assert [line.split(",")[0] for line in lines] == [f"mindfl: iteration {k}/3" for k in (1, 2, 3)]
        assert f"weights sha256 {weight_hash(server.records[-1].model)}" in done.stdout

    def test_interrupted_while_all_clients_wait(self, command: list[str], served: Served) -> None:
        waiting = threading.Event()
        with served(start_fl_job_threshold=4) as server:
            handle, asked = server.coordinator.handle, set()

            def watch(request: Any, now_ms: int, **options: Any) -> Any:
                if isinstance(request, RequestUpdateModel):
                    asked.add(request.fl_id)
                if len(asked) == 3:
                    waiting.set()
                return handle(request, now_ms, **options)

            server.coordinator.handle = watch
            process = subprocess.Popen(
                [*command, "--domain_name", server.url, "--quiet"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert waiting.wait(60)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert err == "mindfl: error: interrupted (what was finished is kept) [E-INTERRUPTED]\n"
