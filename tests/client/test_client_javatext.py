"""Java's texts of numbers and times."""

import math
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.client.log import java_float, java_log_time


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (100, "100.0"),
        (0.125, "0.125"),
        (1 / 3, "0.33333334"),
        (1e-8, "1.0E-8"),
        (4.1258564, "4.1258564"),
        (0.001, "0.001"),
        (0.0009999, "9.999E-4"),
        (9999999, "9999999.0"),
        (1e7, "1.0E7"),
        (16777216, "1.6777216E7"),
        (3.4028235e38, "3.4028235E38"),
        (1.17549435e-38, "1.1754944E-38"),
        (1.4e-45, "1.4E-45"),
        (-2.5e-10, "-2.5E-10"),
        (1e39, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_java_float(value, text):
    assert java_float(value) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_java_float_reads_back_and_has_javas_form(value):
    text = java_float(value)

    assert np.float32(text) == np.float32(value)
    mantissa, _, exponent = text.partition("E")
    assert "." in mantissa and not mantissa.endswith(".")
    assert bool(exponent) == (value != 0 and not 1e-3 <= abs(np.float32(value)) < 1e7)
    if exponent:
        assert 1 <= abs(float(mantissa)) < 10


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 22, 7, 44, 19, 999), "Nov 22, 2026 7:44:19 AM"),
        (datetime(2026, 1, 2, 0, 5, 9), "Jan 2, 2026 12:05:09 AM"),
        (datetime(2026, 5, 31, 12, 0, 0), "May 31, 2026 12:00:00 PM"),
        (datetime(2026, 12, 9, 23, 59, 59), "Dec 9, 2026 11:59:59 PM"),
    ],
)
def test_java_log_time(moment, text):
    assert java_log_time(moment) == text
