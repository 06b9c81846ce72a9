"""Reading, listing, changing and writing ``.ms`` files, of the converter and of another producer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_handmade import Window, handmade
from lite_numpy import NumpyModel
from lite_reference import random_batch
from lite_writer import ModelText

from mindfl.convert import convert_model
from mindfl.errors import DataError, ModelFormatError, StorageError
from mindfl.lite import LiteModel, Session
from mindfl.lite.kernels import load_machine
from mindfl.models import import_mindspore, model_spec


def test_saving_changes_the_bytes_of_the_weights_alone(lenet: LiteModel, tmp_path: Path) -> None:
    session = Session(lenet)
    session.train(*random_batch(session, 1, 64))
    path = tmp_path / "ü folder" / "trained model.ms"

    session.save(path)

    loaded = LiteModel.load(path)
    assert (loaded.version, len(loaded.content)) == (lenet.version, len(lenet.content))
    weights = session.get_weights()
    assert list(loaded.weights) == list(lenet.weights) == sorted(weights)
    assert all(np.array_equal(loaded.weights[name], weights[name]) for name in weights)
    allowed = np.zeros(len(lenet.content), bool)
    for tensor in lenet.parameters.values():
        allowed[tensor.position : tensor.position + 4 * tensor.size] = True
    changed = np.frombuffer(lenet.content, "u1") != np.frombuffer(loaded.content, "u1")
    assert changed.any() and not (changed & ~allowed).any()
    assert list(path.parent.iterdir()) == [path]


def test_a_saved_model_goes_on_as_a_fresh_optimizer_with_the_same_weights(lenet: LiteModel, tmp_path: Path) -> None:
    session = Session(lenet)
    session.train(*random_batch(session, 1, 64))
    session.save(tmp_path / "a.ms")
    session.reset_optimizer()
    images, labels = random_batch(session, 2, 96)

    loaded = Session(LiteModel.load(tmp_path / "a.ms"))

    assert session.train(images, labels).tolist() == loaded.train(images, labels).tolist()


def test_reset_brings_the_first_run_back(lenet: LiteModel) -> None:
    session = Session(lenet)
    images, labels = random_batch(session, 1, 64)
    first = session.train(images, labels)
    second = session.train(images, labels)
    session.reset()
    assert session.train(images, labels).tolist() == first.tolist() != second.tolist()


def test_weights_go_in_and_out_in_any_shape(lenet: LiteModel) -> None:
    source, target = Session(lenet), Session(lenet)
    source.train(*random_batch(source, 1))
    target.set_weights({name: value.reshape(-1) for name, value in source.get_weights().items()})
    images = random_batch(source, 2)[0]
    assert np.array_equal(source.predict(images), target.predict(images))
    views = target.weight_views()
    assert all(np.array_equal(views[name], value.reshape(-1)) for name, value in source.get_weights().items())
    with pytest.raises(ValueError, match="read-only"):
        views["fc1.bias"][0] = 1


def test_a_learning_rate_of_zero_changes_nothing(lenet: LiteModel) -> None:
    session = Session(lenet)
    before = session.get_weights()
    session.set_learning_rate(0.0)
    session.train(*random_batch(session, 1))
    assert all(np.array_equal(before[name], value) for name, value in session.get_weights().items())


@pytest.mark.parametrize(
    "values", [{"nothing": np.zeros(1, np.float32)}, {"fc1.bias": np.zeros(119, np.float32)}, {"": np.zeros(4, "f4")}]
)
def test_a_wrong_name_or_size_is_refused_and_nothing_is_changed(
    values: dict[str, Any], lenet: LiteModel, tmp_path: Path
) -> None:
    session = Session(lenet)
    good = {"conv1.weight": np.ones(450, np.float32)}
    with pytest.raises(ModelFormatError, match="no float32 constant"):
        lenet.patched(good | values)
    with pytest.raises(ModelFormatError, match="no parameter"):
        session.set_weights(good | values)
    assert np.array_equal(session.get_weights()["conv1.weight"], lenet.weights["conv1.weight"])
    with pytest.raises(ModelFormatError):
        lenet.save(tmp_path / "a.ms", values)
    assert not list(tmp_path.iterdir())


def test_summary_lists_inputs_nodes_and_parameters(lenet: LiteModel) -> None:
    lines = lenet.summary().splitlines()
    assert "MindSpore Lite 2.0.0" in lines[0] and "49 nodes" in lines[0]
    assert any("inputs0 32x32x32x3 float32 NHWC" in line for line in lines)
    assert sum(line.startswith("  parameter ") for line in lines) == 8
    assert any("conv1.weight 6x5x5x3 float32 KHWC" in line for line in lines)
    assert "66,404 trainable parameters" in lines[-1]


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "no.ms", tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            LiteModel.load(path)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.ms"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    with pytest.raises(ModelFormatError, match=r"image\.ms: .*no MSL2 identifier"):
        LiteModel.load(path)
    path.write_bytes(b"")
    with pytest.raises(ModelFormatError, match=r"image\.ms: the file is empty"):
        LiteModel.load(path)


def test_another_producer_may_use_another_order_and_leave_defaults_out() -> None:
    text = handmade(Window((3, 3)), Window((2, 2), mode=1), Window((2, 2), (2, 2)))
    assert text.nodes[0].op == "ApplyMomentum"  # stands before the gradient that still reads its weight
    model = LiteModel.from_bytes(text.write())
    session, expected = Session(model), NumpyModel(model)
    for step in range(5):
        images, labels = random_batch(session, step)
        assert session.train_step(images, labels) == pytest.approx(expected.step(images, labels), abs=1e-5)
    for name, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-5, err_msg=name)
    assert model.version == "another producer 1.0"


@pytest.mark.parametrize("optimizer", ["momentum", "sgd", "adam"])
def test_a_file_written_anew_by_another_producer_trains_to_the_same_bits(
    optimizer: str, converted: Callable[..., Path]
) -> None:
    model = LiteModel.load(converted(optimizer))
    text = ModelText.of(model)
    text.nodes.reverse()
    again = LiteModel.from_bytes(text.write())
    assert again.content != model.content

    sessions = Session(model), Session(again)
    batch = random_batch(sessions[0], 3, 96)

    assert sessions[0].train(*batch).tolist() == sessions[1].train(*batch).tolist()
    for name, value in sessions[0].get_weights().items():
        assert np.array_equal(value, sessions[1].get_weights()[name])


def test_an_inference_model_predicts_and_does_not_train(converter_library: Path, tmp_path: Path) -> None:
    mindspore = import_mindspore()
    network = model_spec("lenet").build(62, 3, init="lecun", seed=1)
    example = mindspore.Tensor(np.zeros((4, 3, 32, 32), np.float32))
    mindspore.export(network, example, file_name=str(tmp_path / "a"), file_format="MINDIR")
    model = convert_model(tmp_path / "a.mindir", tmp_path / "a.ms", train=False).model
    session = Session(model)
    images, labels = random_batch(session, 1, 6)
    tensor = mindspore.Tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    np.testing.assert_allclose(session.predict(images), network(tensor).asnumpy(), atol=1e-5)
    grey = np.repeat(images[..., :1], 3, axis=-1)
    np.testing.assert_allclose(session.predict(grey), session.predict(grey[..., 0]), atol=1e-6)
    assert "0 trainable parameters" in model.summary()
    with pytest.raises(ModelFormatError, match="not a training model"):
        session.train_step(images, labels)


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (np.zeros((2, 32, 32, 1), np.float32), [0, 1], "shape"),
        (np.zeros((2, 3, 32, 32), np.float32), [0, 1], "shape"),
        (np.zeros((0, 32, 32, 3), np.float32), [], "no images"),
        (np.float32(1), [0], "shape"),
        ([[1, 2], [3]], [0, 1], "not an array of numbers"),
        ("image", [0], "not an array of numbers"),
        (np.zeros((2, 32, 32, 3), np.float32), [0], "2 images"),
        (np.zeros((2, 32, 32, 3), np.float32), [[0, 1]], "2 images"),
        (np.zeros((2, 32, 32, 3), np.float32), [0.5, 1.0], "float64"),
        (np.zeros((2, 32, 32, 3), np.float32), [0, 62], "label 62 is out of range"),
        (np.zeros((2, 32, 32, 3), np.float32), [-1, 0], "label -1 is out of range"),
        (np.zeros((2, 32, 32, 3), np.float32), [0, 2**32], "label 4294967296 is out of range"),
    ],
)
def test_data_that_does_not_fit_is_refused_and_nothing_is_changed(
    images: Any, labels: Any, text: str, lenet: LiteModel
) -> None:
    session = Session(lenet)
    with pytest.raises(DataError, match=text):
        session.train_step(images, labels)
    assert all(np.array_equal(lenet.weights[name], value) for name, value in session.get_weights().items())


def test_arrays_of_any_memory_layout_give_the_same(lenet: LiteModel) -> None:
    session = Session(lenet)
    images, labels = random_batch(session, 1, 8)
    expected = session.predict(images)
    frozen = images.copy()
    frozen.flags.writeable = False
    misaligned = np.frombuffer(b"\0" + images.tobytes(), np.float32, images.size, 1).reshape(images.shape)
    for form in (frozen, misaligned, np.asfortranarray(images), images.astype(">f4"), images.astype("f8").tolist()):
        assert np.array_equal(session.predict(form), expected)
    labels.flags.writeable = False
    session.train(frozen, labels)
    session.predict(misaligned)
    machine = load_machine()
    compiled = [len(function.signatures) for function in (machine.execute, machine.pack)]
    assert compiled == [1, 1]  # nothing was compiled for another type of array
