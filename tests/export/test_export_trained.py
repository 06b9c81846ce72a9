"""Trained weights written for MindSpore: ``mindfl export --from`` and what it refuses; initial weights read back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mindfl.cli.export import export_command
from mindfl.convert.mindir import parameters, read_mindir
from mindfl.errors import MindflError, ModelFormatError, OptionError, StorageError
from mindfl.export import export_mindir, export_trained, weight_files
from mindfl.lite import LiteModel
from mindfl.models import ModelSpec, import_mindspore
from mindfl.server.ckpt import encode_ckpt
from mindfl.server.initial import mindspore_weights

ModelFactory = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(converted: ModelFactory) -> Path:
    return converted()


@pytest.fixture(scope="module")
def weights(exported: ModelFactory) -> dict[str, np.ndarray]:
    """LeNet's weights in MindSpore's order."""
    path = exported()
    return mindspore_weights(path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export_command, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    outcome = run(*arguments)
    assert isinstance(outcome.exception, MindflError), outcome.output
    assert "\n" not in outcome.exception.line()
    return str(outcome.exception)


@pytest.mark.parametrize("form", ["ckpt", "npz", "safetensors"])
def test_arrays_are_in_mindspores_order(form: str, trained: Path, weights: dict, tmp_path: Path) -> None:
    outcome = run("--from", trained, "--format", form, "--output", tmp_path / "new folder" / "lenet", "--json")
    report = json.loads(outcome.stdout)
    assert (report["path"], report["format"]) == (str(tmp_path / "new folder" / f"lenet.{form}"), form)
    assert report["parameters"]["conv1.weight"] == [6, 3, 5, 5]
    found = mindspore_weights(report["path"])
    assert sorted(found) == sorted(weights)
    assert all(
        np.array_equal(found[name], value) and found[name].shape == value.shape for name, value in weights.items()
    )
    assert [file.name for file in Path(report["path"]).parent.iterdir()] == [f"lenet.{form}"]


def test_arrays_need_no_mindspore(trained: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["mindspore"] = None
from mindfl.cli.export import export_command
for form in ("ckpt", "npz", "safetensors"):
    export_command.main(["--from", {str(trained)!r}, "--output", f"lenet.{{form}}"], standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 3


def test_same_weights_same_bytes(trained: Path, tmp_path: Path) -> None:
    for form in weight_files.ARRAY_FORMATS:
        first, second = (export_trained(trained, tmp_path / f"{name}.{form}").path for name in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_formats_of_the_command_are_those_there_are() -> None:
    assert (*weight_files.ARRAY_FORMATS, *weight_files.NETWORK_FORMATS) == weight_files.FORMATS


def test_a_file_of_one_format_becomes_another(trained: Path, weights: dict, tmp_path: Path) -> None:
    ckpt = export_trained(trained, tmp_path / "a.ckpt").path
    mindir = export_trained(ckpt, tmp_path / "b.mindir").path
    found = parameters(read_mindir(mindir))
    assert all(np.array_equal(found[name], value) for name, value in weights.items())
    assert sorted(export_trained(mindir, tmp_path / "c.npz").parameters) == sorted(weights)


def test_a_registered_network_of_ones_own_with_a_fixed_batch(
    rgb: ModelSpec, rgb_files: tuple[Path, Path], tmp_path: Path
) -> None:
    mindspore = import_mindspore()
    path = export_trained(rgb_files[1], tmp_path / "rgb.mindir", model="rgb", batch_size=2).path
    assert list(read_mindir(path).graph.input[0].tensor[0].dims) == [2, 3, 32, 32]
    graph = mindspore.nn.GraphCell(mindspore.load(str(path)))
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    network = rgb.build(62, 3, init="lecun", seed=1)
    expected = network(mindspore.Tensor(images)).asnumpy()
    assert np.allclose(graph(mindspore.Tensor(images)).asnumpy(), expected, atol=1e-6)


def test_a_servers_file_in_the_order_of_devices(rgb_files: tuple[Path, Path], tmp_path: Path) -> None:
    """MindSpore Federated's server writes what devices exchange. No shape shows it; the devices' model tells."""
    model = LiteModel.load(rgb_files[1])
    theirs = tmp_path / "Lenet_recovery_iteration_3_20260101_101010.ckpt"
    theirs.write_bytes(encode_ckpt({name: value + 1 for name, value in model.weights.items()}))
    text = refused("--from", theirs, "--output", tmp_path / "x.npz")
    assert "does not say in which order 0.weight, 2.weight is" in text
    run("--from", theirs, "--device_model", rgb_files[1], "--output", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        for name, value in model.to_mindspore().items():
            assert np.array_equal(archive[name], value + 1)


def test_a_device_model_that_does_not_fit(trained: Path, weights: dict, tmp_path: Path) -> None:
    mine, output = tmp_path / "mine.ckpt", tmp_path / "x.npz"
    mine.write_bytes(encode_ckpt(weights))
    assert "is not in the order of devices: conv1.weight" in refused(
        "--from", mine, "--device_model", trained, "--output", output
    )
    mine.write_bytes(encode_ckpt({"other": np.ones(3, np.float32)}))
    assert "the model has no weight other" in refused("--from", mine, "--device_model", trained, "--output", output)
    assert "is not a MindSpore Lite model" in refused("--from", mine, "--device_model", mine, "--output", output)
    assert not output.exists()


def test_targets_and_options_that_are_refused(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.ckpt"
    for arguments, text in (
        (("--output", target, "--format", "npz"), "has the suffix of another format than npz"),
        (("--output", tmp_path / "x"), "has the suffix of no known format"),
        (("--output", tmp_path / "x.ms"), "would be a device's file"),
        (("--output", tmp_path), "does not name a file to write"),
        (("--output", ""), "--output is empty"),
        ((), "--from needs --output"),
        (("--output", target, "--seed", 3), "--seed is for a training graph, not for --from"),
        (("--output", target, "--init_from", trained), "--init_from is for a training graph, not for --from"),
        (("--output", tmp_path / "x.mindir", "--model", "vgg"), "unknown model 'vgg'"),
        (
            ("--output", tmp_path / "x.mindir", "--num_class", 0),
            "num_class must be a whole number of at least 1, got 0",
        ),
        (("--output", tmp_path / "x.mindir", "--num_class", 5), r"of another shape: fc3.bias (62,), not (5,)"),
    ):
        assert text in refused("--from", trained, *arguments)
    assert "--output is given, but no --from" in refused("--output", target)
    assert "empty" in refused("--from", "", "--output", target)
    assert "no effect" in run("--from", trained, "--output", target, "--model", "lenet").stderr
    assert [file.name for file in tmp_path.iterdir()] == ["x.ckpt"]


def test_sources_that_are_no_models(trained: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ms"
    cut.write_bytes(trained.read_bytes()[:5000])
    for source, kind in ((cut, ModelFormatError), (tmp_path, StorageError), (tmp_path / "none.ms", StorageError)):
        with pytest.raises(kind, match=str(source)):
            export_trained(source, tmp_path / "x.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["cut.ms"]


def test_a_file_in_place_of_the_folder(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot create folder"):
        export_trained(trained, tmp_path / "file" / "x.ckpt")


def test_a_training_graph_begins_with_the_weights_of_a_file(weights: dict, tmp_path: Path) -> None:
    """With MindSpore's state of an optimizer among them, which is left out."""
    given = {name: value + 1 for name, value in weights.items()}
    state = {f"moments.{name}": value for name, value in weights.items()}
    path = tmp_path / "größe.ckpt"
    path.write_bytes(encode_ckpt({**given, **state, "learning_rate": np.float32(0.1).reshape(())}))
    result = export_mindir(tmp_path / "net", init_from=path, batch_size=2)
    found = parameters(read_mindir(result.path))
    assert all(np.array_equal(found[name], value) for name, value in given.items())
    assert not found["moments.fc1.bias"].any()


def test_initial_weights_that_do_not_fit_are_named(weights: dict, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    wrong = {name: value for name, value in weights.items() if name != "fc1.bias"}
    np.savez(path, **{**wrong, "fc9.bias": weights["fc1.bias"], "fc3.bias": np.ones(10, np.float32)})
    with pytest.raises(OptionError) as caught:
        export_mindir(tmp_path / "net", init_from=path)
    assert "missing: fc1.bias; unknown: fc9.bias; of another shape: fc3.bias (10,), not (62,)" in str(caught.value)
    with pytest.raises(OptionError, match="init he and init_from both give"):
        export_mindir(tmp_path / "net", init_from=path, init="he")
    with pytest.raises(StorageError, match="cannot read"):
        export_mindir(tmp_path / "net", init_from=tmp_path)
    with pytest.raises(OptionError, match="empty"):
        export_mindir(tmp_path / "net", init_from="")
    for name, content in (("x.safetensors", b"\xff" * 40), ("x.ckpt", b"junk"), ("x.txt", b"junk")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFormatError, match=name):
            export_mindir(tmp_path / "net", init_from=tmp_path / name)
    assert not (tmp_path / "net.mindir").exists()
