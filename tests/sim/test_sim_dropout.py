"""A job whose network has dropout: the same weights for any number of workers and after a resume, others per seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lite_writer import ModelText, NodeText, TensorText

from mindfl.lite import LiteModel, Session


def with_dropout(model: ModelText) -> ModelText:
    """Put dropout between LeNet's last two dense layers."""
    last = [node for node in model.nodes if node.op == "MatMulFusion" and not node.name.startswith("Gradients")][-1]
    active = last.inputs[0]
    product = next(n for n in model.nodes if n.op == "ActivationGrad" and n.inputs[1] == active)
    slope = product.inputs[0]
    count = len(model.tensors)
    model.tensors += [TensorText(name, [*model.tensors[active].dims]) for name in ("dropped", "mask", "d_dropped")]
    for node in model.nodes:
        if node.op == "MatMulFusion":
            node.inputs = [count if index == active else index for index in node.inputs]
    product.inputs[0] = count + 2
    model.nodes.append(NodeText("Dropout", [active], [count, count + 1], {"keep_prob": 0.5}, "dropout"))
    model.nodes.append(NodeText("DropoutGrad", [slope, count + 1], [count + 2], {"keep_prob": 0.5}, "dropout_grad"))
    return model


@pytest.fixture
def dropping(models: Path) -> Path:
    """A folder whose model has dropout."""
    file = models / "lenet_train.ms"
    file.write_bytes(with_dropout(ModelText.of(LiteModel.load(file))).write())
    return models


def test_workers_and_a_resume_change_nothing_and_a_seed_does(dropping: Path, make_job: Any, tmp_path: Path) -> None:
    whole = make_job(workers=1).run().hash
    assert make_job(workers=3).run().hash == whole
    assert make_job(seed=1).run().hash != whole
    make_job(work_dir=tmp_path / "parts", iterations=1).run()
    assert make_job(work_dir=tmp_path / "parts", iterations=2, overwrite=False, resume=True).run().hash == whole


def test_clients_and_iterations_have_masks_of_their_own(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    set_seed = Session.set_seed

    def noted(self: Any, seed: int) -> None:
        seen.append(seed)
        set_seed(self, seed)

    monkeypatch.setattr(Session, "set_seed", noted)
    make_job().run()
    assert len(seen) == len(set(seen)) == 3 * 2
