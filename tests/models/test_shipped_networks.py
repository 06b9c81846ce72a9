"""The shipped networks: their sizes, initial weights, inputs, and the whole way to the device and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from network_sizes_by_hand import COUNTED, PUBLISHED

from mindfl.errors import OptionError
from mindfl.export import export_trained
from mindfl.export.graph_mode import graph_mode
from mindfl.lite import LiteModel
from mindfl.models import MODELS, NetworkSizes, import_mindspore, model_spec
from mindfl.models.network_inputs import Input, network_inputs

#: each network small -> its batch normalisations
SMALL = {
    "mlp:hidden=16": 0,
    "leaf_cnn:dense=32": 0,
    "emnist_cnn:dense=16": 0,
    "resnet8:width=4": 9,
    "resnet18_gn:width=4": 0,
    "mobilenet_v2:width=0.1": 52,
    "char_lstm:hidden=16": 0,
    "albert:hidden=32,layers=2,embedding=16": 0,
}
#: of the whole way to the device these take long
_SLOW = ("leaf_cnn", "emnist_cnn", "resnet8", "resnet18_gn", "mobilenet_v2")


def made(model: str, seed: int = 1, **sizes: Any) -> Any:
    spec = model_spec(model)
    return spec.make(spec.sizes(NetworkSizes(**sizes)), init=None, seed=seed)


def inputs_of(model: str, cell: Any) -> tuple[Input, ...]:
    return network_inputs(cell, model_spec(model).sizes(NetworkSizes()), model)


def values(cell: Any) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy() for parameter in cell.get_parameters()}


def test_all_are_tested() -> None:
    assert {model.partition(":")[0] for model in SMALL} == PUBLISHED.keys() == MODELS.keys() - {"lenet"}


@pytest.mark.parametrize("model", COUNTED)
def test_number_of_parameters(model: str) -> None:
    assert sum(parameter.size for parameter in made(model).trainable_params()) == COUNTED[model]
    assert COUNTED[model] == PUBLISHED.get(model, COUNTED[model])


@pytest.mark.parametrize("model", SMALL)
def test_a_batch_gives_finite_logits_of_its_size(model: str) -> None:
    cell = made(model).set_train(False)
    generator = np.random.default_rng(0)
    batch = [each.random(2, generator) for each in inputs_of(model, cell)]
    logits = cell(*map(import_mindspore().Tensor, batch)).asnumpy()
    assert logits.shape == (2, model_spec(model).sizes(NetworkSizes()).num_class)
    # BatchNorm's first running statistics are not those of the data, so the scale says little.
    assert 1e-4 < logits.std() < 10
    assert np.abs(logits[0] - logits[1]).max() > 0.01 * logits.std()


@pytest.mark.parametrize("model", SMALL)
def test_a_seed_gives_the_same_bits(model: str) -> None:
    first, second, other = (values(made(model, seed)) for seed in (3, 3, 4))
    for name, value in first.items():
        assert value.tobytes() == second[name].tobytes()
        if name.endswith("gamma"):
            assert (value == 1).all()
        elif name.endswith(("beta", "bias")):
            assert not value.any()
    drawn = [name for name in first if name.endswith(("weight", "embedding_table", "_l0"))]
    assert any(not np.array_equal(first[name], other[name]) for name in drawn)


def test_networks_for_other_sizes() -> None:
    images = {"num_class": 7, "num_channel": 3, "image_size": (20, 24)}
    for model in SMALL:
        if model_spec(model).vocabulary is None:
            shapes = {value.shape for value in values(made(model, **images)).values()}
            assert (7,) in shapes and inputs_of(model, made(model))[0].dtype == "float32"
    text = {"num_class": 7, "length": 12, "vocabulary": 33}
    assert made("char_lstm:hidden=16", **text).inputs == (((12,), "int32", 33),)
    assert [each.below for each in made("albert:hidden=32", **text).inputs] == [33, 2, 2]
    predicts = model_spec("char_lstm").sizes(NetworkSizes(vocabulary=53))
    assert predicts == NetworkSizes(num_class=53, length=80, vocabulary=53)


def test_albert_is_blind_to_tokens_that_the_mask_excludes() -> None:
    tensor = import_mindspore().Tensor
    cell = made("albert:hidden=32,layers=2,embedding=16", vocabulary=50).set_train(False)
    ids = np.random.default_rng(0).integers(0, 50, (2, 8)).astype(np.int32)
    other = ids.copy()
    other[:, 5:] = (other[:, 5:] + 1) % 50
    segments, mask = np.zeros_like(ids), np.ones_like(ids)
    everywhere = [cell(*map(tensor, (each, segments, mask))).asnumpy() for each in (ids, other)]
    mask[:, 5:] = 0
    masked = [cell(*map(tensor, (each, segments, mask))).asnumpy() for each in (ids, other)]
    assert np.abs(everywhere[0] - everywhere[1]).max() > 1e-3
    np.testing.assert_allclose(masked[0], masked[1], atol=1e-6)


def test_group_normalisation_is_mindspores() -> None:
    """Also its gradients; it is made of LayerNorm."""
    from mindfl.models.resnet import GroupNorm

    mindspore = import_mindspore()

    class Cubes(mindspore.nn.Cell):
        def __init__(self, norm: Any) -> None:
            super().__init__()
            self.norm = norm

        def construct(self, x: Any) -> Any:
            y = self.norm(x)
            return (y * y * y).sum()

    generator = np.random.default_rng(0)
    x = mindspore.Tensor(generator.normal(1, 3, (3, 6, 5, 4)).astype(np.float32))
    found = []
    for cell in (GroupNorm(2, 6), mindspore.nn.GroupNorm(2, 6)):
        draw = np.random.default_rng(1)
        for parameter in cell.trainable_params():
            parameter.set_data(mindspore.Tensor(draw.normal(1, 1, 6).astype(np.float32)))
        with graph_mode("CPU"):
            value, gradients = mindspore.value_and_grad(Cubes(cell), 0, cell.trainable_params())(x)
        found.append([value.asnumpy(), gradients[0].asnumpy(), *(each.asnumpy() for each in gradients[1])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


REFUSED = {
    "resnet8:depth=3": "model resnet8 has no setting depth",
    "resnet8:num_class=3": "model resnet8: num_class is no setting",
    "lenet:width=3": "model lenet has no setting width",
    "mlp:hidden=0": "hidden must be a whole number of at least 1, got 0",
    "mlp:hidden=8.5": "hidden must be a whole number of at least 1, got 8.5",
    "mobilenet_v2:width=0": "width must be above 0",
    "mobilenet_v2:width=wide": "model mobilenet_v2:width=wide cannot be made",
    "resnet18_gn:width=9": "9 filters cannot be divided into 2 groups",
    "albert:hidden=64,heads=5": "64 hidden values cannot be divided into 5 heads",
    "char_lstm:layers=true": "layers must be a whole number of at least 1, got True",
}


@pytest.mark.parametrize("model", REFUSED)
def test_unusable_settings_are_refused(model: str) -> None:
    with pytest.raises(OptionError, match=REFUSED[model]):
        made(model)


@pytest.mark.parametrize(
    ("model", "sizes", "message"),
    [
        ("leaf_cnn", {"image_size": (3, 28)}, "leaf_cnn takes images of at least 4x4, not 3x28"),
        ("resnet8", {"image_size": (28, 5)}, "resnet8 takes images of at least 8x8, not 28x5"),
        ("albert", {"length": 513}, "albert takes texts of at most 512 tokens, not 513"),
    ],
)
def test_unusable_sizes_are_refused(model: str, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        made(model, **sizes)


@pytest.mark.parametrize(
    "stated", [[((80,),)], [((80,), "int64")], [((0,), "int32")], [((80,), "int32", 0)], [80], ["text"], [((), 3)]]
)
def test_stated_inputs_of_another_form_are_refused(stated: Any) -> None:
    cell = import_mindspore().nn.ReLU()
    cell.inputs = stated
    refused = stated != [((80,),)]  # images and other float32 values need no type
    if not refused:
        assert network_inputs(cell, NetworkSizes(), "own") == (Input((80,)),)
        return
    with pytest.raises(OptionError, match=r"model own states the input .*, which is no shape and float32 or int32"):
        network_inputs(cell, NetworkSizes(), "own")


def test_without_stated_inputs_a_network_takes_images() -> None:
    cell = import_mindspore().nn.ReLU()
    assert network_inputs(cell, NetworkSizes(num_channel=3, image_size=(4, 5)), "own") == (((3, 4, 5), "float32", 2),)
    with pytest.raises(OptionError, match="own has no image_size of its own"):
        network_inputs(cell, NetworkSizes(num_channel=3), "own")


def _model(model: str) -> Any:
    return pytest.param(model, marks=pytest.mark.slow) if model.partition(":")[0] in _SLOW else model


@pytest.mark.parametrize("model", [_model(model) for model in SMALL])
def test_the_whole_way_to_the_device_and_back(model: str, shipped: Callable[[str], Path], tmp_path: Path) -> None:
    """The converted file holds the weights of the seed, and gives a checkpoint and a network for MindSpore again."""
    mindspore = import_mindspore()
    path = shipped(model)
    lite, first = LiteModel.load(path), values(made(model))
    assert lite.parameters.keys() == {parameter.name for parameter in made(model).trainable_params()}
    kinds = [node.op for node in lite.nodes]
    assert kinds.count("FusedBatchNorm") == SMALL[model]
    assert (kinds.count("Adam") or kinds.count("ApplyMomentum")) == len(lite.parameters)
    # Values of which each has another one, so that no order can be mistaken, come back from the file's order.
    trained = {name: np.arange(value.size, dtype=np.float32).reshape(value.shape) for name, value in first.items()}
    lite.save(tmp_path / "trained.ms", lite.from_mindspore(trained))
    for name, value in LiteModel.load(tmp_path / "trained.ms").to_mindspore().items():
        np.testing.assert_array_equal(value, trained[name], err_msg=name)
    again = made(model, seed=2)
    checkpoint = mindspore.load_checkpoint(str(export_trained(path, tmp_path / "back.ckpt").path))
    assert mindspore.load_param_into_net(again, checkpoint, strict_load=True) == ([], [])
    for name, value in values(again).items():
        np.testing.assert_array_equal(value, first[name], err_msg=name)


#: networks whose ONNX files MindSpore 2.10 writes in a form that onnxruntime does not read (docs/networks.md)
_NOT_IN_ONNX = [name for name in SMALL if name.startswith(("char_lstm", "albert"))]


@pytest.mark.slow
@pytest.mark.parametrize("model", SMALL)
def test_the_exported_network_predicts_as_mindspore_does(
    model: str, shipped: Callable[[str], Path], tmp_path: Path
) -> None:
    mindspore = import_mindspore()
    cell, generator = made(model).set_train(False), np.random.default_rng(0)
    batch = [each.random(3, generator) for each in inputs_of(model, cell)]
    expected = cell(*map(mindspore.Tensor, batch)).asnumpy()
    mindir = export_trained(shipped(model), tmp_path / "back.mindir", model=model).path
    loaded = mindspore.nn.GraphCell(mindspore.load(str(mindir)))
    np.testing.assert_allclose(loaded(*map(mindspore.Tensor, batch)).asnumpy(), expected, atol=1e-5)
    if model in _NOT_IN_ONNX:
        return
    onnx = onnxruntime.InferenceSession(str(export_trained(shipped(model), tmp_path / "back.onnx", model=model).path))
    names = [each.name for each in onnx.get_inputs()]
    (found,) = onnx.run(None, dict(zip(names, batch, strict=True)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_parameters_are_counted_in_the_exported_file(shipped: Callable[[str], Path]) -> None:
    model = LiteModel.load(shipped("char_lstm:hidden=16"))
    assert sum(math.prod(tensor.dims) for tensor in model.parameters.values()) == 6090
    assert [model.tensors[index].dims for index in model.inputs] == [(4, 80), (4,)]
