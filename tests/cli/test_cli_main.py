"""What all commands have in common: help without heavy imports, one-line errors, exit codes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mindfl import cli
from mindfl.cli import COMMANDS
from mindfl.cli.reporting import echo_json
from mindfl.errors import MindflWarning
from mindfl.files import _temporary_cache

HEAVY = ("mindspore", "numba", "llvmlite", "matplotlib", "PIL", "numpy", "tqdm")


@pytest.mark.parametrize(
    "code",
    [
        "import mindfl",
        *(f"from mindfl.cli import main; main({arguments})" for arguments in (["--help"], ["--version"])),
    ],
)
def test_cheap_imports(python, code: str) -> None:
    script = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {code}"
    outcome = python("-c", script)
    assert outcome.code == 0
    assert set(outcome.err.split()) & set(HEAVY) == set()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_each_command_is_cheap(python, command: str) -> None:
    script = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        f"from mindfl.cli import main; main(['{command}', '--help'])"
    )
    outcome = python("-c", script)
    assert outcome.code == 0 and "Usage: mindfl" in outcome.out
    assert set(outcome.err.split()) & {"mindspore", "numba", "matplotlib"} == set()


def test_help_lists_every_command(mindfl) -> None:
    outcome = mindfl("--help")
    for name, (_, text) in COMMANDS.items():
        assert name in outcome.out and text.split()[0] in outcome.out
    assert mindfl("-h") == outcome


def test_module_is_the_command(python) -> None:
    from mindfl import __version__

    assert python("-m", "mindfl", "--version") == (0, f"mindfl, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["simul"], "No such command 'simul'"),
        (["data", "simul"], "No such command 'simul'"),
        (["simulate", "extra"], "unexpected extra argument"),
        (["simulate", "--nonsense"], "No such option '--nonsense'"),
        (["simulate", "--seed", "abc"], "'abc' is not a valid integer"),
        (["simulate", "--learning_rate", "fast"], "'fast' is not a valid float"),
        (["simulate", "--iterations"], "'--iterations' requires an argument"),
        (["simulate", "--client_num", "0"], "client_num must be a whole number of at least 1, got 0"),
        (["simulate", "--client_num", "1e3"], "'1e3' is not a valid integer"),
        (["simulate", "--learning_rate", "nan"], "learning_rate must be a finite number above 0, got nan"),
        (["server", "start"], "Missing option '--config'"),
        (["data", "idx", "--input", "here"], "Missing option '--output'"),
        (["simulate", "--engine", "steam"], "engine must be one of lite, mindspore"),
    ],
)
def test_wrong_usage_is_one_line(mindfl, tmp_path, monkeypatch, arguments: list[str], reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = mindfl(*arguments)
    assert outcome.code == 2
    assert reason in outcome.error() and outcome.error().endswith("[E-OPTION]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_bare_group_shows_its_help(mindfl, arguments: list[str]) -> None:
    outcome = mindfl(*arguments)
    assert "Commands:" in outcome.out + outcome.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["simulate", "--help"], ["doctor"], ["doctor", "--json"], ["--version"]]
)
def test_reader_that_went_away(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mindfl", *arguments]
    quick = {**os.environ, "PATH": "", "PYENV_ROOT": os.devnull}  # the doctor finds no programs to start
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=quick)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_on_a_full_disk(unbuffered: str) -> None:
    command = [sys.executable, "-m", "mindfl", "--help"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_standard_error_on_a_full_disk() -> None:
    command = [sys.executable, "-m", "mindfl", "data", "inspect", "missing"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert (done.returncode, done.stdout) == (40, "")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(small_job, tmp_path: Path, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "mindfl", *small_job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr if "2>&-" in closed else "") == (0, "")
    assert (tmp_path / "run" / "summary.txt").is_file()


@pytest.mark.parametrize("encoding", ["utf-8:strict", "iso-8859-1", "ascii"])
def test_standard_output_that_cannot_show_a_path(python, tmp_path: Path, encoding: str) -> None:
    folder, environment = tmp_path / "数据\udcff", {**os.environ, "PYTHONIOENCODING": encoding}
    made = python("-m", "mindfl", "data", "synthetic", "--users", 1, "--output", folder, env=environment)
    assert made.code == 0 and "1 user" in made.out
    looked = python("-m", "mindfl", "data", "inspect", "--json", folder, cwd=tmp_path, env=environment)
    assert looked.code == 0 and json.loads(looked.out)["root"] == str(folder)


def test_json_of_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"losses": [4.1, math.nan], "best": (math.inf, {"of": -math.inf})})
    assert (
        capsys.readouterr().out.split()
        == json.dumps({"losses": [4.1, None], "best": [None, {"of": None}]}, indent=2).split()
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 2.00 TiB for an array"), "not enough memory"),
        (RuntimeError("can't start new thread"), "no further thread can be started"),
        (ImportError("libopenblas.so: failed to map segment from shared object"), "not enough memory"),
    ],
)
def test_out_of_memory_or_threads_is_one_line(
    mindfl, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(cli.root, "main", fail)
    outcome = mindfl("doctor")
    assert outcome.code == 1 and outcome.error().startswith(line)


def test_other_errors_are_not_taken_for_them(mindfl, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(cli.root, "main", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        mindfl("doctor")


def test_numba_without_its_compiler_is_one_line(python, small_job: list[str]) -> None:
    outcome = python("-m", "mindfl", *small_job, "--quiet", env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert outcome.code == 2 and outcome.error().startswith("NUMBA_DISABLE_JIT is set")


@pytest.mark.parametrize(
    "arguments",
    [
        ("client", "--train_model_path", "~nobody-here/x.ms", "--train_data_dir", "d", "--user", "u"),
        ("client", "--train_model_path", "x.ms", "--log_file", "~nobody-here/log", "--train_data_dir", "d"),
        ("data", "inspect", "~nobody-here/data"),
    ],
)
def test_a_home_folder_that_is_not_there_is_one_line(mindfl, arguments: tuple[str, ...]) -> None:
    outcome = mindfl(*arguments)
    assert outcome.code == 2 and "~nobody-here" in outcome.error()


class TestDoctor:
    NAMES = (
        *("mindfl", "Python", "MindSpore", "Processor", "oneDNN", "Converter", "Compiled kernels"),
        *("Java", "Redis", "Python 3.7-3.9", "Disk", "Cache folder"),
        *("Extra tls", "Extra privacy", "Extra mlflow", "Extra pandas", "Extra ray", "Extra redis"),
        *("Extra tensorboard", "Extra text"),
    )

    def test_json_has_every_check(self, mindfl) -> None:
        outcome = mindfl("doctor", "--json")
        findings = json.loads(outcome.out)
        assert tuple(finding["name"] for finding in findings) == self.NAMES
        for finding in findings:
            assert finding["found"] and isinstance(finding["present"], bool)
            assert finding["enables"] or finding["present"], "what is missing says what it would enable"

    @pytest.fixture
    def no_mindspore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let MindSpore be found without importing it, which takes two seconds."""
        monkeypatch.setattr("mindfl.export.process.try_import", lambda: "2.0 (stand-in)")

    @pytest.mark.usefixtures("no_mindspore")
    def test_text(self, mindfl) -> None:
        outcome = mindfl("doctor")
        assert outcome.code == 0 and outcome.err == ""
        for line, name in zip(outcome.out.splitlines(), self.NAMES, strict=True):
            assert line[:2] in ("ok", "--") and line[3:].strip().startswith(name)

    def test_bare_environment(self, python, bare_environment) -> None:
        outcome = python("-m", "mindfl", "doctor", "--json", env=bare_environment)
        assert (outcome.code, outcome.err) == (0, "")
        found = {finding["name"]: finding for finding in json.loads(outcome.out)}
        assert found["Java"]["found"] == "java is not on PATH"
        assert not found["Cache folder"]["present"] and "cannot be written" in found["Cache folder"]["found"]
        assert not found["Converter"]["present"]

    @pytest.mark.usefixtures("no_mindspore")
    def test_no_home_folder_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mindfl.cli import doctor

        def homeless() -> None:
            raise RuntimeError("Could not determine home directory.")

        _temporary_cache.cache_clear()
        monkeypatch.setattr(doctor.Path, "home", homeless)
        for name in ("MINDFL_CACHE", "XDG_CACHE_HOME", "PYENV_ROOT"):
            monkeypatch.delenv(name, raising=False)
        with pytest.warns(MindflWarning, match="no home folder"):
            found = {finding.name: finding for finding in doctor.examine()}
        assert tuple(found) == self.NAMES
        assert found["Cache folder"].present and tempfile.gettempdir() in found["Cache folder"].found

    def test_current_folder_is_gone(self, python, tmp_path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        found = "from mindfl.export import process; process.try_import = lambda: '2.0 (stand-in)'; "
        script = f"import os; os.rmdir({str(gone)!r}); from mindfl.cli import main; {found}main(['doctor', '--json'])"
        outcome = python("-c", script, cwd=gone)
        assert outcome.code == 0
        found = {finding["name"]: finding for finding in json.loads(outcome.out)}
        assert not found["Disk"]["present"]
