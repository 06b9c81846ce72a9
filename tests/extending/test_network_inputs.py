"""Networks that state inputs of their own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.convert import convert_model
from mindfl.errors import MindflError, OptionError
from mindfl.export import export_mindir, export_trained
from mindfl.export.trained import network_sizes
from mindfl.lite import LiteModel, Session
from mindfl.models import import_mindspore
from mindfl.options.job_options import EngineName
from mindfl.sim import FederatedJob

HERE = Path(__file__).parent
COUNTS, WEIGHTED = f"{HERE}/text_net.py:WordCounts", f"{HERE}/text_net.py:Weighted"


@pytest.fixture(autouse=True)
def _without_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators that the runtime may lack
        yield


def dims(model: LiteModel) -> list[tuple[int, ...]]:
    return [model.tensors[index].dims for index in model.inputs]


def test_sizes_that_are_not_given_are_those_of_the_class(tmp_path: Path, converter_library: Path) -> None:
    path = export_mindir(tmp_path / "own", model=f"{COUNTS}:width=4", num_class=2, batch_size=4).path
    model = convert_model(path, tmp_path / "own").model
    assert dims(model) == [(4, 12), (4,)]
    assert model.parameters["words.embedding_table"].dims == (50, 4)
    assert vars(network_sizes(model)) == {
        **dict.fromkeys(("num_channel", "image_size")), "num_class": 2, "length": 12, "vocabulary": 50
    }  # fmt: skip


@pytest.mark.slow
def test_several_inputs_of_different_types(tmp_path: Path, converter_library: Path) -> None:
    mindspore = import_mindspore()
    path = export_mindir(tmp_path / "own", model=WEIGHTED, batch_size=4).path
    model = convert_model(path, tmp_path / "own").model
    assert dims(model) == [(4, 6), (4, 6), (4,)]
    assert [str(model.tensors[index].dtype) for index in model.inputs] == ["int32", "float32", "int32"]
    again = export_trained(tmp_path / "own.ms", tmp_path / "own.mindir", model=WEIGHTED).path
    network = mindspore.nn.GraphCell(mindspore.load(str(again)))
    words, weights = np.ones((3, 6), np.int32), np.zeros((3, 6), np.float32)
    logits = network(mindspore.Tensor(words), mindspore.Tensor(weights)).asnumpy()
    np.testing.assert_array_equal(logits, np.tile(model.weights["dense.bias"], (3, 1)))


def test_a_size_that_nothing_gives_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="WordCounts has no num_class of its own"):
        export_mindir(tmp_path / "own", model=COUNTS)
    with pytest.raises(OptionError, match="Weighted has no num_class of its own"):
        export_mindir(tmp_path / "own", model=WEIGHTED, loss="onehot")


def test_a_job_makes_the_network_for_its_texts(tmp_path: Path, converter_library: Path) -> None:
    job = FederatedJob(work_dir=tmp_path, model=COUNTS, train_dataset=f"{HERE}/text_net.py:counted", client_num=2)
    assert LiteModel.load(job.convert()).parameters["words.embedding_table"].dims == (30, 8)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("resnet8", "text_net.py:counted", "--model resnet8 takes pictures, but the samples .* are 12 tokens"),
        ("char_lstm", "colours.py:stripes", "--model char_lstm takes tokens, but the samples .* are 24x24 with 3"),
    ],
)
def test_a_network_for_other_samples_is_refused(model: str, data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        FederatedJob(work_dir=tmp_path, model=model, train_dataset=f"{HERE}/{data}", client_num=2).convert()


@pytest.mark.slow
def test_a_shipped_network_is_made_for_the_texts(tmp_path: Path, converter_library: Path) -> None:
    data = f"{HERE}/text_net.py:counted"
    job = FederatedJob(work_dir=tmp_path, model="char_lstm:hidden=4,layers=1", train_dataset=data, client_num=2)
    parameters = LiteModel.load(job.convert()).parameters
    assert (parameters["embedding.embedding_table"].dims, parameters["head.weight"].dims) == ((30, 8), (2, 4))


TAGGED: dict[str, Any] = {
    **{"model": f"{HERE}/text_net.py:Tagger", "train_dataset": f"{HERE}/text_net.py:tagged", "client_num": 1},
    **{"iterations": 1, "epochs": 20, "batch_size": 14, "learning_rate": 0.1, "metric": "perplexity"},
}


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rate"), [("momentum", 0.1), ("adam_weight_decay", 0.003)])
def test_labels_of_each_token_train_as_in_mindspore(
    optimizer: str, rate: float, tmp_path: Path, converter_library: Path
) -> None:
    """20 steps of one batch, and the perplexity of the test tokens."""
    settings = {**TAGGED, "optimizer": optimizer, "learning_rate": rate, "weight_decay": 0.01}
    lite = FederatedJob(work_dir=tmp_path / "lite", **settings).run()
    expected = FederatedJob(work_dir=tmp_path / "mindspore", engine="mindspore", **settings).run()
    assert lite.history[-1].avg == pytest.approx(expected.history[-1].avg, rel=1e-4)
    assert lite.history[-1].loss == pytest.approx(expected.history[-1].loss, abs=1e-5)
    for name, value in expected.weights.items():
        np.testing.assert_allclose(lite.weights[name].ravel(), value.ravel(), atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_a_table_of_numbers_and_categories_trains_as_in_mindspore(tmp_path: Path, converter_library: Path) -> None:
    settings: dict[str, Any] = {
        **{"model": f"{HERE}/text_net.py:Priced", "train_dataset": f"{HERE}/text_net.py:priced", "client_num": 2},
        **{"iterations": 2, "batch_size": 8, "metric": "loss"},
    }
    lite = FederatedJob(work_dir=tmp_path / "lite", **settings).run()
    expected = FederatedJob(work_dir=tmp_path / "mindspore", engine="mindspore", **settings).run()
    for found, other in zip(lite.history, expected.history, strict=True):
        assert (found.avg, found.loss) == pytest.approx((other.avg, other.loss), rel=1e-5)
    for name, value in expected.weights.items():
        np.testing.assert_allclose(lite.weights[name].ravel(), value.ravel(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("engine", ["lite", pytest.param("mindspore", marks=pytest.mark.slow)])
def test_predictions_of_another_shape_than_the_targets_are_refused(engine: EngineName, tmp_path: Path) -> None:
    """MindSpore's loss would compare each prediction with all targets of the batch."""
    data = f"{HERE}/text_net.py:prices"
    job = FederatedJob(
        work_dir=tmp_path,
        model=f"{HERE}/text_net.py:OneNumber",
        train_dataset=data,
        client_num=1,
        loss="mse",
        engine=engine,
    )
    with pytest.raises(MindflError, match=r"returns \(32,\) for 32 samples, .* targets are \(32, 1\)"):
        job.run()


@pytest.mark.slow
def test_accuracy_counts_tokens(tmp_path: Path, converter_library: Path) -> None:
    from text_net import tagged

    job = FederatedJob(work_dir=tmp_path, **{**TAGGED, "metric": None, "epochs": 1})
    result = job.run()
    test = tagged().user("ann").test
    scores = Session(LiteModel.load(job.trained_model_path)).predict(test.images())
    predicted = scores.argmax(axis=-1)
    assert predicted.shape == test.labels.shape == (7, 6)
    assert result.history[-1].avg == pytest.approx(np.mean(predicted == test.labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "onehot"}, "--loss onehot takes one class for each sample, .* a class for each token"),
        ({"model": "char_lstm"}, "--model char_lstm takes one class for each sample, .* a class for each token"),
    ],
)
def test_labels_of_each_token_need_a_fitting_network(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        FederatedJob(work_dir=tmp_path, **{**TAGGED, **options}).convert()
