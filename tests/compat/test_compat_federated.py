"""A MindSpore Federated script with its import line changed: its servers and its scheduler are one job."""

from __future__ import annotations

import json
import signal
import ssl
import threading
from http.client import HTTPSConnection
from pathlib import Path

import numpy as np
import pytest
from compat_cluster import Launch, assert_model, average, await_nodes, scheduler, settings
from free_ports import free_address
from redis_servers import RedisServer, redis_server

from mindfl.compat.mindspore_federated import FeatureMap, FLServerJob
from mindfl.protocol import PlainText, RequestGetModel, encode, texts
from mindfl.server.certificates import CertificateFiles, make_certificates


def test_two_servers_and_a_scheduler_are_one_job(launch: Launch, folder: Path) -> None:
    boss = scheduler(launch)
    assert boss.manage("/state") == {"code": "1", "error_message": "Cannot find cluster info for Lenet"}
    first, second = launch(), launch()
    state = boss.manage("/state")
    assert state["cluster_state"] == "CLUSTER_READY"
    assert [node["tcp_address"] for node in state["nodes"]] == [first.address, second.address]

    begun = first.start("1")
    assert begun.retcode == 200 and sorted(begun.feature_map) == ["bn.moving_mean", "fc.bias", "fc.weight"]
    assert begun.feature_map["bn.moving_mean"].tolist() == [0.5]
    assert {name: values.tolist() for name, values in second.start("2").feature_map.items()} == {
        name: values.tolist() for name, values in begun.feature_map.items()
    }
    assert second.start("3").retcode == 300
    assert second.model(1).retcode == 201
    assert second.update("1", 1) == 200
    assert second.update("1", 1) == 300
    assert first.update("2", 1) == 200
    for server in (first, second):
        assert_model(server.model(1), average(["1", "2"], 1))
        line = server.line("iteration 1 True i_")
        assert "'bn.moving_mean': 0.5" in line
        assert "Lenet_recovery_iteration_1_" in server.line("checkpoint")
    third = launch()
    assert_model(third.model(1), average(["1", "2"], 1))
    assert third.start("1").iteration == 2
    assert [len(boss.manage(path)["nodes"]) for path in ("/state", "/queryInstance")] == [3, 3]
    assert len(json.loads((folder / "metrics.json").read_text())["flName"]) == 5


def test_a_leader_that_is_killed_loses_nothing(launch: Launch, folder: Path) -> None:
    settings(folder, clients=3, iterations=2)
    leader, other = launch(), launch()
    for fl_id in "123":
        assert other.start(fl_id).retcode == 200
    assert leader.update("1", 1) == 200
    assert other.update("2", 1) == 200
    leader.process.kill()
    assert other.model(1).retcode == 201
    assert other.start("1").retcode == 300
    assert other.update("2", 1) == 300
    assert other.update("3", 1) == 200
    assert_model(other.model(1), average(["1", "2", "3"], 1))
    other.line("iteration 1 True")

    newcomer = launch()
    for fl_id in "123":
        assert newcomer.start(fl_id).retcode == 200
        assert other.update(fl_id, 2) == 200
    assert newcomer.model(2).feature_map["fc.weight"].tobytes() == other.model(2).feature_map["fc.weight"].tobytes()
    newcomer.line("iteration 2 True")
    assert scheduler(launch).manage("/state")["cluster_state"] == "CLUSTER_FINISH"


def test_requests_are_held_while_the_leader_changes(launch: Launch, folder: Path) -> None:
    """Many devices, one after the other on each of several connections; the leader is killed in the middle."""
    clients = [str(number) for number in range(1, 41)]
    settings(folder, clients=len(clients), iterations=1)
    leader, other = launch(), launch()
    for fl_id in clients:
        assert other.start(fl_id).retcode == 200
    codes: dict[str, int | None] = {}
    half = threading.Event()

    def run(part: list[str]) -> None:
        for fl_id in part:
            codes[fl_id] = other.update(fl_id, 1)
            if len(codes) >= len(clients) // 2:
                half.set()

    threads = [threading.Thread(target=run, args=(clients[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert half.wait(30)
    leader.process.kill()
    for thread in threads:
        thread.join()
    assert set(codes.values()) == {200} and len(codes) == len(clients)
    assert_model(other.model(1), average(clients, 1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_leader_that_leaves_hands_over(launch: Launch, folder: Path, number: signal.Signals) -> None:
    leader, other = launch(), launch()
    assert leader.start("1").retcode == leader.start("2").retcode == 200
    assert leader.update("1", 1) == 200
    assert leader.end(number) == 0
    leader.line("stopped")
    assert "Traceback" not in leader.errors()
    assert other.update("2", 1) == 200
    assert_model(other.model(1), average(["1", "2"], 1))


def test_a_forwarder_that_leaves_or_dies_is_not_missed(launch: Launch, folder: Path) -> None:
    leader, other = launch(), launch()
    assert other.start("1").retcode == other.start("2").retcode == 200
    assert other.update("1", 1) == 200
    assert other.end(signal.SIGTERM) == 0
    third = launch()
    third.process.kill()
    third.process.wait()
    boss = scheduler(launch)
    await_nodes(boss, [leader])
    assert leader.update("2", 1) == 200
    assert_model(leader.model(1), average(["1", "2"], 1))


def test_the_scheduler_rules_all_servers(launch: Launch, folder: Path) -> None:
    leader, other = launch(), launch()
    boss = scheduler(launch)
    assert boss.manage("/disableFLS")["message"] == "start disabling FL-Server successful."
    assert boss.manage("/disableFLS")["error_message"] == "The instance has already been disabled."
    assert other.ask(RequestGetModel(fl_name="any", iteration=0)) == PlainText(texts.FINISHED)
    assert boss.manage("/state")["cluster_state"] == "CLUSTER_DISABLE"
    assert boss.manage("/enableFLS")["message"] == "start enabling FL-Server successful."
    assert other.start("1").iteration == 2
    answer = boss.manage("/newInstance", start_fl_job_threshold=1, fl_iteration_num=1)
    assert answer["message"] == "Start new instance successful."
    assert boss.manage("/queryInstance")["result"]["start_fl_job_threshold"] == 1
    assert other.start("1").iteration == 1 and leader.start("2").retcode == 300
    assert leader.update("1", 1) == 200
    assert_model(other.model(1), average(["1"], 1))
    other.line("iteration 1 True")
    leader.process.kill()
    assert boss.manage("/queryInstance")["result"]["fl_iteration_num"] == 1
    assert boss.manage("/state")["cluster_state"] == "CLUSTER_FINISH"
    assert other.end(signal.SIGTERM) == 0
    await_nodes(boss, [])
    assert boss.manage("/state") == {
        "code": "0",
        "cluster_state": "CLUSTER_FINISH",
        "message": "Get cluster state successful.",
    }
    refused = boss.manage("/newInstance", fl_iteration_num=2)
    assert refused["error_message"] == "Failed to access the cache server. Please retry later."
    again = launch()
    assert boss.manage("/newInstance", fl_iteration_num=2)["code"] == "0"
    assert again.start("1").iteration == 1
    assert boss.end(signal.SIGTERM) == 0


def test_servers_with_tls(launch: Launch, folder: Path) -> None:
    """The Redis speaks TLS too, as with the reference."""
    pytest.importorskip("cryptography")
    files = make_certificates(folder / "tls", days=2, password="server_password_12345")
    with redis_server(folder / "redis", certificates=files) as store:
        settings(folder, store=store.address)
        _serve_with_tls(launch, folder, files)


def _serve_with_tls(launch: Launch, folder: Path, files: CertificateFiles) -> None:
    text = (folder / "fl.yaml").read_text().replace("enable_ssl: false", "enable_ssl: true")
    text = text.replace("type: redis, ", f"type: redis, cacert_filename: {files.ca_cert}, ")
    paths = {"server_cert_path": files.server_p12, "client_cert_path": files.client_p12, "ca_cert_path": files.ca_cert}
    lines = [f"  {key}: {value}\n" for key, value in {**paths, "cipher_list": "ECDHE-ECDSA-AES128-GCM-SHA256"}.items()]
    (folder / "fl.yaml").write_text(text + "ssl:\n" + "".join(lines))
    _, other, boss = launch(), launch(), scheduler(launch)
    context = ssl.create_default_context(cafile=files.ca_cert)
    for process, path, expected in ((other, "/getModel", b"Get model"), (boss, "/state", b"CLUSTER_READY")):
        connection = HTTPSConnection(process.address, timeout=20, context=context)
        connection.request("POST", path, encode(RequestGetModel(iteration=0)))
        assert expected in connection.getresponse().read()
        connection.close()


def test_the_script_goes_on_after_its_callback_failed_and_after_a_restart(launch: Launch, folder: Path) -> None:
    settings(folder, clients=1, iterations=3)
    first = launch()
    for iteration in (1, 2):
        assert first.start("1").iteration == iteration
        assert first.update("1", iteration) == 200
    first.line("iteration 2 True")
    first.line("the callback's on_iteration_end failed: RuntimeError")
    assert first.end(signal.SIGTERM) == 0
    again = launch()
    assert_model(again.model(2), average(["1"], 2))
    assert again.start("1").iteration == 3


def test_a_new_job_begins_after_the_newest_checkpoint(launch: Launch, folder: Path, store: RedisServer) -> None:
    settings(folder, clients=1, iterations=3)
    first = launch()
    assert first.start("1").iteration == 1 and first.update("1", 1) == 200
    path = Path(first.line("checkpoint").split()[1])
    assert first.end(signal.SIGTERM) == 0
    assert (folder / path).is_file()
    store.ask("flushall")
    again = launch()
    assert again.start("1").iteration == 2
    assert_model(again.model(0), average(["1"], 1))


WEIGHTS = {"fc.weight": np.zeros((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)}
MEAN = {"bn.moving_mean": np.array(0.5, np.float32)}


@pytest.mark.parametrize(
    ("weights", "constant", "change", "text"),
    [
        (
            {**WEIGHTS, **MEAN},
            set(),
            ("fl_name", "fl_name"),
            "The feature require_aggr 1 of local != that 0 declared in the distributed cache, feature: bn.moving_mean",
        ),
        (
            {**WEIGHTS, **MEAN, "fc.bias": np.zeros(3, np.float32)},
            set(MEAN),
            ("fl_name", "fl_name"),
            "The feature size 12 of local != that 8 declared in the distributed cache, feature: fc.bias",
        ),
        (
            {**WEIGHTS, "other": np.zeros(1, np.float32)},
            set(),
            ("fl_name", "fl_name"),
            "The features are inconsistent with that declared in distributed cache: cannot find feature bn.moving_mean",
        ),
        (
            WEIGHTS,
            set(),
            ("fl_name", "fl_name"),
            "The number 2 of local features != the number 3 declared in the distributed cache",
        ),
        (
            {**WEIGHTS, **MEAN},
            set(MEAN),
            ("start_fl_job_threshold: 2", "start_fl_job_threshold: 7"),
            "the job Lenet runs with other settings: start_fl_job_threshold 2 -> 7",
        ),
    ],
    ids=["require_aggr", "size", "name", "number", "settings"],
)
def test_a_second_server_with_something_else_is_refused(
    launch: Launch,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: dict[str, np.ndarray],
    constant: set[str],
    change: tuple[str, str],
    text: str,
) -> None:
    """Texts about weights are the real server's."""
    first = launch()
    monkeypatch.chdir(folder)
    Path("other.yaml").write_text(Path("fl.yaml").read_text().replace(*change))
    features = FeatureMap()
    for name, values in weights.items():
        features.add_feature(name, values, require_aggr=name not in constant)
    job = FLServerJob("other.yaml", free_address(), checkpoint_dir="nowhere")
    with pytest.raises(RuntimeError, match=text):
        job.run(features)
    assert first.end(signal.SIGTERM) == 0
    with pytest.raises(RuntimeError, match=text.rpartition(": ")[2]):
        FLServerJob("other.yaml", free_address(), checkpoint_dir="nowhere").run(features)
