"""Where a job runs is chosen once, and asked afterwards."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from folder_contents import contents

import mindfl
from mindfl.errors import MindflError
from mindfl.real.backend import JavaClientSide, RealServer
from mindfl.sim import JobConfig
from mindfl.sim.backends import ClientSide, EmbeddedServer, RayClients, RemoteServer

URL = "http://127.0.0.1:6668"
JARS = {"jar_path": "/jars/fl.jar", "case_jar_path": "/jars/case.jar"}
#: a comparison with the name of a server, of clients, of an executor or an engine
_COMPARED = re.compile(r"\b(?:config|self)\.(?:stack|clients|domain_name|executor|engine) (?:==|!=|is|in|not in) ")
#: where a job is put together; Java clients have a URL or none, whatever the server is
_HOMES = {"sim/backends.py", "real/java_settings.py"}


def test_names_are_compared_where_a_job_is_put_together_only() -> None:
    package = Path(mindfl.__file__).parent
    found = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if _COMPARED.search(path.read_text("utf-8"))
    }
    assert found == _HOMES


@pytest.mark.parametrize(
    ("settings", "server", "clients"),
    [
        ({}, EmbeddedServer, ClientSide),
        ({"executor": "ray"}, EmbeddedServer, RayClients),
        ({"engine": "mindspore"}, EmbeddedServer, ClientSide),
        ({"domain_name": URL}, RemoteServer, ClientSide),
        ({"stack": "federated"}, RealServer, ClientSide),
        ({"stack": "federated", "domain_name": URL}, RemoteServer, ClientSide),
        (JARS, EmbeddedServer, JavaClientSide),
        ({**JARS, "clients": "embedded"}, EmbeddedServer, ClientSide),
        ({**JARS, "stack": "federated"}, RealServer, JavaClientSide),
    ],
)
def test_the_options_choose_server_and_clients(settings: dict[str, Any], server: type, clients: type) -> None:
    config = JobConfig(**settings)
    assert type(config.server_side) is server and type(config.client_side) is clients
    assert config.clients == config.client_side.name
    assert config.server_side.reference == (settings.get("stack") == "federated")


def test_a_server_that_was_started_is_one_that_runs() -> None:
    assert isinstance(JobConfig(stack="federated").derived(domain_name=URL).server_side, RemoteServer)


@pytest.mark.parametrize("side", [EmbeddedServer(), RemoteServer(), RealServer()])
def test_what_a_server_ignores_are_options(side: Any) -> None:
    names = {name for each in side.ignores for name in each.names}
    assert names <= set(JobConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"executor": "ray", "ray_address": "127.0.0.1:9"}, r"no Ray cluster at 127\.0\.0\.1:9: .*refused"),
        ({"executor": "ray", "ray_address": "ray://127.0.0.1:9"}, "no Ray cluster at ray://.*refused"),
        ({"executor": "ray", "ray_address": "head"}, "no Ray cluster at head: it is no address"),
        ({"executor": "ray", "ray_address": "head:99999999"}, "no Ray cluster at head:99999999: "),
        ({"domain_name": "http://127.0.0.1:9"}, r"cannot reach http://127\.0\.0\.1:9: connection refused"),
        ({"domain_name": "https://127.0.0.1:9", "cert_path": "none.crt"}, r"cannot read none\.crt"),
        ({"stack": "federated", "redis_address": "127.0.0.1:9"}, r"the Redis at 127\.0\.0\.1:9 cannot be used: "),
        ({"stack": "federated", "python": "/bin/true"}, "python: /bin/true is no Python that runs"),
    ],
)
def test_what_is_not_there_is_refused_before_an_earlier_result_is_replaced(
    make_job: Any, settings: dict[str, Any], what: str
) -> None:
    for extra, name in (("ray", "ray_address"), ("redis", "redis_address")):
        if name in settings:
            pytest.importorskip(extra, reason=f"needs the extra {extra}")
    make_job(iterations=1).run()
    job = make_job(iterations=1, **settings)
    before = contents(job.config.work_dir)
    with pytest.raises(MindflError, match=what):
        job.run()
    assert contents(job.config.work_dir) == before


@pytest.mark.parametrize("settings", [{}, {"executor": "ray"}, {"engine": "mindspore"}, JARS])
def test_what_clients_ignore_are_options(settings: dict[str, Any]) -> None:
    names = {name for each in JobConfig(**settings).client_side.ignores for name in each.names}
    assert names and names <= set(JobConfig.__dataclass_fields__)


def test_the_real_server_and_java_clients_are_loaded_when_a_job_chooses_them() -> None:
    script = "import sys, mindfl.sim; mindfl.sim.JobConfig(); print([n for n in sys.modules if 'mindfl.real' in n])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "[]\n"


def test_the_simulation_names_them_where_backends_are_registered_only() -> None:
    """But for types, and for the place that they had in the first release."""
    room = Path(mindfl.__file__).parent / "sim"
    found = {
        path.name
        for path in room.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).startswith("mindfl.real")
    }
    assert found == {"backends.py", "federated.py"}
    for path in room.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        typed = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        for_types = {id(each) for node in typed for each in ast.walk(node)}
        imports = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) and id(each) not in for_types]
        assert not [each for each in imports if (each.module or "").startswith("mindfl.real")], path
