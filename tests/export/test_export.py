from __future__ import annotations

import errno
import json
import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mindfl.cli.export import export_command
from mindfl.convert.mindir import operators, optimizer_states, parameters, read_mindir
from mindfl.errors import ExportError, MindflError, OptionError, StorageError
from mindfl.export import ExportResult, export_mindir
from mindfl.models import LeNet5, import_mindspore


@pytest.mark.parametrize("optimizer", ["momentum", "sgd", "adam"])
def test_file_holds_initial_weights_and_fresh_state_after_training(optimizer: str, tmp_path: Path) -> None:
    result = export_mindir(tmp_path / "net.mindir", optimizer=optimizer, epochs=3, batch_size=4, seed=5)
    model = read_mindir(result.path)
    found, states = parameters(model), optimizer_states(model)
    for parameter in LeNet5(seed=5).trainable_params():
        assert np.array_equal(found[parameter.name], parameter.asnumpy())
        assert result.parameters[parameter.name] == parameter.shape
        for state in states[parameter.name]:
            assert not found[state].any() or (state.startswith("stat.") and (found[state] == 1).all())
    assert set(states) == set(result.parameters)


def test_losses_are_those_of_training_steps(tmp_path: Path) -> None:
    first = export_mindir(tmp_path / "a", epochs=3, seed=2, batch_size=4).losses
    assert len(set(first)) == 3
    assert first[0] == pytest.approx(math.log(62), abs=0.3)
    assert export_mindir(tmp_path / "b", epochs=2, seed=2, batch_size=4).losses == first[:2]
    steep = export_mindir(tmp_path / "c", epochs=2, seed=2, batch_size=4, learning_rate=1.0).losses
    assert steep[0] == first[0]
    assert steep[1] != first[1]


def test_export_is_mindspores_own_version_with_the_given_shapes(tmp_path: Path) -> None:
    model = read_mindir(export_mindir(tmp_path / "net", num_class=10, num_channel=1, batch_size=16).path)
    assert model.mind_ir_version > 1
    images, labels = model.graph.input
    assert list(images.tensor[0].dims) == [16, 1, 32, 32]
    assert list(labels.tensor[0].dims) == [16]
    assert parameters(model)["fc3.bias"].shape == (10,)


def test_paths_with_spaces_and_other_letters(tmp_path: Path) -> None:
    target = tmp_path / "größe 模型" / "new folder" / "lenet train"
    path = export_mindir(target, batch_size=1).path
    assert path == target.with_name("lenet train.mindir")
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IWUSR
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_callers_mode_comes_back(tmp_path: Path) -> None:
    mindspore = import_mindspore()
    before = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    export_mindir(tmp_path / "net", batch_size=1)
    assert mindspore.get_context("mode") == mindspore.PYNATIVE_MODE
    mindspore.set_context(mode=before)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "vgg"},
        {"optimizer": "lamb"},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"num_class": 0},
        {"init": "ones"},
        {"seed": -1},
    ],
)
def test_unusable_options_leave_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        export_mindir(tmp_path / "net.mindir", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["TPU", "", "gpu", "cpu"])
def test_unknown_device_is_refused_by_name(device: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"device_target must be one of CPU, GPU, Ascend, got '{device}'"):
        export_mindir(tmp_path / "net.mindir", device_target=device)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--optimizer", "sgd", "--momentum", "0.5"], ["--momentum"]),
        (["--optimizer", "adam", "--momentum", "0.9"], ["--momentum"]),
        (["--optimizer", "sgd"], []),
        (["--momentum", "0.5"], []),
    ],
)
def test_momentum_of_another_optimizer_is_named(monkeypatch, tmp_path: Path, options: list[str], names: list) -> None:
    done = ExportResult(tmp_path / "net.mindir", (4.1,), {})
    monkeypatch.setattr("mindfl.export.export_mindir", lambda path, **settings: done)
    outcome = CliRunner().invoke(export_command, ["--mindir_path", str(done.path), *options])
    assert (outcome.exit_code, outcome.stdout) == (0, f"exported {done.path}\n[4.1]\n")
    warned = [f"mindfl: warning: {name} has no effect on other optimizers: they have none\n" for name in names]
    assert outcome.stderr == "".join(warned)


def test_two_beginnings_are_refused(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(export_command, ["--init", "lecun", "--init_from", "lenet.ckpt"])
    assert isinstance(outcome.exception, OptionError)
    assert str(outcome.exception).startswith("--init and --init_from both give the initial weights")


@pytest.mark.parametrize("device", ["GPU"])
def test_unusable_device_is_one_line(device: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if has_device(device):
        pytest.skip("this machine has that device")
    with pytest.raises(ExportError, match="cannot be used") as caught:
        export_mindir(tmp_path / "net.mindir", device_target=device)
    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 200
    assert "ERROR" not in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def has_device(device: str) -> bool:
    try:
        import_mindspore().set_device(device)
    except (RuntimeError, ValueError):
        return False
    return True


def test_target_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not name a file"):
        export_mindir(tmp_path)
    (tmp_path / "net.mindir").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        export_mindir(tmp_path / "net", batch_size=1)


def test_target_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create folder"):
        export_mindir(tmp_path / "file" / "net")


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net.mindir"
    target.write_text("old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        export_mindir(target, batch_size=1)
    assert "disk is full" in caught.value.hint
    assert [file.name for file in tmp_path.iterdir()] == ["net.mindir"]
    assert target.read_text() == "old"


def test_command_prints_the_losses_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "ms" / "lenet" / "lenet_train.mindir"
    outcome = CliRunner().invoke(
        export_command, [f"--mindir_path={target}", "--epochs=2", "--batch-size=4", "--seed=2"]
    )
    assert outcome.exit_code == 0, outcome.output
    losses = json.loads(outcome.output.splitlines()[-1])
    assert len(losses) == 2
    assert target.is_file()


def test_command_json(tmp_path: Path) -> None:
    arguments = ["--mindir-path", str(tmp_path / "a"), "--num_class=10", "--num_channel=1", "--batch_size=16", "--json"]
    report = json.loads(CliRunner().invoke(export_command, arguments).output)
    assert report["path"] == str(tmp_path / "a.mindir")
    assert report["parameters"]["fc3.weight"] == [10, 84]


def test_command_passes_errors_on(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(export_command, ["--mindir_path", str(tmp_path / "a"), "--optimizer=lamb"])
    assert isinstance(outcome.exception, MindflError)


@pytest.mark.parametrize(("number", "background"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: int, background: bool) -> None:
    folder, temporary = tmp_path / "ms", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "mindfl", "export", f"--mindir_path={folder}/net", "--epochs=100000"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary)},
        # What a script starts with & ignores Ctrl-C.
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if background else None,
    )
    while not [*temporary.rglob("mindfl-export.*")]:  # MindSpore works by then
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "mindfl: error: interrupted [E-INTERRUPTED]"
    assert [*folder.iterdir(), *temporary.iterdir()] == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ms", "tmp"]


def test_one_hot_labels_are_an_input_of_the_graph(tmp_path: Path) -> None:
    path = export_mindir(tmp_path / "onehot", batch_size=4, loss="onehot", seed=1).path
    graph = read_mindir(path).graph
    assert [list(value.tensor[0].dims) for value in graph.input] == [[4, 3, 32, 32], [4, 62]]
    assert "SoftmaxCrossEntropyWithLogits" in operators(read_mindir(path)).values()


def test_an_unknown_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="loss must be one of sparse, onehot, mse, bce, got 'hinge'"):
        export_mindir(tmp_path / "a", loss="hinge")
    assert not list(tmp_path.iterdir())
