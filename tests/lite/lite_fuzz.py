"""Random changes to models. ``python lite_fuzz.py SEED COUNT FILE...`` runs changed models in a process of its own.

Each changed model must be refused with mindfl's own error, or be executed; a crash ends the process with a signal.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lite_bounds import checked_buffers, fill_shared
from lite_handmade import Window, handmade
from lite_sequences import recurrent
from lite_variants import bias_gradient_as_a_sum, one_hot_input, one_hot_made, tiled_scale
from lite_writer import ModelText, NodeText, TensorText

from mindfl.errors import MindflError
from mindfl.lite import LiteModel, Session
from mindfl.lite.ops import EXECUTED
from mindfl.lite.schema import OPERATORS

_EXECUTED = [operator for operator in OPERATORS.values() if operator.name in EXECUTED]
#: stands between buffers
_UNTOUCHED = np.float32(-12345.678)
_NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 14, 16, 17, 28, 32, 33, 62, 63, -1, 2**15, 2**31 - 1)


def small_models() -> list[ModelText]:
    """Return handmade models that use every kind of layer."""
    return [
        handmade(Window((3, 3))),
        handmade(Window((3, 2), (2, 1), (1, 2), 0, (0, 1, 2, 3)), Window((2, 2), (1, 1), (2, 2), 1)),
        handmade(Window((4, 2), (2, 2), mode=1), pool=Window((2, 2), (2, 2))),
        handmade(Window((2, 2)), Window((3, 3), mode=1), Window((3, 3), (2, 2), mode=1), batch=17),
        handmade(Window((2, 2)), Window((3, 2), (2, 1), groups=2), filters=4, second_filters=6),
        handmade(
            Window((1, 1)),
            Window((3, 3), mode=1, groups=3),
            Window((2, 3), (2, 2), mode=1, mean=True),
            second_filters=3,
        ),
        recurrent(),
        recurrent(batch=17, time=1, embedding=1, hidden=1),
        *(_changed_by(change) for change in (one_hot_input, one_hot_made, tiled_scale, bias_gradient_as_a_sum)),
    ]


def _changed_by(change: Callable[[ModelText], None]) -> ModelText:
    model = handmade(Window((3, 3)))
    change(model)
    return model


def _input(model: ModelText, draw: random.Random) -> None:
    node = draw.choice([node for node in model.nodes if node.inputs])
    node.inputs[draw.randrange(len(node.inputs))] = draw.randrange(len(model.tensors))


def _fewer_or_more_inputs(model: ModelText, draw: random.Random) -> None:
    node = draw.choice(model.nodes)
    node.inputs = [*node.inputs, *node.inputs][: draw.randrange(1 + 2 * len(node.inputs))]


def _output(model: ModelText, draw: random.Random) -> None:
    node = draw.choice(model.nodes)
    node.outputs[draw.randrange(len(node.outputs))] = draw.randrange(len(model.tensors))


def _dim(model: ModelText, draw: random.Random) -> None:
    tensor = draw.choice([tensor for tensor in model.tensors if tensor.dims])
    tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(_NUMBERS)
    _refill(tensor)


def _dims_everywhere(model: ModelText, draw: random.Random) -> None:
    old, new = draw.choice((1, 2, 3, 4, 6, 16, 28)), draw.choice((1, 2, 3, 5, 8, 16, 62))
    for tensor in model.tensors:
        tensor.dims = [new if dim == old else dim for dim in tensor.dims]
        _refill(tensor)


def _refill(tensor: TensorText) -> None:
    """Give a constant as many elements as its dims ask for, where that can be."""
    if tensor.data is not None and min(tensor.dims, default=1) >= 0 and np.prod(tensor.dims, dtype=float) < 1e6:
        tensor.data = np.resize(tensor.data, tensor.dims)


def _order_of_dims(model: ModelText, draw: random.Random) -> None:
    draw.shuffle(draw.choice(model.tensors).dims)


def _attribute(model: ModelText, draw: random.Random) -> None:
    node = draw.choice([node for node in model.nodes if node.attributes])
    name = draw.choice(list(node.attributes))
    value = node.attributes[name]
    if isinstance(value, tuple):
        values = [*value, draw.choice(_NUMBERS)][draw.randrange(2) :]
        node.attributes[name] = tuple(draw.choice(_NUMBERS) if draw.random() < 0.4 else item for item in values)
    else:
        node.attributes[name] = type(value)(draw.randrange(4))


def _operator(model: ModelText, draw: random.Random) -> None:
    node, other = draw.choice(model.nodes), draw.choice(model.nodes)
    node.op, node.attributes = other.op, dict(other.attributes)


def _missing_node(model: ModelText, draw: random.Random) -> None:
    if len(model.nodes) > 1:
        model.nodes.remove(draw.choice(model.nodes))


def _twin(model: ModelText, draw: random.Random) -> None:
    node = draw.choice(model.nodes)
    model.nodes.append(NodeText(node.op, [*node.inputs], [*node.outputs], dict(node.attributes), node.name))


def _ends(model: ModelText, draw: random.Random) -> None:
    ends = [draw.randrange(len(model.tensors)) for _ in range(draw.randrange(4))]
    model.inputs, model.outputs = (ends, model.outputs) if draw.random() < 0.5 else (model.inputs, ends)


def _whole_numbers(model: ModelText, draw: random.Random) -> None:
    constants = [(tensor, np.array(tensor.data)) for tensor in model.tensors if tensor.data is not None]
    whole = [(tensor, data) for tensor, data in constants if data.dtype == np.int32 and data.size]
    if whole:
        tensor, data = draw.choice(whole)
        data.reshape(-1)[draw.randrange(data.size)] = draw.choice(_NUMBERS)
        tensor.data = data


_CHANGES: tuple[Callable[[ModelText, random.Random], None], ...] = (
    *(_input,) * 4,
    *(_dim,) * 4,
    *(_attribute,) * 4,
    *(_dims_everywhere, _order_of_dims, _fewer_or_more_inputs, _output, _operator),
    *(_missing_node, _twin, _ends, _whole_numbers),
)


def changed(model: ModelText, draw: random.Random) -> bytes:
    """Return the file of ``model`` with one to six random changes."""
    model = model.copy()
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        draw.choice(_CHANGES)(model, draw)
    return model.write()


def another_operator(model: ModelText, draw: random.Random) -> bytes:
    """Return the file of ``model`` with any operator of the runtime in the place of one node, and often a change."""
    model = model.copy()
    node, operator = draw.choice(model.nodes), draw.choice(_EXECUTED)
    node.op = operator.name
    node.attributes = {item.name: _drawn(item.kind, draw) for item in operator.attributes if draw.random() < 0.6}
    if draw.random() < 0.5:
        draw.choice(_CHANGES)(model, draw)
    return model.write()


def _drawn(kind: str, draw: random.Random) -> object:
    """Return a value of an attribute."""
    if kind == "q[]":
        return tuple(draw.choice((*range(5), -1)) for _ in range(draw.randrange(5)))
    small = draw.choice((0, 1, 1, 2, 3, 4, -1))
    return draw.random() < 0.5 if kind == "?" else float(small) if kind == "f" else small


def outcome(content: bytes, *, compared: bool = False) -> str:
    """Decode, check and run a file in every way; return "executed" or the error's line.

    No kernel may write between the buffers, also where whole numbers of the samples are no places in any table. If
    ``compared``, values that share memory, which holds anything at first, must give the bits of values that do not.
    """
    try:
        model = LiteModel.from_bytes(content)
        model.summary()
        checked_buffers(model)
        executable, buffers = checked_buffers(model, apart=True)
        session = Session(executable)
        arenas = [(session._arena_for(folded), found.gaps()) for folded, found in buffers.items()]
        for arena, gaps in arenas:
            for gap in gaps:
                arena[gap] = _UNTOUCHED
        results = _run(session)
        model.patched(session.get_weights())
        for arena, gaps in arenas:
            assert all((arena[gap] == _UNTOUCHED).all() for gap in gaps), "a kernel wrote between two buffers"
        if compared:
            shared = Session(model)
            for folded in buffers:
                fill_shared(shared, folded)
            assert _run(shared) == results, "values that share memory give other results"
    except MindflError as error:
        assert "\n" not in error.line()
        return error.line()
    return "executed"


def _run(session: Session) -> list[bytes]:
    """Return the results of predicting and training with samples, also such as no table has, and of equal channels."""
    graph, draw = session.executable.graph, np.random.default_rng(1)
    samples: Any = tuple(
        draw.random(tensor.dims, np.float32) if tensor.dtype == np.float32 else draw.integers(0, 2, tensor.dims)
        for tensor in graph.samples
    )
    labels: Any = np.full(graph.batch, session.classes - 1, np.int32)
    if graph.label_kind == "targets" and graph.labels is not None:
        labels = np.ones(graph.labels.dims, graph.labels.dtype)
    elif graph.label_kind == "tokens":
        labels = np.full((graph.batch, graph.labels_of_sample), session.classes - 1, np.int32)
    batches = session.batches(samples)
    wild = draw.integers(-(2**31), 2**31, batches.numbers.shape).astype(np.int32)
    results: list[Any] = []
    for each in (batches, replace(batches, numbers=wild)):
        results.append(session.predict(each))
        if session.model.optimizer_nodes:
            results.append(session.train(each, labels))
            if graph.label_kind == "targets":
                results.append(np.float64(session.loss(each, labels)))
    if session.model.optimizer_nodes and graph.equal_channels:
        results.append(np.float64(session.train_step(samples[0][..., :1].repeat(samples[0].shape[-1], -1), labels)))
    results += session.get_weights().values()
    session.reset_optimizer()
    return [np.where(np.isnan(result), np.nan, result).tobytes() for result in results]


def main(seed: int, count: int, files: list[str]) -> None:
    """Run ``count`` changed models and print how many were executed and refused."""
    draw = random.Random(seed)
    models = small_models() + [ModelText.of(LiteModel.load(Path(file))) for file in files]
    results = Counter(outcome(changed(draw.choice(models), draw), compared=True) == "executed" for _ in range(count))
    print(f"executed {results[True]} refused {results[False]}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
