"""``mindfl simulate`` as a user types it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import fields
from pathlib import Path

import pytest

from mindfl.cli.simulate import simulate_command
from mindfl.lite import LiteModel
from mindfl.sim import History, JobConfig, weight_hash


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
    one, four = mindfl(*small_job), mindfl(*small_job, "--server_num", 4, "--overwrite")
    assert four.out.splitlines()[2:] == one.out.splitlines()[2:]
    assert "warning: --server_num 4" in four.err and "warning" not in one.err


def test_null_is_not_given(mindfl, small_job: list[str], tmp_path: Path) -> None:
    nulls = [f"--{name}" for name in ("test_dataset", "vocal_file", "ids_file", "train_weight_name", "cert_path")]
    outcome = mindfl(*small_job, *(word for name in nulls for word in (name, "null")), "--train_ms_name", "null")
    assert outcome.code == 0 and "warning" not in outcome.err
    assert (tmp_path / "models" / "lenet_train0.ms").is_file()


def test_the_tutorials_other_tasks(mindfl, small_job: list[str], tmp_path: Path) -> None:
    untrained = mindfl(*small_job, "--task=inference")
    assert untrained.code == 0
    assert f"warning: no training left the models in {tmp_path / 'models'}" in untrained.err
    mindfl(*small_job)

    many = json.loads(mindfl(*small_job, "--task=inference", "--json").out)
    outcome = mindfl(*small_job, "--task=anything", "--json")
    assert {name: labels[:1] for name, labels in many.items()} == json.loads(outcome.out)
    assert "warning: task 'anything' is none of train, inference, getModel: inference of a single record" in outcome.err
    logged = (tmp_path / "run" / "client_0" / "client.log").read_text().splitlines()
    assert [line for line in logged if "the predicted labels:" in line][-1] == (
        f"INFO: <FLClient> [model inference] the predicted labels: {many['synthetic_0000'][:1]}"
    )

    other = mindfl(*small_job, "--task=inference", "--client_num=2")
    assert "warning: --client_num is 2, but 3 clients were trained: use the same number" in other.err


@pytest.mark.parametrize("task", ["inference", "getModel", "anything"])
def test_options_of_training_are_named_for_other_tasks(mindfl, small_job: list[str], task: str) -> None:
    outcome = mindfl(*small_job, f"--task={task}", "--save_best", "--encrypt_type=DP_ENCRYPT")
    named = [line.split(": ")[2] for line in outcome.err.splitlines() if "has no effect on this task" in line]
    options = ("--iterations 2", "--epochs 1", "--save_best", "--encrypt_type DP_ENCRYPT")
    assert named == [f"{option} has no effect on this task" for option in options]


#: names of the tutorial -> those of MindSpore Federated 0.1.0 -> the setting
SPELLINGS = {
    "train_dataset": ("--train_dataset", "--train_data_dir", "--train-data-dir"),
    "test_dataset": ("--test_dataset", "--eval_data_dir", "--test-dataset"),
    "infer_dataset": ("--infer_data_dir", "--infer-data-dir"),
    "vocal_file": ("--vocal_file", "--vocab_path"),
    "ids_file": ("--ids_file", "--ids_path"),
    "path_regex": ("--path_regex", "--path-regex"),
    "fl_name": ("--flName", "--fl_name", "--fl-name"),
    "train_model_path": ("--train_model_path", "--train_model_dir"),
    "infer_model_path": ("--infer_model_path", "--infer_model_dir"),
    "origin_train_model_path": ("--origin_train_model_path",),
    "origin_infer_model_path": ("--origin_infer_model_path",),
    "train_ms_name": ("--train_ms_name",),
    "infer_ms_name": ("--infer_ms_name",),
    "ssl_protocol": ("--ssl_protocol", "--ssl-protocol"),
    "deploy_env": ("--deploy_env",),
    "domain_name": ("--domain_name",),
    "cert_path": ("--cert_path",),
    "use_elb": ("--if_use_elb", "--use_elb", "--if-use-elb"),
    "server_num": ("--server_num",),
    "task": ("--task",),
    "thread_num": ("--thread_num",),
    "cpu_bind_mode": ("--cpu_bind_mode",),
    "train_weight_name": ("--train_weight_name",),
    "infer_weight_name": ("--infer_weight_name",),
    "name_regex": ("--name_regex",),
    "server_mode": ("--server_mode",),
    "batch_size": ("--batch_size",),
    "input_shape": ("--input_shape",),
    "client_num": ("--client_num",),
    "jar_path": ("--jarPath", "--fl_jar_path", "--fl-jar-path"),
    "case_jar_path": ("--case_jarPath", "--case_jar_path"),
    "lite_jar_path": ("--lite_jar_path", "--lite-jar-path"),
}


def test_the_tutorials_spellings_and_those_of_0_1_0() -> None:
    options = {parameter.name: parameter.opts for parameter in simulate_command.params}
    for name, spellings in SPELLINGS.items():
        assert set(spellings) <= set(options[name]), name


#: options of a call, which say nothing of the job
_OF_A_CALL = {"task", "config", "quiet", "as_json", "live", "live_port", "help"}


def test_every_option_is_a_setting_and_the_other_way_round() -> None:
    names = {parameter.name for parameter in simulate_command.params}
    assert names - _OF_A_CALL == {item.name for item in fields(JobConfig)}


def test_defaults_are_those_of_the_settings() -> None:
    context = simulate_command.make_context("simulate", [])
    settings = {name: value for name, value in context.params.items() if name not in _OF_A_CALL}
    assert JobConfig(**settings) == JobConfig()


def test_help_has_each_option_once_without_its_twin(mindfl) -> None:
    text = mindfl("simulate", "--help").out
    for title in ("Job:", "Data:", "Model:", "Server:", "Embedded clients:", "Java clients:", "Output:", "Other:"):
        assert f"\n{title}\n" in text
    for parameter in simulate_command.params:
        assert len(re.findall(rf"^  .*{parameter.opts[0]}\b", text, re.MULTILINE)) >= 1, parameter.opts
    assert "--work-dir" not in text and "--per-client-models" not in text


def test_an_option_without_effect_is_named_once(mindfl, small_job: list[str]) -> None:
    outcome = mindfl(*small_job, "--thread_num", 2, "--vocal_file", "vocab.txt")
    warnings = [line for line in outcome.err.splitlines() if "warning" in line]
    assert [line.split(" has no effect")[0] for line in warnings] == [
        "mindfl: warning: --thread_num 2",
        "mindfl: warning: --vocal_file vocab.txt",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--train_dataset", "nowhere"], 40, "nowhere is not a folder"),
        (["--learning_rate", "1e9"], 61, "failed in iteration 1: the training loss is"),
        (["--batch_size", "16"], 2, "use --batch_size 32"),
        (["--deploy_env", "android"], 2, "clients are simulated on this machine only"),
        (["--input_shape", "1,2"], 2, "the model file takes 32,32,32,3;32"),
        (["--jarPath", "/no/fl.jar", "--case_jarPath", "case.jar"], 2, "--jarPath /no/fl.jar does not exist"),
        (["--clients", "java"], 2, "Java clients need jar_path"),
        (["--stack", "federated", "--domain_name", "localhost"], 2, "localhost"),
        (["--work_dir", "/dev/null/x"], 3, "cannot create folder /dev/null/x: Not a directory"),
        (
            ["--train_model_path", "empty", "--device_target", "Abacus"],
            2,
            "device_target must be one of CPU, GPU, Ascend",
        ),
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
        assert (
            err
            == "mindfl: error: interrupted (what was finished is kept; --resume goes on from there) [E-INTERRUPTED]\n"
        )
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


@pytest.mark.parametrize("own_model", [True, False])
def test_a_mindspore_that_aborts_stops_only_what_needs_it(
    python, small_job: list[str], tmp_path: Path, own_model: bool
) -> None:
    (tmp_path / "packages" / "mindspore").mkdir(parents=True)
    (tmp_path / "packages" / "mindspore" / "__init__.py").write_text("import os; os.abort()")
    if not own_model:
        (tmp_path / "models" / "lenet_train.ms").unlink()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages")}
    outcome = python("-m", "mindfl", *small_job, "--quiet", env=environment)
    if own_model:
        assert (outcome.code, outcome.err) == (0, "")
    else:
        assert outcome.code == 10 and "MindSpore was ended by SIGABRT" in outcome.error()


def test_live_page(mindfl, small_job: list[str], tmp_path: Path) -> None:
    shown = mindfl(*small_job, "--quiet", "--live")
    assert shown.code == 0 and re.fullmatch(r"mindfl: live page http://127\.0\.0\.1:\d+/\n", shown.err)
    entries = [json.loads(line) for line in (tmp_path / "run" / "timeline.jsonl").read_text().splitlines()]
    assert [entry["uploads"] for entry in entries if entry["uploads"] == entry["clients"]] == [3, 3]
    plain = mindfl(*small_job, "--quiet", "--overwrite", "--live_port", "1")
    assert plain.err == "mindfl: warning: --live_port 1 has no effect on this run: it is the port of --live\n"
    hashes = [re.findall("weights sha256 .*", outcome.out) for outcome in (shown, plain)]
    assert hashes[0] == hashes[1] != []
    assert not (tmp_path / "run" / "timeline.jsonl").exists(), "it is of the run that was replaced"
