"""Words on the command line that mean nothing, or nearly something else: empty paths, misspelled tasks and choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mindfl as library
from mindfl.client import TlsSettings
from mindfl.errors import OptionError
from mindfl.files import make_dir, read_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.real.process_registry import ProcessRegistry
from mindfl.server.certificates import make_certificates
from mindfl.server.start_options import ServerOptions
from mindfl.sim import JobConfig
from mindfl.sim.benchmark import bench
from mindfl.sim.device_job import DeviceSettings

SERVER = ("server", "start", "--config", "c", "--model", "m")


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "--work_dir"),
        ("simulate", "--train_dataset"),
        ("simulate", "--train_model_path"),
        ("simulate", "--origin-train-model-path"),
        ("simulate", "--jarPath"),
        ("simulate", "--converter"),
        ("simulate", "--cert_path"),
        ("export", "--mindir_path"),
        ("convert", "--outputFile", "x", "--modelFile"),
        ("convert", "--modelFile", "x", "--outputFile"),
        ("client", "--train_model"),
        ("client", "--train_model", "x", "--log_file"),
        ("data", "leaf", "--output", "x", "--input"),
        ("data", "synthetic", "--output"),
        ("data", "inspect"),
        ("inspect",),
        ("data", "inspect", "x", "--sheet"),
        ("server", "start", "--model", "m", "--config"),
        ("server", "start", "--config", "c", "--model"),
        (*SERVER, "--state_dir"),
        (*SERVER, "--server_cert_path"),
        (*SERVER, "--password_file"),
        ("server", "scheduler", "--config"),
        ("server", "certs", "--out"),
        ("server", "install", "--python"),
        ("finish", "--work_dir"),
        ("bench", "--work_dir"),
        ("watch",),
        ("compare",),
        ("compare", "x", "--out"),
        ("plot", "x", "--out"),
        ("experiment", "femnist50", "--work_dir"),
        ("experiment", "privacy50", "--train_dataset"),
        ("experiment", "niid_bench", "--dataset"),
    ],
)
def test_empty_paths(mindfl, tmp_path: Path, monkeypatch, arguments: tuple[str, ...], empty: str) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = mindfl(*arguments, empty)
    assert outcome.code == 2
    assert "is empty" in outcome.err + outcome.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: JobConfig(work_dir=""),
        lambda: JobConfig(infer_model_path=" "),
        lambda: DeviceSettings(train_model_path=""),
        lambda: ServerOptions(config="", model="x"),
        lambda: ServerOptions(config="x", model="x", state_dir=""),
        lambda: TlsSettings(cert_path=""),
        lambda: library.export_mindir(""),
        lambda: library.convert_model("", "x"),
        lambda: library.convert_model("x", output_path=""),
        lambda: library.open_dataset(""),
        lambda: library.make_synthetic("", users=1),
        lambda: library.convert_leaf("x", output=""),
        lambda: library.inspect_dataset("x", sheet=""),
        lambda: library.inspect_model(""),
        lambda: library.History.load(""),
        lambda: LiteModel.load(""),
        lambda: make_certificates(""),
        lambda: ProcessRegistry(""),
        lambda: bench(work_dir=""),
        lambda: read_file(""),
        lambda: make_dir(" "),
        lambda: write_atomic("", b""),
    ],
)
def test_empty_paths_in_python(call: Callable[[], object]) -> None:
    with pytest.raises(OptionError, match="is empty"):
        call()


@pytest.mark.parametrize(
    ("task", "meant"),
    [
        *(("trian", "train"), ("Train", "train"), ("TRAIN", "train"), ("train ", "train"), ("training", "train")),
        *(("getmodel", "getModel"), ("get_model", "getModel"), ("GetModel", "getModel")),
        *(("infer", "inference"), ("Inference", "inference"), ("inferance", "inference")),
    ],
)
def test_tasks_that_are_nearly_one(mindfl, small_job: list[str], tmp_path: Path, task: str, meant: str) -> None:
    outcome = mindfl(*small_job, "--task", task)
    assert outcome.code == 2
    assert outcome.error() == f"there is no task {task!r} (did you mean {meant}?) [E-OPTION]"
    assert not (tmp_path / "run").exists()
    assert f"did you mean {meant}?" in mindfl("client", "--train_model", "x", "--task", task).error()


def test_no_task(mindfl, small_job: list[str]) -> None:
    assert mindfl(*small_job, "--task", " ").error().startswith("there is no task ' ' (choose one of train,")


def test_any_other_text_is_the_tutorials_inference_of_one_record(mindfl, small_job: list[str]) -> None:
    outcome = mindfl(*small_job, "--task", "classify")
    assert outcome.code == 0 and "task 'classify' is none of train" in outcome.err


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--encrypt_type", "dp_encrypt"), "did you mean DP_ENCRYPT?"),
        (("--encrypt_type", "SIGN_DS"), "did you mean SIGNDS?"),
        (("--upload_compress_type", "DIFF_SPARSE"), "did you mean DIFF_SPARSE_QUANT?"),
        (("--engine", "Lite"), "did you mean lite?"),
        (("--stack", "federate"), "did you mean federated?"),
        (("--data_format", "bins"), "did you mean bin?"),
    ],
)
def test_choices_that_are_nearly_right(mindfl: Any, small_job: list[str], options: tuple[str, str], hint: str) -> None:
    outcome = mindfl(*small_job, *options)
    assert outcome.code == 2 and hint in outcome.error()
