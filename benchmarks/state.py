"""What keeping the state after every iteration costs, as a share of the iterations' own time, in one run.

python benchmarks/state.py [--clients 50] [--iterations 5] [--epochs 5]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from mindfl.sim import FederatedLeNetJob
from mindfl.sim.recording import ModelWriter, StateSaver


def main() -> None:
    """Time the callbacks that keep state and models, and print their share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    spent: list[float] = []

    def timed(kind: Any) -> None:
        row = kind.row

        def measured(*arguments: Any) -> None:
            begin = time.perf_counter()
            row(*arguments)
            spent.append(time.perf_counter() - begin)

        kind.row = measured

    timed(StateSaver)
    timed(ModelWriter)
    with tempfile.TemporaryDirectory() as folder:
        plan = {"client_num": given.clients, "iterations": given.iterations, "epochs": given.epochs}
        result = FederatedLeNetJob(work_dir=folder, **plan).run()
    seconds, count = sum(result.history.column("seconds")), len(result.history)
    each = 1000 * sum(spent) / count
    print(f"{count} iterations of {seconds / count:.3f} s; keeping the state {each:.2f} ms each")
    print(f"share {100 * sum(spent) / seconds:.2f} %")


if __name__ == "__main__":
    main()
