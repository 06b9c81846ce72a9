"""How servers that forward learn of the ends of iterations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.server import FeatureLayout, IterationRecord
from mindfl.server.cluster.feed import IterationFeed, News, Position, Unrepeated
from mindfl.server.state import JobProgress

LAYOUT = FeatureLayout({"a": 2, "b": 1})
Result = TypeVar("Result")


def record(instance: str, iteration: int) -> IterationRecord:
    return IterationRecord(
        iteration=iteration,
        valid=True,
        reason="é",
        model=LAYOUT.split(np.arange(3, dtype=np.float32) + iteration),
        loss=0.25,
        accuracy=0.5,
        started=2,
        uploads=1,
        data_size=7,
        eval_data_size=3,
        start_ms=None,
        end_ms=9,
        visits={},
        refusals={},
        instance=instance,
    )


def with_feed(body: Callable[[IterationFeed], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        return await asyncio.wait_for(body(IterationFeed()), 30)

    return asyncio.run(run())


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 2**31 - 1))
def test_news_come_back_from_their_bytes(instance: str, iteration: int) -> None:
    progress, newest = JobProgress("running", iteration + 1, 5), Position(instance, iteration)
    for found in (None, record(instance, iteration)):
        back = News.decode(News(progress, newest, found).encode(LAYOUT), LAYOUT)
        assert (back.progress, back.newest) == (progress, newest)
        if found is None:
            assert back.record is None
        else:
            assert back.record is not None
            assert (back.record.instance, back.record.reason, back.record.loss) == (instance, "é", 0.25)
            assert {name: values.tolist() for name, values in back.record.model.items()} == {
                name: values.tolist() for name, values in found.model.items()
            }


@given(st.binary(max_size=40))
def test_foreign_bytes_are_no_news(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        News.decode(data, LAYOUT)


def test_the_next_record_is_waited_for() -> None:
    async def body(feed: IterationFeed) -> int:
        waiting = asyncio.ensure_future(feed.after(Position("i", 1)))
        await asyncio.sleep(0)
        feed(record("i", 1))
        feed(record("i", 2))
        found = await waiting
        assert found is not None
        return found.iteration

    assert with_feed(body) == 2


@pytest.mark.parametrize(
    ("known", "next_one"),
    [
        (("i", 4), ("i", 5)),
        (("i", 5), ("j", 1)),
        (("i", 1), ("i", 4)),
        (("", 0), ("i", 4)),
        (("unknown", 9), ("i", 4)),
    ],
)
def test_what_comes_after_a_position(known: tuple[str, int], next_one: tuple[str, int]) -> None:
    async def body(feed: IterationFeed) -> tuple[str, int]:
        for each in (("i", 3), ("i", 4), ("i", 5), ("j", 1)):
            feed(record(*each))
        await asyncio.sleep(0)
        found = await feed.after(Position(*known))
        assert found is not None
        return found.instance, found.iteration

    assert with_feed(body) == next_one


def test_nobody_waits_for_a_leader_that_leaves() -> None:
    async def body(feed: IterationFeed) -> IterationRecord | None:
        waiting = asyncio.ensure_future(feed.after(Position("i", 1)))
        await asyncio.sleep(0)
        feed.close()
        return await waiting

    assert with_feed(body) is None


def test_without_a_position_nothing_is_waited_for() -> None:
    async def body(feed: IterationFeed) -> IterationRecord | None:
        return await feed.after(None)

    assert with_feed(body) is None


def test_each_iteration_is_reported_once() -> None:
    reported: list[tuple[str, int]] = []
    take = Unrepeated(lambda each: reported.append((each.instance, each.iteration)))
    take.skip_to(Position("i", 1))
    for instance, iteration in [("i", 1), ("i", 2), ("i", 2), ("i", 1), ("j", 1), ("i", 2), ("i", 3), ("j", 1)]:
        take(record(instance, iteration))
    assert reported == [("i", 2), ("j", 1), ("i", 3)]
    assert take.position == Position("i", 3)
