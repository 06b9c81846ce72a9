"""The recordings in tests/golden/privacy are what the real server says now."""

import pytest
from real_privacy import golden, literal_counts, real_download, real_signs, real_sparse

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter")]


@pytest.mark.parametrize(
    ("name", "ask"),
    [("quant", real_download), ("sparse", lambda: real_sparse(literal_counts)), ("signs", real_signs)],
)
def test_the_real_server_still_says_what_was_recorded(name, ask):
    assert ask() == golden(name)
