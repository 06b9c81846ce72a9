"""The YAML file of a job on the real server: options are written, and read back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import OptionError
from mindfl.real import FederatedConfig, FederatedServer, TlsFiles
from mindfl.real.federated_config import write_config
from mindfl.server.settings import read_settings

ADDRESS = {"distributed_cache.address": "127.0.0.1:6379"}

names = st.text(min_size=1, max_size=40).filter(str.isprintable)
wholes = st.integers(1, 2**31 - 1)
rates = st.floats(1e-30, 1e30, allow_nan=False)


def config(**values: Any) -> FederatedConfig:
    job = {"fl_name": "Lenet", "iterations": 3, "clients": 8, "epochs": 1, "batch_size": 32, "learning_rate": 0.01}
    return FederatedConfig(**{**job, **values})


@given(
    job=st.fixed_dictionaries(
        {"fl_name": names, "iterations": wholes, "clients": wholes, "epochs": wholes, "batch_size": wholes}
        | {"learning_rate": rates, "update_model_ratio": st.floats(0.001, 1.0), "update_model_time_window": wholes}
    )
)
def test_written_and_read_back(tmp_path_factory: pytest.TempPathFactory, job: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("yaml") / "fl.yaml"

    settings = write_config(path, {**config(**job).entries(), **ADDRESS})

    again = FederatedConfig.from_settings(settings)
    assert {name: getattr(again, name) for name in job} == job
    assert path.read_bytes().isascii()


FILE = """\
fl_name: Lenet é
fl_iteration_num: 3
server_mode: FEDERATED_LEARNING
enable_ssl: false
distributed_cache: {type: embedded, address: "redis:6379", cacert_filename: ca.crt}
round: {start_fl_job_threshold: 4, start_fl_job_time_window: 30, update_model_ratio: 0.75,
  update_model_time_window: 30, global_iteration_time_window: 60}
summary: {metrics_file: m.json, failure_event_file: e.txt, data_rate_dir: rates, participation_time_level: "1,2"}
encrypt:
  encrypt_type: PW_ENCRYPT
  pw_encrypt: {share_secrets_ratio: 1, cipher_time_window: 30000, reconstruct_secrets_threshold: 2}
compression: [ignored]
"""


def test_a_servers_file_keeps_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fl.yaml").write_text(FILE, "utf-8")

    job = FederatedConfig.from_settings(read_settings("fl.yaml", {"fl_iteration_num": 9}), server_num=2)
    written = write_config(
        tmp_path / "out" / "fl.yaml", {**job.entries(), **ADDRESS, "distributed_cache.type": "redis"}
    )

    assert (job.fl_name, job.iterations, job.clients, job.update_model_ratio) == ("Lenet é", 9, 4, 0.75)
    # As the reference has it where the file says nothing.
    assert (job.epochs, job.batch_size, job.learning_rate) == (25, 32, 0.001)
    assert written.encrypt.pw_encrypt.cipher_time_window == 30000
    assert written.summary.participation_time_level == "1,2"
    assert written.summary.data_rate_dir == str(tmp_path / "rates")
    assert written.distributed_cache.cacert_filename == str(tmp_path / "ca.crt")
    assert "compression" not in yaml.safe_load((tmp_path / "out" / "fl.yaml").read_text())


def test_further_settings_count_but_not_instead_of_the_jobs_own(tmp_path: Path) -> None:
    job = config(settings={"encrypt.encrypt_type": "DP_ENCRYPT", "fl_iteration_num": 1})

    settings = write_config(tmp_path / "fl.yaml", {**job.entries(), **ADDRESS})

    assert (settings.encrypt.encrypt_type, settings.fl_iteration_num) == ("DP_ENCRYPT", 3)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"iterations": 0}, "iterations must be a whole number of at least 1"),
        ({"clients": "8"}, "clients must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate must be a finite number above 0"),
        ({"fl_name": ""}, "fl_name is missing"),
        ({"settings": {"round.nonsense": 1}}, "unknown key 'round.nonsense'"),
        ({"settings": {"encrypt": 1, "encrypt.encrypt_type": "x"}}, "encrypt of encrypt.encrypt_type is no section"),
        ({"settings": {"encrypt.encrypt_type": object()}}, "cannot be written as YAML"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, values: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError) as caught:
        write_config(tmp_path / "fl.yaml", {**config(**values).entries(), **ADDRESS})

    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"server_num": 0}, "server_num must be a whole number of at least 1 and at most 100, got 0"),
        ({"server_num": 101}, "server_num"),
        ({"http_address": "6668"}, "http_address must be host:port"),
        ({"manage_address": "host:99999"}, "manage_address must be host:port"),
        ({"redis_address": "redis"}, "redis_address must be host:port"),
        ({"resume": True}, "redis_address"),
        ({"checkpoint_dir": Path("nowhere")}, "checkpoint_dir: nowhere is no folder"),
    ],
)
def test_unusable_arguments(values: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError) as caught:
        config(**values)

    assert named in str(caught.value)


def test_certificates_without_a_password() -> None:
    with pytest.raises(OptionError, match=r"client\.p12") as caught:
        TlsFiles(
            server_p12=Path("server.p12"),
            client_p12=Path("client.p12"),
            ca_cert=Path("ca.crt"),
            server_password="secret",
            client_password="",
        )

    assert "secret" not in caught.value.line()


def test_the_first_release_had_the_server_elsewhere() -> None:
    import mindfl.sim.federated

    assert mindfl.sim.federated.FederatedServer is FederatedServer
