"""Memory does not grow with the number of iterations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindfl.data import convert_leaf

ITERATIONS = 1000

_JOB = """
import gc
import sys
import tracemalloc
from mindfl import FederatedLeNetJob, History
from mindfl.sim.job import Silent
from mindfl.sim.plot import plot_history

class Memory(Silent):
    seen = []
    def row(self, row):
        if row.iteration == 100:
            tracemalloc.start()
        if row.iteration in (300, 1000):
            gc.collect()
            status = open("/proc/self/status").read()
            resident = 1024 * int(status.partition("RssAnon:")[2].split()[0])
            self.seen += [tracemalloc.get_traced_memory()[0], resident]

memory = Memory()
work, data, models, iterations = sys.argv[1:]
# What the first drawing loads, whenever it comes, is no growth.
plot_history(History(), work + ".png", title="")
FederatedLeNetJob(
    work_dir=work, train_dataset=data, train_model_path=models, client_num=2, iterations=int(iterations), epochs=1,
    per_client_models=False, reporter=memory,
).run()
print(*memory.seen)
"""


@pytest.fixture
def tiny_writers(tmp_path: Path) -> Path:
    """Two writers of a few samples: an iteration takes a few milliseconds."""
    rng = np.random.default_rng(0)
    users = ["a", "b"]
    for part, count in (("train", 9), ("test", 3)):
        folder = tmp_path / "leaf" / part
        folder.mkdir(parents=True)
        data = {
            user: {"x": rng.random((count, 784)).round(3).tolist(), "y": rng.integers(0, 62, count).tolist()}
            for user in users
        }
        shard = {"users": users, "num_samples": [count, count], "user_data": data}
        (folder / "all.json").write_text(json.dumps(shard))
    convert_leaf(tmp_path / "leaf", tmp_path / "data", format="compact", progress=False)
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_is_flat_over_a_thousand_iterations(tmp_path: Path, tiny_writers: Path, converted) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "lenet_train.ms").write_bytes(converted().read_bytes())
    command = [sys.executable, "-c", _JOB, str(tmp_path / "work"), str(tiny_writers), str(models), str(ITERATIONS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    early, early_resident, late, late_resident = (int(value) for value in done.stdout.split())
    assert (late - early) / (ITERATIONS - 300) < 1024, "bytes an iteration"
    # The resident size moves by some megabytes whenever the figure is drawn.
    assert late_resident - early_resident < 16 * 1024**2
