"""``--engine mindspore``: a network trains as it is, without export and conversion, and leaves the files of any job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.convert import convert_model
from mindfl.convert.programs import _refused
from mindfl.data import open_dataset
from mindfl.errors import ConvertError, MindflWarning, ModelFormatError, OptionError
from mindfl.export import export_mindir
from mindfl.lite import LiteModel
from mindfl.models import NetworkSizes, import_mindspore
from mindfl.server.ckpt import read_ckpt
from mindfl.sim import FederatedJob, Result
from mindfl.sim.job import Silent
from mindfl.sim.network_model import NetworkModel

NETWORK = f"{Path(__file__).parent}/power_net.py:PowerNet"
SETTINGS: dict[str, Any] = {"engine": "mindspore", "client_num": 2, "iterations": 2, "epochs": 1, "reporter": Silent()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def result(folder: Path, writers: Path) -> Result:
    """Of two iterations, without interruption; its files are in ``folder / "run"``."""
    return FederatedJob(work_dir=folder / "run", train_dataset=writers, model=NETWORK, **SETTINGS).run()


@pytest.mark.slow
def test_it_trains_and_leaves_the_files_of_any_job(result: Result, folder: Path) -> None:
    assert [row.iteration for row in result.history] == [1, 2]
    assert result.history[-1].loss < result.history[0].loss
    run = folder / "run"
    written = {path.name for path in run.iterdir() if path.is_file()}
    assert written > {"config.json", "result.json", "history.jsonl", "history.csv", "accuracy.png", "summary.txt"}
    models = {path.name for path in (run / "ms").iterdir() if not path.name.startswith(".")}
    notes = {"PowerNet_train.ckpt.json", "PowerNet_train_trained.json"}
    clients = {f"PowerNet_train{index}.ckpt" for index in range(2)}
    assert models == {"PowerNet_train.ckpt", "PowerNet_train_trained.ckpt", *clients, *notes}


@pytest.mark.slow
def test_a_resumed_run_has_the_same_bits(result: Result, writers: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "work_dir": tmp_path, "train_dataset": writers, "model": NETWORK}
    FederatedJob(**{**settings, "iterations": 1}).run()
    assert FederatedJob(work_dir=tmp_path, resume=True, iterations=2, reporter=Silent()).run().hash == result.hash


@pytest.mark.slow
def test_weights_are_in_mindspores_order_and_names(result: Result, folder: Path) -> None:
    trained = read_ckpt(folder / "run" / "ms" / "PowerNet_train_trained.ckpt")
    assert trained["conv.weight"].shape == (4, 3, 5, 5)
    for name, values in result.mindspore_weights().items():
        np.testing.assert_array_equal(trained[name], values)
    # BatchNorm's running statistics travel with the weights: without them the model could not be evaluated.
    assert {"norm.gamma", "norm.moving_mean", "norm.moving_variance"} < result.weights.keys()
    assert not np.array_equal(trained["norm.moving_mean"], np.zeros(4, np.float32))


@pytest.mark.slow
def test_the_accuracy_is_that_of_the_checkpoint_in_mindspore(
    result: Result, folder: Path, writers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from power_net import PowerNet

    mindspore = import_mindspore()
    network = PowerNet(62, 3)
    path = str(folder / "run" / "ms" / "PowerNet_train_trained.ckpt")
    assert mindspore.load_param_into_net(network, mindspore.load_checkpoint(path), strict_load=True) == ([], [])
    network.set_train(False)
    shares = []
    for user in [open_dataset(writers).user(index) for index in range(2)]:
        images = np.repeat(user.test.images().transpose(0, 3, 1, 2)[:, :1], 3, axis=1)
        predicted = network(mindspore.Tensor(images)).asnumpy().argmax(1)
        shares.append(float((predicted == user.test.labels[: user.test.size]).mean()))
    assert result.history[-1].avg == pytest.approx(np.mean(shares))
    predictions = FederatedJob(work_dir=folder / "run", train_dataset=writers, model=NETWORK, **SETTINGS).infer()
    np.testing.assert_array_equal(predictions[user.name], predicted)


def test_nothing_is_said_of_conversion(writers: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="--input_shape has no effect with --engine mindspore"):
        job = FederatedJob(
            work_dir=tmp_path, model=NETWORK, engine="mindspore", input_shape="32,32,32,3;32", train_dataset=writers
        )
    assert job.trained_model_path.endswith("ms/PowerNet_train_trained.ckpt")


def test_a_run_that_began_with_a_file_goes_on_with_it(writers: Path, tmp_path: Path) -> None:
    """Earlier versions of mindfl exported and converted the network for this engine too."""
    record = {"form": 1, "settings": {"engine": "mindspore"}, "command": [], "versions": {}, "data": {}, "began": ""}
    for path, suffix in (("/models/lenet_train.ms", ".ms"), ("/models/lenet_train.ckpt", ".ckpt")):
        content = {**record, "model": {"path": path, "sha256": "", "own": False}}
        (tmp_path / "config.json").write_text(json.dumps(content))
        job = FederatedJob(work_dir=tmp_path, resume=True, reporter=Silent())
        assert job.trained_model_path.endswith(f"lenet_train_trained{suffix}")


def test_a_checkpoint_of_another_network_is_refused(writers: Path, tmp_path: Path) -> None:
    other = NetworkModel({"other.weight": np.zeros((2, 3), np.float32)}, NetworkSizes())
    (tmp_path / "ms").mkdir()
    other.save(tmp_path / "ms" / "PowerNet_train.ckpt")
    job = FederatedJob(work_dir=tmp_path, model=NETWORK, train_dataset=writers, **SETTINGS)
    with pytest.raises(OptionError, match=r"the model does not fit the network; missing: .*unknown: other\.weight"):
        job.run()


class TestNetworkModel:
    model = NetworkModel({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([4])}, NetworkSizes())

    def test_flat_weights_take_their_shapes(self, tmp_path: Path) -> None:
        self.model.save(tmp_path / "new.ckpt", {"a": np.ones(6, np.float32)})
        found = NetworkModel.load(tmp_path / "new.ckpt", NetworkSizes())
        np.testing.assert_array_equal(found.weights["a"], np.ones((2, 3)))
        np.testing.assert_array_equal(found.weights["b"], [4])

    @pytest.mark.parametrize("values", [{"c": np.zeros(1, np.float32)}, {"a": np.zeros(5, np.float32)}], ids=str)
    def test_wrong_names_and_sizes_are_refused(self, values: Any) -> None:
        with pytest.raises(ModelFormatError, match=r"the network has no parameter [ac] of [15] elements"):
            self.model.patched(values)


@pytest.mark.slow
def test_the_converters_refusal_names_operator_and_way_out(converter_library: Path, tmp_path: Path) -> None:
    mindir = export_mindir(tmp_path / "power", model=NETWORK, num_class=5, num_channel=3, image_size=(32, 32)).path
    with pytest.raises(ConvertError, match=r"operator Pow in node Default/.*/Pow-op0") as caught:
        convert_model(mindir, tmp_path / "power")
    assert "--engine mindspore --model FILE.py:CLASS trains the network as it is" in caught.value.hint


def test_of_nodes_that_fail_the_first_of_the_forward_part_is_the_operator() -> None:
    lines = [
        "[WARNING] LITE InferProcess] node infer shape failed, node is Gradients/Default/Grad_Sigmoid/SigmoidGrad-op0",
        "[WARNING] LITE InferProcess] node infer shape failed, node is Default/network/Pow-op12",
        "[WARNING] LITE InferProcess] node infer shape failed, node is Default/network/MatMul-op3",
    ]
    assert _refused("\n".join(lines)) == ", operator Pow in node Default/network/Pow-op12"
    assert _refused(lines[0]) == ", operator SigmoidGrad in node Gradients/Default/Grad_Sigmoid/SigmoidGrad-op0"
    assert _refused("[ERROR] LITE] primitive_c is nullptr: Default/GroupNorm-op1") == (
        ", operator GroupNorm in node Default/GroupNorm-op1"
    )
    assert _refused("[ERROR] LITE] out of memory") == ""


@pytest.mark.slow
def test_lenet_trains_as_with_the_device_runtime(writers: Path, tmp_path: Path) -> None:
    plan = {**SETTINGS, "train_dataset": writers, "iterations": 3}
    alone = FederatedJob(work_dir=tmp_path / "mindspore", **plan).run()
    lite = FederatedJob(work_dir=tmp_path / "lite", **{**plan, "engine": "lite"}).run()
    assert isinstance(alone.model, NetworkModel) and isinstance(lite.model, LiteModel)
    theirs = lite.mindspore_weights()
    for name, values in alone.mindspore_weights().items():
        np.testing.assert_allclose(theirs[name], values, atol=1e-4, err_msg=name)
    assert not any("mindir" in path.name for path in (tmp_path / "mindspore" / "ms").iterdir())


def test_what_training_changes_beside_the_weights_is_named_and_in_no_evaluation(writers: Path, tmp_path: Path) -> None:
    """What the client that trained last left behind would be in the evaluation of every other."""
    network = f"{Path(__file__).parent}/counting_net.py:CountingNet"
    settings = {**SETTINGS, "iterations": 1, "metric": "loss", "learning_rate": 0.01}
    with pytest.warns(MindflWarning, match=r"training changes steps of CountingNet, which no optimizer trains"):
        result = FederatedJob(work_dir=tmp_path, train_dataset=writers, model=network, **settings).run()
    weight, bias = (result.mindspore_weights()[f"dense.{part}"].astype(np.float64) for part in ("weight", "bias"))
    people = open_dataset(writers)
    for place, found in enumerate(result.history[-1].accuracies.values()):
        test = people.user(place).test
        pixels = np.repeat(test.images(), 3, axis=-1) if test.images().shape[-1] == 1 else test.images()
        scores = pixels.transpose(0, 3, 1, 2).reshape(test.size, -1) / 255 @ weight.T + bias
        scores -= scores.max(1, keepdims=True)
        chosen = scores[np.arange(test.size), test.labels[: test.size]]
        assert found == pytest.approx(float(np.mean(np.log(np.exp(scores).sum(1)) - chosen)), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adam_weight_decay"])
def test_a_file_of_a_network_that_evaluates_otherwise_than_it_trains_is_named(
    writers: Path, tmp_path: Path, optimizer: Any
) -> None:
    """Its training graph is all that a file has: it would center by the mean of a batch, and say nothing. What the
    optimizer itself changes, such as the powers of Adam's betas, is not named."""
    network = f"{Path(__file__).parent}/counting_net.py:CenteringNet"
    plan: dict[str, Any] = {"client_num": 1, "iterations": 1, "epochs": 1, "optimizer": optimizer}
    job = FederatedJob(work_dir=tmp_path, train_dataset=writers, model=network, **plan)
    with pytest.warns(MindflWarning, match=r"CenteringNet_train\.ms: training changes running, which no optimizer"):
        job.run()
