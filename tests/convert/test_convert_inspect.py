"""``mindfl inspect``: what a model file holds, and what the runtime lacks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mindfl.cli.inspect import inspect_command
from mindfl.convert import inspect_model
from mindfl.errors import ModelFormatError, StorageError
from mindfl.lite import LiteModel, Session
from mindfl.lite.inspection import Inspection

sys.path.append(str(Path(__file__).parents[1] / "lite"))

from lite_handmade import Window, handmade

KERNELS = {"conv1.weight", "conv2.weight"}


def _check_lenet(found: Inspection, optimizer: str) -> None:
    assert found.batch_size == 32
    assert found.loss == "softmax cross entropy, labels are class numbers"
    assert found.optimizer is not None and found.optimizer["optimizer"] == optimizer
    assert found.lacking == ()
    assert found.parameter_count == 66_404
    assert len(found.parameters) == 8


@pytest.mark.parametrize(("optimizer", "rate"), [("momentum", 0.01), ("sgd", 0.01), ("adam", 0.001)])
def test_a_converted_model(optimizer: str, rate: float, converted: Callable[..., Path]) -> None:
    found = inspect_model(converted(optimizer))
    _check_lenet(found, optimizer)
    assert (found.kind, found.writer) == ("ms", "MindSpore Lite 2.0.0")
    assert found.optimizer is not None and found.optimizer["learning_rate"] == rate
    assert found.optimizer.get("momentum") == (0.9 if optimizer == "momentum" else None)
    assert [(tensor.shape, tensor.dtype, tensor.order) for tensor in found.inputs] == [
        ((32, 32, 32, 3), "float32", "NHWC"),
        ((32,), "int32", ""),
    ]
    assert {tensor.name for tensor in found.parameters if tensor.order == "KHWC"} == KERNELS
    assert len(found.nodes) == len(LiteModel.load(converted(optimizer)).nodes)
    assert "mindfl trains this file" in found.summary()
    session = Session(LiteModel.load(converted(optimizer)))
    assert found.session_bytes is not None
    # A session for images whose channels are equal needs less.
    assert 0.2 * found.session_bytes < session._arena.nbytes <= found.session_bytes
    assert f"memory     {found.session_bytes / 2**20:.2f} MiB for each session" in found.summary()


def test_an_exported_graph(exported: Callable[..., Path]) -> None:
    found = inspect_model(exported())
    _check_lenet(found, "momentum")
    assert found.kind == "mindir" and found.writer.startswith("MindSpore 2.")
    assert found.optimizer == {"optimizer": "momentum", "learning_rate": 0.01, "momentum": 0.9}
    assert found.inputs[0].shape == (32, 3, 32, 32)
    assert {tensor.name for tensor in found.parameters if tensor.order == "KCHW"} == KERNELS
    assert "ApplyMomentum" in {node.operator for node in found.nodes}


def test_what_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    text = handmade(Window((3, 3)))
    text.node("Activation").op = "LeakyRelu"
    (tmp_path / "a.ms").write_bytes(text.write())
    found = inspect_model(tmp_path / "a.ms")
    assert len(found.lacking) == 1
    assert found.lacking[0].startswith("cannot train: operator LeakyRelu in node net/Activation")
    assert found.lacking[0] in found.summary()


def test_a_setting_that_the_runtime_lacks_is_told(tmp_path: Path) -> None:
    text = handmade(Window((3, 3)))
    text.node("Conv2DFusion").attributes["group"] = 2
    (tmp_path / "a.ms").write_bytes(text.write())
    assert "uses 2 groups" in inspect_model(tmp_path / "a.ms").lacking[0]


def test_what_is_no_model_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.ms"
    path.write_bytes(b"\x14\0\0\0MSL1" + bytes(100))
    with pytest.raises(ModelFormatError, match="MSL1"):
        inspect_model(path)
    with pytest.raises(StorageError, match="cannot read"):
        inspect_model(tmp_path / "nowhere.ms")


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        inspect_model(tmp_path / "pipe")


def test_the_command_prints_it_as_text_and_as_json(converted: Callable[..., Path]) -> None:
    text = CliRunner().invoke(inspect_command, [str(converted())]).output
    for part in ("MindSpore Lite 2.0.0", "batch size 32", "learning_rate 0.01", "conv1.weight 6x5x5x3 float32 KHWC"):
        assert part in text
    found = json.loads(CliRunner().invoke(inspect_command, [str(converted()), "--json"]).output)
    assert found["batch_size"] == 32 and found["lacking"] == [] and len(found["nodes"]) == 49
    assert found["parameters"][0] == {
        "name": "conv1.weight",
        "shape": [6, 5, 5, 3],
        "dtype": "float32",
        "order": "KHWC",
    }


def test_mindspore_is_not_imported(exported: Callable[..., Path], converted: Callable[..., Path]) -> None:
    program = (
        "import sys; from mindfl import inspect_model; [inspect_model(p) for p in sys.argv[1:]];"
        "assert 'mindspore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(exported()), str(converted())], check=True)
