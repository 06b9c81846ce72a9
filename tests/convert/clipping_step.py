"""A training step that clips its gradients, as a user would write it for MindSpore 2.10."""

from __future__ import annotations

from typing import Any

import mindspore
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

#: name -> MindSpore's optimizer and its options
OPTIMIZERS = {
    "AdamWeightDecay": {"learning_rate": 0.01, "weight_decay": 0.1},
    "Momentum": {"learning_rate": 0.1, "momentum": 0.9},
}
LIMIT = 0.05


class Step(nn.TrainOneStepCell):
    """Clips each gradient (``each``), all together (``all``), each with a branch (``branch``), or none (``none``)."""

    def __init__(self, loss: Any, optimizer: Any, clip: str) -> None:
        super().__init__(loss, optimizer)
        self.how, self.clip = clip, nn.ClipByNorm()

    def construct(self, *batch: Any) -> Any:
        loss = self.network(*batch)
        gradients = self.grad(self.network, self.weights)(*batch, ops.ones_like(loss))
        clipped = ()
        if self.how == "each":
            for gradient in gradients:
                clipped += (self.clip(gradient, Tensor(LIMIT, mstype.float32)),)
        elif self.how == "all":
            clipped = ops.clip_by_global_norm(gradients, LIMIT)
        elif self.how == "branch":
            for gradient in gradients:
                clipped += (ops.clip_by_norm(gradient, LIMIT),)
        else:
            clipped = gradients
        self.optimizer(clipped)
        return loss


def clipping_step(clip: str, optimizer: str) -> Step:
    """Return such a step of a small network."""
    mindspore.set_seed(3)
    network = nn.SequentialCell(nn.Dense(8, 12), nn.ReLU(), nn.Dense(12, 5))
    loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    step = Step(loss, getattr(nn, optimizer)(network.trainable_params(), **OPTIMIZERS[optimizer]), clip)
    step.set_train()
    return step
