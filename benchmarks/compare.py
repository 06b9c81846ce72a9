"""Compare mindfl with what one would use instead: same data, same steps, same network, same run.

    python benchmarks/compare.py --data DIR --clients 50 --epochs 20 --repetitions 3 --out DIR
    python benchmarks/compare.py --network resnet8 --data DIR --epochs 1 --systems mindfl,flower --out DIR

The contenders take turns, each in a process (and, where it needs one, a virtual environment) of its own. Leaves
table.md, results.json and steps_per_second.png in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from compare_report import write_report
from environments import interpreter, machine
from network_data import cut_down, random_texts
from run_mindfl import DATASET_NOTE, MODEL
from work import Client, Settings, Work, save

from mindfl import FederatedJob
from mindfl.data import open_dataset
from mindfl.errors import MindflError
from mindfl.lite import LiteModel

_HERE = Path(__file__).parent
#: a run that takes longer has hung
_TIME_LIMIT = 4 * 3600
#: network -> batch size, where it is not the usual one
_BATCHES = {"leaf_cnn": 20, "emnist_cnn": 20, "char_lstm": 10, "albert": 16}


@dataclass(frozen=True)
class System:
    """A contender: its script, arguments, environment (None: this one), and how many processors it is given."""

    title: str
    script: str
    processors: int
    environment: str | None = None
    arguments: tuple[str, ...] = ()


def systems(workers: int) -> dict[str, System]:
    """Return all contenders by name; ``workers`` is what those that can use several processors are given."""
    many = ("--workers", str(workers))
    return {
        "mindfl": System(f"mindfl, {workers} workers", "run_mindfl.py", workers, None, many),
        "mindfl-1": System("mindfl, 1 worker", "run_mindfl.py", 1, None, ("--workers", "1")),
        "flower": System(f"Flower + PyTorch, {workers} workers", "run_flower.py", workers, "flower", many),
        "torch": System(f"PyTorch, bare loop, {workers} processes", "run_torch.py", workers, "torch", many),
        "torch-last": System(
            f"PyTorch, channels last, {workers} processes",
            "run_torch.py",
            workers,
            "torch",
            (*many, "--channels_last"),
        ),
        "torch-1": System("PyTorch, bare loop, 1 thread", "run_torch.py", 1, "torch", ("--workers", "1")),
        "mindspore": System(
            "mindfl --engine mindspore", "run_mindfl.py", workers, None, (*many, "--engine", "mindspore")
        ),
        "sgemm": System("sgemm, 1 thread", "run_sgemm.py", 1),
    }


def training_data(folder: Path, data: Path | None, network: str, clients: int, samples: int) -> Path:
    """Return the folder of the data set: ``data`` for LeNet, else one in ``folder`` with so many samples at most."""
    dataset = random_texts(clients, samples) if data is None else open_dataset(data)
    if len(dataset) < clients:
        sys.exit(f"{data} has {len(dataset)} clients, {clients} were asked for")
    if data is not None and network == "lenet":
        return data.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    (dataset if data is None else cut_down(dataset, network, clients, samples)).save(folder)
    return folder


def prepare(folder: Path, data: Path, clients: int, settings: Settings) -> Work:
    """Write the common work into ``folder``: the first ``clients`` users' samples, and weights with seed 0."""
    dataset = open_dataset(data)
    settings = replace(settings, classes=dataset.classes, vocabulary=dataset.form.vocabulary)
    job = FederatedJob(
        model=settings.network,
        work_dir=folder.parent / f"{settings.network}_model",
        train_dataset=data,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
    )
    model = Path(job.convert())
    places, samples, labels, position = [], [], [], 0
    for name in dataset.users[:clients]:
        user = dataset.user(name)
        places.append(Client(name, position, user.train.size, user.test.size))
        position += user.train.size + user.test.size
        for split in (user.train, user.test):
            values = split.images()
            samples.append(np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if values.ndim == 4 else values)
            labels.append(split.labels[: split.size].astype(np.int64))
    file = LiteModel.load(model)
    weights = file.to_mindspore(file.weights)
    save(folder, settings, places, np.concatenate(samples), np.concatenate(labels), weights)
    shutil.copy(model, folder / MODEL)
    (folder / DATASET_NOTE).write_text(str(data))
    return Work.load(folder)


def run(system: System, python: Path, work: Work) -> dict[str, Any]:
    """Run a contender once and return what it noted, and when it was launched."""
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder, "result.json"), Path(folder, "log.txt")
        command = [str(python), str(_HERE / system.script), str(work.folder), str(result), *system.arguments]
        load, launched = os.getloadavg()[0], time.time()
        with log.open("wb") as output:
            environment = {**os.environ, "PYTHONPATH": str(_HERE)}
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=_TIME_LIMIT, check=False
            )
        if done.returncode or not result.exists():
            said = log.read_text(errors="replace")[-4000:]
            sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{said}")
        noted: dict[str, Any] = json.loads(result.read_text())
        return {**noted, "launched": launched, "load_before": round(load, 2)}


def _arguments(workers: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="lenet", help="name of the network, without settings")
    parser.add_argument("--data", type=Path, help="a data set of `mindfl data`; albert without one: random texts")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--samples", type=int, default=160, help="most training samples of a client; lenet: all")
    parser.add_argument("--epochs", type=int, default=20, help="local epochs")
    parser.add_argument("--iterations", type=int, default=4, help="of each run; the first is given apart")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=int, default=workers, help="processors for those that use several")
    parser.add_argument("--systems", help=f"comma-separated, of {', '.join(systems(workers))}  [default: all]")
    parser.add_argument("--env-dir", type=Path, help="folder of the environments  [default: envs in --out]")
    arguments = parser.parse_args()
    if arguments.data is None and arguments.network != "albert":
        parser.error("--data is missing")
    if arguments.iterations < 2:
        parser.error("--iterations must be at least 2: the first one is not counted")
    known = systems(arguments.workers)
    arguments.systems = arguments.systems.split(",") if arguments.systems else list(known)
    if unknown := set(arguments.systems) - set(known):
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    return arguments


def main() -> None:
    """Run the comparison."""
    arguments = _arguments(workers=len(os.sched_getaffinity(0)))
    chosen = {name: systems(arguments.workers)[name] for name in arguments.systems}
    network, out = arguments.network, arguments.out.absolute()
    batch_size = _BATCHES.get(network, Settings.batch_size)
    settings = Settings(arguments.epochs, arguments.iterations, batch_size, network=network)
    data = training_data(out / "data", arguments.data, network, arguments.clients, arguments.samples)
    work = prepare(out / "work", data, arguments.clients, settings)
    folder = arguments.env_dir or arguments.out / "envs"
    pythons = {name: interpreter(system.environment, folder) for name, system in chosen.items()}
    print(f"{len(work.clients)} clients, {work.steps} steps an iteration", file=sys.stderr)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for repetition in range(1, arguments.repetitions + 1):
        for name, system in chosen.items():
            print(f"repetition {repetition}/{arguments.repetitions}: {system.title}", file=sys.stderr)
            runs[name].append(run(system, pythons[name], work))
    titles = {name: (system.title, system.processors) for name, system in chosen.items()}
    print(write_report(arguments.out, work, titles, runs, {"machine": machine(), "command": sys.argv}))


if __name__ == "__main__":
    try:
        main()
    except MindflError as error:
        sys.exit(error.line())
