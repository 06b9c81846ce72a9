"""The comparison of niid_bench with Flower's loop: its work and its arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from niid_compare import table
from niid_work import Clock, NiidWork, Settings

from mindfl.data import partition
from mindfl.experiments import niid_published


@pytest.fixture
def work(tmp_path: Path) -> NiidWork:
    labels = np.arange(700) % 10
    settings = Settings("data", "classes:2", rounds=2, epochs=3)
    return NiidWork.save(tmp_path, settings, {"train_labels": labels}, partition(labels, "classes:2", 10))


def test_the_setting_is_that_of_the_experiment() -> None:
    settings = Settings("", "iid", 2, 10)
    for name in ("batch_size", "learning_rate", "momentum", "weight_decay"):
        assert getattr(settings, name) == niid_published.EXPERIMENT[name]


def test_steps_are_those_of_all_batches(work: NiidWork) -> None:
    again = NiidWork.load(work.folder)
    sizes = [len(chosen) for chosen in again.clients()]
    assert len(sizes) == 10 and sum(sizes) == 700
    assert again.steps == 3 * sum(int(np.ceil(size / 64)) for size in sizes)
    np.testing.assert_array_equal(again.array("train_labels"), np.arange(700) % 10)


def test_the_table_compares_rounds_and_not_what_is_between_runs(work: NiidWork) -> None:
    def run(begin: float, seconds: float, spent: float) -> dict[str, Any]:
        times, processor = (
            [start + step * place for place in range(3)] for start, step in ((begin, seconds), (1, spent))
        )
        return {"times": times, "processor": processor, "accuracies": [0.1, 0.875]}

    text = table(work, {"flower": [run(0, 60, 100), run(900, 60, 100)], "mindfl": [run(500, 6, 8), run(700, 6, 8)]})
    assert text.splitlines()[2:] == [
        "| Flower's loop, PyTorch | 60.0 (60.0 to 60.0) | 1.0 | 100.0 | 1.0 | 87.50 |",
        "| mindfl experiment niid_bench | 6.0 (6.0 to 6.0) | 10.0 | 8.0 | 12.5 | 87.50 |",
    ]


def test_a_clock_adds_what_other_processes_spent(tmp_path: Path) -> None:
    clock = Clock()
    clock.tick()
    clock.tick(elsewhere=100)
    clock.save(tmp_path / "noted.json", {"mindfl": "1"})
    noted = json.loads((tmp_path / "noted.json").read_text())
    assert noted["processor"][1] - noted["processor"][0] >= 100 and len(noted["times"]) == 2
