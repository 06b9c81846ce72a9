"""The bytes of a job between two iterations: which are read, and which refused."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

import numpy as np
import pytest

from mindfl.errors import StorageError
from mindfl.server import ServerConfig
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.snapshot import JobOrigin, Snapshot, job_of, read
from mindfl.server.state import JobState

CONFIG = ServerConfig(fl_iteration_num=9, start_fl_job_threshold=3)
MODEL = {"b": np.ones(3, np.float32), "a": np.zeros(2, np.float32)}
LAYOUT = FeatureLayout({name: values.size for name, values in MODEL.items()})


def stored(
    position: int = 7, iteration: int = 5, models: Iterable[int] = (3, 4), constant: Set[str] = frozenset()
) -> bytes:
    state = JobState(CONFIG, "an instance", iteration, True, dict.fromkeys([*models, iteration - 1], MODEL))
    parts = Snapshot(JobOrigin(bytes(range(16)), CONFIG, "a model", constant), position, state).parts()
    return b"".join(bytes(part) for part in parts)


def test_it_comes_back() -> None:
    found = read(stored(), "here", LAYOUT)
    assert (found.position, found.state.iteration, sorted(found.state.models)) == (7, 5, [3, 4])


@pytest.mark.parametrize("position", [0, 2**63 - 1])
def test_any_position_of_a_journal_is_read(position: int) -> None:
    assert read(stored(position), "here", LAYOUT).position == position


@pytest.mark.parametrize("position", [-1, 2**63])
def test_what_no_journal_has_is_refused(position: int) -> None:
    with pytest.raises(StorageError, match=rf"iteration 5 at position {position}"):
        read(stored(position), "here", LAYOUT)


def test_without_the_model_of_the_iteration_before_it_is_refused() -> None:
    class Unfinished(dict[int, Any]):
        """Models that lack the latest where they are written, but not where their lengths are asked for."""

        def __missing__(self, number: int) -> Any:
            return MODEL

    state = JobState(CONFIG, "an instance", 5, True, Unfinished({3: MODEL}))
    parts = Snapshot(JobOrigin(bytes(16), CONFIG, "a model"), 7, state).parts()
    with pytest.raises(StorageError, match=r"iteration 5 at position 7 with models \[3\]"):
        read(b"".join(bytes(part) for part in parts), "here", LAYOUT)


def test_the_job_is_known_without_reading_the_rest() -> None:
    assert job_of(stored()) == bytes(range(16))
    for damaged in (b"", stored()[:40], b"x" * 100):
        assert job_of(damaged) == b""


def test_the_same_job_has_the_same_bytes() -> None:
    assert stored(constant={"a": 0, "b": 0}.keys()) == stored(constant={"b": 0, "a": 0}.keys())
