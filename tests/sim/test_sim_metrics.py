"""AVG, TOP5 and LOW5."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.sim import Accuracy

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_seven_clients() -> None:
    accuracy = Accuracy.of([0.1, 0.9, 0.3, 0.7, 0.5, 0.2, 0.8])
    assert accuracy == pytest.approx((3.5 / 7, (0.9 + 0.8 + 0.7 + 0.5 + 0.3) / 5, (0.1 + 0.2 + 0.3 + 0.5 + 0.7) / 5))


def test_fewer_than_five_clients_count_as_they_are() -> None:
    assert Accuracy.of([0.25, 0.75]) == (0.5, 0.5, 0.5)


def test_no_client_has_no_accuracy() -> None:
    assert all(math.isnan(value) for value in Accuracy.of([]))


@given(SHARES, st.randoms())
def test_order_of_clients_does_not_matter(shares: list[float], random: object) -> None:
    shuffled = list(shares)
    random.shuffle(shuffled)
    accuracy = Accuracy.of(shares)
    assert Accuracy.of(shuffled) == accuracy
    assert accuracy.low5 <= accuracy.avg * (1 + 1e-15) and accuracy.avg <= accuracy.top5 * (1 + 1e-15)
