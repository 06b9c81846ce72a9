"""Training graphs written by hand, in an order of nodes that MindSpore's converter never makes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from lite_writer import ModelText, NodeText, TensorText
from numpy.typing import NDArray

from mindfl.lite.ops.windows import PAD_EXPLICIT, PAD_SAME, PAD_VALID

LOSS = "SparseSoftmaxCrossEntropyWithLogits"


@dataclass(frozen=True)
class Window:
    """A convolution or pooling window; ``pads`` are top, bottom, left, right and count in explicit mode only.

    ``groups`` are those of a convolution; a pooling with ``mean`` is an average pooling.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    mode: int = PAD_VALID
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    mean: bool = False

    def outputs(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return how many windows fit down and across an image."""
        return self._count(size, 0), self._count(size, 1)

    def _count(self, size: tuple[int, int], axis: int) -> int:
        if self.mode == PAD_SAME:
            return -(-size[axis] // self.stride[axis])
        border = sum(self.pads[2 * axis : 2 * axis + 2]) if self.mode == PAD_EXPLICIT else 0
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size[axis] + border - reach) // self.stride[axis] + 1

    def convolution(self, *, gradient: bool) -> dict[str, object]:
        """Return the attributes of a convolution node."""
        return {
            "kernel_size": self.kernel,
            "stride": (1, 1, *self.stride) if gradient else self.stride,
            "dilation": (1, 1, *self.dilation) if gradient else self.dilation,
            "pad_mode": self.mode,
            "pad_list": self.pads,
            **({"group": self.groups} if self.groups > 1 else {}),
        }

    def pooling(self) -> dict[str, object]:
        """Return the attributes of a pooling node."""
        return {"kernel_size": self.kernel, "strides": self.stride, "pad_mode": self.mode}


@dataclass
class Maker:
    """Collects nodes and tensors."""

    draw: np.random.Generator
    model: ModelText = field(default_factory=lambda: ModelText([], [], [], []))

    def computed(self, *dims: int, dtype: str = "float32", name: str = "") -> int:
        """Add a tensor without data and return its index."""
        self.model.tensors.append(TensorText(name or f"t{len(self.model.tensors)}", list(dims), dtype))
        return len(self.model.tensors) - 1

    def constant(self, name: str, data: NDArray[np.generic]) -> int:
        """Add a constant and return its index."""
        self.model.tensors.append(TensorText(name, list(data.shape), data.dtype.name, data))
        return len(self.model.tensors) - 1

    def weight(self, name: str, *dims: int) -> int:
        """Add a weight drawn at random."""
        return self.constant(name, self.draw.uniform(-0.5, 0.5, dims).astype(np.float32))

    def node(self, op: str, inputs: list[int], output: int, **attributes: object) -> int:
        """Add a node and return its output."""
        names = {LOSS: "net/_loss_fn/loss" if not attributes.get("is_grad") else "Gradients/net/_loss_fn/loss"}
        self.model.nodes.append(NodeText(op, inputs, [output], attributes, names.get(op, f"net/{op}{output}")))
        return output


def handmade(
    conv: Window,
    second: Window | None = None,
    pool: Window | None = None,
    *,
    image: tuple[int, int, int] = (9, 8, 2),
    filters: int = 3,
    second_filters: int | None = None,
    classes: int = 4,
    batch: int = 3,
    seed: int = 1,
) -> ModelText:
    """Describe: convolution, ReLU, [a second convolution,] [pooling,] dense with bias, loss, gradients, momentum.

    The second convolution has ``second_filters``, or two more than the first.

    Optimizer nodes stand first in the file, then the backward nodes, then the forward ones; attributes with default
    values are absent, among them ``gradient_scale``.
    """
    m = Maker(np.random.default_rng(seed))
    height, width, channels = image
    more = filters + 2 if second_filters is None else second_filters
    x = m.computed(batch, *image, name="image")
    labels = m.computed(batch, dtype="int32", name="label")
    m.model.inputs = [labels, x]
    w1 = m.weight("conv.weight", filters, *conv.kernel, channels // conv.groups)
    size = conv.outputs((height, width))
    c1 = m.node("Conv2DFusion", [x, w1], m.computed(batch, *size, filters), **conv.convolution(gradient=False))
    a1 = m.node("Activation", [c1], m.computed(batch, *size, filters), type=1)
    last, last_size, last_channels = a1, size, filters
    if second is not None:
        w2 = m.weight("conv2.weight", more, *second.kernel, filters // second.groups)
        last_size, last_channels = second.outputs(size), more
        out = m.computed(batch, *last_size, last_channels)
        last = m.node("Conv2DFusion", [a1, w2], out, **second.convolution(gradient=False))
    pool_input, pool_size = last, last_size
    if pool is not None:
        last_size = pool.outputs(last_size)
        kind = "AvgPool" if pool.mean else "MaxPool"
        last = m.node(f"{kind}Fusion", [last], m.computed(batch, *last_size, last_channels), **pool.pooling())
    features = last_size[0] * last_size[1] * last_channels
    flat = m.node("Flatten", [last], m.computed(batch, features), axis=1)
    w3, bias = m.weight("fc.weight", classes, features), m.weight("fc.bias", classes)
    product = m.node("MatMulFusion", [flat, w3], m.computed(batch, classes), transpose_b=True)
    logits = m.node("BiasAdd", [product, bias], m.computed(batch, classes))
    loss = m.node(LOSS, [logits, labels], m.computed(1, name="loss"))
    m.model.outputs = [loss]
    forward, m.model.nodes = m.model.nodes, []

    dy = m.node(LOSS, [logits, labels], m.computed(batch, classes), is_grad=True)
    gradients = {bias: m.node("BiasAddGrad", [dy], m.computed(classes))}
    gradients[w3] = m.node("MatMulFusion", [dy, flat], m.computed(classes, features), transpose_a=True)
    dflat = m.node("MatMulFusion", [dy, w3], m.computed(batch, features))
    shape = m.constant("", np.array([batch, *last_size, last_channels], np.int32))
    dlast = m.node("Reshape", [dflat, shape], m.computed(batch, *last_size, last_channels))
    if pool is not None:
        dpool = m.computed(batch, *pool_size, last_channels)
        dlast = m.node(f"{kind}Grad", [pool_input, last, dlast], dpool, **pool.pooling())
    if second is not None:
        attributes = second.convolution(gradient=True)
        out = m.computed(more, *second.kernel, filters // second.groups)
        gradients[w2] = m.node("Conv2DBackpropFilterFusion", [dlast, a1], out, **attributes)
        dlast = m.node("Conv2DBackpropInputFusion", [dlast, w2], m.computed(batch, *size, filters), **attributes)
    dc1 = m.node("ActivationGrad", [dlast, a1], m.computed(batch, *size, filters), type=1)
    out = m.computed(filters, *conv.kernel, channels // conv.groups)
    gradients[w1] = m.node("Conv2DBackpropFilterFusion", [dc1, x], out, **conv.convolution(gradient=True))
    backward, m.model.nodes = m.model.nodes, []

    rate = m.constant("rate", np.array(0.1, np.float32))
    factor = m.constant("momentum", np.array(0.9, np.float32))
    for weight, gradient in gradients.items():
        text = m.model.tensors[weight]
        state = m.constant(f"state.{text.name}", np.zeros(text.dims, np.float32))
        m.node("ApplyMomentum", [weight, state, rate, gradient, factor], m.computed(1))
    m.model.nodes += backward[::-1] + forward[::-1]
    return m.model
