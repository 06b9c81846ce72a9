"""``tensorboard=True`` of a job: a file for each start, in its work folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

tbparse = pytest.importorskip("tbparse", reason="tbparse is not installed (pip install tbparse)")


def test_a_job_goes_on_and_begins_anew(make_job: Any, tmp_path: Path) -> None:
    def losses() -> list[tuple[int, float]]:
        told = tbparse.SummaryReader(str(tmp_path / "run" / "tensorboard")).scalars
        chosen = told[told.tag == "loss"].sort_values("step")
        return [(step, pytest.approx(value)) for step, value in zip(chosen.step, chosen.value, strict=True)]

    settings = {"overwrite": False, "tensorboard": True}
    make_job(**settings, iterations=1).run()
    history = make_job(**settings, resume=True).run().history
    assert [(row.iteration, row.loss) for row in history] == losses()
    history = make_job(iterations=1, epochs=2, tensorboard=True).run().history
    assert [(row.iteration, row.loss) for row in history] == losses()
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    make_job(iterations=1, epochs=2).run()
    assert list((tmp_path / "run" / "tensorboard").iterdir()) == []
