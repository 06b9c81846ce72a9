"""Record golden/nodes.json: what the converter makes of MINDIR files that MindSpore 2.0.0 exports.

1. In an interpreter with mindspore==2.0.0 (Python 3.7 to 3.9):  python record_golden.py export FOLDER
2. In this project's interpreter:                                  python record_golden.py describe FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from golden_network import CASES, export_case, reference_lenet

GOLDEN = Path(__file__).parent / "golden" / "nodes.json"


def export(folder: Path) -> None:
    import mindspore

    mindspore.set_context(mode=mindspore.GRAPH_MODE, device_target="CPU")
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        print(mindspore.__version__, export_case(mindspore, reference_lenet(mindspore), case, folder))


def describe(folder: Path) -> None:
    from node_hashes import node_hashes

    from mindfl.convert import convert_model

    golden = {}
    for case in CASES:
        result = convert_model(folder / f"{case}.mindir", folder / case, train=case != "inference")
        golden[case] = node_hashes(result.model)
        print(case, len(golden[case]), "nodes, rewritten:", result.rewritten)
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    {"export": export, "describe": describe}[sys.argv[1]](Path(sys.argv[2]))
