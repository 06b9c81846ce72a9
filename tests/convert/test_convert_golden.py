"""The converted file equals, node for node, what the converter makes of a MINDIR that MindSpore 2.0.0 exported."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from golden_network import CASES, export_case
from node_hashes import node_hashes

from mindfl.convert import convert_model
from mindfl.models import LeNet5, import_mindspore

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("nodes.json").read_text())


@pytest.mark.usefixtures("in_graph_mode")
@pytest.mark.parametrize("case", CASES)
def test_nodes_equal_those_of_mindspore_2_0_0(case: str, tmp_path: Path, converter_library: Path) -> None:
    mindir = export_case(import_mindspore(), LeNet5(), case, tmp_path)
    result = convert_model(mindir, tmp_path / case, train=case != "inference")
    assert result.rewritten
    found, expected = Counter(node_hashes(result.model)), Counter(GOLDEN[case])
    assert found - expected == Counter()
    assert expected - found == Counter()


def test_golden_tells_cases_apart() -> None:
    assert len({tuple(nodes) for nodes in GOLDEN.values()}) == len(CASES)
