"""Extras: one table for setup.cfg, the doctor and the hints."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_yaml import WITH_CERTIFICATES, server_yaml

from mindfl.cli.doctor import examine
from mindfl.errors import OptionError
from mindfl.experiments.privacy50 import run_study
from mindfl.imports import EXTRAS, lacks
from mindfl.server.serving import run_server
from mindfl.server.start_options import ServerOptions
from mindfl.sim import FederatedLeNetJob, JobConfig
from mindfl.sim.callbacks import Silent
from mindfl.sim.compatibility import check_packages

ROOT = Path(__file__).parents[1]


def test_the_table_is_that_of_setup_cfg() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    listed = {
        name: tuple(re.split(r"[<>=]", line)[0] for line in setup["options.extras_require"][name].split())
        for name in EXTRAS
    }
    assert listed == {name: extra.packages for name, extra in EXTRAS.items()}


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_missing_is_named_with_its_extra(extra: str) -> None:
    for package in EXTRAS[extra].packages:
        assert re.search(rf"mindfl's extras? .*\b{extra}\b", lacks("this", package).hint or "")


def test_no_hint_names_mindfl_itself() -> None:
    files = [*(ROOT / "mindfl").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    assert [str(path) for path in files if re.search(r"pip install ['\"]?mindfl", path.read_text())] == []


def test_the_doctor_lists_version_and_extras() -> None:
    names = [finding.name for finding in examine()]
    assert names[0] == "mindfl" and [f"Extra {name}" for name in EXTRAS] == [n for n in names if n.startswith("Extra")]


MASKS = {"share_secrets_ratio": 1.0, "cipher_time_window": 3000, "reconstruct_secrets_threshold": 1}
#: settings of a job -> the package it needs, and what needs it
NEEDS: list[tuple[dict[str, Any], str, str]] = [
    ({"tensorboard": True}, "tensorboard", "--tensorboard needs"),
    ({"executor": "ray"}, "ray", "--executor ray needs"),
    ({"encrypt_type": "PW_ENCRYPT"}, "cryptography", "--encrypt_type PW_ENCRYPT needs"),
    ({"encrypt_type": "STABLE_PW_ENCRYPT"}, "cryptography", "--encrypt_type STABLE_PW_ENCRYPT needs"),
    ({"encrypt_type": "PW_EXACT"}, "cryptography", "(--encrypt_type PW_EXACT|secure aggregation) needs"),
    ({"stack": "federated", "enable_ssl": True}, "cryptography", "--enable_ssl makes certificates, which needs"),
    ({"encrypt_type": "DP_ENCRYPT", "clients_per_iteration": 3}, "dp-accounting", "3 of 5 clients needs"),
    ({"encrypt_type": "DP_ENCRYPT", "clients_per_iteration": 3, "dp_budget": 9.0}, "dp-accounting", "DP_ENCRYPT costs"),
    ({"stack": "federated", "redis_address": "127.0.0.1:1"}, "redis", "--redis_address 127.0.0.1:1 needs"),
]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function after which a package cannot be imported."""
    return lambda package: monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)


@pytest.mark.parametrize(("settings", "package", "what"), NEEDS)
def test_packages_are_looked_for_before_work_begins(
    without: Callable[[str], None], tmp_path: Path, settings: dict[str, Any], package: str, what: str
) -> None:
    without(package)
    with pytest.raises(OptionError, match=f"{what}.* the package {package}") as caught:
        FederatedLeNetJob(client_num=5, work_dir=tmp_path, reporter=Silent(), **settings).run()
    assert caught.value.hint == lacks("", package).hint
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"encrypt_type": "DP_ENCRYPT"},
        {"encrypt_type": "DP_ENCRYPT", "dp_budget": 900.0},
        {"encrypt_type": "SIGNDS", "clients_per_iteration": 3},
        {"encrypt_type": "PW_ENCRYPT", "domain_name": "http://h:1"},
        {"clients_per_iteration": 3},
    ],
)
def test_what_is_not_needed_is_not_asked_for(without: Callable[[str], None], settings: dict[str, Any]) -> None:
    for package in ("cryptography", "dp-accounting", "redis", "ray"):
        without(package)
    check_packages(JobConfig(client_num=5, **settings))


def test_a_study_looks_for_the_packages_of_all_its_modes(without: Callable[[str], None], tmp_path: Path) -> None:
    without("cryptography")
    with pytest.raises(OptionError, match="--encrypt_type PW_ENCRYPT needs the package cryptography"):
        run_study(["plain", "pw"], work_dir=tmp_path, client_num=5)
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "package", "what"),
    [
        ({"overrides": {"encrypt_type": "PW_ENCRYPT", **MASKS}}, "cryptography", "encrypt_type PW_ENCRYPT"),
        ({"overrides": {"enable_ssl": True}}, "cryptography", "serving TLS"),
        ({"cluster": True}, "redis", "--cluster"),
    ],
)
def test_a_server_looks_for_its_packages(
    without: Callable[[str], None], tmp_path: Path, changes: dict[str, Any], package: str, what: str
) -> None:
    without(package)
    config = tmp_path / "fl.yaml"
    config.write_text(server_yaml(more=WITH_CERTIFICATES))
    options = ServerOptions(config=config, model={"w": np.zeros(1, np.float32)}, **changes)
    with pytest.raises(OptionError, match=f"{what} needs the package {package}") as caught:
        run_server(options, ready=lambda url: None, tell=lambda text: None)
    assert caught.value.hint == lacks("", package).hint
    assert made(tmp_path) == ["fl.yaml"]


def made(folder: Path) -> list[str]:
    """Return the files in ``folder`` that are neither hidden nor locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def test_a_server_alone_imports_no_http_client() -> None:
    code = "import sys, mindfl.server.serving; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
