"""Single operators: a file of a few nodes, planned under watch and run once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from lite_bounds import check_program, watched
from lite_handmade import Maker
from numpy.typing import NDArray

from mindfl.lite import LiteModel
from mindfl.lite.kernels import load_machine
from mindfl.lite.model_graph import Graph
from mindfl.lite.ops.registry import lowering
from mindfl.lite.plan import Plan

Array = NDArray[np.generic]


def run_node(
    op: str,
    inputs: Sequence[Array],
    shapes: Sequence[tuple[int, ...]],
    fed: Sequence[int] = (),
    batch: int = 0,
    steps: int = 1,
    **attributes: object,
) -> list[Array]:
    """Return the outputs of one node in ``shapes``.

    Its inputs are constants, but for those whose numbers are in ``fed``, which carry the batch (their first axis) and
    lie batch-last if they are float32.
    """
    m = Maker(np.random.default_rng(0))
    places = []
    for number, array in enumerate(inputs):
        if number in fed:
            places.append(m.computed(*array.shape, dtype=array.dtype.name))
            m.model.inputs.append(places[-1])
        else:
            places.append(m.constant(f"c{number}", array))
    outputs = [m.computed(*shape) for shape in shapes]
    m.node(op, places, outputs[0], **attributes)
    m.model.nodes[0].outputs = outputs
    m.model.outputs = [outputs[0]]
    if not fed:
        m.model.inputs.append(m.computed(max(batch, 1), 1))
    feeds = {places[number]: inputs[number] for number in fed} or {m.model.inputs[0]: np.zeros((1, 1), np.float32)}
    return run_model(LiteModel.from_bytes(m.model.write()), outputs, feeds, steps)


def run_model(
    model: LiteModel, outputs: Sequence[int], feeds: Mapping[int, Array], steps: int = 1
) -> list[Array]:  # fmt: skip
    """Run all nodes of a model, in the order of the file, and return some of its tensors in the shapes of the file."""
    graph = Graph(model)
    with watched(graph) as buffers:
        plan = Plan(graph, folded=False, start=graph.constants_size)
        for node in model.nodes:
            if node.index not in plan.done:
                lower = lowering(node)
                assert lower is not None
                lower(plan, node)
        values = [plan.value(tensor) for tensor in outputs]
        program = plan.program(values[0].offset)
    check_program(program, buffers, program.end)
    arena = np.full(program.end + 16, np.nan, np.float32)
    arena = arena[-(arena.ctypes.data // 4) % 16 :][: program.end]
    for offset in program.kept:
        arena[offset : offset + program.blocks[offset]] = 0
    for index, place in graph.constants.items():
        arena[place.offset : place.offset + place.size] = np.asarray(model.tensors[index].data).ravel()
    for offset, numbers in program.literals.items():
        arena[offset : offset + numbers.size] = numbers
    machine = load_machine()
    machine.prepare(program.code)
    real = [feeds[tensor.index].reshape(graph.batch, -1) for tensor in graph.samples if tensor.dtype == np.float32]
    whole = [feeds[tensor.index].reshape(graph.batch, -1) for tensor in graph.samples if tensor.dtype == np.int32]
    packed = np.zeros((1, program.place.features, plan.lanes), np.float32)
    if real:
        packed[0, :, : graph.batch] = np.concatenate(real, axis=1).T
    numbers = np.ascontiguousarray(np.concatenate(whole, axis=1)) if whole else np.zeros((1, 0), np.int32)
    machine.execute(
        *(arena, program.table.copy(), program.code, machine.addresses, packed, numbers, np.zeros(1, np.int32)),
        *(program.place.row(), steps, np.zeros((steps, 1), np.float32)),
    )
    found = []
    for tensor, value in zip(outputs, values, strict=True):
        if value.batched:
            flat = arena[value.offset : value.offset + value.size * plan.lanes].reshape(-1, plan.lanes)
            array = flat[:, : plan.batch].T.copy()
        else:
            array = arena[value.offset : value.offset + value.size].copy()
        found.append(array.reshape(model.tensors[tensor].dims))
    return found
