"""An operator written by a user, in the place of the runtime's: it trains as in MindSpore, wherever the job runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import own_sigmoid
import pytest
from own_sigmoid import Sigmoid, SigmoidGrad

from mindfl import FederatedJob
from mindfl.convert import convert_model, inspect_model
from mindfl.data import make_synthetic
from mindfl.errors import MindflWarning, ModelFormatError, OptionError
from mindfl.lite import LiteModel, Node, Operator, Session, use_operators
from mindfl.lite.ops.registry import EXECUTED, OWN
from mindfl.models import import_mindspore

BATCH, CLASSES = 32, 62
SIGMOID = f"{Path(own_sigmoid.__file__)}:sigmoid"


@pytest.fixture(autouse=True)
def _no_operators_left() -> Iterator[None]:
    """What a process uses is forgotten after each test."""
    yield
    OWN.clear()


class Reference:
    """A small network with two sigmoids in MindSpore, with its loss and optimizer."""

    def __init__(self) -> None:
        mindspore = import_mindspore()
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
        nn = mindspore.nn
        layers = [nn.Conv2d(3, 4, 5, pad_mode="valid"), nn.Sigmoid(), nn.MaxPool2d(4, 4), nn.Flatten()]
        self.network = nn.SequentialCell([*layers, nn.Dense(196, 32), nn.Sigmoid(), nn.Dense(32, CLASSES)])
        loss = nn.WithLossCell(self.network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
        self.cell = nn.TrainOneStepCell(loss, nn.Momentum(self.network.trainable_params(), 0.1, 0.9))
        self.mindspore = mindspore

    def arguments(self, images: Any, labels: Any) -> tuple[Any, Any]:
        tensor = self.mindspore.Tensor
        return tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), tensor(labels)


@pytest.fixture(scope="module")
def mindir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sigmoid") / "sigmoid.mindir"
    reference = Reference()
    batch = reference.arguments(np.zeros((BATCH, 32, 32, 3), np.float32), np.zeros(BATCH, np.int32))
    reference.mindspore.export(reference.cell, *batch, file_name=str(path.with_suffix("")), file_format="MINDIR")
    return path


@pytest.fixture(scope="module")
def model(mindir: Path, converter_library: Path) -> Path:
    use_operators(SIGMOID)
    try:
        return convert_model(mindir, mindir.with_suffix(".ms")).path
    finally:
        OWN.clear()


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writers") / "set"
    make_synthetic(folder, users=3, seed=3, progress=False)
    return folder


@pytest.fixture
def make_job(model: Path, writers: Path, tmp_path: Path) -> Callable[..., FederatedJob]:
    """Return a function that makes a small job with the network, in a folder of that name."""

    def make(name: str, **settings: Any) -> FederatedJob:
        plan = {"client_num": 3, "iterations": 2, "epochs": 1, "workers": 1, "overwrite": True}
        files = {"train_dataset": writers, "origin_train_model_path": model}
        return FederatedJob(work_dir=tmp_path / name, **{**plan, **files, **settings})

    return make


def test_twenty_steps_are_those_of_mindspore(model: Path) -> None:
    """MindSpore adds in another order while its threads are busy; a maximum that is nearly tied is then another one."""
    use_operators((Sigmoid, SigmoidGrad))
    session, reference = Session(LiteModel.load(model)), Reference()
    start = session.model.to_mindspore()
    for parameter in reference.network.trainable_params():
        parameter.set_data(reference.mindspore.Tensor(start[parameter.name]))
    draw = np.random.default_rng(5)
    for _ in range(20):
        images = draw.uniform(-1, 1, (BATCH, 32, 32, 3)).astype(np.float32)
        labels = draw.integers(0, CLASSES, BATCH).astype(np.int32)
        expected = float(reference.cell(*reference.arguments(images, labels)).asnumpy())
        assert session.train_step(images, labels) == pytest.approx(expected, rel=1e-5)
    trained = session.model.to_mindspore(session.get_weights())
    for parameter in reference.network.trainable_params():
        np.testing.assert_allclose(trained[parameter.name], parameter.asnumpy(), atol=5e-5, err_msg=parameter.name)
    expected_scores = reference.network(reference.arguments(images, labels)[0]).asnumpy()
    np.testing.assert_allclose(session.predict(images), expected_scores, atol=1e-4)


def test_an_object_and_a_text_give_one_hash_with_any_workers_and_after_resume(
    make_job: Callable[..., FederatedJob], tmp_path: Path
) -> None:
    whole = make_job("whole", operator=own_sigmoid.sigmoid).run()
    assert make_job("two", operator=SIGMOID, workers=2).run().hash == whole.hash
    make_job("resumed", operator=SIGMOID, iterations=1).run()
    OWN.clear()
    assert FederatedJob(work_dir=tmp_path / "resumed", resume=True, iterations=2).run().hash == whole.hash
    make_job("object", operator=own_sigmoid.sigmoid, iterations=1).run()
    OWN.clear()
    assert FederatedJob(work_dir=tmp_path / "object", resume=True, iterations=2).run().hash == whole.hash


def test_ray_gives_the_hash_of_a_local_run(make_job: Callable[..., FederatedJob], ray_cluster: str) -> None:
    expected = make_job("local", operator=SIGMOID).run().hash
    ray_settings = {"executor": "ray", "ray_address": ray_cluster, "workers": None}
    assert make_job("ray", operator=own_sigmoid.sigmoid, **ray_settings).run().hash == expected


def test_the_command_line_takes_it_by_file_and_by_entry_point(mindir: Path, tmp_path: Path) -> None:
    shutil.copy(own_sigmoid.__file__, tmp_path / "own_sigmoid.py")
    packaged = tmp_path / "own_sigmoid-1.0.dist-info"
    packaged.mkdir()
    (packaged / "METADATA").write_text("Metadata-Version: 2.1\nName: own-sigmoid\nVersion: 1.0\n")
    (packaged / "entry_points.txt").write_text("[mindfl.operators]\nsigmoid = own_sigmoid:sigmoid\n")

    def mindfl(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
        command, environment = [sys.executable, "-m", "mindfl", *arguments], {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    by_file, by_name = ["--operator", "own_sigmoid.py:sigmoid"], ["--operator", "sigmoid"]
    converted = mindfl("convert", "--input", str(mindir), "--output", "model.ms", *by_file)
    assert "SUCCESS" in converted.stdout and "cannot execute" not in converted.stderr
    assert "mindfl trains this file" in mindfl("inspect", "model.ms", *by_name).stdout
    plan = ["--client_num", "2", "--iterations", "1", "--epochs", "1", "--origin_train_model_path", "model.ms"]
    hashes = set()
    for given in (by_file, by_name):
        ran = mindfl("simulate", "--work_dir", f"run{len(hashes)}", *plan, *given)
        assert ran.returncode == 0, ran.stderr
        hashes |= {line for line in ran.stdout.splitlines() if line.startswith("weights sha256")}
    assert len(hashes) == 1


def test_without_any_the_refusal_names_the_way_out(model: Path, mindir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime without its own activations stands in for one that lacks an operator."""
    monkeypatch.delitem(EXECUTED, "Activation")
    with pytest.raises(ModelFormatError, match=r"Activation .*which the runtime does not have") as refused:
        Session(LiteModel.load(model))
    assert "--operator file.py:name" in refused.value.hint
    assert "Activation" in inspect_model(model).lacking[0]
    with pytest.warns(MindflWarning, match="mindfl cannot execute it: .*Activation"):
        convert_model(mindir, mindir.with_name("refused.ms"))


class Narrow(Sigmoid):
    """Returns an array of another shape."""

    def run(self, node: Node, x: Any) -> Any:
        return x[..., :1]


class Broken(Sigmoid):
    """Fails."""

    def run(self, node: Node, x: Any) -> Any:
        raise ZeroDivisionError("no way")


class Greedy(Sigmoid):
    """Changes its input."""

    def run(self, node: Node, x: Any) -> Any:
        x *= 2
        return x


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Narrow, r"operator Narrow in node .*Sigmoid.* returns shapes \[\(32, .*, 1\)\], the file says"),
        (Broken, "operator Broken in node .* failed: ZeroDivisionError: no way"),
        (Greedy, "operator Greedy in node .* failed: ValueError: .*read-only"),
    ],
)
def test_a_fault_of_an_operator_is_one_line(operator: type[Operator], message: str, model: Path) -> None:
    use_operators((own_sigmoid.sigmoid, operator))
    session = Session(LiteModel.load(model))
    with pytest.raises(OptionError, match=message):
        session.predict(np.zeros((1, 32, 32, 3), np.float32))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (f"{own_sigmoid.__file__}:SIGMOID", "operator must be a text, an Operator or several of them, not int"),
        ("sigmoidd", "operator: unknown name 'sigmoidd'"),
        (Operator(), "operator Operator does not say which op it is"),
        ("<__main__:Sigmoid>", "an object that its record cannot make again"),
    ],
)
def test_what_is_no_operator_is_refused(given: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        use_operators(given)
