"""Options of a server without an effect are named, and those with one are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from server_yaml import WITH_CERTIFICATES, server_yaml

from mindfl.algorithms import Algorithm, FedAvg
from mindfl.errors import OptionError
from mindfl.server.settings import read_settings
from mindfl.server.start_options import ServerOptions, unused_options

ENCRYPTED = {"enable_ssl": True}
PASSWORD = "hunter2"

UNUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"tcp_server_ip": "10.0.0.1"}, ["--tcp_server_ip 10.0.0.1 has no effect on one server"]),
    ({"tcp_server_ip": "10.0.0.1", "cluster": True}, []),
    ({"password": PASSWORD}, ["the password has no effect on this server: enable_ssl is false"]),
    ({"password": PASSWORD, "overrides": ENCRYPTED}, []),
    ({"server_key_path": "key.pem"}, ["--server_key_path key.pem has no effect on this server: enable_ssl is false"]),
    ({"require_client_certificate": True}, ["--require_client_certificate has no effect on this server"]),
    ({"require_client_certificate": True, "server_key_path": "key.pem", "overrides": ENCRYPTED}, []),
    ({"state_dir": "state"}, []),
    ({"state_dir": "state", "journal": False}, ["--state_dir state has no effect on --no-journal"]),
    ({"journal": False}, []),
    ({"journal": False, "cluster": True}, ["--no-journal has no effect on the servers of a cluster"]),
]


@pytest.mark.parametrize(("given", "expected"), UNUSED)
def test_options_without_effect_are_named(tmp_path: Path, given: dict[str, Any], expected: list[str]) -> None:
    config = tmp_path / "fl.yaml"
    config.write_text(server_yaml(more=WITH_CERTIFICATES))
    options = ServerOptions(config=config, model="model.npz", **given)
    said = list(unused_options(options, read_settings(config, options.overrides)))
    assert [text[: len(begin)] for text, begin in zip(said, expected, strict=True)] == expected
    assert PASSWORD not in "".join(said)


@pytest.mark.parametrize("given", [{"state_dir": "state"}, {"dp_budget": 5.0}, {"algorithm": "fedadam"}])
def test_a_cluster_has_no_such_options(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^--{next(iter(given))} is for one server"):
        ServerOptions(config="fl.yaml", model="model.npz", cluster=True, **given)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedavg:eta=1.0", FedAvg(), Algorithm()])
def test_a_cluster_averages(algorithm: Any) -> None:
    assert ServerOptions(config="fl.yaml", model="model.npz", cluster=True, algorithm=algorithm).cluster
