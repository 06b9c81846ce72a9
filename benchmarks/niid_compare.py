"""Compare ``mindfl experiment niid_bench`` with Flower's own baseline loop: the same cell, the same samples and steps.

    python benchmarks/niid_compare.py --dataset DIR --rounds 2 --repetitions 2 --out DIR

The two take turns, each in a process (and Flower in a virtual environment) of its own. Leaves table.md and
results.json in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from environments import interpreter, machine
from niid_work import NiidWork, Settings

from mindfl.data import partition
from mindfl.data.idx import read_idx_folder
from mindfl.errors import MindflError
from mindfl.experiments.niid_published import CELLS, EXPERIMENT
from mindfl.sim.tables import markdown_table

_HERE = Path(__file__).parent
#: contender -> title, script, environment (None: this one)
SYSTEMS = {
    "flower": ("Flower's loop, PyTorch", "run_niid_flower.py", "flower"),
    "mindfl": ("mindfl experiment niid_bench", "run_niid_mindfl.py", None),
}


def prepare(folder: Path, settings: Settings) -> NiidWork:
    """Write the work into ``folder``; clients have the samples that the experiment gives them with seed 0."""
    arrays = {}
    for part, (images, labels) in read_idx_folder(settings.dataset).items():
        arrays |= {f"{part}_images": images, f"{part}_labels": labels.astype("int64")}
    return NiidWork.save(
        folder, settings, arrays, partition(arrays["train_labels"], CELLS[settings.cell], EXPERIMENT["client_num"])
    )


def run(name: str, python: Path, work: NiidWork, workers: int) -> dict[str, Any]:
    """Run a contender once and return what it noted."""
    _, script, _ = SYSTEMS[name]
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder, "result.json"), Path(folder, "log.txt")
        command = [str(python), str(_HERE / script), str(work.folder), str(result), "--workers", str(workers)]
        load = os.getloadavg()[0]
        with log.open("wb") as output:
            environment = {**os.environ, "PYTHONPATH": str(_HERE)}
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
        if done.returncode or not result.exists():
            sys.exit(
                f"{' '.join(command)} ended with code {done.returncode}:\n{log.read_text(errors='replace')[-4000:]}"
            )
        noted: dict[str, Any] = json.loads(result.read_text())
        return {**noted, "load_before": round(load, 2)}


def rounds(runs: list[dict[str, Any]], what: str) -> list[float]:
    """Return how much of ``what``, times or processor time, each round of all runs took."""
    return [end - begin for one in runs for begin, end in zip(one[what], one[what][1:], strict=False)]


def table(work: NiidWork, runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return the figures as a Markdown table; a round includes its evaluation."""
    header = ["system", "s a round: median (min to max)", "x Flower", "processor s a round", "x Flower", "accuracy, %"]
    theirs = [median(rounds(runs["flower"], what)) for what in ("times", "processor")]
    rows = []
    for name, repeated in runs.items():
        seconds, processor = (rounds(repeated, what) for what in ("times", "processor"))
        rows.append(
            [
                SYSTEMS[name][0],
                f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
                f"{theirs[0] / median(seconds):.1f}",
                f"{median(processor):.1f}",
                f"{theirs[1] / median(processor):.1f}",
                f"{100 * median(one['accuracies'][-1] for one in repeated):.2f}",
            ]
        )
    return "\n".join(markdown_table(header, rows, range(1, len(header)))) + "\n"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--cell", choices=CELLS, default="iid")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10, help="local epochs")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processors of each")
    parser.add_argument("--env-dir", type=Path, help="folder of the environments  [default: envs in --out]")
    arguments = parser.parse_args()
    settings = Settings(str(arguments.dataset.absolute()), arguments.cell, arguments.rounds, arguments.epochs)
    work = prepare(arguments.out.absolute() / "work", settings)
    folder = arguments.env_dir or arguments.out / "envs"
    pythons = {name: interpreter(environment, folder) for name, (_, _, environment) in SYSTEMS.items()}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEMS}
    for repetition in range(1, arguments.repetitions + 1):
        for name, (title, _, _) in SYSTEMS.items():
            print(f"repetition {repetition}/{arguments.repetitions}: {title}", file=sys.stderr)
            runs[name].append(run(name, pythons[name], work, arguments.workers))
        noted = {"machine": machine(), "command": sys.argv, "steps": work.steps, "runs": runs}
        (arguments.out / "results.json").write_text(json.dumps(noted, indent=1) + "\n")
        (arguments.out / "table.md").write_text(table(work, runs))
    print(table(work, runs), end="")


if __name__ == "__main__":
    try:
        main()
    except MindflError as error:
        sys.exit(error.line())
