from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindfl.convert import convert_model
from mindfl.convert.mindir import Proto, operators, parameters, read_mindir
from mindfl.convert.rewrite import rewrite
from mindfl.convert.verify import verify
from mindfl.errors import (
    MindflWarning,
    MindirError,
    ModelFormatError,
    OptionError,
    StorageError,
    VerificationError,
)
from mindfl.lite.model import LiteModel

ModelFactory = Callable[..., Path]

VARIANTS = [
    ("momentum", 62, 3, 32),
    ("sgd", 62, 3, 32),
    ("adam", 62, 3, 32),
    ("momentum", 10, 1, 1),
    ("momentum", 10, 1, 16),
    ("adam", 2, 3, 4),
    ("sgd", 10, 1, 4),
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_lenets_of_all_kinds_convert(
    variant: tuple[str, int, int, int], exported: ModelFactory, converted: ModelFactory
) -> None:
    _, classes, channels, batch = variant
    model = LiteModel.load(converted(*variant))
    images, labels = (model.tensors[index] for index in model.inputs)
    assert images.dims == (batch, 32, 32, channels)
    assert labels.dims == (batch,)
    assert len(model.loss_nodes) == 1
    source = parameters(read_mindir(exported(*variant)))
    assert len(model.optimizer_nodes) == len(model.parameters) == 8
    assert model.weights["fc3.bias"].shape == (classes,)
    for name, weight in model.weights.items():
        expected = source[name].transpose(0, 2, 3, 1) if name.startswith("conv") else source[name]
        assert np.array_equal(weight, expected)


def test_inference_graph_converts(converter_library: Path, tmp_path: Path) -> None:
    from mindfl.models import LeNet5, import_mindspore

    mindspore = import_mindspore()
    images = mindspore.Tensor(np.zeros((2, 3, 32, 32), np.float32))
    mindspore.export(LeNet5(), images, file_name=str(tmp_path / "net"), file_format="MINDIR")
    with pytest.raises(MindirError, match="contains no optimizer"):
        convert_model(tmp_path / "net.mindir", tmp_path / "net")
    result = convert_model(tmp_path / "net.mindir", tmp_path / "net", train=False)
    assert not result.model.optimizer_nodes
    assert result.path.is_file()


@pytest.mark.parametrize("name", ["lenet train", "lenet train.ms"])
def test_output_path(name: str, exported: ModelFactory, converter_library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "größe 模型" / "new"
    result = convert_model(exported(), folder / name)
    assert [file.name for file in folder.iterdir()] == ["lenet train.ms"]
    assert result.path == folder / "lenet train.ms"
    assert stat.S_IMODE(result.path.stat().st_mode) & (stat.S_IRUSR | stat.S_IWUSR) == stat.S_IRUSR | stat.S_IWUSR


def test_read_only_output_is_replaced(exported: ModelFactory, converter_library: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.ms"
    target.write_bytes(b"old")
    target.chmod(0o400)
    convert_model(exported(), target)
    assert target.read_bytes()[4:8] == b"MSL2"


def test_output_that_cannot_be_written(exported: ModelFactory, converter_library: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.ms").mkdir()
    for target, error in (
        (tmp_path / "file" / "net", StorageError),
        (Path("/proc/self/net"), StorageError),  # no permission helps there, not even root's
        (tmp_path / "folder", OptionError),
        (Path(), OptionError),
    ):
        with pytest.raises(error) as caught:
            convert_model(exported(), target)
        assert "\n" not in caught.value.line()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.ms"]


@pytest.mark.parametrize("part", ["input", "output"])
def test_full_disk_keeps_the_old_file(
    part: str, exported: ModelFactory, converter_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "net.ms"
    target.write_bytes(b"old")
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if (path.suffix == ".mindir") == (part == "input"):
            write_bytes(path, content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    mindir = exported()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left on device"):
        convert_model(mindir, target)
    assert [file.name for file in tmp_path.iterdir()] == ["net.ms"]
    assert target.read_bytes() == b"old"


def test_same_input_gives_the_same_bytes(exported: ModelFactory, converted: ModelFactory, tmp_path: Path) -> None:
    assert convert_model(exported(), tmp_path / "again").path.read_bytes() == converted().read_bytes()


def with_state(model: Proto) -> Proto:
    rng = np.random.default_rng(0)
    for tensor in model.graph.parameter:
        if ":moments." in tensor.name:
            tensor.raw_data = rng.random(tuple(tensor.dims), np.float32).tobytes()
    return model


@pytest.mark.parametrize("version", [1, 3])
def test_state_of_an_export_after_training_lies_like_the_weights(
    version: int, model: Proto, converter_library: Path, tmp_path: Path
) -> None:
    source = with_state(rewrite(model) if version == 1 else model)
    (tmp_path / "trained.mindir").write_bytes(source.SerializeToString())
    result = convert_model(tmp_path / "trained.mindir", tmp_path / "trained")
    assert result.rewritten
    states = {tensor.name: tensor for tensor in result.model.tensors if tensor.data is not None}
    for name in ("conv1.weight", "conv2.weight"):
        expected = parameters(source)[f"moments.{name}"].transpose(0, 2, 3, 1)
        assert np.array_equal(states[f"moments.{name}"].data.ravel(), expected.ravel())


def changed(model: LiteModel, name: str) -> bytes:
    values = next(tensor.data for tensor in model.tensors if tensor.name == name).copy()
    values.flat[0] += 1
    return model.patched({name: values})


@pytest.mark.parametrize("name", ["conv1.weight", "fc3.bias", "moments.conv2.weight", "learning_rate"])
def test_changed_value_is_found(name: str, model: Proto, converted: ModelFactory) -> None:
    content = changed(LiteModel.load(converted()), name)
    with pytest.raises(VerificationError, match=f"parameter {name} has other values"):
        verify(content, model, train=True)


@pytest.mark.parametrize("train", [True, False])
def test_what_only_the_runtime_lacks_is_a_warning(
    train: bool, exported: ModelFactory, converter_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(_model: LiteModel) -> None:
        raise ModelFormatError("the model uses Softmax, which the runtime does not have")

    monkeypatch.setattr(LiteModel, "check_operators", lacking)
    with pytest.warns(MindflWarning, match=r"net\.ms is converted, but mindfl cannot execute it: the model"):
        convert_model(exported(), tmp_path / "net", train=train)
    assert (tmp_path / "net.ms").is_file()


def test_values_that_an_inference_model_may_fold_are_not_compared(model: Proto, converted: ModelFactory) -> None:
    content = changed(LiteModel.load(converted()), "fc3.bias")
    with pytest.raises(VerificationError, match=r"parameter fc3\.bias has other values"):
        verify(content, model, train=False)
    model.graph.node[0].op_type = "BatchNorm"
    assert verify(content, model, train=False).nodes


def test_an_operator_that_cannot_be_rewritten_is_mindfls_limit(model: Proto, tmp_path: Path) -> None:
    kinds = operators(model)
    next(node for node in model.graph.node if kinds[node.output[0]] == "MatMul").op_type = "Softmax3D"
    (tmp_path / "net.mindir").write_bytes(model.SerializeToString())
    with pytest.raises(MindirError, match=r"mindfl cannot rewrite the operator Softmax3D \(node .*\)") as caught:
        convert_model(tmp_path / "net.mindir", tmp_path / "net", train=False)
    assert "--converter" in caught.value.hint


def test_other_models_are_found(model: Proto, converted: ModelFactory, exported: ModelFactory) -> None:
    def difference(content: bytes, source: Proto) -> str:
        with pytest.raises(VerificationError) as caught:
            verify(content, source, train=True)
        return str(caught.value)

    good = converted().read_bytes()
    assert verify(good, model, train=True).parameters
    assert "cannot be used" in difference(good[:1000], model)
    assert "cannot be used" in difference(b"", model)
    assert "has shape" in difference(converted("momentum", 10, 1, 16).read_bytes(), model)
    assert "is missing" in difference(good, read_mindir(exported("adam")))
    fewer = read_mindir(exported())
    fewer.graph.node.remove(next(node for node in fewer.graph.node if "ApplyMomentum-op0" in node.domain))
    assert "instead of" in difference(good, fewer)
