"""Record an iteration of PW_ENCRYPT on the real server: python tests/real_server/record_secagg.py

Kept is what the server was sent, bytes as hexadecimal digits, and the model that it made of it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_secagg import Fleet, job

from mindfl.files import write_atomic
from mindfl.protocol import RequestExchangeKeys, RequestUpdateModel, SendReconstructSecret
from mindfl.real import FederatedServer
from mindfl.server.aggregate import FeatureLayout

KEY_FIELDS = ("c_pk", "s_pk", "ind_iv", "pw_iv", "pw_salt")
FILE = Path(__file__).parents[1] / "golden" / "secagg" / "pairwise.json"
LAYOUT = FeatureLayout({"conv.weight": 5, "fc.weight": 11})
SIZES = (16, 32, 48, 64)
LOST = (2,)
THRESHOLD = 2


def record(folder: Path) -> dict[str, Any]:
    """Play one iteration with 4 devices, one of which ends before it uploads."""
    config = job("PW_ENCRYPT", clients=len(SIZES), iterations=1, threshold=THRESHOLD, lost=len(LOST))
    with FederatedServer(folder, config, LAYOUT.split(np.zeros(LAYOUT.size, np.float32))) as server:
        fleet = Fleet(server.url, LAYOUT)
        model, _ = fleet.iteration(1, SIZES, LOST)
        prime = fleet.params.prime
    assert prime is not None
    keys = [request for request in fleet.sent if isinstance(request, RequestExchangeKeys)]
    uploads = [request for request in fleet.sent if isinstance(request, RequestUpdateModel)]
    reveals = [request for request in fleet.sent if isinstance(request, SendReconstructSecret)]
    return {
        "threshold": THRESHOLD,
        "prime": prime.hex(),
        "data_sizes": {request.fl_id: size for request, size in zip(keys, SIZES, strict=True)},
        "keys": {
            request.fl_id: {
                field: (getattr(request, field) or b"").hex()
                for field in ("c_pk", "s_pk", "ind_iv", "pw_iv", "pw_salt")
            }
            for request in keys
        },
        "uploads": {request.fl_id: _hex(LAYOUT.flatten(request.feature_map or {})) for request in uploads},
        "reveals": {
            request.fl_id: [
                {"owner": share.fl_id, "share": (share.share or b"").hex(), "place": share.index}
                for share in request.reconstruct_secret_shares or ()
            ]
            for request in reveals
        },
        "model": _hex(LAYOUT.flatten(model)),
    }


def _hex(values: NDArray[np.float32]) -> str:
    return values.astype("<f4").tobytes().hex()


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        write_atomic(FILE, json.dumps(record(Path(place)), indent=1) + "\n")
