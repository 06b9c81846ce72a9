"""What blocks of the tutorials need, where it can be had."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tutorial_blocks import REPOSITORY

sys.path.append(str(REPOSITORY / "tests" / "real"))  # the stand-in for the Java client

from java_programs import Jars, compiled_jars

#: puts into a tutorial's folder what a block needs, or skips
Provide = Callable[[Path], None]


@pytest.fixture(scope="session")
def jars(tmp_path_factory: pytest.TempPathFactory) -> Jars:
    """The jars of the stand-in for the Java client, or skip."""
    return compiled_jars(tmp_path_factory.mktemp("java stand-in"))


@pytest.fixture
def provide_java(jars: Jars) -> Provide:
    def provide(folder: Path) -> None:
        for jar in (jars.client, jars.case):
            place = folder / "libs" / jar.parent.name / jar.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(jar, place)

    return provide


@pytest.fixture
def provide_femnist(femnist: Path) -> Provide:
    def provide(folder: Path) -> None:
        """Some of the writers: tests/data reads all of them."""
        for shard in femnist.glob("*/all_data_4_*"):
            place = folder / "leaf" / "data" / "femnist" / "data" / shard.parent.name / shard.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(shard)

    return provide


@pytest.fixture
def provide_federated(real_interpreter: Path) -> Provide:
    return lambda folder: None
