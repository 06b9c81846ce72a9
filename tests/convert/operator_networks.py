"""Small networks around one operation each, as a user would write them for MindSpore 2.10."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mindfl.models import import_mindspore

#: name -> (result of two dense layers a and b of shape [4, 12], a layer that it calls)
OPERATIONS = {
    "abs": ("ops.abs(a)", ""),
    "adaptive_pool": ("self.layer(a.reshape(4, 3, 2, 2)).reshape(4, 3).tile((1, 4))", "nn.AdaptiveAvgPool2d(1)"),
    "adaptive_pool_to_more": ("self.layer(a.reshape(4, 2, 2, 3)).reshape(4, 12)", "nn.AdaptiveAvgPool2d((3, 2))"),
    "average_with_border": (
        "self.layer(a.reshape(4, 2, 2, 3)).reshape(4, 12)",
        'nn.AvgPool2d(2, 1, pad_mode="pad", padding=(1, 0))',
    ),
    "broadcast": ("a * ops.broadcast_to(b[:, :1], (4, 12))", ""),
    "cast": ("a * (a > 0.0).astype(ms.float32)", ""),
    "celu": ("self.layer(a)", "nn.CELU(0.5)"),
    "circular_padding": ('ops.pad(a.reshape(4, 2, 2, 3), (1, 1, 0, 0), mode="circular")[..., :3].reshape(4, 12)', ""),
    "clamp": ("ops.clamp(a, -0.5, 0.5)", ""),
    "concat": ("ops.cat((a[:, :6], b[:, :6]), 1)", ""),
    "cosh": ("ops.cosh(a)", ""),
    "cosine": ("a * ops.cosine_similarity(a, b, 1).reshape(4, 1)", ""),
    "cumulative_sum": ("ops.cumsum(a, 1)", ""),
    "div": ("a / (b + 3.0)", ""),
    "exp": ("ops.exp(a)", ""),
    "expand_squeeze": ("ops.expand_dims(a, 2).squeeze(2)", ""),
    "fast_gelu": ("self.layer(a)", "nn.FastGelu()"),
    "gelu": ("self.layer(a)", "nn.GELU(False)"),
    "group_norm": ("self.layer(a.reshape(4, 4, 3, 1)).reshape(4, 12)", "nn.GroupNorm(2, 4)"),
    "hard_shrink": ("self.layer(a)", "nn.HShrink(0.3)"),
    "hard_sigmoid": ("self.layer(a)", "nn.HSigmoid()"),
    "hard_swish": ("self.layer(a)", "nn.HSwish()"),
    "leaky_relu": ("self.layer(a)", "nn.LeakyReLU(0.1)"),
    "log": ("ops.log(ops.square(a) + 1.0)", ""),
    "log1p": ("ops.log1p(ops.abs(a))", ""),
    "log_softmax": ("self.layer(a)", "nn.LogSoftmax()"),
    "maximum": ("ops.maximum(a, b)", ""),
    "maximum_with_border": (
        "self.layer(a.reshape(4, 2, 2, 3))[:, :, 1:].reshape(4, 12)",
        'nn.MaxPool2d((2, 3), 1, pad_mode="pad", padding=(1, 1))',
    ),
    "mean": ("a * ops.mean(b, 1, True)", ""),
    "minimum": ("ops.minimum(a, b)", ""),
    "mirrored": ("self.layer(a.reshape(4, 2, 2, 3))[:, :, :2, 1:4].reshape(4, 12)", "nn.ReflectionPad2d((2, 1, 1, 0))"),
    "neg": ("-a", ""),
    "norm": ("a / ops.sqrt(ops.square(b).sum(1, keepdims=True) + 1.0)", ""),
    "one_hot": ("a * ops.one_hot(ops.argmax(b, 1), 12, Tensor(1.0), Tensor(0.0))", ""),
    "pick": ("a * ops.gather_elements(b, 1, ops.argmax(a, 1).reshape(4, 1))", ""),
    "power": ("ops.pow(a, 3.0)", ""),
    "reduce_max": ("a * ops.ReduceMax(True)(b, 1)", ""),
    "row_and_column_maxima": ("a * a.reshape(4, 3, 4).max(axis=2).max(axis=1).reshape(4, 1)", ""),
    "row_minima": ("a - ops.min(b, 1, keepdims=True)[0]", ""),
    "reduce_sum": ("a * ops.ReduceSum(True)(b, 1)", ""),
    "replicated": (
        "self.layer(a.reshape(4, 2, 2, 3))[:, :, :2, 1:4].reshape(4, 12)",
        "nn.ReplicationPad2d((2, 1, 1, 0))",
    ),
    "rsqrt": ("a * ops.rsqrt(ops.square(b) + 1.0)", ""),
    "select": ("ops.select(a > 0.0, a, b)", ""),
    "selu": ("self.layer(a)", "nn.SeLU()"),
    "silu": ("self.layer(a)", "nn.SiLU()"),
    "slice": ("a * ops.tile(a[:, 2:3], (1, 12))", ""),
    "soft_shrink": ("self.layer(a)", "nn.SoftShrink(0.3)"),
    "softmax": ("a * self.layer(b)", "nn.Softmax(-1)"),
    "softplus": ("ops.softplus(a)", ""),
    "softsign": ("self.layer(a)", "nn.Softsign()"),
    "split": ("ops.split(a, 6, 1)[0].tile((1, 2))", ""),
    "sqrt": ("ops.sqrt(ops.abs(a) + 1.0)", ""),
    "stack": ("ops.stack((a, b), 1).sum(1)", ""),
    "sub": ("a - b", ""),
    "sum": ("a * b.sum(1, keepdims=True)", ""),
    "symmetric_padding": (
        "self.layer(a.reshape(4, 2, 2, 3))[:, :, 1:, :3].reshape(4, 12)",
        'nn.Pad(((0, 0), (0, 0), (1, 0), (1, 2)), mode="SYMMETRIC")',
    ),
    "threshold": ("self.layer(a)", "nn.Threshold(0.1, 0.5)"),
    "tile": ("ops.tile(a[:, :6], (1, 2))", ""),
    "tile_of_four_axes": ("ops.repeat_interleave(a.reshape(4, 1, 6, 2), 3, 1).mean(1).reshape(4, 12)", ""),
    "triangle": ("a * ops.triu(b.reshape(4, 3, 4), 1).reshape(4, 12)", ""),
    "triangle_of_ones": ("a * (ops.tril(ops.ones((4, 12), ms.float32), 2) == 0).astype(ms.float32)", ""),
    "mint_add": ("ms.mint.add(a, b, alpha=2) - ms.mint.sub(b, a, alpha=3)", ""),
    "mint_broadcast": ("a * ms.mint.broadcast_to(b[:, :1], (4, 12))", ""),
    "mint_einsum": ('a * ms.mint.einsum("bi,bi->b", a, b).reshape(4, 1)', ""),
    "mint_glu": ("ms.mint.nn.functional.glu(ms.mint.cat((a, b), 1), 1)", ""),
    "mint_linear": ("ms.mint.nn.functional.linear(a.reshape(4, 4, 3), b[:3, :3], b[0, :3]).reshape(4, 12)", ""),
    "mint_log_softmax": ("ms.mint.nn.functional.log_softmax(a, -1)", ""),
    "mint_max": ("a * ms.mint.max(b, 1, keepdim=True)[0]", ""),
    "mint_min": ("a - ms.mint.min(b, 1, keepdim=True)[0]", ""),
    "mint_narrow": ("ms.mint.narrow(a, 1, 2, 4).tile((1, 3))", ""),
    "mint_nearest": (
        'ms.mint.nn.functional.interpolate(a.reshape(4, 3, 2, 2), scale_factor=2.0, mode="nearest")'
        ".reshape(4, 48)[:, ::4]",
        "",
    ),
    "mint_permute": ("ms.mint.permute(a.reshape(4, 3, 4), (0, 2, 1)).reshape(4, 12)", ""),
    "mint_pick": ("a * ms.mint.gather(b, 1, ms.mint.argmax(a, 1, True))", ""),
    "mint_unsqueeze": ("ms.mint.unsqueeze(a, 1).sum(1)", ""),
    "place_of_minimum": ("a * ops.one_hot(ops.argmin(b, 1), 12, Tensor(1.0), Tensor(0.0))", ""),
    "resize_nearest": (
        "ops.ResizeNearestNeighbor((4, 6))(a.reshape(4, 2, 2, 3)).reshape(4, 48)[:, ::4]",
        "",
    ),
    "unequal_stacks": (
        "ops.matmul(a.reshape(4, 1, 3, 4), b.reshape(4, 3, 4, 1)).mean(1).tile((1, 4, 1)).reshape(4, 12)",
        "",
    ),
    "unit_matrix": ("ops.matmul(a, ops.eye(12, 12, ms.float32) * 2.0)", ""),
    "transpose": ("ops.transpose(ops.transpose(a, (1, 0)), (1, 0))", ""),
}

#: operation or loss that MindSpore exports on a CPU, but does not execute there -> one that calculates the same
EQUIVALENT = {
    "instance_norm": "group_norm_of_channels",
    "roll": "roll_of_parts",
    "soft_margin": "soft_margin_of_parts",
    "cut_borders": "cut_slices",
    "mint_pad": "pad_of_parts",  # MindSpore executes it, but later steps are not those of its own parts
}
#: what :data:`EQUIVALENT` compares, in the form of OPERATIONS
_PAIRED = {
    "instance_norm": ("self.layer(a.reshape(4, 2, 2, 3)).reshape(4, 12)", "nn.InstanceNorm2d(2)"),
    "group_norm_of_channels": ("self.layer(a.reshape(4, 2, 2, 3)).reshape(4, 12)", "nn.GroupNorm(2, 2)"),
    "roll": ("a * ops.roll(b, 2, 1)", ""),
    "roll_of_parts": ("a * ops.cat((b[:, 10:], b[:, :10]), 1)", ""),
    "mint_pad": ("ms.mint.nn.functional.pad(a, (2, 1))[:, :12]", ""),
    "pad_of_parts": ("ops.cat((ops.zeros((4, 2), ms.float32), a[:, :10]), 1)", ""),
    "cut_borders": (
        "ops.pad(a.reshape(4, 2, 6), (1, -2, 1, 0), value=0.5).tile((1, 1, 2))[:, 1:, :6].reshape(4, 12)",
        "",
    ),
    "cut_slices": (
        "ops.cat((ops.ones((4, 2, 1), ms.float32) * 0.5, a.reshape(4, 2, 6)[:, :, :4]), 2)"
        ".tile((1, 1, 2))[:, :, :6].reshape(4, 12)",
        "",
    ),
}
#: name -> loss of the scores [4, 5], whether its labels are class numbers
LOSSES = {
    "binary_cross_entropy": ("Binary()", False),
    "binary_cross_entropy_of_logits": ("nn.BCEWithLogitsLoss()", False),
    "cross_entropy": ("nn.CrossEntropyLoss()", True),
    "l1": ("nn.L1Loss()", False),
    "mean_squared": ("nn.MSELoss()", False),
    "negative_log_likelihood": ("Likelihood()", True),
    "penalised": ("Penalised()", True),
    "scaled": ("Scaled()", True),
    "weighted_samples": ("Weighted()", True),
    "two_losses": ("TwoLosses()", True),
    "focal": ("Focal()", True),
}

_SOURCE = """
import mindspore as ms
from mindspore import Tensor, nn, ops

class Binary(nn.Cell):
    def __init__(self):
        super().__init__()
        self.sigmoid, self.loss = nn.Sigmoid(), nn.BCELoss(reduction="mean")

    def construct(self, scores, labels):
        return self.loss(self.sigmoid(scores), labels)

class Likelihood(nn.Cell):
    def __init__(self):
        super().__init__()
        self.softmax, self.loss = nn.LogSoftmax(1), nn.NLLLoss()

    def construct(self, scores, labels):
        return self.loss(self.softmax(scores), labels)

class SoftMargin(nn.Cell):
    def construct(self, scores, labels):
        return ops.softplus(-scores * labels).mean()

class Focal(nn.Cell):
    def __init__(self):
        super().__init__()
        self.loss = nn.FocalLoss(gamma=2.0)

    def construct(self, scores, labels):
        return self.loss(scores, labels.reshape(-1, 1))

class Penalised(nn.Cell):
    def __init__(self):
        super().__init__()
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, scores, labels):
        return self.loss(scores, labels) + 0.01 * (scores * scores).sum()

class Scaled(nn.Cell):
    def __init__(self):
        super().__init__()
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, scores, labels):
        return self.loss(scores, labels) * 2.0 + 1.0

class Weighted(nn.Cell):
    def __init__(self):
        super().__init__()
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True)

    def construct(self, scores, labels):
        weights = labels.astype(ms.float32) + 1.0
        return (self.loss(scores, labels) * weights).sum() / weights.sum()

class TwoLosses(nn.Cell):
    def __init__(self):
        super().__init__()
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, scores, labels):
        return self.loss(scores, labels) + 0.3 * self.loss(scores * 2.0, labels)
"""

_NETWORK = """
class {name}(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Dense(8, 12), nn.Dense(8, 12), nn.Dense(12, 5)
        self.layer = {layer}

    def construct(self, x):
        a, b = self.a(x), self.b(x)
        return self.c({result})
"""


#: losses of :data:`EQUIVALENT`
_PAIRED_LOSSES = {"soft_margin": ("nn.SoftMarginLoss()", False), "soft_margin_of_parts": ("SoftMargin()", False)}


def operator_networks(folder: Path) -> ModuleType:
    """Return a module with a network per operation, written to ``folder``: MindSpore reads its source."""
    networks = [
        _NETWORK.format(name=name, result=result, layer=layer or None)
        for name, (result, layer) in {**OPERATIONS, **_PAIRED}.items()
    ]
    losses = [f"\ndef loss_{name}():\n    return {loss}\n" for name, (loss, _) in {**LOSSES, **_PAIRED_LOSSES}.items()]
    file = folder / "operator_networks_source.py"
    file.write_text(_SOURCE + "".join(networks + losses))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def training_step(name: str, networks: ModuleType, rate: float = 1.0) -> tuple[Any, tuple[np.ndarray, ...]]:
    """Return a cell that takes one step of SGD, and a batch for it."""
    mindspore = import_mindspore()
    nn = mindspore.nn
    mindspore.set_seed(1)
    rng = np.random.default_rng(2)
    labels: np.ndarray = rng.integers(0, 5, 4).astype(np.int32)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    losses = {**LOSSES, **_PAIRED_LOSSES}
    if name not in losses:
        network = getattr(networks, name)()
    else:
        network, loss = nn.Dense(8, 5), getattr(networks, f"loss_{name}")()
        if not losses[name][1]:
            labels = rng.random((4, 5)).astype(np.float32)
    cell = nn.TrainOneStepCell(nn.WithLossCell(network, loss), nn.SGD(network.trainable_params(), rate))
    return cell.set_train(), (rng.normal(size=(4, 8)).astype(np.float32), labels)


def exported(cell: Any, batch: tuple[np.ndarray, ...], folder: Path) -> Path:
    """Return the training graph of a cell, as MindSpore exports it."""
    mindspore = import_mindspore()
    file = folder / "step.mindir"
    mindspore.export(cell, *map(mindspore.Tensor, batch), file_name=str(file), file_format="MINDIR")
    return file
