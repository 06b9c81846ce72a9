"""Files that are damaged or made to harm: refused with one line, or executed inside their own buffers."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lite_bounds import RANGES, check_model
from lite_fuzz import another_operator, changed, outcome, small_models
from lite_handmade import LOSS, Window, handmade
from lite_writer import (
    ModelText,
    NodeText,
    TensorText,
    write_node,
    write_numbers,
    write_object,
    write_tables,
    write_tensor,
)

from mindfl.errors import MindflError, ModelFormatError
from mindfl.lite import LiteModel, Session
from mindfl.lite.ops import INSTRUCTIONS


def _base() -> ModelText:
    """A second convolution with padding, overlapping pooling, dense; all that may go wrong in one file."""
    conv, second = Window((3, 3)), Window((2, 2), (1, 1), (2, 2), 0, (0, 1, 2, 1))
    return handmade(conv, second, Window((3, 3), (2, 2), mode=1))


def test_the_base_of_these_tests_is_executed() -> None:
    assert outcome(_base().write()) == "executed"


def test_the_proof_of_bounds_knows_every_instruction() -> None:
    assert RANGES.keys() == INSTRUCTIONS.keys()


Change = Callable[[ModelText], object]


def _named(model: ModelText, name: str) -> TensorText:
    return next(tensor for tensor in model.tensors if tensor.name == name)


def _output_of(model: ModelText, op: str, number: int = 0) -> TensorText:
    return model.tensors[model.node(op, number).outputs[0]]


def _set(node: NodeText, **attributes: object) -> None:
    node.attributes.update(attributes)


def _resized(tensor: TensorText, *dims: int) -> None:
    tensor.dims = list(dims)
    tensor.data = None if tensor.data is None else np.resize(tensor.data, dims)


def _batch(model: ModelText, batch: int) -> None:
    for tensor in model.tensors:
        tensor.dims = [batch if dim == 3 and axis == 0 else dim for axis, dim in enumerate(tensor.dims)]
        tensor.data = None if tensor.data is None else np.resize(tensor.data, tensor.dims)


def _cycle(model: ModelText) -> None:
    model.node("Flatten").inputs[0] = model.node("BiasAdd").outputs[0]


def _alias_then_relu(model: ModelText) -> None:
    weight = model.node("MatMulFusion").inputs[1]
    model.node("Activation").inputs[0] = weight


#: name -> (change of the base model, what the refusal says)
def _averaged(model: ModelText, **attributes: object) -> None:
    model.node("MaxPoolFusion").op, model.node("MaxPoolGrad").op = "AvgPoolFusion", "AvgPoolGrad"
    _set(model.node("AvgPoolFusion"), **attributes)


CHANGES: dict[str, tuple[Change, str]] = {
    "batch 0": (lambda m: _batch(m, 0), "first dimension is the batch"),
    "a batch of two thousand million": (lambda m: _resized(_named(m, "image"), 2**31 - 1, 9, 8, 2), "larger than"),
    "a gigantic image": (lambda m: _resized(_named(m, "image"), 3, 2**15, 2**14, 2), "GiB"),
    "more elements than memory has addresses": (lambda m: _resized(_named(m, "image"), *[2**31 - 1] * 4), "dims"),
    "a negative dim": (lambda m: _resized(_named(m, "image"), 3, -9, 8, 2), "dims"),
    "an image without dims": (lambda m: _resized(_named(m, "image")), "first dimension is the batch"),
    "a thousand dims": (lambda m: _resized(_named(m, "image"), *[2**31 - 1] * 1000), "dims"),
    "too few bytes in a weight": (lambda m: _named(m, "fc.weight").dims.__setitem__(0, 5), "bytes"),
    "a cycle": (_cycle, "cycle"),
    "a node that reads its own output": (
        lambda m: m.node("BiasAdd").inputs.__setitem__(0, m.node("BiasAdd").outputs[0]),
        "cycle",
    ),
    "two nodes that write one tensor": (
        lambda m: m.node("Flatten").outputs.__setitem__(0, m.node("Activation").outputs[0]),
        "which has another source",
    ),
    "one node that writes a tensor twice": (
        lambda m: m.node("Flatten").outputs.append(m.node("Flatten").outputs[0]),
        "which has another source",
    ),
    "a node that writes a weight": (
        lambda m: m.node("ApplyMomentum").outputs.__setitem__(0, m.node("ApplyMomentum").inputs[0]),
        "which has another source",
    ),
    "a node that writes the image": (
        lambda m: m.node("Flatten").outputs.__setitem__(0, m.inputs[1]),
        "which has another source",
    ),
    "an operator that no schema has": (
        lambda m: setattr(m.node("BiasAdd"), "op", "operator#250"),
        r"operator#250 \(node net/BiasAdd12, tensor t12, 3x4\)",
    ),
    "an operator that the runtime does not have": (
        lambda m: setattr(m.node("BiasAdd"), "op", "LayerNormFusion"),
        "LayerNormFusion",
    ),
    "an index out of range": (lambda m: m.node("ApplyMomentum").inputs.__setitem__(0, 10**6), "index is out of range"),
    "an output out of range": (lambda m: m.outputs.append(2**32 - 1), "index is out of range"),
    "an optimizer without inputs": (lambda m: m.node("ApplyMomentum").inputs.clear(), "0 inputs"),
    "an optimizer that trains what is computed": (
        lambda m: m.node("ApplyMomentum").inputs.__setitem__(0, m.node("ApplyMomentum").inputs[3]),
        "no float32 constant",
    ),
    "an optimizer that trains whole numbers": (
        lambda m: m.node("ApplyMomentum").inputs.__setitem__(0, m.node("Reshape").inputs[1]),
        "no float32 constant",
    ),
    "a state that is computed": (
        lambda m: m.node("ApplyMomentum").inputs.__setitem__(1, m.node("ApplyMomentum").inputs[3]),
        "computed state",
    ),
    "a state of another size": (lambda m: _resized(_named(m, "state.fc.bias"), 5), "another size"),
    "a gradient of another weight": (
        lambda m: m.node("ApplyMomentum").inputs.__setitem__(3, m.node("ApplyMomentum", 1).inputs[3]),
        "another size",
    ),
    "a rate that is a vector": (lambda m: _resized(_named(m, "rate"), 7), "rate of another size"),
    "one parameter trained twice": (
        lambda m: m.node("ApplyMomentum").inputs.__setitem__(0, m.node("ApplyMomentum", 1).inputs[0]),
        "one twice",
    ),
    "two parameters of one name": (lambda m: setattr(_named(m, "fc.bias"), "name", "fc.weight"), "'fc.weight'"),
    "no loss": (lambda m: _set(m.node(LOSS, 1), is_grad=True), "no loss|comes out as"),
    "two losses": (lambda m: m.node(LOSS, 0).attributes.clear(), "no loss|comes out as"),
    "labels that are the image": (lambda m: m.node(LOSS).inputs.__setitem__(1, m.inputs[1]), "labels"),
    "labels that are a constant": (
        lambda m: m.node(LOSS, 1).inputs.__setitem__(1, m.node("Reshape").inputs[1]),
        "labels",
    ),
    "fewer labels than images": (lambda m: _resized(_named(m, "label"), 2), "labels of shape"),
    "more classes than are computed": (lambda m: _resized(_output_of(m, "BiasAdd"), 3, 400), "comes out as|shape"),
    "a gradient of other scores than the loss": (
        lambda m: m.node(LOSS, 0).inputs.__setitem__(0, m.node("Flatten").outputs[0]),
        "comes out as",
    ),
    "a bias of another size": (lambda m: _resized(_named(m, "fc.bias"), 3), "bias of 3"),
    "a dense weight of another size": (lambda m: _resized(_named(m, "fc.weight"), 4, 17), "shapes"),
    "a dense weight with one dim": (lambda m: _resized(_named(m, "fc.weight"), 40), "shapes"),
    "a flattening that loses elements": (lambda m: _resized(_output_of(m, "Flatten"), 3, 7), "shapes"),
    "a flattening across the batch": (lambda m: _resized(_output_of(m, "Flatten"), 1, 3 * 60), "batch|shapes"),
    "an activation of a weight": (_alias_then_relu, "comes out as"),
    "a gradient of another shape": (
        lambda m: m.node("ActivationGrad").inputs.__setitem__(1, m.node("BiasAdd").outputs[0]),
        "shapes",
    ),
    "another activation": (lambda m: _set(m.node("Activation"), type=7), "activation 7"),
    "a weight with other taps": (lambda m: _resized(_named(m, "conv.weight"), 3, 2, 3, 2), "weight of shape"),
    "a weight for other channels": (lambda m: _resized(_named(m, "conv.weight"), 3, 3, 3, 1), "weight of shape"),
    "a weight for fewer filters": (lambda m: _resized(_named(m, "conv2.weight"), 4, 2, 2, 3), "weight of shape"),
    "a window larger than the image": (
        lambda m: _set(m.node("Conv2DFusion", 1), kernel_size=(10, 10)),
        "window|shapes",
    ),
    "a window of no size": (lambda m: _set(m.node("Conv2DFusion", 1), kernel_size=(0, 3)), "window"),
    "a gigantic window": (lambda m: _set(m.node("Conv2DFusion", 1), kernel_size=(2**62, 2**62)), "window"),
    "a window with one side": (lambda m: _set(m.node("Conv2DFusion", 1), kernel_size=(3,)), "two-dimensional"),
    "stride 0": (lambda m: _set(m.node("Conv2DFusion", 1), stride=(0, 1)), "stride"),
    "a negative stride": (lambda m: _set(m.node("Conv2DFusion", 1), stride=(1, -1)), "stride"),
    "dilation 0": (lambda m: _set(m.node("Conv2DFusion", 1), dilation=(0, 0)), "dilation"),
    "negative padding": (lambda m: _set(m.node("Conv2DFusion"), pad_list=(0, 1, -2, 1)), "padding"),
    "gigantic padding": (lambda m: _set(m.node("Conv2DFusion"), pad_list=(0, 2**62, 2, 1)), "shapes"),
    "padding on three sides": (lambda m: _set(m.node("Conv2DFusion"), pad_list=(0, 1, 2)), "3 values of padding"),
    "an unknown pad mode": (lambda m: _set(m.node("Conv2DFusion"), pad_mode=3), "pad mode 3"),
    "an output larger than the convolution gives": (
        lambda m: _resized(_output_of(m, "Conv2DFusion", 1), 3, 8, 6, 3),
        "shapes",
    ),
    "groups that do not divide the channels": (lambda m: _set(m.node("Conv2DFusion"), group=3), "3 groups of 3 and 5"),
    "fewer groups than none": (lambda m: _set(m.node("Conv2DFusion"), group=-1), "-1 groups"),
    "gigantic groups": (lambda m: _set(m.node("Conv2DFusion"), group=2**62), f"{2**62} groups"),
    "groups with the weight of one": (
        lambda m: (
            _set(m.node("Conv2DFusion"), group=3),
            _resized(_output_of(m, "Conv2DFusion"), 3, 8, 6, 6),
        ),
        "weight of shape|shapes",
    ),
    "a fused activation that is no ReLU": (lambda m: _set(m.node("Conv2DFusion"), activation=2), "fused operator"),
    "another geometry in the filter gradient": (
        lambda m: _set(m.node("Conv2DBackpropFilterFusion"), stride=(1, 1, 2, 2)),
        "shapes",
    ),
    "another geometry in the input gradient": (
        lambda m: _set(m.node("Conv2DBackpropInputFusion"), dilation=(1, 1, 1, 1)),
        "shapes",
    ),
    "a filter gradient of another shape": (
        lambda m: _resized(_output_of(m, "Conv2DBackpropFilterFusion", 1), 5, 2, 2, 1),
        "weight of shape",
    ),
    "pooling stride 0": (lambda m: _set(m.node("MaxPoolFusion"), strides=(0, 0)), "stride"),
    "pooling window 0": (lambda m: _set(m.node("MaxPoolFusion"), kernel_size=(0, 0)), "window"),
    "pooling with padding": (lambda m: _set(m.node("MaxPoolFusion"), pad=(1, 1, 1, 1)), "padding"),
    "global pooling": (lambda m: _set(m.node("MaxPoolFusion"), **{"global": True}), "shapes"),
    "an average over no window": (lambda m: _averaged(m, kernel_size=(0, 2)), "window"),
    "an average over windows past the image": (lambda m: _averaged(m, strides=(9, 9)), "shapes"),
    "an average of other windows than its gradient": (
        lambda m: (_averaged(m), _set(m.node("AvgPoolGrad"), strides=(1, 1))),
        "shapes",
    ),
    "a pooling output of other channels": (lambda m: _resized(_output_of(m, "MaxPoolFusion"), 3, 3, 4, 4), "shapes"),
    "a pooling output that is too large": (lambda m: _resized(_output_of(m, "MaxPoolFusion"), 3, 30, 40, 5), "shapes"),
    "a pooling gradient with another window": (lambda m: _set(m.node("MaxPoolGrad"), strides=(1, 1)), "shapes"),
    "a pooling gradient with another gradient": (
        lambda m: m.node("MaxPoolGrad").inputs.__setitem__(2, m.node("Conv2DFusion").outputs[0]),
        "shapes",
    ),
    "a transposed product in an unknown order": (
        lambda m: _set(m.node("MatMulFusion"), transpose_a=False, transpose_b=True),
        "shapes|operands",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_cannot_be_executed_is_refused_with_its_reason(name: str) -> None:
    change, reason = CHANGES[name]
    model = _base()
    change(model)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match=reason):
            Session(LiteModel.from_bytes(model.write()))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("op", ["Conv2DBackpropFilterFusion", "Conv2DBackpropInputFusion"])
def test_a_gradient_of_other_groups_than_its_convolution_is_refused(op: str) -> None:
    model = handmade(Window((1, 1)), Window((3, 3), groups=3), second_filters=6)
    _set(next(node for node in model.nodes if node.op == op and node.attributes.get("group")), group=1)
    with pytest.raises(ModelFormatError, match="weight of shape"):
        Session(LiteModel.from_bytes(model.write()))


@pytest.mark.parametrize("order", [(0, 1, 2, 4), (0, 1, 1, 2), (0, -1, 2, 3), (0, 1, 2), tuple(range(40))])
def test_an_order_of_axes_that_is_none_is_refused(order: tuple[int, ...]) -> None:
    model = _base()
    pooled = model.node("MaxPoolFusion").outputs[0]
    model.tensors += [TensorText("order", [len(order)], "int32", np.array(order, np.int32))]
    model.tensors += [TensorText("turned", [*model.tensors[pooled].dims])]
    count = len(model.tensors)
    model.nodes.append(NodeText("Transpose", [pooled, count - 2], [count - 1]))
    model.node("Flatten").inputs[0] = count - 1
    with pytest.raises(ModelFormatError, match="order"):
        Session(LiteModel.from_bytes(model.write()))


def test_a_name_that_is_not_text_and_a_broken_first_table_are_refused() -> None:
    content = bytearray(_base().write())
    at = content.index(b"fc.weight")
    content[at] = 0xFF
    with pytest.raises(ModelFormatError, match="UTF-8"):
        LiteModel.from_bytes(bytes(content))
    for root in (0, 1, 7, len(content) - 1, len(content), 2**31, 2**32 - 1):
        content[:4] = root.to_bytes(4, "little")
        with pytest.raises(ModelFormatError, match="damaged"):
            LiteModel.from_bytes(bytes(content))


def test_every_length_of_a_cut_file_is_refused_or_whole(lenet: LiteModel) -> None:
    small = small_models()[0].write()
    cuts = [small[:length] for length in range(len(small) - 4)]  # four bytes may be the end of a text
    cuts += [lenet.content[: len(lenet.content) - length] for length in (100, 10_000, 300_000, 540_000)]
    for content in cuts:
        assert outcome(content).endswith("[E-MODEL]")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_bytes_are_refused_or_executed(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_SMALL_FILES)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from((0, 1, 2, 4, 127, 128, 255)) | st.integers(0, 255))
    outcome(bytes(content))


_SMALL_FILES = [model.write() for model in small_models()]


def test_changed_bytes_of_a_real_file_are_refused_or_executed(lenet: LiteModel) -> None:
    weights = np.ones(len(lenet.content), bool)
    for tensor in lenet.tensors:
        if tensor.data is not None:
            weights[tensor.position : tensor.position + tensor.data.nbytes] = False
    places = np.flatnonzero(weights).tolist()
    draw = random.Random(3)
    for _ in range(60):
        content = bytearray(lenet.content)
        for _ in range(draw.randrange(1, 4)):
            content[draw.choice(places)] = draw.randrange(256)
        outcome(bytes(content))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_changed_graphs_are_refused_or_stay_inside_their_buffers(seed: int) -> None:
    draw = random.Random(seed)
    outcome(changed(draw.choice(small_models()), draw))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_any_operator_anywhere_is_refused_or_planned_inside_its_buffers(seed: int) -> None:
    """Not executed: that would compile every family of kernels."""
    draw = random.Random(seed)
    with suppress(MindflError):
        check_model(LiteModel.from_bytes(another_operator(draw.choice(small_models()), draw)))


def test_a_process_survives_changed_graphs(lenet: LiteModel, tmp_path: Path) -> None:
    file = tmp_path / "lenet.ms"
    lenet.save(file)
    program = Path(__file__).with_name("lite_fuzz.py")
    command = [sys.executable, str(program), "8", "120", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    executed, refused = (int(word) for word in result.stdout.split() if word.isdigit())
    assert executed > 10 and refused > 50


def _nested(count: int, aliased: bool) -> bytes:
    """Return a model of ``count`` nodes in a chain; ``aliased``: all are one node with a long name."""
    builder = flatbuffers.Builder(1024)
    text = NodeText("Flatten", [0], [1], name="n" * (50_000 if aliased else 1))
    if aliased:
        offsets = [write_node(builder, text)] * count
    else:
        offsets = [write_node(builder, NodeText("Flatten", [n], [n + 1])) for n in range(count)]
    nodes = write_tables(builder, offsets)
    tensors = ModelText([], [TensorText(f"{n}", [1, 1]) for n in range(count + 1)], [], [])
    tables = write_tables(
        builder, [write_tensor(builder, tensor) for tensor in tensors.tensors[: 2 if aliased else None]]
    )
    inputs, outputs = write_numbers(builder, [0], "I"), write_numbers(builder, [1 if aliased else count], "I")
    builder.Finish(write_object(builder, 8, {3: inputs, 4: outputs, 6: nodes, 7: tables}), file_identifier=b"MSL2")
    return bytes(builder.Output())


def test_a_hundred_thousand_entries_for_one_node_are_refused_in_little_memory() -> None:
    content = _nested(100_000, aliased=True)
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="bytes repeatedly"):
        LiteModel.from_bytes(content)
    assert tracemalloc.get_traced_memory()[1] < 40 * len(content)
    tracemalloc.stop()


def test_a_chain_of_thousands_of_nodes_is_no_recursion() -> None:
    session = Session(LiteModel.from_bytes(_nested(3000, aliased=False)))
    assert session.predict(np.ones((1, 1), np.float32)).tolist() == [[1.0]]
