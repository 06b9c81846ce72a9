from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from process_end import await_end

from mindfl.cli.convert import convert_command

ModelFactory = Callable[..., Path]
WriteProgram = Callable[..., Path]
TOOL = Path(__file__).parents[2] / "tools" / "converter" / "converter_lite"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(convert_command, list(arguments))


def test_success_is_the_tutorials_line(exported: ModelFactory, converter_library: Path, tmp_path: Path) -> None:
    outcome = run(
        "--fmk=MINDIR", "--trainModel=true", f"--modelFile={exported()}", f"--outputFile={tmp_path / 'lenet_train'}"
    )
    assert (outcome.exit_code, outcome.output) == (0, "CONVERTER RESULT SUCCESS:0\n")
    assert (tmp_path / "lenet_train.ms").is_file()


def test_json_and_verbose(exported: ModelFactory, converter_library: Path, tmp_path: Path) -> None:
    outcome = run("--input", str(exported()), "--output", str(tmp_path / "a"), "--json", "--verbose")
    report = json.loads(outcome.stdout)
    assert report["path"] == str(tmp_path / "a.ms")
    assert report["inputs"]["inputs0"] == [32, 32, 32, 3]
    assert report["parameters"]["conv2.weight"] == [16, 5, 5, 6]
    assert report["rewritten"] is True


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 3", 20), ("kill -SEGV $$", 23), ("echo nothing > model.ms", 24)],
    ids=["refused", "crashed", "not the model"],
)
def test_verbose_shows_the_log_of_a_conversion_that_fails(
    script: str, code: int, write_program: WriteProgram, exported: ModelFactory, tmp_path: Path
) -> None:
    program = write_program(f"#!/bin/sh\necho step one; echo step two\n{script}\n")
    options = (f"--input={exported()}", f"--output={tmp_path / 'a'}", f"--converter={program}")
    outcome = run(*options, "--verbose")
    assert (outcome.exit_code, outcome.stderr) == (code, "step one\nstep two\n")
    assert outcome.stdout == run(*options).stdout and "CONVERT RESULT FAILED" in outcome.stdout


BAD_INPUTS: dict[str, Callable[[Path, bytes], object]] = {
    "missing": lambda path, good: None,
    "folder": lambda path, good: path.mkdir(),
    "empty": lambda path, good: path.write_bytes(b""),
    "text": lambda path, good: path.write_text("hello\n" * 100),
    "random": lambda path, good: path.write_bytes(bytes(range(256)) * 100),
    "cut at 3 kB": lambda path, good: path.write_bytes(good[:3_000]),
    "cut at 300 kB": lambda path, good: path.write_bytes(good[:300_000]),
    "cut at the last byte": lambda path, good: path.write_bytes(good[:-1]),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_input_is_one_line_with_a_code_of_its_own(kind: str, exported: ModelFactory, tmp_path: Path) -> None:
    file = tmp_path / "lenet.mindir"
    BAD_INPUTS[kind](file, exported().read_bytes())
    outcome = run(f"--modelFile={file}", f"--outputFile={tmp_path / 'out'}")
    assert outcome.exit_code == 21
    assert re.fullmatch(r"CONVERT RESULT FAILED: .*lenet\.mindir.* \[E-MINDIR\]\n", outcome.output)
    assert not (tmp_path / "out.ms").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "--modelFile and --outputFile are needed"),
        (["--modelFile=a"], 2, "are needed"),
        (["--modelFile=a", "--outputFile=b", "--fmk=TFLITE"], 2, "--fmk=TFLITE is not supported"),
        (["--modelFile={good}", "--outputFile={tmp}/a", "--converter={tmp}/none"], 22, "does not exist"),
        (["--modelFile={good}", "--outputFile={good}/a"], 3, "cannot create folder"),
        (["--modelFile={good}", "--outputFile=/"], 2, "does not name an output file"),
    ],
)
def test_other_failures(
    arguments: list[str], code: int, text: str, exported: ModelFactory, converter_library: Path, tmp_path: Path
) -> None:
    outcome = run(*(argument.format(good=exported(), tmp=tmp_path) for argument in arguments))
    assert outcome.exit_code == code
    assert outcome.output.startswith("CONVERT RESULT FAILED: ")
    assert outcome.output.count("\n") == 1
    assert text in outcome.output


def test_fetch_says_where(converter_library: Path) -> None:
    assert run("--fetch").output == f"converter library: {converter_library}\n"
    assert json.loads(run("--fetch", "--json").output) == {"library": str(converter_library)}


def test_options_of_a_conversion_are_named_where_there_is_none(converter_library: Path) -> None:
    outcome = run("--fetch", "--outputFile=a", "--fmk=TFLITE", "--trainModel=false")
    assert (outcome.exit_code, outcome.stdout) == (0, f"converter library: {converter_library}\n")
    begin, end = (
        "mindfl: warning: --",
        " has no effect on --fetch alone: no --modelFile is given, so nothing is converted",
    )
    named = [line.removeprefix(begin).removesuffix(end) for line in outcome.stderr.splitlines()]
    assert named == ["outputFile a", "fmk TFLITE", "trainModel"]


def test_fetch_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path))
    monkeypatch.setenv("MINDFL_OFFLINE", "1")
    monkeypatch.delenv("MINDFL_CONVERTER_LIB", raising=False)
    outcome = run("--fetch")
    assert outcome.exit_code == 25
    assert "MINDFL_OFFLINE" in outcome.output


def test_the_tutorials_command_line(exported: ModelFactory, converter_library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my tools"
    folder.mkdir()
    shutil.copy(TOOL, folder / "converter_lite")
    shutil.copy(exported(), folder / "lenet_train.mindir")
    command = "./converter_lite --fmk=MINDIR --trainModel=true --modelFile=lenet_train.mindir --outputFile=lenet_train"
    environment = {**os.environ, "MINDFL_PYTHON": sys.executable, "PATH": f"{folder}:/usr/bin:/bin"}
    outcome = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout) == (0, "CONVERTER RESULT SUCCESS:0\n"), outcome.stderr
    assert (folder / "lenet_train.ms").is_file()


def test_the_tool_without_any_python(tmp_path: Path) -> None:
    for name in ("sh", "dirname", "readlink"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    program = tmp_path / "elsewhere" / "converter_lite"
    program.parent.mkdir()
    shutil.copy(TOOL, program)
    outcome = subprocess.run([program], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert outcome.returncode == 22
    assert outcome.stdout.startswith("CONVERT RESULT FAILED: no Python with mindfl found")


def test_ctrl_c_ends_the_converter_too(write_program: WriteProgram, exported: ModelFactory, tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    program = write_program(f"#!/bin/sh\necho $$ > {started}\nexec sleep 1000\n")
    command = [sys.executable, "-m", "mindfl", "convert", f"--modelFile={exported()}"]
    command += [f"--outputFile={tmp_path / 'out'}", f"--converter={program}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    converter = int(subprocess.run(["cat", started], capture_output=True, timeout=30, check=True).stdout)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in output + errors
    await_end(converter)
    assert not (tmp_path / "out.ms").exists()
