"""Memory that values share: no two that are needed at once overlap, and no result depends on what it held before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lite_bounds import checked_buffers, fill_shared, sharing_watched
from lite_handmade import Window, handmade
from lite_sequences import recurrent
from lite_writer import ModelText

from mindfl.errors import ModelFormatError
from mindfl.lite import Executable, LiteModel, Session, arena
from mindfl.lite.arena import placed

_BLOCKS = st.lists(st.tuples(st.integers(1, 40), st.integers(-1, 30), st.integers(0, 12)), max_size=60)


@given(_BLOCKS)
def test_no_two_blocks_overlap_that_are_needed_at_once(blocks: list[tuple[int, int, int]]) -> None:
    sizes, first, length = (np.array([block[part] for block in blocks], np.int64) for part in range(3))
    last = first + length
    places = placed(sizes, first, last)
    assert np.array_equal(places, placed(sizes, first, last))
    held: dict[tuple[int, int], int] = {}
    for block, (place, size) in enumerate(zip(places.tolist(), sizes.tolist(), strict=True)):
        for row in range(first[block], last[block] + 1):
            for spot in range(place, place + size):
                assert held.setdefault((row, spot), block) == block
    peak = max((sizes[(first <= row) & (row <= last)].sum() for row in range(-1, 50)), default=0)
    end = int((places + sizes).max(initial=0))
    assert peak <= end <= sizes.sum()
    assert end <= 2 * peak


def test_a_chain_needs_the_memory_of_two_values() -> None:
    count = 1000
    places = placed(np.full(count, 10), np.arange(count), np.arange(count) + 1)
    assert set(places.tolist()) == {0, 10}


@pytest.mark.parametrize("many", [1, 8])
def test_only_the_largest_of_very_many_blocks_share(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LiteModel.from_bytes(handmade(Window((3, 3))).write())
    whole = Executable(model).programs(folded=False).arena_size
    monkeypatch.setattr(arena, "_MOST", many)
    assert checked_buffers(model)[0].programs(folded=False).arena_size > whole


def test_more_memory_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "ARENA_LIMIT", 1000)
    with pytest.raises(ModelFormatError, match="needs more than 4 GiB of memory"):
        Executable(LiteModel.from_bytes(handmade(Window((3, 3))).write())).programs(folded=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: handmade(Window((3, 3))),
        lambda: handmade(Window((4, 2), (2, 2), mode=1), batch=17),
        lambda: handmade(Window((2, 2)), Window((3, 2), (2, 1), groups=2), filters=4, second_filters=6, batch=5),
        lambda: recurrent(batch=17),
    ],
)
def test_no_result_depends_on_what_memory_held(make: Callable[[], ModelText]) -> None:
    """Shared memory holds NaN before each step; the bits are those of values that share nothing."""
    model = LiteModel.from_bytes(make().write())
    with sharing_watched(apart=True):
        session = Session(model)
        session.executable.programs(folded=True)
    wanted = _steps(session)
    assert _steps(Session(model), fill_shared) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    ["lenet", "resnet18_gn:width=4", "mobilenet_v2:width=0.1", "albert:hidden=32,layers=2", "char_lstm:hidden=16"],
)
def test_no_result_of_a_shipped_network_depends_on_what_memory_held(
    network: str, shipped: Callable[[str], Path]
) -> None:
    model = LiteModel.load(shipped(network))
    with sharing_watched(apart=True):
        session = Session(model)
        apart = session.executable.programs(folded=False).arena_size
    shared = Session(model)
    assert _steps(shared, fill_shared) == _steps(session)
    assert shared.executable.programs(folded=False).arena_size < apart


def _steps(session: Session, before: Callable[[Session, bool], None] = lambda session, folded: None) -> list[bytes]:
    """Return losses, predictions and weights of three steps."""
    graph, draw = session.executable.graph, np.random.default_rng(3)
    samples = tuple(
        draw.random((graph.batch, *tensor.dims[1:]), np.float32)
        if tensor.dtype == np.float32
        else draw.integers(0, graph.vocabularies.get(tensor.index, 2), (graph.batch, *tensor.dims[1:]))
        for tensor in graph.samples
    )
    labels = draw.integers(0, session.classes, graph.batch).astype(np.int32)
    found = []
    for _ in range(3):
        before(session, False)
        found.append(session.train(samples, labels).tobytes())
        before(session, False)
        found.append(session.predict(samples).tobytes())
    return found + [weight.tobytes() for weight in session.get_weights().values()]
