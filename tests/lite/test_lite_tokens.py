"""Labels of each token: found, trained, predicted and refused; and tokens that the model's table does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lite_handmade import LOSS, Maker

from mindfl.errors import DataError
from mindfl.lite import LiteModel, Session
from mindfl.lite.model_graph import Graph

BATCH, LENGTH, TOKENS, CLASSES, RATE = 4, 3, 6, 5, 0.5


@pytest.fixture(scope="module")
def session() -> Session:
    """A table of scores for each token, its softmax cross entropy, and SGD."""
    m = Maker(np.random.default_rng(2))
    ids, labels = (m.computed(BATCH, LENGTH, dtype="int32", name=name) for name in ("ids", "labels"))
    m.model.inputs = [ids, labels]
    table, rows = m.weight("table", TOKENS, CLASSES), BATCH * LENGTH
    axis = m.constant("axis", np.array([0], np.int32))
    scores = m.node("Gather", [table, ids, axis], m.computed(BATCH, LENGTH, CLASSES))
    flat, all_rows = (m.constant("", np.array(shape, np.int32)) for shape in ((rows, CLASSES), (rows,)))
    logits = m.node("Reshape", [scores, flat], m.computed(rows, CLASSES))
    wanted = m.node("Reshape", [labels, all_rows], m.computed(rows, dtype="int32"))
    m.model.outputs = [m.node(LOSS, [logits, wanted], m.computed(1, name="loss"))]
    dy = m.node(LOSS, [logits, wanted], m.computed(rows, CLASSES), is_grad=True)
    shape = m.constant("", np.array([BATCH, LENGTH, CLASSES], np.int32))
    back = m.node("Reshape", [dy, shape], m.computed(BATCH, LENGTH, CLASSES))
    count = m.constant("", np.array([TOKENS], np.int32))
    gradient = m.node("UnsortedSegmentSum", [back, ids, count], m.computed(TOKENS, CLASSES))
    rate, zero = m.constant("rate", np.float32([RATE])), m.constant("momentum", np.float32([0]))
    moment = m.constant("moment", np.zeros((TOKENS, CLASSES), np.float32))
    m.node("ApplyMomentum", [table, moment, rate, gradient, zero], m.computed(1), gradient_scale=1.0)
    return Session(LiteModel.from_bytes(m.model.write()))


def test_kinds_and_sizes(session: Session) -> None:
    graph: Graph = session.executable.graph
    assert (graph.label_kind, graph.labels_of_sample, graph.classes) == ("tokens", LENGTH, CLASSES)
    assert list(graph.vocabularies.values()) == [TOKENS]


def test_it_trains_and_predicts_token_by_token(session: Session) -> None:
    session.reset()
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, TOKENS, (6, LENGTH)), rng.integers(0, CLASSES, (6, LENGTH))
    table = session.get_weights()["table"].astype(np.float64)
    np.testing.assert_allclose(session.predict(ids), table[ids], atol=1e-6)
    losses = session.train(session.batches(ids, steps=3), labels, steps=3)
    for step in range(3):
        chosen = np.arange(step * BATCH, (step + 1) * BATCH) % 6
        x, y = ids[chosen].ravel(), labels[chosen].ravel()
        share = np.exp(table[x]) / np.exp(table[x]).sum(1, keepdims=True)
        assert losses[step] == pytest.approx(-np.log(share[np.arange(len(y)), y]).mean(), rel=1e-5)
        share[np.arange(len(y)), y] -= 1
        np.add.at(table, x, -RATE * share / len(y))
    np.testing.assert_allclose(session.get_weights()["table"], table, atol=1e-6)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "a token too far": (np.full((4, 3), TOKENS), np.zeros((4, 3), int), "6 is out of range: the model has tokens 0 to"),
    "a negative token": (np.full((4, 3), -1), np.zeros((4, 3), int), "-1 is out of range: the model has tokens 0 to 5"),
    "a class too far": (np.zeros((4, 3), int), np.full((4, 3), CLASSES), "label 5 is out of range"),
    "a label for each sample": (np.zeros((4, 3), int), np.zeros(4, int), r"whole numbers of shape \(4, 3\)"),
    "numbers": (np.zeros((4, 3), int), np.zeros((4, 3)), r"whole numbers of shape \(4, 3\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(session: Session, name: str) -> None:
    ids, labels, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        session.train(ids, labels)
