"""Weights in MindSpore's order: read from the graph, never guessed from shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lite_writer import ModelText

from mindfl.convert import convert_model
from mindfl.convert.mindir import parameters, read_mindir
from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel
from mindfl.lite.weight_order import KHWC, NCHW, khwc_weights
from mindfl.models import import_mindspore

ModelFactory = Callable[..., Path]
NHWC = 1


def test_lenet_comes_back_as_it_was_exported(exported: ModelFactory, converted: ModelFactory) -> None:
    original = parameters(read_mindir(exported()))
    model = LiteModel.load(converted())
    weights = model.to_mindspore()
    assert sorted(weights) == sorted(model.weights)
    assert weights["conv1.weight"].shape == (6, 3, 5, 5)
    assert all(np.array_equal(weights[name], original[name]) for name in weights)


def test_filters_whose_shape_does_not_tell_their_order(rgb_files: tuple[Path, Path]) -> None:
    original, model = parameters(read_mindir(rgb_files[0])), LiteModel.load(rgb_files[1])
    assert model.weights["0.weight"].shape == original["0.weight"].shape == (3, 3, 3, 3)
    assert not np.array_equal(model.weights["0.weight"], original["0.weight"])
    assert khwc_weights(model) == {"0.weight", "2.weight"}
    weights = model.to_mindspore()
    assert sorted(weights) == ["0.bias", "0.weight", "2.weight", "5.bias", "5.weight"]
    assert all(np.array_equal(weights[name], original[name]) for name in weights)


def test_given_values_count_flat_or_shaped_and_come_back(lenet_model: LiteModel) -> None:
    values = {"conv2.weight": np.arange(2400, dtype=np.float32), "fc3.bias": np.ones(62, np.float32)}
    weights = lenet_model.to_mindspore(values)
    assert np.array_equal(weights["conv2.weight"], values["conv2.weight"].reshape(16, 5, 5, 6).transpose(0, 3, 1, 2))
    assert np.array_equal(weights["fc3.bias"], values["fc3.bias"])
    assert np.array_equal(weights["fc1.bias"], lenet_model.weights["fc1.bias"])
    back = lenet_model.from_mindspore(weights)
    for name, value in {**lenet_model.weights, **values}.items():
        assert np.array_equal(back[name].reshape(-1), value.reshape(-1))
    weights["fc1.bias"][0] = 5  # one's own


def test_what_does_not_fit_is_named(lenet_model: LiteModel) -> None:
    wrong = np.ones((6, 5, 5, 3), np.float32)
    for call, weights, text in (
        (lenet_model.to_mindspore, {"conv9.weight": wrong}, "the model has no weight conv9.weight"),
        (lenet_model.from_mindspore, {"conv9.weight": wrong}, "the model has no weight conv9.weight"),
        (lenet_model.to_mindspore, {"fc1.bias": wrong}, "weight fc1.bias has 450 values, the model's has 120"),
        (
            lenet_model.from_mindspore,
            {"conv1.weight": wrong},
            r"conv1.weight has shape \(6, 5, 5, 3\), .* \(6, 3, 5, 5\)",
        ),
    ):
        with pytest.raises(ModelFormatError, match=text):
            call(weights)


def test_a_weight_of_four_dimensions_that_is_no_filter(lenet_model: LiteModel) -> None:
    """Its format in the file counts; the shape says nothing."""
    text = ModelText.of(lenet_model)
    index = next(i for i, tensor in enumerate(text.tensors) if tensor.name == "fc3.bias")
    values = np.arange(62, dtype=np.float32)
    text.tensors[index].data, text.tensors[index].dims = values, [1, 1, 31, 2]
    for form, expected in (
        (NCHW, values.reshape(1, 1, 31, 2)),
        (KHWC, values.reshape(1, 1, 31, 2).transpose(0, 3, 1, 2)),
    ):
        text.tensors[index].format = form
        assert np.array_equal(LiteModel.from_bytes(text.write()).to_mindspore()["fc3.bias"], expected)
    text.tensors[index].format = NHWC
    with pytest.raises(
        ModelFormatError, match=r"does not say in which order the dimensions \(1, 1, 31, 2\) of fc3.bias"
    ):
        LiteModel.from_bytes(text.write()).to_mindspore()


def test_a_model_for_inference(tmp_path: Path, converter_library: Path) -> None:
    """Nothing in it is trained, and the converter gives the filters another format."""
    mindspore = import_mindspore()
    network = mindspore.nn.SequentialCell(
        mindspore.nn.Conv2d(3, 4, 3, has_bias=True), mindspore.nn.Flatten(), mindspore.nn.Dense(4 * 36, 5)
    )
    network.set_train(False)
    images = mindspore.Tensor(np.zeros((1, 3, 6, 6), np.float32))
    mindspore.export(network, images, file_name=str(tmp_path / "network"), file_format="MINDIR")
    model = convert_model(tmp_path / "network.mindir", tmp_path / "network", train=False).model
    weights = model.to_mindspore()
    assert not model.parameters
    assert sorted(weights) == sorted(parameter.name for parameter in network.get_parameters())
    assert all(np.array_equal(weights[p.name], p.asnumpy()) for p in network.get_parameters())


@pytest.fixture(scope="module")
def lenet_model(converted: ModelFactory) -> LiteModel:
    return LiteModel.load(converted())
