"""Stand-ins for the Java client, compiled here, and for the real server's programs; clients and jobs that run them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federated_standins import standin_python, standin_redis
from java_programs import FakeJars, Jars, compiled_jars, copy_models

from mindfl.data import make_synthetic, open_dataset
from mindfl.real.java_clients import JavaClients
from mindfl.real.java_files import JavaClientFiles, client_files
from mindfl.real.java_settings import JavaSettings
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim import FederatedLeNetJob, Result

sys.path.append(str(Path(__file__).parents[1] / "lite"))

MakeClients = Callable[..., JavaClients]


@pytest.fixture(scope="session")
def jars(tmp_path_factory: pytest.TempPathFactory) -> Jars:
    """The jars of the stand-in, compiled here; skips if there is no Java. Do not modify."""
    return compiled_jars(tmp_path_factory.mktemp("java stand-in"))


@pytest.fixture(scope="session")
def bins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight synthetic writers as bins; not to be changed."""
    folder = tmp_path_factory.mktemp("writers") / "bins"
    make_synthetic(folder, users=8, seed=3, format="bin", progress=False)
    return folder


@pytest.fixture
def fake_jars(tmp_path: Path) -> FakeJars:
    return FakeJars(tmp_path / "jars")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "ms" / "lenet_train0.ms"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"the stand-in does not look inside")
    return path


@pytest.fixture
def one_client(tmp_path: Path, model: Path) -> JavaClientFiles:
    """A client's files with the least in them."""
    files = []
    for name in ("train_data", "train_label", "test_data", "test_label"):
        path = tmp_path / "data" / f"{name}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        files.append(path)
    return JavaClientFiles(
        name="f0000",
        train_model=model,
        train_data=tuple(files[:2]),
        eval_data=tuple(files[2:]),
        infer_data=tuple(files[2:]),
    )


@pytest.fixture
def make_clients(jars: Jars, bins: Path, tmp_path: Path) -> Iterator[MakeClients]:
    """Return a function that makes clients of the stand-in; whatever they leave running is ended."""
    registry = ProcessRegistry(tmp_path / "run")
    (tmp_path / "start.ms").write_bytes(b"the stand-in does not look inside")

    def make(
        count: int = 2, *, mode: str = "", tutorial: bool = False, untested: Sequence[int] = (), **given: Any
    ) -> JavaClients:
        dataset = open_dataset(bins)
        work_dir, models = given.pop("work_dir", tmp_path / "run"), given.pop("models", tmp_path / "ms")
        passed = {name: given.pop(name) for name in ("report", "observer") if name in given}
        settings = {
            "jar_path": jars.client,
            "case_jar_path": jars.case,
            "lite_jar_path": None if tutorial else jars.lite,
            "domain_name": "http://127.0.0.1:1",
            "heap": "64m",
            **given,
            "jvm_options": (f"-Dstandin.mode={mode}", *given.get("jvm_options", ())),
        }
        files = client_files(
            dataset, dataset.users[:count], copy_models(tmp_path / "start.ms", models, "lenet_train", count)
        )
        for index in untested:
            files[index] = replace(files[index], eval_data=(), infer_data=())
        return JavaClients(work_dir, JavaSettings(**settings), files, registry=registry, **passed)

    yield make
    registry.end(grace_seconds=1.0)


@pytest.fixture
def standins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for Redis first on PATH; return one for the environment's Python."""
    folder = tmp_path / "bin"
    standin_redis(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    return standin_python(folder / "federated-python")


@pytest.fixture
def train(converted: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Return a function that trains four writers (or ``client_num`` of them) on a stack, in a folder of its name."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(converted(), models / "lenet_train.ms")
    make_synthetic(tmp_path / "writers", users=4, seed=3, progress=False)

    def run(stack: str, **settings: Any) -> Result:
        return FederatedLeNetJob(
            work_dir=tmp_path / stack,
            train_dataset=tmp_path / "writers",
            train_model_path=models,
            epochs=1,
            workers=2,
            stack=stack,
            **{"client_num": 4, **settings},
        ).run()

    yield run
    ProcessRegistry(tmp_path / "federated").end()
