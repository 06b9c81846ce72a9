"""How long messages of LeNet take to encode and decode: the best of some repetitions, in microseconds, on one core."""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable
from functools import partial

from lenet_weights import flat_weights

from mindfl.protocol import (
    AnyRequest,
    AnyResponse,
    CipherPublicParams,
    DPParams,
    DSParams,
    FLPlan,
    PWParams,
    RequestFLJob,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    decode,
    encode,
)

LOOPS = 100


def messages() -> list[AnyRequest | AnyResponse]:
    """Return one message of each kind that a plain round sends, filled as the reference fills it."""
    weights = flat_weights()
    now, device = "1795333997860", "a88d0475-0a79-4374-a0c3-3eedb659efda"
    cipher = CipherPublicParams(
        encrypt_type="NOT_ENCRYPT",
        pw_params=PWParams(p=bytes(32), prime=bytes(33)),
        dp_params=DPParams(),
        ds_params=DSParams(),
    )
    plan = FLPlan(server_mode="FEDERATED_LEARNING", fl_name="Lenet", iterations=1, epochs=1, lr=0.01, cipher=cipher)
    return [
        RequestFLJob(fl_name="LenetClient", fl_id=device, data_size=32, timestamp=now),
        ResponseFLJob(retcode=200, reason="success", next_req_time=now, fl_plan_config=plan, feature_map=weights),
        RequestUpdateModel(fl_name="LenetClient", fl_id=device, iteration=1, feature_map=weights, timestamp=now),
        ResponseUpdateModel(retcode=200, reason="success not ready", next_req_time=now),
        ResponseGetModel(retcode=200, reason="Get model for iteration 1", feature_map=weights, timestamp=now),
    ]


def best(function: Callable[[], object], repetitions: int) -> float:
    """Return the shortest mean time of ``LOOPS`` calls, in microseconds."""
    return min(timeit.repeat(function, number=LOOPS, repeat=repetitions)) / LOOPS * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20)
    repetitions = parser.parse_args().repetitions
    print(f"{'message':20}{'bytes':>10}{'encode us':>12}{'decode us':>12}")
    for message in messages():
        kind, body = type(message), encode(message)
        encoding = best(partial(encode, message), repetitions)
        decoding = best(partial(decode, body, kind), repetitions)
        print(f"{kind.__name__:20}{len(body):>10}{encoding:>12.1f}{decoding:>12.1f}")


if __name__ == "__main__":
    main()
