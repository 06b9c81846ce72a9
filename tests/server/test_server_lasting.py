"""Warnings about what lasts: at once, seldom again, and once at the end."""

from __future__ import annotations

import logging

import pytest

from mindfl.server.reports import LastingFault

LOGGER = logging.getLogger("mindfl.server.test")


def test_a_fault_is_told_at_once_then_at_growing_intervals_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    minutes = 0.0
    told: list[float] = []
    fault = LastingFault(LOGGER, now=lambda: minutes * 60)
    fault.over("the disk takes it")
    for _ in range(300):
        before = len(caplog.records)
        fault.occurred("the disk is full")
        if len(caplog.records) > before:
            told.append(minutes)
        minutes += 1
    assert told == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    assert caplog.messages[0] == "the disk is full" and caplog.messages[1] == "the disk is full (2 times so far)"
    caplog.clear()
    fault.over("the disk takes it")
    fault.over("the disk takes it")
    fault.occurred("the disk is full")
    assert caplog.messages == ["the disk takes it again, after 300 failures", "the disk is full"]
