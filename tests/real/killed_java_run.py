"""A program that runs hanging clients of the stand-in, to be killed: JAR CASE_JAR LITE_JAR BINS WORK_DIR MODELS."""

from __future__ import annotations

import sys
from pathlib import Path

from java_programs import copy_models

from mindfl.data import open_dataset
from mindfl.real.java_clients import JavaClients
from mindfl.real.java_files import client_files
from mindfl.real.java_settings import JavaSettings
from mindfl.real.process_registry import ProcessRegistry


def main(jar: Path, case_jar: Path, lite_jar: Path, bins: Path, work_dir: Path, start: Path) -> None:
    settings = JavaSettings(
        jar_path=jar,
        case_jar_path=case_jar,
        lite_jar_path=lite_jar,
        domain_name="http://127.0.0.1:1",
        heap="64m",
        jvm_options=("-Dstandin.mode=hang",),
    )
    dataset = open_dataset(bins)
    files = client_files(dataset, dataset.users[:2], copy_models(start, work_dir / "ms", "lenet_train", 2))
    JavaClients(work_dir, settings, files, registry=ProcessRegistry(work_dir)).run()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
