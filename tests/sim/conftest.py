"""Small data sets, a starting model, and jobs that use them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mindfl.data import make_synthetic
from mindfl.sim import FederatedLeNetJob

sys.path.append(str(Path(__file__).parents[1] / "lite"))

JobFactory = Callable[..., FederatedLeNetJob]


class Recorder:
    """A reporter that keeps everything it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.seen: list[tuple[int, int, int]] = []
        self.rows: list[object] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, progress: object) -> None:
        self.seen.append((progress.iteration, progress.clients_done, progress.clients))

    def row(self, row: object) -> None:
        self.rows.append(row)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five synthetic writers in compact form; not to be changed."""
    folder = tmp_path_factory.mktemp("writers") / "set"
    make_synthetic(folder, users=5, seed=3, progress=False)
    return folder


@pytest.fixture(scope="session")
def bin_writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same writers as bins; not to be changed."""
    folder = tmp_path_factory.mktemp("writers") / "bins"
    make_synthetic(folder, users=5, seed=3, format="bin", progress=False)
    return folder


@pytest.fixture
def own_bins(bin_writers: Path, tmp_path: Path) -> Path:
    """A copy of the bins that a test may break."""
    return Path(shutil.copytree(bin_writers, tmp_path / "bins"))


@pytest.fixture
def models(converted: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder of the user's own that holds only ``lenet_train.ms``."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(converted(), folder / "lenet_train.ms")
    return folder


@pytest.fixture
def make_job(models: Path, writers: Path, tmp_path: Path) -> JobFactory:
    """Return a function that makes a small job: 3 clients, 2 iterations, 1 epoch; settings may be given."""

    def make(**settings: object) -> FederatedLeNetJob:
        small = {
            "work_dir": tmp_path / "run",
            "overwrite": True,
            "train_dataset": writers,
            "train_model_path": models,
            "client_num": 3,
            "iterations": 2,
            "epochs": 1,
            "workers": 2,
        }
        return FederatedLeNetJob(**{**small, **settings})

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for little more than the starting model, or skip."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3400k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
