"""Secure aggregation of our devices on the real MindSpore Federated 0.1.0 server; run with ``pytest -m real_server``.

What remains is float32: an upload is rounded once, and its masks are about as large as itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from real_secagg import job, play

pytestmark = pytest.mark.real_server

TOLERANCE = 1e-6


@pytest.mark.usefixtures("real_interpreter")
@pytest.mark.parametrize("lost", [(), (3,), (1, 4)])
def test_pairwise_masks_cancel_on_the_real_server(lost: tuple[int, ...], tmp_path: Path) -> None:
    config = job("PW_ENCRYPT", clients=5, iterations=3, threshold=2, lost=len(lost))

    assert play(config, tmp_path, lost) < TOLERANCE


@pytest.mark.usefixtures("real_interpreter")
def test_stable_masks_cancel_on_the_real_server(tmp_path: Path) -> None:
    config = job("STABLE_PW_ENCRYPT", clients=3, iterations=3, threshold=1)

    assert play(config, tmp_path, stable=True) < TOLERANCE


@pytest.mark.slow
@pytest.mark.usefixtures("real_interpreter")
def test_no_round_of_300_is_spoiled_by_a_leading_zero(tmp_path: Path) -> None:
    config = job("PW_ENCRYPT", clients=5, iterations=300, threshold=2, lost=2)

    assert play(config, tmp_path, lost=(0, 2)) < TOLERANCE
