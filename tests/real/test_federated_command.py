"""``mindfl server start --stack federated`` and ``mindfl server install`` as a user runs them, with stand-ins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from server_yaml import server_yaml

from mindfl.real.process_registry import ProcessRegistry

YAML = server_yaml(
    fl_name="Lenet é",
    cache='type: redis, address: "127.0.0.1:1"',
    more="encrypt: {encrypt_type: DP_ENCRYPT}\n",
)


@pytest.fixture
def folder(standins: Path, tmp_path: Path) -> Path:
    """A folder with settings and a model; nothing can listen at the Redis address in them."""
    folder = tmp_path / "a jöb"
    folder.mkdir()
    (folder / "fl.yaml").write_text(YAML, "utf-8")
    np.savez(folder / "model.npz", w=np.zeros((2, 3), np.float32))
    return folder


def mindfl(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", "mindfl", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(folder: Path, *arguments: str | Path) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code, and what it printed."""
    process = mindfl(folder, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def serve(folder: Path, standins: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start the real stack; return the process and the URL once it is ready."""
    options = ["--stack", "federated", "--config", "fl.yaml", "--model", "model.npz", "--python", standins]
    process = mindfl(folder, "server", "start", *options, "--http_server_address", "127.0.0.1:0", *arguments)
    assert process.stdout
    assert process.stderr
    line = process.stdout.readline()
    assert line.startswith("ready http://"), process.stderr.read()
    return process, line.split()[1]


def test_status_and_stop(folder: Path, standins: Path) -> None:
    process, url = serve(folder, standins, "--server_num", "2", "--fl_iteration_num", "7")

    code, out, _ = run(folder, "server", "status", "--json")
    assert code == 0
    [server] = json.loads(out)
    assert (server["url"], server["fl_name"], server["state"]) == (url, "Lenet é", "running")
    assert (server["pid"], server["iteration"], server["iterations"]) == (process.pid, 1, 7)
    assert server["manage_url"].startswith("http://127.0.0.1:")

    assert run(folder, "server", "stop")[:2] == (0, f"stopped {url}\n")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the Redis at 127.0.0.1:1, the file's distributed_cache.address, does not answer" in err
    assert "starting 2 real servers" in err
    assert not ProcessRegistry(folder / "mindfl_work").running()
    assert "DP_ENCRYPT" in (folder / "mindfl_work" / "federated" / "fl.yaml").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signals_end_everything(folder: Path, standins: Path, number: signal.Signals, code: int) -> None:
    process, _ = serve(folder, standins, "--work_dir", "elsewhere", "--quiet")

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert err == ("mindfl: error: interrupted [E-INTERRUPTED]\n" if number is signal.SIGINT else "")
    assert not ProcessRegistry(folder / "elsewhere").running()
    assert run(folder, "server", "status")[1] == "no server runs\n"


def test_a_server_that_dies_ends_the_command(folder: Path, standins: Path) -> None:
    process, _ = serve(folder, standins)
    registry = ProcessRegistry(folder / "mindfl_work")
    [server] = [record for record in registry.running() if record.role == "real server 0"]

    os.kill(server.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 60
    assert err.splitlines()[-1].startswith("mindfl: error: the real server 0 was ended by signal 9: ")
    assert not registry.running()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--stack", "federated", "--cluster"], "--cluster is for --stack embedded, not for --stack federated"),
        (["--stack", "federated", "--no-journal"], "--no-journal is for --stack embedded, not for --stack federated"),
        (["--redis_address", "127.0.0.1:1"], "--redis_address is for --stack federated, not for --stack embedded"),
        (["--resume"], "--resume is for --stack federated, not for --stack embedded"),
        (["--stack", "federated", "--python", "nothing-there"], "python: nothing-there is no program"),
        (["--stack", "federated", "--enable_ssl"], "ssl.server_cert_path is missing"),
        (["--stack", "federated", "--server_num", "0"], "server_num must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be(folder: Path, arguments: list[str], line: str) -> None:
    code, out, err = run(folder, "server", "start", "--config", "fl.yaml", "--model", "model.npz", *arguments)

    assert (code, out) == (2, "")
    assert line in err
    assert len(err.splitlines()) <= 2


def test_install_prints_the_interpreter(folder: Path, standins: Path) -> None:
    assert run(folder, "server", "install", "--python", standins) == (0, f"{standins}\n", "")


def test_install_offline(folder: Path, standins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = standins.read_text().replace(', "mindspore_federated"', "")
    standins.write_text(text)
    monkeypatch.setenv("MINDFL_OFFLINE", "1")

    code, out, err = run(folder, "server", "install", "--python", standins)

    assert (code, out) == (25, "")
    assert err.startswith("mindfl: error: MindSpore Federated 0.1.0 is not in the cache and MINDFL_OFFLINE is set")
    assert len(err.splitlines()) == 1
