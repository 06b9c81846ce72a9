"""The converter takes networks of MindSpore 2.10 whole: every layer, every optimizer node."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.convert import convert_model
from mindfl.convert.mindir import check_graph, operators, read_mindir
from mindfl.convert.rewrite import rewrite
from mindfl.models import import_mindspore

pytestmark = pytest.mark.usefixtures("in_graph_mode")

#: nodes of the converted file, by kind of network
EXPECTED = {
    "residual": {
        "FusedBatchNorm": 6, "BatchNormGrad": 6, "Conv2DFusion": 6, "AddFusion": 2, "ApplyMomentum": 20, "AddN": 2
    },
    "residual_adam": {"FusedBatchNorm": 6, "BatchNormGrad": 6, "Adam": 20, "Assign": 2},
    "depthwise": {
        "FusedBatchNorm": 3, "AvgPoolFusion": 1, "AvgPoolGrad": 1, "Dropout": 1, "DropoutGrad": 1, "ApplyMomentum": 11
    },
    "transformer": {
        "Gather": 2, "UnsortedSegmentSum": 2, "LayerNormFusion": 4, "LayerNormGrad": 4, "Softmax": 2,
        "StridedSlice": 1, "StridedSliceGrad": 1, "ApplyMomentum": 22,
    },
    "recurrent": {"LSTM": 2, "LSTMGrad": 2, "SliceFusion": 6, "UnsortedSegmentSum": 1, "SGD": 11},
}  # fmt: skip


def exported(kind: str, folder: Path) -> tuple[Any, Path]:
    from network_kinds import KINDS

    mindspore = import_mindspore()
    nn = mindspore.nn
    network, batch, optimizer = KINDS[kind]
    cell = network()
    step = getattr(nn, optimizer)(cell.trainable_params(), 0.01, *((0.9,) if optimizer == "Momentum" else ()))
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    trainer = nn.TrainOneStepCell(nn.WithLossCell(cell, loss), step).set_train()
    labels = mindspore.Tensor(np.arange(len(batch), dtype=np.int32))
    file = folder / f"{kind}.mindir"
    mindspore.export(trainer, mindspore.Tensor(batch), labels, file_name=str(file), file_format="MINDIR")
    return trainer, file


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in EXPECTED])
def test_the_converter_takes_it(kind: str, tmp_path: Path, converter_library: Path) -> None:
    trainer, file = exported(kind, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators that the runtime lacks
        model = convert_model(file, tmp_path / "network.ms").model
    found = Counter(node.op for node in model.nodes)
    assert {operator: found[operator] for operator in EXPECTED[kind]} == EXPECTED[kind]
    assert sorted(model.parameters) == sorted(weight.name for weight in trainer.weights)


def test_monads_leave_nothing_that_changes_a_parameter_behind(tmp_path: Path) -> None:
    trainer, file = exported("residual_adam", tmp_path)
    model = rewrite(read_mindir(file))
    check_graph(model, "rewritten")
    kinds = operators(model)
    assert not {"UpdateState", "Load"} & set(kinds.values())
    nodes = {name: node for node in model.graph.node for name in node.output}
    reached, waiting = set(), [model.graph.output[0].name]
    while waiting:
        if (name := waiting.pop()) in nodes and name not in reached:
            reached.add(name)
            waiting.extend(nodes[name].input)
    changing = Counter(kinds[name] for name in reached if kinds[name] in ("Adam", "Assign"))
    assert changing == {"Adam": len(trainer.weights), "Assign": 2}
