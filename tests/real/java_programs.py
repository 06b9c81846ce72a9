"""The stand-in's jars, files that only look like jars, and the jobs that the stand-in takes part in."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.http import BackgroundServer

SOURCES = Path(__file__).parent / "standin"
WEIGHTS = {"conv.weight": np.linspace(-1, 1, 30, dtype=np.float32), "fc.bias": np.zeros(7, np.float32)}
CLASSES = {
    "client": ["com/mindspore/flclient/SyncFLJob.class", "com/mindspore/flclient/Wire*.class"],
    "case": ["com/mindspore/flclient/demo/lenet/*.class"],
}


@dataclass
class Jars:
    """The stand-in's jars, each alone in its folder, as the tutorial wants it."""

    client: Path
    case: Path
    lite: Path


def compiled_jars(root: Path) -> Jars:
    """Compile the stand-in and write its jars; skips if there is no JDK."""
    if not shutil.which("javac") or not shutil.which("java"):
        pytest.skip("no JDK here")
    sources = map(str, SOURCES.rglob("*.java"))
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", str(root / "classes"), *sources], check=True, timeout=300)
    classes, main = root / "classes", "com.mindspore.flclient.SyncFLJob"
    return Jars(
        pack(root / "jarX86" / "mindspore-lite-java-flclient.jar", classes, CLASSES["client"], main),
        pack(root / "case_jar" / "quick_start_flclient.jar", classes, CLASSES["case"]),
        pack(root / "lite" / "mindspore-lite-java.jar", classes, []),
    )


def pack(jar: Path, root: Path, patterns: list[str], main: str = "") -> Path:
    """Write a jar of the files in ``root`` that match."""
    jar.parent.mkdir(parents=True)
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as archive:
        manifest = "Manifest-Version: 1.0\r\n" + f"Main-Class: {main}\r\n" * bool(main)
        archive.writestr("META-INF/MANIFEST.MF", manifest + "\r\n")
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                archive.write(path, path.relative_to(root).as_posix())
    return jar


def copy_models(model: Path, folder: Path, name: str, clients: int) -> list[Path]:
    """Copy ``model`` to ``<name>{i}.ms`` in ``folder`` for each client."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(model, folder / f"{name}{index}.ms")) for index in range(clients)]


@dataclass
class FakeJars:
    """Files that pass for jars as long as nothing starts them."""

    folder: Path
    client: Path = field(init=False)
    case: Path = field(init=False)
    lite: Path = field(init=False)

    def __post_init__(self) -> None:
        root = self.folder / "nothing"
        main = root / "com" / "mindspore" / "flclient" / "SyncFLJob.class"
        main.parent.mkdir(parents=True)
        main.write_bytes(b"no class")
        patterns = CLASSES["client"]
        self.client = pack(self.folder / "fl" / "client.jar", root, patterns, "com.mindspore.flclient.SyncFLJob")
        self.case = pack(self.folder / "case" / "case.jar", root, [])
        self.lite = pack(self.folder / "lite" / "lite.jar", root, [])


@contextmanager
def served(**settings: Any) -> Iterator[Any]:
    """Serve a job; the value has ``url``, ``coordinator`` and ``records``."""
    records: list[IterationRecord] = []
    plan = {"fl_iteration_num": 1, "start_fl_job_threshold": 8, **settings}
    coordinator = Coordinator(ServerConfig(**plan), WEIGHTS, on_iteration_end=records.append)
    with BackgroundServer(coordinator) as server:
        server.coordinator, server.records = coordinator, records  # type: ignore[attr-defined]
        yield server
