"""Secure aggregation under the real MindSpore Federated 0.1.0: run with ``pytest -m real_server``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.sim import Result

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter")]

Train = Callable[..., Result]

CLIENTS = 4
#: what the float32 masks may change in a weight, in an iteration
CLOSE = 1e-5
#: mode -> how often names of clients are in what a client sends, and in what it is sent
LISTED = {"PW_ENCRYPT": (3 + 3, 4 + 3 + 4), "STABLE_PW_ENCRYPT": (0, 4)}
#: bytes that shares of random secrets may be shorter by: one in 256 begins with a zero byte, which is not sent
SHORTER = 4
#: letters by which the drawn name of a client of a server elsewhere is longer than its writer's
LONGER = 36 - len("synthetic_0000")


def differences(one: Result, other: Result) -> np.ndarray:
    """Return the difference of each weight."""
    return np.concatenate([np.abs(one.weights[name] - other.weights[name]).reshape(-1) for name in one.weights])


@pytest.mark.parametrize("mode", LISTED)
def test_the_model_is_that_of_the_embedded_server(mode: str, train: Train, tmp_path: Path) -> None:
    real, own = (train(stack, encrypt_type=mode, iterations=1) for stack in ("federated", "embedded"))

    assert differences(real, own).max() < CLOSE
    assert differences(real, train("embedded", iterations=1, overwrite=True)).max() < CLOSE
    up, down = (CLIENTS * count * LONGER for count in LISTED[mode])
    assert abs(real.history[0].bytes_up - own.history[0].bytes_up - up) <= SHORTER
    assert abs(real.history[0].bytes_down - own.history[0].bytes_down - down) <= SHORTER
    assert real.title.endswith(mode) and mode in real.summary()
    log = (tmp_path / "federated" / "client_0" / "client.log").read_text()
    assert f"[Encrypt] creating feature mask of <{mode}>" in log


@pytest.mark.parametrize("mode", LISTED)
def test_further_iterations(mode: str, train: Train) -> None:
    """Last bits may tip a maximum of a pooling, which training amplifies; a mask that stays would move all weights."""
    real, own = (train(stack, encrypt_type=mode, iterations=3) for stack in ("federated", "embedded"))
    assert [row.clients for row in real.history] == [CLIENTS] * 3
    assert [row.loss for row in real.history] == pytest.approx([row.loss for row in own.history], rel=1e-2)
    assert np.median(differences(real, own)) < 1e-4


@pytest.mark.parametrize("threshold", [1, 3])
def test_a_threshold_of_its_own(threshold: int, train: Train) -> None:
    """The least and the most that go: the real server needs one more to reveal than the threshold says."""
    settings: dict[str, Any] = {"encrypt_type": "PW_ENCRYPT", "reconstruct_secrets_threshold": threshold}
    real, own = (train(stack, iterations=1, **settings) for stack in ("federated", "embedded"))
    assert differences(real, own).max() < CLOSE
