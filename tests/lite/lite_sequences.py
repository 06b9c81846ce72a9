"""A handmade recurrent network: embedded tokens, LSTM, dropout, dense, loss, their gradients, and SGD."""

from __future__ import annotations

import numpy as np
from lite_handmade import LOSS, Maker
from lite_writer import ModelText


def recurrent(
    *, batch: int = 3, time: int = 4, tokens: int = 7, embedding: int = 5, hidden: int = 6, classes: int = 4
) -> ModelText:
    """Describe it; the tokens are int32 (batch, time)."""
    m = Maker(np.random.default_rng(2))
    ids = m.computed(batch, time, dtype="int32", name="ids")
    labels = m.computed(batch, dtype="int32", name="labels")
    m.model.inputs = [ids, labels]
    attributes = {"input_size": embedding, "hidden_size": hidden, "num_layers": 1, "has_bias": True}
    words, weights = m.weight("words", tokens, embedding), m.weight("lstm", 4 * hidden * (embedding + hidden + 1))
    dense, bias = m.weight("dense", classes, hidden), m.weight("bias", classes)
    zero, axis = m.constant("zero", np.zeros((1, batch, hidden), np.float32)), m.constant("axis", np.zeros(1, np.int32))
    turned = m.constant("turned", np.array([1, 0, 2], np.int32))

    embedded = m.node("Gather", [words, ids, axis], m.computed(batch, time, embedding))
    x = m.node("Transpose", [embedded, turned], m.computed(time, batch, embedding))
    y, last, cell = m.computed(time, batch, hidden), m.computed(1, batch, hidden), m.computed(1, batch, hidden)
    kept = m.computed(6 * time * batch * hidden)
    m.node("LSTM", [x, zero, zero, weights], y, **attributes)
    m.model.nodes[-1].outputs = [y, last, cell, kept]
    flat = m.constant("flat", np.array([batch, hidden], np.int32))
    state = m.node("Reshape", [last, flat], m.computed(batch, hidden))
    shown, mask = m.node("Dropout", [state], m.computed(batch, hidden), keep_prob=0.75), m.computed(batch, hidden)
    m.model.nodes[-1].outputs.append(mask)
    product = m.node("MatMulFusion", [shown, dense], m.computed(batch, classes), transpose_b=True)
    scores = m.node("BiasAdd", [product, bias], m.computed(batch, classes))
    m.model.outputs = [m.node(LOSS, [scores, labels], m.computed(1, name="loss"))]

    slope = m.node(LOSS, [scores, labels], m.computed(batch, classes), is_grad=True)
    gradients = {bias: m.node("BiasAddGrad", [slope], m.computed(classes))}
    gradients[dense] = m.node("MatMulFusion", [slope, shown], m.computed(classes, hidden), transpose_a=True)
    dshown = m.node("MatMulFusion", [slope, dense], m.computed(batch, hidden))
    dstate = m.node("DropoutGrad", [dshown, mask], m.computed(batch, hidden), keep_prob=0.75)
    whole = m.constant("whole", np.array([1, batch, hidden], np.int32))
    dlast = m.node("Reshape", [dstate, whole], m.computed(1, batch, hidden))
    none = m.constant("none", np.zeros((time, batch, hidden), np.float32))
    dx, dh0, dc0 = m.computed(time, batch, embedding), m.computed(1, batch, hidden), m.computed(1, batch, hidden)
    gradients[weights] = m.computed(*m.model.tensors[weights].dims)
    m.node("LSTMGrad", [x, zero, zero, weights, y, last, cell, none, dlast, zero, kept], dx, **attributes)
    m.model.nodes[-1].outputs = [dx, dh0, dc0, gradients[weights]]
    dembedded = m.node("Transpose", [dx, turned], m.computed(batch, time, embedding))
    shapes = [m.constant(name, np.array(dims, np.int32)) for name, dims in (("rows", [-1, embedding]), ("all", [-1]))]
    rows = m.node("Reshape", [dembedded, shapes[0]], m.computed(batch * time, embedding))
    numbers = m.node("Reshape", [ids, shapes[1]], m.computed(batch * time, dtype="int32"))
    count = m.constant("tokens", np.array([tokens], np.int32))
    gradients[words] = m.node("UnsortedSegmentSum", [rows, numbers, count], m.computed(tokens, embedding))

    rate, momentum = m.constant("rate", np.array(0.1, np.float32)), m.constant("momentum", np.array(0, np.float32))
    for weight, gradient in gradients.items():
        states = [m.constant(f"{kind}{weight}", np.zeros(m.model.tensors[weight].dims, np.float32)) for kind in "as"]
        m.node("SGD", [weight, gradient, rate, states[0], momentum, states[1]], m.computed(1))
    return m.model
