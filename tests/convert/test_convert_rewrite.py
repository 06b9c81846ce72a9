from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindfl.convert.mindir import Proto, check_graph, mindir_protocol, operators, parameters, read_mindir
from mindfl.convert.rewrite import rewrite
from mindfl.errors import MindirError


def primitives(model: Proto, operator: str) -> list[dict[str, object]]:
    return [
        {attribute.name: attribute.s or attribute.i or attribute.f for attribute in primitive.attribute}
        for primitive in model.primitives
        if primitive.op_type == operator
    ]


def nodes(model: Proto, operator: str) -> list[Proto]:
    types = operators(model)
    return [node for node in model.graph.node if types[node.output[0]] == operator]


@pytest.mark.parametrize("optimizer", ["momentum", "sgd", "adam"])
def test_result_is_a_whole_version_1_graph(optimizer: str, exported: Callable[..., Path]) -> None:
    source = read_mindir(exported(optimizer))
    before = source.SerializeToString(deterministic=True)
    result = rewrite(source)
    check_graph(result, "rewritten")
    assert source.SerializeToString(deterministic=True) == before
    assert (result.mind_ir_version, result.ir_version) == (1, "0.1.1")
    assert not any(primitive.HasField("prim_type") for primitive in result.primitives)
    assert not any(node.node_attr for node in result.graph.node)
    assert not nodes(result, "AssignAdd")
    used = {node.op_type.removeprefix("REF::") for node in result.graph.node}
    assert len({primitive.name for primitive in result.primitives}) == len(result.primitives)
    assert used - {"Constant"} <= {primitive.name for primitive in result.primitives}


def test_settings_become_attributes_of_one_primitive_each(model: Proto) -> None:
    result = rewrite(model)
    assert {len(node.input) for node in nodes(result, "MatMul")} == {2}
    found = {(item["transpose_a"], item["transpose_b"]) for item in primitives(result, "MatMul")}
    assert found == {(0, 0), (0, 1), (1, 0)}
    assert all(item["transpose_a"] == item["transpose_x1"] for item in primitives(result, "MatMul"))
    assert {len(node.input) for node in nodes(result, "BiasAdd")} == {2}
    assert {len(node.input) for node in nodes(result, "BiasAddGrad")} == {1}
    assert primitives(result, "BiasAdd") == [{"format": b"NCHW", "data_format": b"NCHW"}]


def test_equal_tensors_are_one_constant(exported: Callable[..., Path]) -> None:
    source = read_mindir(exported("adam"))
    result = rewrite(source)
    assert len({node.input[6] for node in nodes(source, "Adam")}) == 8
    assert len({node.input[6] for node in nodes(result, "Adam")}) == 1
    reads = {value for node in result.graph.node for value in node.input}
    assert all(node.output[0] in reads for node in nodes(result, "Constant"))


def test_version_1_passes_untouched(model: Proto) -> None:
    result = rewrite(model)
    assert rewrite(result) is result


def test_optimizer_state_of_convolutions_is_turned_like_their_weights(model: Proto) -> None:
    rng = np.random.default_rng(0)
    for tensor in model.graph.parameter:
        if ":moments." in tensor.name:
            tensor.raw_data = rng.random(tuple(tensor.dims), np.float32).tobytes()
    values = parameters(model)
    result = parameters(rewrite(model))
    turned = values["moments.conv2.weight"].transpose(0, 2, 3, 1)
    assert np.array_equal(result["moments.conv2.weight"].ravel(), turned.ravel())
    assert np.array_equal(result["moments.fc1.weight"], values["moments.fc1.weight"])
    assert np.array_equal(result["conv2.weight"], values["conv2.weight"])


def refusal(model: Proto, change: Callable[[Proto], object]) -> str:
    change(model)
    with pytest.raises(MindirError) as caught:
        rewrite(model)
    return caught.value.line()


def test_newer_version_is_refused(model: Proto) -> None:
    assert "MINDIR version 4" in refusal(model, lambda it: setattr(it, "mind_ir_version", 4))


def test_sub_graphs_are_refused(model: Proto) -> None:
    assert "1 sub-graphs" in refusal(model, lambda it: it.functions.add(name="loop"))


def test_unknown_operator_with_settings_is_named(model: Proto) -> None:
    def replace(model: Proto) -> None:
        next(item for item in model.primitives if item.op_type == "BiasAdd").op_type = "Bias"

    line = refusal(model, replace)
    assert "operator Bias (node Default/network-WithLossCell" in line
    assert "MatMul" in line


def test_unknown_operator_without_settings_is_left_to_the_converter(model: Proto) -> None:
    next(item for item in model.primitives if item.op_type == "Flatten").op_type = "Lay"
    assert len(nodes(rewrite(model), "Lay")) == 1


def test_setting_that_is_not_a_constant_is_refused(model: Proto) -> None:
    def rewire(model: Proto) -> None:
        node = nodes(model, "MatMul")[0]
        node.input[2] = node.input[0]

    assert "MatMul-op0 has a setting" in refusal(model, rewire)


def test_unknown_layout_is_refused(model: Proto) -> None:
    attribute = mindir_protocol().AttributeProto

    def change(model: Proto) -> None:
        for node in nodes(model, "Constant"):
            if node.attribute[0].type == attribute.INT64:
                node.attribute[0].i = 2  # NCDHW

    assert "is not a known constant" in refusal(model, change)


def test_counter_that_is_read_elsewhere_is_refused(model: Proto) -> None:
    def read(model: Proto) -> None:
        nodes(model, "MakeTuple")[0].input.append(nodes(model, "AssignAdd")[0].input[0])

    assert "AssignAdd on global_step cannot be removed" in refusal(model, read)
