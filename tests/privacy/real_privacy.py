"""Compressed downloads and uploads of the real MindSpore Federated 0.1.0 server: python tests/privacy/real_privacy.py

Records them to tests/golden/privacy/. Needs Python 3.7 to 3.9, redis-server and, the first time, a package index; see
docs/protocol.md.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mindfl.files import write_atomic
from mindfl.protocol import (
    CompressFeatureMap,
    CompressType,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    Weights,
    decode,
    encode,
)
from mindfl.real import FederatedConfig, FederatedServer

GOLDEN = Path(__file__).parents[1] / "golden" / "privacy"
LIMIT_S = 30.0
POLL_S = 0.02
SENT_AT = "1700000000000"
RATE = 0.4
STEP = 0.1
#: data sizes of the iterations of an upload scenario
DATA_SIZES = (1, 3, 64, 65535)
LENGTHS = {"c": 300, "a": 1000, "b": 7}

Json = dict[str, Any]


def edge_cases() -> dict[str, np.ndarray]:
    """Return weights whose rounding is delicate."""
    random = np.random.default_rng(1)
    ties = np.concatenate([[0, 255], np.arange(255) + 0.5])
    weights = {
        "constant": np.full(5, 0.25),
        "denormal": random.random(50) * 1e-42,
        "large": np.array([-1.6e38, -1e38, 0, 1e38, 1.6e38]),
        "narrow": 1 + random.random(300) * 1e-6,
        "negative ties": ties - 200,
        "normal": random.normal(0, 0.05, 1000),
        "one": np.array([3.0]),
        "ties": ties,
        "tiny": random.random(300) * 1e-9,
        "uniform": random.random(1000),
        "wide": random.normal(0, 1, 500) * 10.0 ** random.integers(-6, 6, 500),
    }
    return {name: values.astype(np.float32) for name, values in weights.items()}


def first_model() -> dict[str, np.ndarray]:
    """Return the model that uploads begin with."""
    random = np.random.default_rng(3)
    return {name: random.normal(0, 0.05, length).astype(np.float32) for name, length in LENGTHS.items()}


@dataclass(frozen=True)
class Device:
    """The only client of a job."""

    url: str

    def start(self, data_size: int) -> ResponseFLJob:
        """Take part in the current iteration."""
        request = RequestFLJob(
            fl_name="any",
            fl_id="a",
            data_size=data_size,
            timestamp=SENT_AT,
            download_compress_types=(CompressType.NO_COMPRESS, CompressType.QUANT),
        )
        return self._ask("startFLJob", request, ResponseFLJob)

    def update(self, iteration: int, **fields: Any) -> ResponseUpdateModel:
        """Upload ``fields``."""
        request = RequestUpdateModel(fl_name="any", fl_id="a", iteration=iteration, timestamp=SENT_AT, upload_loss=0.5)
        return self._ask("updateModel", replace(request, **fields), ResponseUpdateModel)

    def model(self, iteration: int) -> Weights:
        """Wait for the model of ``iteration``."""
        request = RequestGetModel(fl_name="any", iteration=iteration, timestamp=SENT_AT)
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            response = self._ask("getModel", request, ResponseGetModel)
            if response.retcode == 200 and response.feature_map:
                return {name: np.array(values) for name, values in response.feature_map.items()}
            time.sleep(POLL_S)
        raise RuntimeError(f"no model of iteration {iteration}")

    def _ask(self, endpoint: str, request: Any, response: Any) -> Any:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.url}/{endpoint}", encode(request), timeout=LIMIT_S) as reply:
                body = reply.read()
            if b"safemode" not in body[:80]:
                return decode(body, response)
            time.sleep(POLL_S)
        raise RuntimeError(f"{endpoint}: the server stays in safemode")


@contextmanager
def real_device(model: Mapping[str, np.ndarray], **settings: object) -> Iterator[Device]:
    """Run the real server for one client, with ``settings`` of its YAML file (two underscores for a dot)."""
    config = FederatedConfig(
        fl_name="privacy",
        iterations=50,
        clients=1,
        epochs=1,
        batch_size=32,
        learning_rate=0.01,
        manage_address=None,
        settings={key.replace("__", "."): value for key, value in settings.items()},
    )
    with tempfile.TemporaryDirectory() as folder, FederatedServer(Path(folder), config, model) as server:
        yield Device(f"http://{server.addresses[0]}")


def real_download() -> Json:
    """Return the edge cases and what the server makes of them with QUANT."""
    model = edge_cases()
    with real_device(model, compression__download_compress_type="QUANT") as device:
        entries = device.start(1).compress_feature_map or ()
    return {
        entry.weight_fullname or "": {
            "values": text_of(model[entry.weight_fullname or ""]),
            "data": text_of(entry.compress_data),
            "min": entry.min_val,
            "max": entry.max_val,
        }
        for entry in entries
    }


def real_sparse(kept: Callable[[int], dict[str, int]]) -> list[Json]:
    """Return iterations with a DIFF_SPARSE_QUANT upload: what was sent, and the model that came of it.

    ``kept``: number of values to send for each weight, by iteration.
    """
    random = np.random.default_rng(5)
    rounds = []
    model: Weights = first_model()
    compression = {
        "compression__upload_compress_type": "DIFF_SPARSE_QUANT",
        "compression__upload_sparse_rate": RATE,
    }
    with real_device(model, **compression) as device:
        for iteration, data_size in enumerate(DATA_SIZES, 1):
            device.start(data_size)
            entries = []
            for name, count in kept(iteration).items():
                low, high = np.sort(random.normal(0, data_size, 2).astype(np.float32)).tolist()
                data = random.integers(-128, 128, count).astype(np.int8)
                entries.append(CompressFeatureMap(weight_fullname=name, compress_data=data, min_val=low, max_val=high))
            upload = {
                "feature_map": {},
                "upload_compress_type": CompressType.DIFF_SPARSE_QUANT,
                "upload_sparse_rate": float(np.float32(RATE)),
                "name_vec": tuple(LENGTHS),
                "compress_feature_map": tuple(entries),
            }
            refused = _refusals(device, iteration, upload, sparse_faults(tuple(entries))) if iteration == 1 else {}
            device.update(iteration, **upload)
            model = device.model(iteration)
            sent = [
                {"name": e.weight_fullname, "data": text_of(e.compress_data), "min": e.min_val, "max": e.max_val}
                for e in entries
            ]
            rounds.append({"data_size": data_size, "entries": sent, "model": _texts(model), "refused": refused})
    return rounds


def real_signs() -> list[Json]:
    """Return iterations with a SIGNDS upload: what was sent, and the model that came of it."""
    random = np.random.default_rng(7)
    rounds = []
    model: Weights = first_model()
    names = {name: np.zeros(0, np.float32) for name in LENGTHS}
    with real_device(model, encrypt__encrypt_type="SIGNDS", encrypt__signds__sign_global_lr=STEP) as device:
        for iteration, data_size in enumerate(DATA_SIZES, 1):
            device.start(data_size)
            indices = np.sort(random.choice(sum(LENGTHS.values()), 40, replace=False)).astype(np.int32)
            upload = {"feature_map": names, "sign": -1 if iteration % 2 else 1, "index_array": indices}
            refused = _refusals(device, iteration, upload, sign_faults()) if iteration == 1 else {}
            device.update(iteration, **upload)
            model = device.model(iteration)
            sent = {"sign": upload["sign"], "indices": indices.tolist()}
            rounds.append({"data_size": data_size, **sent, "model": _texts(model), "refused": refused})
    return rounds


def sparse_faults(entries: tuple[CompressFeatureMap, ...]) -> dict[str, Json]:
    """Return fields that the server refuses in a DIFF_SPARSE_QUANT upload, by name of the fault."""
    first, *others = entries
    return {
        "RATE": {"upload_sparse_rate": float(np.nextafter(np.float32(RATE), np.float32(1)))},
        "NO_NAMES": {"name_vec": ()},
        "NO_ENTRIES": {"compress_feature_map": ()},
        "NOT_FINITE": {"compress_feature_map": (replace(first, min_val=float("nan")), *others)},
        "BOUNDS": {"compress_feature_map": (replace(first, min_val=5.0, max_val=1.0), *others)},
        "UNKNOWN_NAME": {"name_vec": ("zz", *list(LENGTHS)[1:])},
        "REPEATED_NAME": {"name_vec": (*LENGTHS, "a")},
        "WRONG_LENGTH": {"compress_feature_map": (replace(first, compress_data=np.zeros(10, np.int8)), *others)},
        "WRONG_LENGTH none": {"compress_feature_map": tuple(others)},
    }


def sign_faults() -> dict[str, Json]:
    """Return fields that the server refuses in a SIGNDS upload, by name of the fault."""
    return {
        "INDEX_COUNT": {"index_array": np.arange(101, dtype=np.int32)},
        "INDEX_COUNT none": {"index_array": np.zeros(0, np.int32)},
        "NO_NAMES": {"feature_map": {}},
        "UNKNOWN_NAME": {"feature_map": {"zz": np.zeros(0, np.float32)}},
    }


def _refusals(device: Device, iteration: int, upload: Json, faults: Mapping[str, Json]) -> Json:
    replies = {name: device.update(iteration, **upload | fields) for name, fields in faults.items()}
    return {
        name: [int(reply.retcode), re.sub(r"\d{13}", "<time>", reply.reason or "")] for name, reply in replies.items()
    }


def text_of(values: Any) -> str:
    """Return the bytes of an array as text."""
    return base64.b64encode(values.tobytes()).decode()


def array_of(text: str, dtype: Any = np.float32) -> np.ndarray:
    """Return what :func:`text_of` wrote."""
    return np.frombuffer(base64.b64decode(text), dtype)


def _texts(model: Weights) -> dict[str, str]:
    return {name: text_of(values) for name, values in model.items()}


def golden(name: str) -> Any:
    """Return the recording ``name``."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def literal_mask(size: int, rate: float, seed: int) -> list[int]:
    """Return the sparse mask as the protocol's description has it, step by step."""

    def wrap(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    def remainder(value: int) -> int:
        rest = abs(value) % 2147483647
        return rest if value >= 0 else -rest

    keep = int(np.float32(size) * np.float32(rate))
    mask = [1] * keep + [0] * (size - keep)
    state = remainder(wrap(wrap(seed + 2147483647) * 48271))
    for i in range(size):
        u = state / 4294967294.0 + 0.5
        state = remainder(wrap(state * 48271))
        j = int(u * (size - i)) + i
        mask[i], mask[j] = mask[j], mask[i]
    return mask


def literal_counts(iteration: int) -> dict[str, int]:
    """Return how many values of each weight the literal mask keeps."""
    mask = np.array(literal_mask(sum(LENGTHS.values()), RATE, iteration))
    parts = np.split(mask, np.cumsum(list(LENGTHS.values()))[:-1])
    return {name: int(part.sum()) for name, part in zip(LENGTHS, parts, strict=True)}


def main() -> None:
    """Record everything."""
    recordings = {"quant": real_download(), "sparse": real_sparse(literal_counts), "signs": real_signs()}
    for name, recording in recordings.items():
        write_atomic(GOLDEN / f"{name}.json", json.dumps(recording, indent=1) + "\n")
        print(f"{name}: {(GOLDEN / f'{name}.json').stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
