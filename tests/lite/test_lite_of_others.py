"""Networks of kinds that mindfl ships none of: exported by MindSpore 2.10, converted, and trained by both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindfl.convert import convert_model
from mindfl.errors import MindflError, MindflWarning, ModelFormatError, VerificationError
from mindfl.export.graph_mode import graph_mode
from mindfl.export.optimizers import loss_cell
from mindfl.lite import Session
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.models import import_mindspore

pytestmark = pytest.mark.slow
_BATCH, _STEPS = 4, 20

NAMES = (
    *("frozen backbone", "unet", "gru by hand", "masked attention", "masked fill", "built-in attention"),
    *("built-in encoder", "mixer", "squeeze-excite", "siamese", "cosine", "l2 normalised", "mse", "smooth l1", "huber"),
    *("l1", "rmse", "quantile", "multi-label", "multi-label, weighted", "label smoothing", "class weights", "focal"),
    *("kl divergence", "pooled words", "series", "dilated series", "group norm", "shuffle", "dense block"),
    *("autoencoder", "nearest", "bilinear", "tied words", "both ways", "built-in gru", "built-in rnn", "tabular"),
    *("vision transformer", "loss scale", "temperature", "centres", "weight norm", "batch norm, decayed"),
    *("own loss", "causal", "series, normed", "volume, normed", "series, biased", "positions"),
    *(
        "flags",
        "penalised layer",
        "variational",
        "unused layers",
        "unused layers, decayed",
        "several tasks",
        "evidence",
        "turned pixels",
        "weighted rows",
        "convolutions, decayed",
    ),
)
#: what is not converted -> its operator, which the message names
REFUSED = {
    "neighbours": r"LRNGrad \(node .*Grad_LRN/LRNGrad",
    "overflow": "sub-graphs",
}


def values(stated: tuple[Any, ...], generator: np.random.Generator) -> NDArray[Any]:
    shape, kind, *below = stated
    size = (_BATCH, *shape)
    if kind == "int32":
        return generator.integers(0, below[0], size).astype(np.int32)
    if kind == "bool":
        return generator.random(size) < 0.7
    return generator.uniform(-1, 1, size).astype(np.float32)


def labels(kind: str, cell: Any, generator: np.random.Generator) -> NDArray[Any]:
    """Return labels of a kind that :data:`networks_of_others.NETWORKS` names."""
    if kind == "classes":
        return generator.integers(0, 2, _BATCH).astype(np.int32)
    if kind == "tokens":
        return generator.integers(0, 4, (_BATCH, *cell.labels)).astype(np.int32)
    if kind == "onehot":
        return np.eye(5, dtype=np.float32)[generator.integers(0, 5, _BATCH)]
    if kind == "many":
        return generator.integers(0, 2, (_BATCH, 5)).astype(np.float32)
    return generator.random((_BATCH, {"pixels": 192, "numbers": 5}[kind]), np.float32)


@pytest.fixture(autouse=True)
def _graph_mode() -> Iterator[None]:
    with graph_mode("CPU"):
        yield


class Training:
    """A network with its loss and Momentum in MindSpore, and batches for it."""

    def __init__(self, name: str) -> None:
        from networks_of_others import NETWORKS, WITH_LOSS, one_step

        make, inputs, loss, kind = NETWORKS[name]
        import_mindspore().set_seed(3)
        self.cell = make()
        with_loss = (
            WITH_LOSS[name](self.cell)
            if name in WITH_LOSS
            else loss_cell(self.cell, loss(), len(inputs), per_token=kind == "tokens")
        )
        self._step = one_step(name, with_loss)
        generator = np.random.default_rng(7)
        self.batches = [
            ([values(each, generator) for each in inputs], labels(kind, self.cell, generator)) for _ in range(_STEPS)
        ]

    def export(self, folder: Path) -> Path:
        mindspore = import_mindspore()
        samples, wanted = self.batches[0]
        tensors = map(mindspore.Tensor, (*samples, wanted))
        mindspore.export(self._step, *tensors, file_name=str(folder / "net"), file_format="MINDIR")
        return folder / "net.mindir"

    def losses(self) -> list[float]:
        tensor = import_mindspore().Tensor
        return [float(self._step(*map(tensor, (*samples, wanted))).asnumpy()) for samples, wanted in self.batches]


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_are_those_of_mindspore(name: str, tmp_path: Path, converter_library: Path) -> None:
    training = Training(name)
    with (
        pytest.warns(MindflWarning, match="_loss_fn")
        if name in ("own loss", "turned pixels", "variational")
        else nullcontext()
    ):
        session = Session(convert_model(training.export(tmp_path), tmp_path / "net.ms").model)
    began = session.model.to_mindspore()
    expected = training.losses()
    found = []
    for samples, wanted in training.batches:
        turned = [np.ascontiguousarray(each.transpose(0, 2, 3, 1)) if each.ndim == 4 else each for each in samples]
        found.append(session.train_step(tuple(turned) if len(turned) > 1 else turned[0], wanted))

    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    weights = session.model.to_mindspore(session.get_weights())
    moved = 0
    for parameter in training.cell.get_parameters():
        value = parameter.asnumpy()
        if parameter.name in weights:
            scale = max(np.abs(value).max(), 0.1)
            moved += np.abs(began[parameter.name].reshape(value.shape) - value).max() > 1e-3 * scale
            own = weights[parameter.name].reshape(value.shape)
            np.testing.assert_allclose(own, value, rtol=0, atol=1e-4 * scale, err_msg=parameter.name)
    if name.endswith(", decayed"):
        optimizer = optimizer_of(session.model)
        assert optimizer is not None and optimizer.weight_decay == pytest.approx(0.01)
    trained = {parameter.name for parameter in training.cell.trainable_params()}
    assert trained <= weights.keys() and moved, "what is trained is in the file, and was trained"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_converted_is_named(name: str, tmp_path: Path, converter_library: Path) -> None:
    with pytest.raises(MindflError, match=REFUSED[name]) as caught:
        convert_model(Training(name).export(tmp_path), tmp_path / "net.ms")
    assert "--engine mindspore" in str(caught.value.hint)


def test_numbers_of_sixteen_bits_are_refused(tmp_path: Path, converter_library: Path) -> None:
    """The runtime calculates with 32 bits; it would train otherwise than MindSpore, without a word."""
    with pytest.warns(MindflWarning, match=r"node .*Cast.* uses numbers of float16"):
        model = convert_model(Training("half").export(tmp_path), tmp_path / "net.ms").model
    with pytest.raises(ModelFormatError, match="float16") as caught:
        Session(model)
    assert "--engine mindspore" in caught.value.hint


def test_a_graph_without_a_loss_is_refused(tmp_path: Path, converter_library: Path) -> None:
    """Neither labels nor a name tell what its loss is."""
    from networks_of_others import NETWORKS, Distance

    mindspore = import_mindspore()
    cell = Distance(NETWORKS["mse"][0]())
    step = mindspore.nn.TrainOneStepCell(cell, mindspore.nn.Momentum(cell.trainable_params(), 0.02, 0.9))
    samples = (mindspore.Tensor(np.zeros((_BATCH, 6), np.float32)) for _ in range(2))
    mindspore.export(step.set_train(), *samples, file_name=str(tmp_path / "net"), file_format="MINDIR")
    with pytest.raises(VerificationError, match="finds no loss") as caught:
        convert_model(tmp_path / "net.mindir", tmp_path / "net.ms")
    assert "_loss_fn" in caught.value.hint and "--engine mindspore" in caught.value.hint
