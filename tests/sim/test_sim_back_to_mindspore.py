"""The trained model in MindSpore: as accurate there as the run says; and MindSpore's weights as a job's beginning."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from server_yaml import server_yaml

from mindfl.data import open_dataset
from mindfl.errors import OptionError
from mindfl.export import export_trained
from mindfl.lite import LiteModel
from mindfl.models import ModelSpec, import_mindspore, model_spec
from mindfl.sim import FederatedLeNetJob, Result

JobFactory = Callable[..., FederatedLeNetJob]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def accuracy(predict: Predict, writers: Path, clients: int = 3) -> float:
    """Return the mean over the clients of how much of their test data is predicted right; images are NCHW."""
    dataset, shares = open_dataset(writers), []
    for name in dataset.users[:clients]:
        test = dataset.user(name).test
        images = np.ascontiguousarray(test.images()[: test.size].transpose(0, 3, 1, 2))
        shares.append(float((predict(images).argmax(1) == test.labels[: test.size]).mean()))
    return float(np.mean(shares))


def cell(network: Any) -> Predict:
    tensor = import_mindspore().Tensor
    return lambda images: network(tensor(images)).asnumpy()


def loaded(spec: ModelSpec, weights: dict[str, Any]) -> Predict:
    """Return the network with these parameters, each of which must be there and of its shape."""
    mindspore = import_mindspore()
    network = spec.build(62, 3, init="he", seed=9)
    assert mindspore.load_param_into_net(network, weights, strict_load=True) == ([], [])
    network.set_train(False)
    return cell(network)


@pytest.fixture
def lenet_result(make_job: JobFactory) -> Result:
    return make_job(iterations=4, epochs=6, learning_rate=0.05).run()


@pytest.fixture
def rgb_result(rgb: ModelSpec, rgb_files: tuple[Path, Path], make_job: JobFactory, tmp_path: Path) -> Result:
    """Trained from a file of filters whose order no shape tells."""
    folder = tmp_path / "rgb"
    folder.mkdir()
    shutil.copy(rgb_files[1], folder / "rgb_train.ms")
    return make_job(model="rgb", train_model_path=folder, iterations=3, epochs=6, learning_rate=0.05).run()


@pytest.mark.parametrize("kind", ["lenet", "rgb"])
def test_every_format_is_as_accurate_as_the_run(
    kind: str, rgb: ModelSpec, writers: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mindspore = import_mindspore()
    result = request.getfixturevalue(f"{kind}_result")
    avg, spec = result.history[-1].avg, model_spec(kind)
    assert avg > 0.1

    ckpt = str(result.save_checkpoint(tmp_path / "größe 模型" / "trained.ckpt"))
    assert accuracy(loaded(spec, mindspore.load_checkpoint(ckpt)), writers) == pytest.approx(avg)

    path = str(result.save_checkpoint(tmp_path / "trained", "safetensors"))
    assert path.endswith("trained.safetensors")
    found = mindspore.load_checkpoint(path, format="safetensors")
    assert accuracy(loaded(spec, found), writers) == pytest.approx(avg)

    with np.load(result.save_checkpoint(tmp_path / "trained.npz")) as archive:
        parameters = {name: mindspore.Parameter(archive[name]) for name in archive.files}
    assert accuracy(loaded(spec, parameters), writers) == pytest.approx(avg)

    path = str(result.save_checkpoint(tmp_path / "trained.mindir"))
    graph = mindspore.nn.GraphCell(mindspore.load(path))
    assert accuracy(cell(graph), writers) == pytest.approx(avg)

    path = str(result.save_checkpoint(tmp_path / "trained.onnx"))
    assert Path(path).stat().st_size > 4 * sum(value.size for value in result.weights.values())


def test_onnx_is_as_accurate_as_the_run(lenet_result: Result, writers: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime, to run the ONNX file")
    session = onnxruntime.InferenceSession(lenet_result.save_checkpoint(tmp_path / "trained.onnx"))
    assert [item.shape for item in (*session.get_inputs(), *session.get_outputs())] == [
        ["batch", 3, 32, 32],
        ["batch", 62],
    ]
    found = accuracy(lambda images: session.run(None, {"images": images})[0], writers)
    assert found == pytest.approx(lenet_result.history[-1].avg)


def test_the_files_of_a_run_hold_the_same(lenet_result: Result, models: Path, tmp_path: Path) -> None:
    """The trained model, a client's, and the result are one in MindSpore's order."""
    expected = lenet_result.mindspore_weights()
    assert expected["conv1.weight"].shape == (6, 3, 5, 5)
    for name in ("lenet_train_trained", "lenet_train0"):
        path = export_trained(models / f"{name}.ms", tmp_path / f"{name}.npz").path
        with np.load(path) as archive:
            assert sorted(archive.files) == sorted(expected)
            assert all(np.array_equal(archive[key], value) for key, value in expected.items())


def test_weights_that_are_not_exchanged_are_the_starting_models(make_job: JobFactory, models: Path) -> None:
    result = make_job(train_weight_name="conv1.weight", iterations=1).run()
    start, weights = LiteModel.load(models / "lenet_train.ms").to_mindspore(), result.mindspore_weights()
    assert sorted(weights) == sorted(start)
    assert not np.array_equal(weights["conv1.weight"], start["conv1.weight"])
    assert np.array_equal(weights["conv2.weight"], start["conv2.weight"])


OTHER_FILES = [pytest.param(name, marks=pytest.mark.slow) for name in ("w.npz", "w.safetensors", "w.mindir", "w.ms")]


@pytest.mark.parametrize("name", ["w.ckpt", *OTHER_FILES])
def test_the_same_weights_from_any_file_begin_the_same_job(
    name: str, make_job: JobFactory, exported: Callable[..., Path], converted: Callable[..., Path], tmp_path: Path
) -> None:
    """The model of the user's own, and weights in MindSpore's order of every kind that were taken out of it."""
    expected = make_job(work_dir=tmp_path / "own", iterations=1).run().hash
    source = {"w.mindir": exported(), "w.ms": converted()}.get(name, tmp_path / name)
    if not source.exists():
        export_trained(converted(), source)
    job = make_job(work_dir=tmp_path / "from", train_model_path=None, init_from=source, iterations=1, seed=5)
    assert job.run().hash == expected


@pytest.mark.slow
def test_a_changed_file_of_weights_is_noticed(make_job: JobFactory, tmp_path: Path, converted: Any) -> None:
    path = tmp_path / "w.npz"
    weights = LiteModel.load(converted()).to_mindspore()

    def start() -> NDArray[np.float32]:
        np.savez(path, **weights)
        return LiteModel.load(make_job(train_model_path=None, init_from=path).convert()).weights["fc3.bias"]

    before = start()
    weights["fc3.bias"] = weights["fc3.bias"] + 1
    assert np.array_equal(start(), before + 1)
    plain = LiteModel.load(make_job(train_model_path=None).convert()).weights["fc3.bias"]
    assert not np.array_equal(plain, before + 1)


def test_what_contradicts_init_from_is_refused(make_job: JobFactory, models: Path, converted: Any) -> None:
    for settings, text in (
        ({"init": "he", "train_model_path": None}, "init he and init_from both give the initial weights"),
        ({"origin_train_model_path": converted(), "train_model_path": None}, "both give the initial weights"),
        ({}, r"lenet_train\.ms both give the initial weights"),
    ):
        with pytest.raises(OptionError, match=text):
            make_job(init_from=converted(), **settings).run()


SERVER_YAML = server_yaml(
    fl_name="Rgb",
    clients=3,
    window=60_000,
    more="client: {client_epoch_num: 6, client_batch_size: 32, client_learning_rate: 0.05}\n",
)


@contextmanager
def server(folder: Path, model: Path) -> Iterator[str]:
    """Start a server process without a journal, yield its URL, and let it end."""
    (folder / "fl.yaml").write_text(SERVER_YAML)
    command = [sys.executable, "-m", "mindfl", "server", "start", "--config", "fl.yaml", "--model", str(model)]
    command += ["--http_server_address", "127.0.0.1:0", "--checkpoint_dir", "checkpoints", "--no-journal", "--quiet"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()


def test_the_servers_checkpoint_is_as_accurate_as_the_run(
    rgb: ModelSpec, rgb_files: tuple[Path, Path], make_job: JobFactory, writers: Path, tmp_path: Path
) -> None:
    """And a server that continues after it gives devices the weights in their order again."""
    given = {"train_model_path": None, "origin_train_model_path": rgb_files[1]}
    with server(tmp_path, rgb_files[1]) as url:
        job = make_job(domain_name=url, **given)
        result = job.run()
    (path,) = (tmp_path / "checkpoints").glob("Rgb_recovery_iteration_3_*.ckpt")
    found = import_mindspore().load_checkpoint(str(path))
    assert accuracy(loaded(rgb, found), writers) == pytest.approx(result.history[-1].avg)
    expected = LiteModel.load(job.trained_model_path).weights
    assert not np.array_equal(found["0.weight"].asnumpy(), expected["0.weight"])

    with server(tmp_path, rgb_files[1]) as url:
        fetched = make_job(domain_name=url, work_dir=tmp_path / "again", **given).get_model()
    assert all(np.array_equal(fetched[name], value) for name, value in expected.items())
