"""Running the command line as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mindfl.cli import main
from mindfl.data import make_synthetic


class Outcome(NamedTuple):
    """Exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    def error(self) -> str:
        """Return the one line on standard error, without its prefix."""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        prefix = "mindfl: error: "
        assert line.startswith(prefix), line
        return line.removeprefix(prefix)


@pytest.fixture
def mindfl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        return Outcome(code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def python() -> Callable[..., Outcome]:
    """Run Python in a process of its own."""

    def run(*arguments: object, **settings: object) -> Outcome:
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **settings)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic writers; not to be changed."""
    folder = tmp_path_factory.mktemp("writers") / "set"
    make_synthetic(folder, users=4, seed=3, progress=False)
    return folder


@pytest.fixture
def small_job(converted: Callable[..., Path], writers: Path, tmp_path: Path) -> list[str]:
    """Arguments of a job that takes a moment, starting from a model in ``models``."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lenet_train.ms").write_bytes(converted().read_bytes())
    return [
        "simulate",
        *("--work_dir", str(tmp_path / "run")),
        *("--train_dataset", str(writers)),
        *("--train_model_path", str(tmp_path / "models")),
        *("--client_num", "3"),
        *("--iterations", "2"),
        *("--epochs", "1"),
    ]


@pytest.fixture
def bare_environment(tmp_path: Path) -> dict[str, str]:
    """An environment without PATH, without a home folder, and with a cache that cannot be written."""
    (tmp_path / "file").write_text("in the way")
    keep = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    return {**keep, "PATH": "", "MINDFL_CACHE": str(tmp_path / "file" / "cache")}
