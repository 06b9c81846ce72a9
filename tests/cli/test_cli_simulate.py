"""``mindfl simulate`` as a user types it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from mindfl.cli.simulate import simulate_command
from mindfl.lite import LiteModel
from mindfl.sim import History, weight_hash


def test_train_then_infer_then_fetch(mindfl, small_job: list[str], tmp_path: Path) -> None:
    trained = mindfl(*small_job)
    assert trained.code == 0
    digest = weight_hash(LiteModel.load(tmp_path / "models" / "lenet_train_trained.ms").weights)
    assert f"weights sha256 {digest}" in trained.out
    assert (tmp_path / "run" / "summary.txt").read_text() in trained.out

    predicted = mindfl(*small_job, "--task", "inference", "--json")
    assert list(json.loads(predicted.out)) == ["synthetic_0000", "synthetic_0001", "synthetic_0002"]

    fetched = mindfl(*small_job, "--task=getModel")
    assert fetched.out == f"model fetched, weights sha256 {digest}\n"


def test_json(mindfl, small_job: list[str], tmp_path: Path) -> None:
    outcome = mindfl(*small_job, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    answer = json.loads(outcome.out)
    last = History.load(tmp_path / "run" / "history.jsonl")[-1]
    assert (answer["iterations"], answer["avg"], answer["loss"]) == (2, last.avg, last.loss)
    assert Path(answer["trained_model"]).is_file()
    assert len(answer["weights_sha256"]) == 64


def test_progress_without_a_terminal_is_a_line_per_iteration(mindfl, small_job: list[str]) -> None:
    lines = [line for line in mindfl(*small_job).err.splitlines() if "iteration" in line]
    assert [line.split(",")[:2] for line in lines] == [
        ["mindfl: iteration 1/2", " 3 clients"],
        ["mindfl: iteration 2/2", " 3 clients"],
    ]
    assert all("loss " in line and "AVG 0." in line for line in lines)


def test_progress_on_a_terminal_is_a_bar(small_job: list[str], tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "mindfl", *small_job]
    process = subprocess.Popen(command, stderr=terminal, stdout=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux: the terminal's other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait() == 0

    pieces = shown.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    bar = [piece for piece in pieces if piece.startswith("iteration")]
    assert bar[0].startswith("iteration 1/2, 1/3 clients, loss ") and bar[0].endswith("left")
    assert "iteration 2/2, 3 clients" in bar[-1] and "AVG 0." in bar[-1]
    assert max(map(len, bar)) <= 80
    assert any(piece.startswith("weights sha256") for piece in pieces), "the summary begins on a line of its own"


def test_every_option_has_both_spellings() -> None:
    for parameter in simulate_command.params:
        for name in parameter.opts:
            assert "_" not in name or name.replace("_", "-") in parameter.opts, name


def test_dashed_spellings_work(mindfl, small_job: list[str]) -> None:
    dashed = [argument.replace("_", "-") if argument.startswith("--") else argument for argument in small_job]
    dashed += ["--train-ms-name", "lenet_train", "--batch-size", "32", "--learning-rate", "0.01", "--server-num=1"]
    dashed += ["--clients-per-iteration", "2", "--shared-model", "--json", "--quiet"]
    assert json.loads(mindfl(*dashed).out)["iterations"] == 2


def test_more_servers_are_one(mindfl, small_job: list[str]) -> None:
    one, four = mindfl(*small_job), mindfl(*small_job, "--server_num", 4)
    assert four.out.splitlines()[2:] == one.out.splitlines()[2:]
    assert "warning: --server_num 4" in four.err and "warning" not in one.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--train_dataset", "nowhere"], 40, "nowhere is not a folder"),
        (["--task", "inference"], 60, "there is no trained model"),
        (["--learning_rate", "1e9"], 61, "failed in iteration 1: the training loss is"),
        (["--batch_size", "16"], 2, "use --batch_size 32"),
        (["--work_dir", "/dev/null/x"], 3, "cannot create folder /dev/null/x: Not a directory"),
        (["--train_model_path", "empty", "--device_target", "Abacus"], 10, "device target 'Abacus' cannot be used"),
    ],
)
def test_failures(mindfl, small_job, tmp_path, monkeypatch, arguments: list[str], code: int, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = mindfl(*small_job, "--quiet", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert reason in outcome.error()


def test_damaged_model_file(mindfl, small_job: list[str], tmp_path: Path) -> None:
    (tmp_path / "models" / "lenet_train.ms").write_bytes(b"nonsense")
    outcome = mindfl(*small_job, "--quiet")
    assert outcome.code == 30 and "lenet_train.ms" in outcome.error()


class TestRunningCommand:
    """The command in a process of its own, with far more iterations than it will get to do."""

    @pytest.fixture
    def running(self, small_job: list[str], tmp_path: Path):
        command = [sys.executable, "-m", "mindfl", *small_job, "--iterations", "1000000000", "--quiet"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        history = tmp_path / "run" / "history.csv"
        deadline = time.monotonic() + 120
        while not history.exists() or len(history.read_text().splitlines()) < 3:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        if process.poll() is None:
            process.kill()
        process.communicate()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupt(self, running: subprocess.Popen, tmp_path: Path, number: signal.Signals) -> None:
        os.killpg(running.pid, number)
        out, err = running.communicate(timeout=60)

        assert running.returncode == 130
        assert out == ""
        assert err == "mindfl: error: interrupted (what was finished is kept) [E-INTERRUPTED]\n"
        rows = History.load(tmp_path / "run" / "history.jsonl")
        assert [row.iteration for row in rows] == list(range(1, len(rows) + 1)) and len(rows) >= 2
        summary = (tmp_path / "run" / "summary.txt").read_text()
        assert f"interrupted after {len(rows)} of 1000000000 iterations" in summary
        digest = weight_hash(LiteModel.load(tmp_path / "models" / "lenet_train_trained.ms").weights)
        assert f"weights sha256 {digest}" in summary
        assert not list(tmp_path.rglob("*.tmp"))
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)

    def test_second_run_in_the_same_folder(self, running: subprocess.Popen, mindfl, small_job: list[str]) -> None:
        outcome = mindfl(*small_job, "--quiet")
        assert outcome.code == 60
        assert "another run is working in" in outcome.error()
        assert running.poll() is None, "the first run goes on"
