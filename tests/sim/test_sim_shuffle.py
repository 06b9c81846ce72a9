"""``--shuffle``: the order of a client's samples is drawn anew for each local epoch, the same for the same seed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import Dataset
from mindfl.lite import LiteModel
from mindfl.sim.engines import LiteEngine

RNG = np.random.default_rng(5)
IMAGES, LABELS = RNG.integers(0, 256, (75, 32, 32, 3), np.uint8), RNG.integers(0, 62, 75)
ORDERS = [RNG.permutation(75) for _ in range(2)]


def trained(engine: LiteEngine, orders: list[Any] | None, data: Any = (IMAGES, LABELS), epochs: int = 2) -> bytes:
    user = Dataset.from_arrays({"ann": data}, classes=62, test_share=0).user("ann")
    trainer = engine.trainer(user, threading.Event())
    trainer.load(engine.model.weights)
    if orders is not None:
        trainer.set_order(lambda epoch: orders[epoch])
    trainer.train(epochs, 0.01, lambda epoch, losses: None)
    return b"".join(values.tobytes() for values in trainer.weights().values())


def test_samples_are_trained_in_the_order_given_for_the_epoch(converted: Callable[..., Path]) -> None:
    engine = LiteEngine(LiteModel.load(converted()))
    in_place = [np.arange(75)] * 2
    assert trained(engine, in_place) == trained(engine, None)
    first = ORDERS[0]
    assert trained(engine, [first] * 2) == trained(engine, None, (IMAGES[first], LABELS[first]))
    assert len({trained(engine, orders) for orders in (ORDERS, ORDERS[::-1], in_place)}) == 3


@pytest.mark.filterwarnings("error")
def test_orders_follow_from_the_seed_and_differ_in_each_epoch(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[int, str], list[bytes]] = {}
    images = LiteEngine.trainer

    def trainer(self: LiteEngine, user: Any, stop: threading.Event) -> Any:
        made = images(self, user, stop)
        set_order = made.set_order

        def watched(order: Any) -> None:
            def noted(epoch: int) -> Any:
                drawn = order(epoch)
                assert sorted(drawn.tolist()) == list(range(user.train.size))
                seen.setdefault((len(hashes), user.name), []).append(drawn.tobytes())
                return drawn

            set_order(noted)

        made.set_order = watched
        return made

    monkeypatch.setattr(LiteEngine, "trainer", trainer)
    hashes = []
    for settings in ({"workers": 1}, {"workers": 3}, {"seed": 1}):
        hashes.append(make_job(shuffle=True, epochs=2, **settings).run().hash)
    names = {name for _, name in seen}
    assert len(names) == 3
    for name in names:
        assert len(set(seen[0, name])) == 4, "two rounds of two epochs"
        assert seen[0, name] == seen[1, name] != seen[2, name]
    assert hashes[0] == hashes[1] not in (hashes[2], make_job(epochs=2).run().hash)
