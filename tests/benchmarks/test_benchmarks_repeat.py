"""A run of ``--model char_lstm`` and its repetition in PyTorch train the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindfl.data import Dataset
from mindfl.sim import FederatedJob

pytest.importorskip("torch", reason="benchmarks/requirements-torch.txt")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "optimizer", [{"optimizer": "sgd", "learning_rate": 0.8}, {"learning_rate": 0.1, "momentum": 0.5}], ids=str
)
def test_pytorch_trains_as_the_run_did(optimizer: dict[str, object], tmp_path: Path, converter_library: Path) -> None:
    from repeat_torch import Repetition, of_mindfl

    draw, users = np.random.default_rng(1), {}
    for number, count in enumerate((23, 40, 31, 10)):
        ids = draw.integers(0, 20, (count, 12)).astype(np.int32)
        users[f"role{number}"] = (ids[:-6], ids[:-6, -2], ids[-6:], ids[-6:, -2])
    Dataset.from_arrays(users, vocabulary=20, classes=20).save(tmp_path / "roles")  # type: ignore[attr-defined]
    plan = {"client_num": 4, "clients_per_iteration": 2, "iterations": 5, "epochs": 2, "batch_size": 5, "seed": 3}
    given = {"model": "char_lstm:hidden=16", "train_dataset": tmp_path / "roles", "work_dir": tmp_path / "run"}
    result = FederatedJob(**given, **plan, evaluate="central", evaluate_every=2, **optimizer).run()  # type: ignore[arg-type]

    repetition = Repetition(tmp_path / "run")
    outcomes, rows = list(repetition.rounds()), of_mindfl(tmp_path / "run")

    assert [outcome.round for outcome in outcomes if outcome.accuracy == outcome.accuracy] == [2, 4, 5]
    for outcome in outcomes:
        assert outcome.loss == pytest.approx(rows[outcome.round].loss, rel=1e-5)
        if outcome.accuracy == outcome.accuracy:
            assert outcome.accuracy == pytest.approx(rows[outcome.round].accuracy, abs=1e-6)
    for name, value in result.mindspore_weights().items():
        found = repetition.state[name.replace("embedding_table", "weight")].numpy()
        np.testing.assert_allclose(value, found, rtol=0, atol=1e-5, err_msg=name)
    assert outcomes[-1].loss < outcomes[0].loss
