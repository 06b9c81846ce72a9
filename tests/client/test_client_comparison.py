"""A device notices that an iteration aggregated nothing, and claims nothing if it cannot know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_standins import Clock, StandInTrainer, device, server

from mindfl.client import InProcessTransport, JobResult, run
from mindfl.client.uploading import digests, unchanged
from mindfl.protocol import ResponseCode

MODEL = {"fc.weight": np.linspace(-1, 1, 40, dtype=np.float32), "fc.bias": np.full(8, 0.25, np.float32)}
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "quantised down": {"download_compress_type": "QUANT"},
    "sparse": {"upload_compress_type": "DIFF_SPARSE_QUANT", "upload_sparse_rate": 0.9},
    "signs": {"encrypt_type": "SIGNDS", "sign_k": 0.25, "sign_dim_out": 4},
    "noise": {"encrypt_type": "DP_ENCRYPT", "dp_eps": 50.0, "dp_delta": 0.01},
}
SHORT = {"start_fl_job_time_window": 3000, "update_model_time_window": 3000, "global_iteration_time_window": 6000}


class Learning(StandInTrainer):
    """Moves each weight by its own amount, about ``step``."""

    def train(self, epochs: int, learning_rate: float, report: Any) -> float:
        for values in self._weights.values():
            values += np.float32(self.step) * np.linspace(0.5, 1.5, values.size, dtype=np.float32)
        report(0, [1.0])
        return 1.0


def played(
    threshold: int, step: float = 0.125, iterations: int = 2, log: Any = None, files: Any = None, **settings: Any
) -> tuple[JobResult, list[bool]]:
    """Let one device take part in a job; return how it ended, and which iterations the server aggregated."""
    coordinator, records = server(threshold, iterations, MODEL, **SHORT, **settings)
    clock = Clock()
    trainer = Learning(step=step)
    client = device(trainer=trainer, clock=clock, log=log, files=files, max_restarts=50, model_file="lenet.ms")
    result = run(client.train(), InProcessTransport(coordinator), clock, clock.sleep)
    return result, [record.valid for record in records]


@pytest.mark.parametrize("settings", MODES.values(), ids=MODES)
def test_iterations_that_failed_are_noticed(settings: dict[str, Any]) -> None:
    result, valid = played(2, **settings)
    assert not any(valid)
    assert result == JobResult(2, ResponseCode.SUCCEED, failed=2)


@pytest.mark.parametrize("settings", MODES.values(), ids=MODES)
def test_iterations_that_counted_are_not_doubted(settings: dict[str, Any]) -> None:
    assert played(1, **settings) == (JobResult(2, ResponseCode.SUCCEED, failed=0), [True, True])


@pytest.mark.parametrize("mode", ["plain", "quantised down", "sparse"])
@pytest.mark.parametrize("step", [0.0, 1e-9, 1e-7])
def test_training_that_hardly_moves_the_model_tells_nothing(mode: str, step: float) -> None:
    """The average of such uploads may well be the model itself: what failed is not known, what counted not doubted."""
    assert played(2, step, **MODES[mode])[0].failed == 0
    assert played(1, step, **MODES[mode]) == (JobResult(2, ResponseCode.SUCCEED, failed=0), [True, True])


def test_signs_whose_step_is_lost_in_rounding_tell_nothing() -> None:
    assert played(1, **MODES["signs"], sign_global_lr=1e-12)[0].failed == 0


def test_the_log_names_the_iteration(tmp_path: Path) -> None:
    from datetime import datetime

    from mindfl.client import ClientLog

    played(2, iterations=1, log=ClientLog(tmp_path / "client.log", datetime.now))
    text = (tmp_path / "client.log").read_text()
    assert "iteration 1 aggregated nothing: its model is the one it began with" in text


def test_an_untrained_model_is_not_saved() -> None:
    class Files:
        saved = 0

        def back_up(self) -> None: ...
        def restore(self) -> None: ...
        def save(self, weights: Any) -> None:
            self.saved += 1

    files = Files()
    played(2, files=files)
    assert not files.saved
    played(1, files=files)
    assert files.saved == 1


def test_only_bits_count() -> None:
    zero, minus = ({"w": np.array([value], np.float32)} for value in (0.0, -0.0))
    assert unchanged(digests(zero), digests({"w": np.zeros(1, np.float32), "other": np.ones(1, np.float32)}))
    assert not unchanged(digests(zero), digests(minus))
    assert not unchanged(digests(zero), {}) and not unchanged({}, {})
