"""Scenarios of requests that are wrong: in their bytes, in their values, in their HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import real_wire
from real_exchange import Step
from real_requests import (
    MODEL,
    NAME,
    SENT_AT,
    SIZES,
    Scenario,
    feature_map,
    get,
    get_body,
    start,
    start_body,
    update,
    update_body,
)
from real_stack import Job

MEBIBYTE = 2**20


def start_refusals() -> Scenario:
    good = start_body("bytes")
    wrong = {
        "fl_name": "i",
        "data_size": "S",
        "timestamp": "[f]",
    }
    as_other = {
        f"{name} as {kind}": real_wire.encode(
            "RequestFLJob",
            {"fl_name": NAME, "fl_id": "t", "data_size": 16, "timestamp": SENT_AT}
            | {name: {"i": 7, "S": "text", "[f]": [1.0, 2.0]}[kind]},
            **{name: kind},
        )
        for name, kind in wrong.items()
    }
    buffers: dict[str, bytes] = {
        "one byte": b"\1",
        "four zeros": bytes(4),
        "64 zeros": bytes(64),
        "64 ones": b"\1" * 64,
        "64 x 255": b"\xff" * 64,
        "text": b"GET / HTTP/1.1 and more of a text",
        "truncated by 1": good[:-1],
        "truncated by 4": good[:-4],
        "truncated by 8": good[:-8],
        "half": good[: len(good) // 2],
        "without its root offset": good[4:],
        "another table": get_body(1),
    } | as_other
    return Scenario(
        Job(fl_name="start refusals", model=MODEL, start_fl_job_threshold=40),
        (
            *(Step(name=f"buffer: {name}", path="startFLJob", body=data) for name, data in buffers.items()),
            *(start("m", f"no {name}", **{name: None}) for name in ("fl_name", "fl_id", "timestamp")),
            start("n", "nothing but an id", fl_name=None, timestamp=None, data_size=0),
            start("z", "data_size 0", data_size=0),
            start("z", "data_size -1", data_size=-1),
            start("z", "data_size 65536", data_size=65536),
            start("z", "data_size 65535", data_size=65535),
            start("", "empty id"),
            start("e", "empty name", fl_name=""),
            start("s", "empty timestamp", timestamp=""),
            start("s2", "timestamp is no number", timestamp="soon"),
            start("Ünïcode 設備", "id in unicode"),
            start(b"\xff\xfe", "id is not UTF-8"),
            start("with spaces\nand lines", "id with a line break"),
            start("long" * 25_000, "id of 100 kB"),
            start("i", "iteration 99", iteration=99),
            start("c", "unknown compression", download_compress_types=[0, 77]),
            start("q", "compression not offered", download_compress_types=[0, 2]),
            start("w", "eval_data_size negative", eval_data_size=-5),
            Step(name="trailing bytes", path="startFLJob", body=start_body("trailing") + b"more" * 10),
            Step(name="trailing 64 MiB", path="startFLJob", body=lambda: start_body("huge") + bytes(64 * MEBIBYTE)),
        ),
    )


def update_refusals() -> Scenario:
    nan, infinite = float("nan"), float("inf")
    size = SIZES["a"]
    good = feature_map(1.0, size)
    changed: dict[str, dict[str, Any]] = {
        "no fl_id": {"fl_id": None},
        "no timestamp": {"timestamp": None},
        "no feature_map": {"feature_map": None},
        "empty feature_map": {"feature_map": []},
        "unknown name": {"feature_map": feature_map(1.0, size, fc_bias=[1.0])},
        "nothing but an unknown name": {"feature_map": [{"weight_fullname": "fc.bias", "data": [1.0]}]},
        "too short": {"feature_map": feature_map(1.0, size, fc_weight=[1.0] * 5)},
        "too long": {"feature_map": feature_map(1.0, size, fc_weight=[1.0] * 7)},
        "one empty": {"feature_map": feature_map(1.0, size, fc_weight=[])},
        "no data": {"feature_map": [{"weight_fullname": "fc.weight"}]},
        "no weight name": {"feature_map": [{"data": [1.0] * 6}]},
        "NaN weight": {"feature_map": feature_map(1.0, size, fc_weight=[nan] + [1.0] * 5)},
        "infinite weight": {"feature_map": feature_map(1.0, size, fc_weight=[1.0] * 5 + [infinite])},
        "minus infinite weight": {"feature_map": feature_map(1.0, size, conv_weight=[-infinite, 1.0])},
        "NaN loss": {"upload_loss": nan},
        "infinite loss": {"upload_loss": infinite},
        "NaN accuracy": {"upload_accuracy": nan},
        "infinite accuracy": {"upload_accuracy": -infinite},
        "upload compressed, not offered": {
            "upload_compress_type": 1,
            "upload_sparse_rate": 0.4,
            "name_vec": ["fc.weight"],
        },
        "unknown upload compression": {"upload_compress_type": 77},
    }
    whole = update_body("a", 1)
    return Scenario(
        Job(fl_name="update refusals", model=MODEL, start_fl_job_threshold=20),
        (
            start("a"),
            Step(name="buffer: one byte", path="updateModel", body=b"\1"),
            Step(name="buffer: 64 zeros", path="updateModel", body=bytes(64)),
            Step(name="buffer: truncated by 4", path="updateModel", body=whole[:-4]),
            Step(name="buffer: half", path="updateModel", body=whole[: len(whole) // 2]),
            Step(name="buffer: another table", path="updateModel", body=start_body("a")),
            update("nobody", 1, "unknown client and NaN weight", feature_map=changed["NaN weight"]["feature_map"]),
            update("a", 2, "wrong iteration and NaN weight", feature_map=changed["NaN weight"]["feature_map"]),
            *(update("a", 1, name, **values) for name, values in changed.items()),
            Step(name="weights of 64 MiB", path="updateModel", body=_huge_update),
            update("a", 1, "good after all"),
            start("nameless"),
            update("nameless", 1, "no fl_name", fl_name=None),
            start("signed"),
            update("signed", 1, "signs, not offered", sign=1, index_array=[0, 1]),
            start("reversed"),
            update("reversed", 1, "weights in another order", feature_map=good[::-1]),
            start("twice"),
            update("twice", 1, "a name twice", feature_map=[*good, good[0]]),
            start("part"),
            update("part", 1, "one weight only", feature_map=good[:1]),
            start("zero"),
            update("zero", 1, "zeros", value=0.0),
            start("tiny"),
            update("tiny", 1, "subnormal values", value=1e-42),
            start("vast"),
            update("vast", 1, "largest values", value=1e37),
            start("extra"),
            update(
                "extra",
                1,
                "evaluation items",
                unsupervised_eval_items={"eval_items": [{"eval_name": "Result", "eval_data": [0.5] * 62}]},
            ),
            get(1, "not ready"),
            Step(name="getModel buffer: one byte", path="getModel", body=b"\1"),
            Step(name="getModel buffer: 64 zeros", path="getModel", body=bytes(64)),
            Step(name="getModel buffer: truncated", path="getModel", body=get_body(1)[:-5]),
            Step(name="getModel without fields", path="getModel", body=real_wire.encode("RequestGetModel", {})),
            Step(
                name="getModel unknown compression",
                path="getModel",
                body=real_wire.encode("RequestGetModel", {"iteration": 0, "download_compress_types": [2, 77]}),
            ),
        ),
    )


def _huge_update() -> bytes:
    weights = [{"weight_fullname": "fc.weight", "data": np.ones(16 * MEBIBYTE, np.float32)}]
    return update_body("a", 1, feature_map=weights)


def transport() -> Scenario:
    body = get_body(0)

    def step(name: str, path: str = "getModel", **how: Any) -> Step:
        return Step(**{"name": name, "path": path, "body": body} | how)

    host = ("Host: mindfl",)
    plain = b"POST /getModel HTTP/1.1\r\nHost: mindfl\r\n"
    return Scenario(
        Job(fl_name="transport", model=MODEL),
        (
            step("post"),
            step("same connection", same=True),
            step("same connection again", same=True),
            *(step(f"{method} with a body", method=method) for method in ("PUT", "GET", "DELETE", "PATCH", "OPTIONS")),
            *(step(f"{method} without a body", method=method, body=b"", framing="none") for method in ("GET", "HEAD")),
            step("unknown method", method="BREW"),
            step("empty body", body=b""),
            step("empty body, no length", body=b"", framing="none"),
            step("after an empty body", same=True),
            step("chunked", framing="chunked"),
            step("after chunked", same=True),
            step("chunked and empty", framing="chunked", body=b""),
            step("expect", headers=(*host, "Expect: 100-continue")),
            step("after expect", same=True),
            step("HTTP/1.0", version="1.0", headers=()),
            step("HTTP/1.0 keep-alive", version="1.0", headers=("Connection: keep-alive",)),
            step("connection close", headers=(*host, "Connection: close")),
            step("no host", headers=()),
            *(
                step(f"content type {kind}", headers=(*host, f"Content-Type: {kind}"))
                for kind in ("application/octet-stream", "application/json", "applicatiom/json;charset=utf-8")
            ),
            step(
                "reference's headers",
                headers=(*host, "Message-Type: getModel", "Message-Id: 7", "Accept-Encoding: gzip"),
            ),
            step("query", "getModel?a=b&c"),
            step("percent", "get%4Dodel"),
            step("other case", "getmodel"),
            step("trailing slash", "getModel/"),
            step("double slash", "/getModel"),
            step("root", ""),
            step("unknown", "nonsense"),
            step("after unknown", same=True),
            step("unknown, empty", "nonsense", body=b""),
            step("unknown, GET", "nonsense", body=b"", method="GET", framing="none"),
            step("secure aggregation is off", "exchangeKeys"),
            step("hybrid pullWeight", "pullWeight"),
            step("hybrid pushWeight", "pushWeight"),
            step("hybrid pushMetrics", "pushMetrics"),
            step("long path", "x" * 5000),
            step("header of 20 kB", headers=(*host, "X-Long: " + "x" * 20_000)),
            step("length is no number", verbatim=plain + b"Content-Length: many\r\n\r\n"),
            step("length is negative", verbatim=plain + b"Content-Length: -1\r\n\r\n"),
            step(
                "chunk size is no number", verbatim=plain + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"
            ),
            step("no HTTP at all", verbatim=b"hello there\r\n\r\n"),
            step("no version", verbatim=b"GET /getModel\r\n\r\n"),
            step("alive after all"),
        ),
    )
