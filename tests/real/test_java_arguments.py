"""Command lines of Java clients: both forms, each option's effect, and refusals before anything starts."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from java_programs import FakeJars

from mindfl.data import make_synthetic, open_dataset
from mindfl.errors import DataError, OptionError
from mindfl.real.java_clients import JavaClients
from mindfl.real.java_command import launch_command
from mindfl.real.java_files import JavaClientFiles, client_files
from mindfl.real.java_run import java_files
from mindfl.real.java_settings import JavaSettings, literal_separator
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim.config import JobConfig
from mindfl.sim.job_data import PairedDataset

LENET = "com.mindspore.flclient.demo.lenet.LenetClient"
URL = "http://127.0.0.1:6666"


def settings(jars: FakeJars, **given: Any) -> JavaSettings:
    return JavaSettings(**{"jar_path": jars.client, "case_jar_path": jars.case, "domain_name": URL, **given})


def arguments(jars: FakeJars, client: JavaClientFiles, **given: Any) -> list[str]:
    return launch_command(settings(jars, **given), client)[-22:]


def expected_arguments(client: JavaClientFiles) -> list[str]:
    """All 22 by position, with the tutorial's defaults."""
    train, test = (",".join(map(str, paths)) for paths in (client.train_data, client.eval_data))
    model = str(client.train_model)
    return [
        *(train, test, test, ",", LENET, model, model, "TLSv1.2", "x86", URL, "null", "false", "1", "train", "1"),
        *("NOT_BINDING_CORE", "null", "null", ",", "FEDERATED_LEARNING", "32", "null"),
    ]


class TestForms:
    def test_the_tutorials(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        assert launch_command(settings(fake_jars), one_client) == [
            "java",
            "-Xmx256m",
            f"--module-path={fake_jars.client.parent}{os.pathsep}{fake_jars.case.parent}",
            "--add-modules=ALL-MODULE-PATH",
            "-jar",
            str(fake_jars.client),
            *expected_arguments(one_client),
        ]

    def test_that_of_0_1_0(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        assert launch_command(settings(fake_jars, lite_jar_path=fake_jars.lite), one_client) == [
            "java",
            "-Xmx256m",
            "-cp",
            os.pathsep.join(map(str, (fake_jars.client, fake_jars.case, fake_jars.lite))),
            "com.mindspore.flclient.SyncFLJob",
            *expected_arguments(one_client),
        ]

    def test_options_of_the_virtual_machine_come_first(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        chosen = settings(fake_jars, java="/opt/jdk/bin/java", heap="2g", jvm_options=("-Dx=y", "-ea"))
        assert launch_command(chosen, one_client)[:4] == ["/opt/jdk/bin/java", "-Xmx2g", "-Dx=y", "-ea"]

    def test_a_program_named_by_a_relative_path(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        assert launch_command(settings(fake_jars, java="jdk/bin/java"), one_client)[0] == str(
            Path.cwd() / "jdk/bin/java"
        )
        assert launch_command(settings(fake_jars, java="java17"), one_client)[0] == "java17"

    @pytest.mark.parametrize("name", ["jar_path", "case_jar_path", "lite_jar_path", "cert_path"])
    def test_a_relative_path_is_made_absolute(self, fake_jars: FakeJars, name: str) -> None:
        assert getattr(settings(fake_jars, **{name: "libs/x"}), name) == Path.cwd() / "libs" / "x"

    @pytest.mark.parametrize("name", ["train_data", "eval_data", "infer_data", "train_model", "infer_model"])
    def test_a_relative_path_of_a_client_is_made_absolute(self, one_client: JavaClientFiles, name: str) -> None:
        path, several = Path("ms/lenet_train0.ms"), name.endswith("data")
        found = getattr(replace(one_client, **{name: (path,) if several else path}), name)
        assert found == ((Path.cwd() / path,) if several else Path.cwd() / path)


EFFECTS = {
    "fl_name": ("com.example.Other", 4, "com.example.Other"),
    "ssl_protocol": ("TLSv1.3", 7, "TLSv1.3"),
    "domain_name": ("http://10.1.2.3:6668/fed", 9, "http://10.1.2.3:6668/fed"),
    "use_elb": (True, 11, "true"),
    "server_num": (16, 12, "16"),
    "task": ("getModel", 13, "getModel"),
    "thread_num": (4, 14, "4"),
    "cpu_bind_mode": ("BIND_LARGE_CORE", 15, "BIND_LARGE_CORE"),
    "train_weight_name": ("conv1.weight,fc1.bias", 16, "conv1.weight,fc1.bias"),
    "infer_weight_name": ("fc3.bias", 17, "fc3.bias"),
    "name_regex": (r"\|", 18, r"\|"),
    "server_mode": ("HYBRID_TRAINING", 19, "HYBRID_TRAINING"),
    "batch_size": (16, 20, "16"),
    "input_shape": ("1,3,32,32;1", 21, "1,3,32,32;1"),
}


class TestOptions:
    @pytest.mark.parametrize("name", EFFECTS)
    def test_an_option_changes_its_argument_alone(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, name: str
    ) -> None:
        value, position, text = EFFECTS[name]
        expected = expected_arguments(one_client)
        expected[position] = text
        assert arguments(fake_jars, one_client, **{name: value}) == expected

    def test_cert_path(self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path) -> None:
        certificate = tmp_path / "CARoot.pem"
        certificate.touch()
        found = arguments(fake_jars, one_client, domain_name="https://h:1", cert_path=certificate)
        assert (found[9], found[10]) == ("https://h:1", str(certificate))

    def test_deploy_env(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        assert arguments(fake_jars, one_client, deploy_env="x86")[8] == "x86"
        with pytest.raises(OptionError, match="deploy_env must be one of x86, got 'android'"):
            settings(fake_jars, deploy_env="android")

    def test_path_regex_joins_the_paths(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        found = arguments(fake_jars, one_client, path_regex=r"\|")
        assert found[0] == "|".join(map(str, one_client.train_data)) and found[3] == r"\|"

    def test_a_slash_behind_the_url_is_dropped(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        """The client puts its own behind it, and the server would not know the path."""
        assert arguments(fake_jars, one_client, domain_name="http://h:1/fed/")[9] == "http://h:1/fed"

    def test_data_that_is_not_given_is_null(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        client = replace(one_client, eval_data=(), infer_data=())
        assert arguments(fake_jars, client)[:3] == [expected_arguments(client)[0], "null", "null"]

    def test_inference_needs_no_server(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        assert arguments(fake_jars, one_client, task="inference", domain_name=None)[9] == "null"

    def test_another_task_is_passed_on(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        assert arguments(fake_jars, one_client, task="single", domain_name=None)[13] == "single"

    def test_a_second_model(self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path) -> None:
        other = tmp_path / "infer0.ms"
        other.touch()
        client = replace(one_client, infer_model=other)
        names = {"train_weight_name": "a", "infer_weight_name": "b"}
        assert arguments(fake_jars, client, **names)[5:7] == [str(client.train_model), str(other)]
        assert arguments(fake_jars, client, task="inference")[6] == str(other)
        for missing in names:
            with pytest.raises(OptionError, match=f"so --{missing} is needed"):
                arguments(fake_jars, client, **{**names, missing: None})


REFUSED = [
    ({"fl_name": " "}, "--fl_name is empty"),
    ({"task": ""}, "--task is empty"),
    ({"java": ""}, "--java is empty"),
    ({"ssl_protocol": "SSLv3"}, "ssl_protocol must be one of TLSv1.2, TLSv1.3"),
    ({"cpu_bind_mode": "ALL"}, "cpu_bind_mode must be"),
    ({"server_mode": "OTHER"}, "server_mode must be"),
    ({"server_num": 0}, "server_num must be a whole number of at least 1, got 0"),
    ({"thread_num": 1.5}, "thread_num must be a whole number"),
    ({"batch_size": True}, "batch_size must be a whole number"),
    ({"parallel": 0}, "parallel must be a whole number"),
    ({"heap": "lots"}, "heap must be a size such as 256m or 2g, got 'lots'"),
    ({"heap": "0m"}, "heap must be a size"),
    ({"input_shape": "1x3"}, "input_shape must be numbers such as 32,32,32,3;32, got '1x3'"),
    ({"path_regex": "("}, r"--path_regex '\(' is no regular expression"),
    ({"name_regex": ""}, "--name_regex '' matches no fixed separator"),
    ({"domain_name": None}, "task train needs a server"),
    ({"domain_name": "127.0.0.1:6666"}, "127.0.0.1:6666"),
    ({"domain_name": "https://h:1"}, "--domain_name is https, so --cert_path is needed"),
    ({"domain_name": "http://somewhere:1", "use_elb": True}, "use_elb needs a URL of an IP address"),
]


class TestRefused:
    @pytest.mark.parametrize(("given_settings", "message"), REFUSED)
    def test_settings(self, fake_jars: FakeJars, given_settings: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            settings(fake_jars, **given_settings)

    @pytest.mark.parametrize(("field", "option"), [("train_model", "train_model_path"), ("infer_model", "infer_model")])
    def test_a_model_that_is_not_there(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path, field: str, option: str
    ) -> None:
        client = replace(one_client, **{field: tmp_path / "none.ms"})
        with pytest.raises(OptionError, match=f"--{option}.*there is no model file"):
            arguments(fake_jars, client, train_weight_name="a", infer_weight_name="b")

    @pytest.mark.parametrize(("task", "field"), [("train", "train_data"), ("inference", "infer_data")])
    def test_a_task_without_its_data(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, task: str, field: str
    ) -> None:
        with pytest.raises(OptionError, match="client f0000 has no"):
            arguments(fake_jars, replace(one_client, **{field: ()}), task=task)

    def test_a_separator_inside_a_path(self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path) -> None:
        paths = (tmp_path / "a,b.bin", tmp_path / "c.bin")
        for path in paths:
            path.touch()
        client = replace(one_client, train_data=paths)
        with pytest.raises(OptionError, match=r"--train_dataset: the path .*a,b.bin contains the separator of paths"):
            arguments(fake_jars, client)
        assert arguments(fake_jars, client, path_regex=";")[0].split(";") == [str(path) for path in client.train_data]

    def test_data_that_is_not_there(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        one_client.eval_data[1].unlink()
        with pytest.raises(OptionError, match=r"--test_dataset: there is no file .*test_label\.bin of client f0000"):
            arguments(fake_jars, one_client)

    @pytest.mark.parametrize("given_settings", [{"jvm_options": ("",)}, {"fl_name": "a\0b"}])
    def test_what_is_no_argument(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, given_settings: dict[str, Any]
    ) -> None:
        with pytest.raises(OptionError, match="Java cannot be given"):
            launch_command(settings(fake_jars, **given_settings), one_client)

    def test_a_certificate_that_is_not_there(self, fake_jars: FakeJars, one_client: JavaClientFiles) -> None:
        with pytest.raises(OptionError, match=r"--cert_path: there is no file /nowhere/ca\.pem"):
            arguments(fake_jars, one_client, cert_path="/nowhere/ca.pem")

    def test_a_path_that_java_would_split(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path
    ) -> None:
        with pytest.raises(OptionError, match="Java cannot use the path"):
            launch_command(settings(fake_jars, jar_path=tmp_path / "a:b" / "fl.jar"), one_client)


class TestSeparators:
    @pytest.mark.parametrize(("expression", "text"), [(",", ","), (r"\|", "|"), (";", ";"), (r"\.", "."), ("::", "::")])
    def test_known(self, expression: str, text: str) -> None:
        assert literal_separator(expression, "path_regex") == text

    @pytest.mark.parametrize("expression", ["", "|", "a*", "^", "(,)", "[,;]"])
    def test_what_names_no_text(self, expression: str) -> None:
        with pytest.raises(OptionError, match="--path_regex"):
            literal_separator(expression, "path_regex")

    @given(st.text(max_size=6))
    def test_whatever_is_given_joins_or_is_refused(self, expression: str) -> None:
        try:
            text = literal_separator(expression, "path_regex")
        except OptionError:
            return
        assert re.split(expression, f"a{text}b") == ["a", "b"]


class TestJars:
    """Asked when clients are made: nothing has been started then."""

    def clients(self, tmp_path: Path, client: JavaClientFiles, chosen: JavaSettings) -> JavaClients:
        return JavaClients(tmp_path / "run", chosen, [client], registry=ProcessRegistry(tmp_path / "run"))

    @pytest.fixture(autouse=True)
    def _some_java(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "bin" / "java"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    @pytest.mark.parametrize(
        ("form", "which"),
        [("tutorial", "client"), ("tutorial", "case"), ("0.1.0", "client"), ("0.1.0", "case"), ("0.1.0", "lite")],
    )
    @pytest.mark.parametrize("what", ["missing", "folder", "text", "empty", "torn"])
    def test_what_is_no_jar(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path, form: str, which: str, what: str
    ) -> None:
        jar: Path = getattr(fake_jars, which)
        content = jar.read_bytes()
        jar.unlink()
        if what == "folder":
            jar.mkdir()
        elif what != "missing":
            jar.write_bytes({"text": b"not a jar at all", "empty": b"", "torn": content[: len(content) // 2]}[what])
        option = {"client": "jarPath", "case": "case_jarPath", "lite": "lite_jar_path"}[which]
        reason = {"missing": "does not exist", "folder": "is a folder"}.get(what, "is not a jar")
        chosen = settings(fake_jars, lite_jar_path=None if form == "tutorial" else fake_jars.lite)
        with pytest.raises(OptionError, match=f"--{option} .* {reason}"):
            self.clients(tmp_path, one_client, chosen)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(("which", "option"), [("client", "jarPath"), ("case", "case_jarPath")])
    def test_another_jar_in_the_folder(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path, which: str, option: str
    ) -> None:
        jar: Path = getattr(fake_jars, which)
        (jar.parent / "old.jar").touch()
        with pytest.raises(OptionError, match=f"--{option}: the folder .* must contain only {jar.name}.*old.jar"):
            self.clients(tmp_path, one_client, settings(fake_jars))
        self.clients(tmp_path, one_client, settings(fake_jars, lite_jar_path=fake_jars.lite))

    def test_a_jar_without_the_client(self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="names no main class in its manifest"):
            self.clients(tmp_path, one_client, settings(fake_jars, jar_path=fake_jars.case))
        chosen = settings(fake_jars, jar_path=fake_jars.case, lite_jar_path=fake_jars.lite)
        with pytest.raises(OptionError, match=r"does not contain com\.mindspore\.flclient\.SyncFLJob"):
            self.clients(tmp_path, one_client, chosen)

    def test_no_java(self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="--java: there is no program no-such-java"):
            self.clients(tmp_path, one_client, settings(fake_jars, java="no-such-java"))

    def test_no_clients_and_two_of_one_name(
        self, fake_jars: FakeJars, one_client: JavaClientFiles, tmp_path: Path
    ) -> None:
        registry = ProcessRegistry(tmp_path / "run")
        with pytest.raises(OptionError, match="--client_num must be at least 1"):
            JavaClients(tmp_path, settings(fake_jars), [], registry=registry)
        with pytest.raises(OptionError, match="two Java clients have the name f0000"):
            JavaClients(tmp_path, settings(fake_jars), [one_client] * 2, registry=registry)


class TestFiles:
    def test_the_bins_of_each_user(self, bins: Path, tmp_path: Path) -> None:
        dataset = open_dataset(bins)
        models = [tmp_path / f"lenet_train{i}.ms" for i in range(2)]
        others = [tmp_path / f"infer{i}.ms" for i in range(2)]
        first, second = client_files(dataset, dataset.users[:2], models, others)
        assert (first.name, second.train_model, second.infer_model) == (dataset.users[0], models[1], others[1])
        for paths, part in ((second.train_data, "train"), (second.eval_data, "test")):
            images, labels = paths
            assert images.parent == labels.parent == bins / dataset.users[1]
            assert images.name.endswith(f"_{part}_data.bin") and labels.name.endswith(f"_{part}_label.bin")
        assert second.infer_data == second.eval_data

    def test_test_data_of_their_own(self, bins: Path, tmp_path: Path) -> None:
        make_synthetic(tmp_path / "tests", users=8, seed=4, format="bin", progress=False)
        dataset = open_dataset(bins)
        (client,) = client_files(
            dataset, dataset.users[:1], [tmp_path / "m.ms"], test_dataset=open_dataset(tmp_path / "tests")
        )
        assert client.train_data[0].is_relative_to(bins)
        assert client.eval_data[0].is_relative_to(tmp_path / "tests")

    def test_users_who_are_only_tested_on(self, bins: Path, tmp_path: Path, fake_jars: FakeJars) -> None:
        make_synthetic(tmp_path / "tests", users=2, seed=4, format="bin", progress=False)
        for path in (tmp_path / "tests").glob("*/*_train_*.bin"):
            path.unlink()
        config = JobConfig(
            work_dir=tmp_path / "w", stack="federated", jar_path=fake_jars.client, case_jar_path=fake_jars.case
        )
        dataset = PairedDataset(open_dataset(bins), open_dataset(tmp_path / "tests"))
        first, second = java_files(config, dataset, dataset.users[:2])
        for client in (first, second):
            assert client.train_data[0].is_relative_to(bins / client.name)
            assert client.eval_data[0].is_relative_to(tmp_path / "tests" / client.name)

    def test_a_data_set_that_java_clients_cannot_read(self, tmp_path: Path) -> None:
        make_synthetic(tmp_path / "compact", users=1, progress=False)
        dataset = open_dataset(tmp_path / "compact")
        with pytest.raises(DataError, match=r"is no folder of \.bin files"):
            client_files(dataset, dataset.users, [tmp_path / "m.ms"])

    def test_a_user_that_lacks_a_bin(self, bins: Path, tmp_path: Path) -> None:
        dataset = open_dataset(bins)
        with pytest.raises(DataError, match="contains 0 files"):
            client_files(dataset, ["nobody"], [tmp_path / "m.ms"])
