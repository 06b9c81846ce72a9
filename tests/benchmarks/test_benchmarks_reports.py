"""The arithmetic of the benchmark reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_report import summarise, table, write_report
from growth_report import bytes_per_iteration, fit, overhead_ms
from hypothesis import given
from hypothesis import strategies as st
from lenet_weights import BYTES, SHAPES, flat_weights
from lenet_work import flop_per_step
from work import Client, Settings, Work, save

from mindfl.lite import LiteModel


@pytest.fixture
def work(tmp_path: Path) -> Work:
    clients = [Client("a", 0, 3, 1), Client("b", 4, 4, 2)]
    images = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 2, 2), np.float32)
    save(tmp_path, Settings(epochs=5, iterations=3, batch_size=2), clients, images, np.arange(10), {"w": np.ones(2)})
    return Work.load(tmp_path)


def contender(launched: float, ends: Sequence[float], accuracy: float = 0.5) -> dict[str, Any]:
    accuracies = [0.0] * (len(ends) - 1) + [accuracy]
    return {
        "launched": launched,
        "ends": list(ends),
        "processor": [end / 2 for end in ends],
        "losses": [4.0] * len(ends),
        "accuracies": accuracies,
    }


def test_the_last_batch_is_filled_from_the_first_samples_on(work: Work) -> None:
    first, second = work.clients
    images, labels = work.train_batches(first)
    assert labels.tolist() == [0, 1, 2, 0]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 0]
    assert work.train_batches(second)[1].tolist() == [4, 5, 6, 7]
    assert work.test_samples(first)[1].tolist() == [3]
    assert work.test_samples(second)[1].tolist() == [8, 9]


def test_steps_count_filled_batches(work: Work) -> None:
    assert work.steps == (2 + 2) * 5


@pytest.mark.parametrize("channels", [1, 3])
def test_flop_of_a_step_follow_from_the_model_file(converted: Any, channels: int) -> None:
    """Counted anew from the converted file: each weight is used once for each output position."""
    model = LiteModel.load(converted())
    positions = {"conv1.weight": 28 * 28, "conv2.weight": 10 * 10}
    total = 0
    for name, tensor in model.parameters.items():
        if not name.endswith("weight"):
            continue
        first = name == "conv1.weight"
        multiply_adds = tensor.size * positions.get(name, 1) * (channels / 3 if first else 1)
        total += multiply_adds * (2 if first else 3)
    assert flop_per_step(32, channels) == 2 * 32 * total


def test_made_up_weights_have_the_form_of_the_model_files(converted: Any) -> None:
    model = LiteModel.load(converted())
    assert {name: tuple(tensor.dims) for name, tensor in model.parameters.items()} == SHAPES
    assert sum(values.nbytes for values in flat_weights().values()) == BYTES
    assert {name: values.shape for name, values in flat_weights().items()} == {
        name: (tensor.size,) for name, tensor in model.parameters.items()
    }


def test_the_first_iteration_is_given_apart_and_ratios_pair_repetitions(work: Work) -> None:
    titles = {"mindfl": ("mindfl, 2 workers", 2), "flower": ("Flower", 2), "sgemm": ("sgemm", 1)}
    runs = {
        "mindfl": [contender(0, [10, 11, 12]), contender(100, [130, 132, 134])],
        "flower": [contender(0, [50, 54, 58]), contender(100, [150, 160, 170])],
        "sgemm": [{"gflops": 1.0}, {"gflops": 3.0}],
    }

    summary = summarise(work, titles, runs)

    own = summary["mindfl"]
    assert own["first_seconds"] == {"median": 20, "min": 10, "max": 30}
    assert own["seconds"] == {"median": 1.5, "min": 1, "max": 2}
    assert own["steps_per_s"] == {"median": 15, "min": 10, "max": 20}
    assert own["times_reference"]["by_repetition"] == [4, 5]
    assert own["processor_seconds"] == {"median": 0.75, "min": 0.5, "max": 1}
    assert own["times_reference"]["processor"] == pytest.approx(3.5 / 0.75)
    assert own["share_of_roof"] == pytest.approx(15 * flop_per_step(2, 1) / (2e9 * 2))
    assert "share_of_roof" not in summary["flower"]


def test_the_report_is_written_with_raw_values(work: Work, tmp_path: Path) -> None:
    titles = {"mindfl": ("mindfl, 2 workers", 2), "torch": ("PyTorch", 1)}
    runs = {"mindfl": [contender(0, [1, 2, 4])], "torch": [contender(0, [1, 5, 9])]}

    text = write_report(tmp_path, work, titles, runs, {"machine": {"processor": "x"}})

    content = json.loads((tmp_path / "results.json").read_text())
    assert content["runs"] == runs
    assert content["work"]["steps"] == work.steps
    assert text in (tmp_path / "table.md").read_text()
    assert (tmp_path / "steps_per_second.png").read_bytes().startswith(b"\x89PNG")
    rows = [line for line in table(content["summary"]).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| system", "| mindfl, 2 workers", "| PyTorch"]


@given(st.floats(0.001, 100), st.floats(0.001, 10), st.lists(st.integers(1, 5000), min_size=3, max_size=9, unique=True))
def test_a_straight_line_is_found(intercept: float, slope: float, x: list[int]) -> None:
    line = fit(x, [intercept + slope * value for value in x])
    assert line.deviation < 1e-6
    assert [line.intercept + line.slope * value for value in x] == pytest.approx(
        [intercept + slope * value for value in x], rel=1e-6
    )


def test_a_point_off_the_line_is_told() -> None:
    assert fit([50, 200, 1000, 3500], [5, 20, 100, 700]).deviation > 0.2


def test_memory_slope_leaves_the_warm_up_out() -> None:
    resident = [0, 10**9] * 10 + [5000 + 40 * i for i in range(80)]
    assert bytes_per_iteration(resident) == pytest.approx(40)


def test_overhead_is_what_the_kernels_leave_of_the_workers_time() -> None:
    run = {"ends": [0, 1, 3], "kernel_seconds": [7, 8, 11], "workers": 2, "clients": 10}
    assert overhead_ms(run) == pytest.approx(100)
