"""Each option of a job: its effect, or the statement that it has none."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import convert_dataset, make_synthetic, open_dataset
from mindfl.errors import ModelFormatError, OptionError
from mindfl.lite import LiteModel, Session
from mindfl.options import options_of
from mindfl.options.job_options import GROUPS
from mindfl.server import Coordinator
from mindfl.sim import FederatedLeNetJob, JobConfig, weight_hash
from mindfl.sim.option_warnings import unused_settings

JARS = {"jar_path": Path("/jars/fl.jar"), "case_jar_path": Path("/jars/case.jar")}
URL = "http://127.0.0.1:6668"

#: settings -> the warnings about them
UNUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"thread_num": 4}, ["--thread_num 4 has no effect on the embedded clients"]),
    ({"cpu_bind_mode": "NOT_BINDING_CORE"}, ["--cpu_bind_mode NOT_BINDING_CORE has no effect on the embedded clients"]),
    ({"path_regex": ","}, ["--path_regex , has no effect on the embedded clients"]),
    ({"heap": "1g"}, ["--heap 1g has no effect on the embedded clients"]),
    ({"java": "java17"}, ["--java java17 has no effect on the embedded clients"]),
    ({"parallel": 3}, ["--parallel 3 has no effect on the embedded clients"]),
    ({"clients": "embedded", "jar_path": "/a.jar"}, ["--jar_path has no effect on the embedded clients"]),
    ({"case_jar_path": "/a.jar"}, ["--case_jar_path has no effect on the embedded clients"]),
    ({"lite_jar_path": "/a.jar"}, ["--lite_jar_path has no effect on the embedded clients"]),
    ({"vocal_file": "vocab.txt"}, ["--vocal_file vocab.txt has no effect on image classification"]),
    ({"ids_file": "ids.txt", **JARS}, ["--ids_file ids.txt has no effect on image classification"]),
    ({"server_num": 4}, ["--server_num 4 has no effect on the embedded server"]),
    ({"server_num": 4, "domain_name": URL}, ["--server_num 4 has no effect on a server that runs already"]),
    ({"server_num": 4, "domain_name": URL, "use_elb": True}, []),
    ({"server_num": 4, "stack": "federated"}, []),
    ({"python": "/usr/bin/python3.9"}, ["--python has no effect on this job"]),
    ({"redis_address": "127.0.0.1:6379"}, ["--redis_address 127.0.0.1:6379 has no effect on this job"]),
    ({"redis_address": "127.0.0.1:6379", "python": "p", "stack": "federated"}, []),
    (
        {"iterations": 7, "epochs": 3, "learning_rate": 0.5, "domain_name": URL},
        [f"--{name} has no effect on a server that runs already" for name in ("iterations 7", "epochs 3")]
        + ["--learning_rate has no effect on a server that runs already"],
    ),
    ({"cert_path": "/ca.crt", "domain_name": URL}, ["--cert_path has no effect on http://"]),
    (
        {"client_cert": "c.crt", "client_key": "c.key", "crl_path": "c.crl", "domain_name": URL},
        [f"--{name} has no effect on http://" for name in ("client_cert", "client_key", "crl_path")],
    ),
    ({"client_cert": "c.crt", "domain_name": URL.replace("http", "https")}, []),
    (
        {"client_cert": "c", "client_key": "k", "crl_path": "r", "domain_name": URL.replace("http", "https"), **JARS},
        [f"--{name} has no effect on the Java clients" for name in ("client_cert", "client_key", "crl_path")],
    ),
    ({"ssl_protocol": "TLSv1.3", "stack": "federated", "enable_ssl": True}, []),
    ({"ssl_protocol": "TLSv1.3", "domain_name": URL}, ["--ssl_protocol TLSv1.3 has no effect on http://"]),
    ({"ssl_protocol": "TLSv1.3", "domain_name": URL.replace("http", "https")}, []),
    ({"transport": "http", "domain_name": URL}, ["--transport http has no effect on a server of its own process"]),
    ({"transport": "http", "stack": "federated"}, ["--transport http has no effect on a server of its own process"]),
    ({"transport": "http"}, []),
    ({"name_regex": ";"}, ["--name_regex ; has no effect on the weights"]),
    ({"name_regex": ";", "train_weight_name": "a;b"}, []),
    ({"infer_weight_name": "a"}, ["--infer_weight_name a has no effect on the model files"]),
    ({"infer_weight_name": "a", "infer_ms_name": "second"}, []),
    ({"origin_infer_model_path": "/a.ms"}, ["--origin_infer_model_path has no effect on the model files"]),
    ({"data_format": "bin", "train_dataset": "data"}, ["--data_format bin has no effect on --train_dataset"]),
    ({"data_format": "bin"}, []),
    ({"momentum": 0.5, "optimizer": "sgd"}, ["--momentum has no effect on other optimizers"]),
    ({"ray_address": "auto"}, ["--ray_address auto has no effect on --executor local"]),
    ({"workers": 2, **JARS}, ["--workers 2 has no effect on the Java clients"]),
    ({"engine": "mindspore", **JARS}, ["--engine mindspore has no effect on the Java clients"]),
    ({"thread_num": 4, "cpu_bind_mode": "BIND_LARGE_CORE", "heap": "1g", "parallel": 2, **JARS}, []),
]


@pytest.mark.parametrize(("settings", "said"), UNUSED)
def test_an_option_without_effect_is_named(settings: dict[str, Any], said: list[str]) -> None:
    lines = unused_settings(JobConfig(**settings))
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said
    assert all(": " in line for line in lines), "each says why"


def test_it_is_said_once(make_job, recorder) -> None:
    make_job(reporter=recorder, thread_num=2, iterations=1).run()
    assert [text for text in recorder.warnings if "thread_num" in text] == [
        "--thread_num 2 has no effect on the embedded clients: they share the threads of --workers"
    ]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"deploy_env": "android"}, "deploy_env android: clients are simulated on this machine only"),
        ({"deploy_env": "arm"}, "deploy_env must be one of x86, android"),
        ({"server_mode": "HYBRID_TRAINING"}, "server_mode HYBRID_TRAINING is for Java clients"),
        ({"server_mode": "CLOUD"}, "server_mode must be one of FEDERATED_LEARNING, HYBRID_TRAINING"),
        ({"cpu_bind_mode": "all"}, "cpu_bind_mode must be one of NOT_BINDING_CORE"),
        ({"ssl_protocol": "SSLv3", "domain_name": URL}, "ssl_protocol must be one of TLSv1.2, TLSv1.3"),
        ({"stack": "real"}, "stack must be one of embedded, federated"),
        ({"clients": "go"}, "clients must be one of embedded, java"),
        ({"thread_num": 0}, "thread_num must be a whole number of at least 1"),
        ({"parallel": -1}, "parallel must be a whole number of at least 1"),
        ({"input_shape": "32x32"}, "input_shape must be numbers such as"),
        ({"fl_name": " "}, "fl_name is empty"),
        ({"infer_ms_name": "a/b"}, "infer_ms_name must be a plain file name"),
        ({"train_weight_name": ","}, "train_weight_name names no weight"),
        ({"infer_weight_name": ""}, "infer_weight_name names no weight"),
        ({"train_weight_name": "a", "name_regex": "("}, "name_regex '(' is no regular expression"),
        ({"train_weight_name": "a", "engine": "mindspore"}, "train_weight_name works with engine lite"),
        ({"stack": "federated", "executor": "ray"}, "executor ray sums on each node"),
        ({"stack": "federated", "clients_per_iteration": 1}, "stack federated needs all clients"),
        ({"enable_ssl": True}, "enable_ssl is for a server that the job starts"),
        ({"enable_ssl": True, "stack": "federated", "domain_name": URL}, "enable_ssl is for a server that the job"),
        ({"clients": "java"}, "Java clients need jar_path"),
        ({"jar_path": "/a.jar"}, "Java clients need case_jar_path"),
        ({**JARS, "clients_per_iteration": 2}, "Java clients all take part"),
        ({**JARS, "per_client_models": False}, "each Java client needs a model file of its own"),
    ],
)
def test_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionError) as caught:
        JobConfig(**settings)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    "name",
    [
        *("train_dataset", "test_dataset", "infer_dataset", "train_model_path", "infer_model_path", "jar_path"),
        *("origin_train_model_path", "origin_infer_model_path", "case_jar_path", "lite_jar_path"),
    ],
)
def test_java_clients_are_given_absolute_paths(name: str) -> None:
    assert getattr(JobConfig(**{**JARS, name: "here/x"}), name) == Path.cwd() / "here" / "x"


def test_a_derived_configuration_is_not_checked_again() -> None:
    config = JobConfig(stack="federated", enable_ssl=True, workers=2)
    derived = config.derived(domain_name="https://127.0.0.1:1", iterations=3)
    assert (derived.domain_name, derived.iterations, derived.enable_ssl) == ("https://127.0.0.1:1", 3, True)
    assert (config.domain_name, config.iterations) == (None, 20)


def test_jars_mean_java_clients() -> None:
    assert JobConfig().clients == "embedded"
    assert JobConfig(**JARS).clients == "java"
    assert JobConfig(clients="embedded", **JARS).clients == "embedded"


def test_every_setting_is_declared_with_a_group_and_a_sentence() -> None:
    options = options_of(JobConfig)
    assert {item.name for item in fields(JobConfig)} == options.keys()
    assert [each.name for each in options.values() if each.group not in GROUPS or not each.help.endswith(".")] == []


class TestTestDataset:
    @pytest.fixture
    def others(self, tmp_path: Path) -> Path:
        """Other drawings of the same users."""
        return make_synthetic(tmp_path / "others", users=5, seed=99, progress=False) and tmp_path / "others"

    def test_accuracies_are_of_its_test_parts(self, make_job, others: Path) -> None:
        plain, tested = make_job().run(), make_job(test_dataset=others).run()

        assert tested.hash == plain.hash, "training is the same"
        assert "tested on others" in tested.title
        session = Session(LiteModel.load(make_job().trained_model_path))
        for name, accuracy in tested.history[-1].accuracies.items():
            test = open_dataset(others).user(name).test
            right = session.predict(test.images()).argmax(axis=1) == test.labels[: test.size]
            assert accuracy == pytest.approx(right.mean())

    def test_by_position_where_no_name_is_in_both(self, make_job, others: Path, tmp_path: Path) -> None:
        expected = make_job(test_dataset=others).run().history[-1].accuracies
        convert_dataset(others, tmp_path / "bins2", format="bin", progress=False)
        for path in sorted((tmp_path / "bins2").iterdir()):
            shutil.copytree(path, tmp_path / "renamed" / f"x{path.name}")
        for path in (tmp_path / "renamed").glob("*/*.bin"):
            path.rename(path.with_name(f"x{path.name}"))
        for path in (tmp_path / "renamed").glob("*/manifest.json"):
            path.write_text(path.read_text().replace('"user": "', '"user": "x'))
        assert dict(make_job(test_dataset=tmp_path / "renamed").run().history[-1].accuracies) == dict(expected)

    def test_one_user_is_everybodys(self, make_job, tmp_path: Path) -> None:
        make_synthetic(tmp_path / "single", users=1, seed=5, progress=False)
        row = make_job(test_dataset=tmp_path / "single").run().history[-1]
        assert len(set(row.accuracies.values())) == 1 and len(row.accuracies) == 3

    def test_a_user_that_is_not_in_it_is_left_out(self, make_job, bin_writers: Path, tmp_path: Path, recorder) -> None:
        tests = Path(shutil.copytree(bin_writers, tmp_path / "tests"))
        shutil.rmtree(tests / "synthetic_0001")
        result = make_job(test_dataset=tests, reporter=recorder).run()
        assert list(result.history[-1].accuracies) == ["synthetic_0000", "synthetic_0002", "synthetic_0003"]
        assert any("left out" in text and "synthetic_0001" in text for text in recorder.warnings)

    def test_its_users_need_no_train_part(self, make_job, others: Path, tmp_path: Path) -> None:
        expected = make_job(test_dataset=others).run()
        convert_dataset(others, tmp_path / "tests", format="bin", progress=False)
        for path in (tmp_path / "tests").glob("*/*_train_*.bin"):
            path.unlink()
        result = make_job(test_dataset=tmp_path / "tests").run()
        assert (result.hash, result.history[-1].accuracies) == (expected.hash, expected.history[-1].accuracies)

    def test_inference_has_its_own(self, make_job, others: Path) -> None:
        make_job().run()
        user = open_dataset(others).user("synthetic_0000")
        for settings in ({"test_dataset": others}, {"infer_dataset": others}):
            assert len(make_job(**settings).infer()["synthetic_0000"]) == user.test.size


class TestModelFiles:
    def test_start_from_a_file(self, make_job, models: Path, tmp_path: Path) -> None:
        expected = make_job(iterations=1).run().hash
        start = tmp_path / "elsewhere" / "start.ms"
        start.parent.mkdir()
        shutil.move(models / "lenet_train.ms", start)
        job = make_job(iterations=1, origin_train_model_path=start, train_model_path=tmp_path / "new")
        assert job.run().hash == expected
        assert (tmp_path / "new" / "lenet_train2.ms").is_file()

    def test_second_files_get_the_final_model_and_do_inference(self, make_job, models: Path, tmp_path: Path) -> None:
        job = make_job(infer_model_path=tmp_path / "second", infer_ms_name="infer")
        result = job.run()
        for index in range(3):
            second = tmp_path / "second" / f"infer{index}.ms"
            assert job.clients[index].infer_model == second
            assert weight_hash(LiteModel.load(second).weights) == result.hash

        before = job.infer()
        zero = LiteModel.load(models / "lenet_train.ms")
        zeros = {name: np.zeros_like(values) for name, values in zero.weights.items()}
        zero.save(tmp_path / "second" / "infer0.ms", zeros)
        after = job.infer()
        assert set(after["synthetic_0000"]) == {0} and set(before["synthetic_0000"]) != {0}
        np.testing.assert_array_equal(after["synthetic_0001"], before["synthetic_0001"])

    def test_second_files_begin_as_their_own_model(self, make_job, models: Path, tmp_path: Path) -> None:
        start = LiteModel.load(models / "lenet_train.ms")
        start.save(tmp_path / "mine.ms", {"fc1.bias": np.full(120, 0.5, np.float32)})
        result = make_job(
            infer_ms_name="infer", origin_infer_model_path=tmp_path / "mine.ms", infer_weight_name="fc3.bias,fc2.bias"
        ).run()
        weights = LiteModel.load(models / "infer1.ms").weights
        np.testing.assert_array_equal(weights["fc1.bias"], 0.5)
        np.testing.assert_array_equal(weights["fc3.bias"], result.weights["fc3.bias"])
        np.testing.assert_array_equal(weights["fc1.weight"], start.weights["fc1.weight"])

    def test_only_chosen_weights_are_exchanged(self, make_job, models: Path) -> None:
        start = LiteModel.load(models / "lenet_train.ms").weights
        jobs = [make_job(train_weight_name="fc3.weight;fc3.bias", name_regex="[;:]", workers=n) for n in (1, 3)]
        one, three = (job.run() for job in jobs)

        assert one.hash == three.hash, "whichever thread a client runs on"
        assert set(one.weights) == {"fc3.weight", "fc3.bias"}
        trained = LiteModel.load(jobs[0].trained_model_path).weights
        for name, values in trained.items():
            same = np.array_equal(values, start[name])
            assert same == (name not in one.weights), name
        size = 4 * sum(values.size for values in one.weights.values())
        assert one.history[0].bytes_up == 3 * size
        session = Session(LiteModel.load(jobs[0].trained_model_path))
        for user in list(jobs[0].prepare_data())[:3]:
            right = session.predict(user.test.images()).argmax(axis=1) == user.test.labels[: user.test.size]
            assert one.history[-1].accuracies[user.name] == pytest.approx(right.mean())

    def test_a_weight_that_the_model_has_not(self, make_job) -> None:
        with pytest.raises(ModelFormatError, match=r"the model file has no weight fc9\.bias"):
            make_job(train_weight_name="fc9.bias").run()

    def test_input_shape(self, make_job) -> None:
        make_job(input_shape="32,32,32,3;32", iterations=1).run()
        with pytest.raises(OptionError, match=r"input_shape is 32,3,32,32, but the model file takes 32,32,32,3;32"):
            make_job(input_shape="32,3,32,32").run()

    def test_class_of_the_client_is_in_the_log(self, make_job) -> None:
        job = make_job(fl_name="com.example.MyClient", iterations=1)
        job.run()
        text = job.clients[0].log.read_text()
        assert "the flName: com.example.MyClient" in text and "LenetClient" not in text


class TestObject:
    def test_what_it_tells(self, make_job) -> None:
        with make_job() as job:
            assert (job.server, job.clients, job.result) == (None, (), None)
            result = job.run()
            assert job.result is result
            assert isinstance(job.server, Coordinator)
            assert [client.name for client in job.clients] == [f"synthetic_000{i}" for i in range(3)]
            assert all(client.model.is_file() and client.log.is_file() for client in job.clients)

    def test_fewer_clients_than_before(self, make_job, recorder, tmp_path: Path, models: Path) -> None:
        make_job().run()
        make_job(client_num=2, reporter=recorder).run()
        assert sorted(path.name for path in (tmp_path / "run").glob("client_*")) == ["client_0", "client_1"]
        assert recorder.warnings == [
            f"an earlier run had more clients: {models}/lenet_train2.ms are still its models",
        ]

    def test_inference_with_another_number_of_clients(self, make_job, recorder) -> None:
        make_job().run()
        make_job(reporter=recorder).infer()
        assert recorder.warnings == []
        assert len(make_job(client_num=4, reporter=recorder).infer()) == 4
        assert recorder.warnings == ["--client_num is 4, but 3 clients were trained: use the same number"]

    def test_inference_with_the_same_number_beyond_the_users_of_the_data_set(self, make_job, recorder) -> None:
        make_job(client_num=99, iterations=1).run()
        make_job(client_num=99, reporter=recorder).infer()
        (warning,) = recorder.warnings
        assert "usable users, 99 were asked for" in warning

    def test_inference_of_one_record(self, make_job) -> None:
        job = make_job()
        job.run()
        everything, one = job.infer(), job.infer(samples=1)
        assert {name: labels.tolist() for name, labels in one.items()} == {
            name: labels[:1].tolist() for name, labels in everything.items()
        }
        (last,) = [line for line in job.clients[0].log.read_text().splitlines() if "predicted labels" in line][-1:]
        assert last.endswith(f"the predicted labels: [{everything['synthetic_0000'][0]}]")

    def test_what_a_thread_did_before_changes_no_inference(self, make_job, models: Path) -> None:
        job = make_job(per_client_models=False, iterations=1)
        job.run()
        before = job.infer()
        Path(job.trained_model_path).unlink()
        job.get_model()
        Path(job.trained_model_path).write_bytes((models / "lenet_train.ms").read_bytes())
        untrained = job.infer()
        session = Session(LiteModel.load(models / "lenet_train.ms"))
        for user in list(job.prepare_data())[:3]:
            np.testing.assert_array_equal(untrained[user.name], session.predict(user.test.images()).argmax(axis=1))
        assert any(not np.array_equal(before[name], untrained[name]) for name in before)


def test_only_the_documented_names() -> None:
    with pytest.raises(OptionError, match="FederatedLeNetJob has no keyword no_such_setting") as caught:
        FederatedLeNetJob(no_such_setting=1)
    assert caught.value.hint == "see help(FederatedLeNetJob)"


@pytest.mark.parametrize(
    ("wrong", "right"), [("clinet_num", "client_num"), ("jarPath", "jar_path"), ("Iterations", "iterations")]
)
def test_a_keyword_that_is_nearly_right_is_suggested(wrong: str, right: str) -> None:
    with pytest.raises(OptionError, match=wrong) as caught:
        FederatedLeNetJob(**{wrong: 1})
    assert caught.value.hint == f"did you mean {right}?"
