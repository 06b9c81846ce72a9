"""``mindfl server start --algorithm`` over sockets: killed in mid-iteration, and the same on the wire as FedAvg."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from faults_process import ServerProcess, write_job

from mindfl.algorithms.naming import REGISTERED, make_algorithm
from mindfl.algorithms.server_algorithm import served
from mindfl.errors import OptionError
from mindfl.protocol import (
    ENDPOINTS,
    RESPONSES,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    decode,
    encode,
)
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.snapshot import read

INITIAL = {"fc.weight": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "fc.bias": np.zeros(3, np.float32)}
SIZES = {"a": 3, "b": 5, "c": 11, "d": 2, "e": 7, "f": 1}
ITERATIONS = 4
CONFIG = ServerConfig(fl_iteration_num=ITERATIONS, start_fl_job_threshold=len(SIZES))
#: those with a state of the server that devices need not know
STATEFUL = ("fedadam", "fedavgm", "fedadagrad", "fedyogi")
Handle = Callable[[Request], Any]


def messages(iteration: int) -> Iterator[Request]:
    """Yield what all devices send in an iteration; some train some of the weights only."""
    for fl_id, size in SIZES.items():
        yield RequestFLJob(fl_name="faults é", fl_id=fl_id, data_size=size, timestamp="0")
    for fl_id, size in SIZES.items():
        rng = np.random.default_rng((ord(fl_id), iteration))
        trained = {name: rng.normal(0, size, first.size).astype(np.float32) for name, first in INITIAL.items()}
        yield RequestUpdateModel(
            fl_name="faults é", fl_id=fl_id, iteration=iteration, feature_map=trained, timestamp="0"
        )


def undisturbed(algorithm: str) -> Coordinator:
    """Return the job in this process, without sockets, at its end."""
    job = Coordinator(CONFIG, INITIAL, algorithm=make_algorithm(algorithm))
    for iteration in range(1, ITERATIONS + 1):
        for message in messages(iteration):
            assert job.handle(message, 0).retcode == 200
    return job


@contextmanager
def posting(url: str) -> Iterator[Handle]:
    """Yield a way to send messages over one connection."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)

    def post(message: Request) -> Any:
        connection.request("POST", f"/{ENDPOINTS[type(message)]}", encode(message))
        return decode(connection.getresponse().read(), RESPONSES[type(message)])

    yield post
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", STATEFUL)
def test_killed_in_mid_iteration_the_state_is_that_of_an_undisturbed_server(algorithm: str, tmp_path: Path) -> None:
    write_job(tmp_path, clients=len(SIZES), iterations=ITERATIONS, weights=INITIAL)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rest = [message for iteration in range(1, ITERATIONS + 1) for message in messages(iteration)]
    uploads = [place for place, message in enumerate(rest) if isinstance(message, RequestUpdateModel)]
    # Not the last upload of an iteration: after some of them.
    killed_after = random.Random(seed).choice([place for place in uploads if (place + 1) % (2 * len(SIZES))])
    for begin, end, number in ((0, killed_after + 1, signal.SIGKILL), (killed_after + 1, len(rest), signal.SIGTERM)):
        with ServerProcess(tmp_path, "--algorithm", algorithm) as server:
            with posting(server.url) as send:
                assert [send(message).retcode for message in rest[begin:end]] == [200] * (end - begin)
                last = send(RequestGetModel(fl_name="faults é", iteration=ITERATIONS)) if end == len(rest) else None
            server.end(number)

    expected = undisturbed(algorithm)
    (stored,) = tmp_path.glob("*_state/snapshot")
    state = read(stored.read_bytes(), "here", expected.job.layout).state
    assert state.iteration == ITERATIONS + 1
    assert all(expected.job.arrays[name].any() for name in expected.job.arrays)
    for found, other in ((state.arrays, expected.job.arrays), (last.feature_map, expected.model)):
        assert {n: values.tobytes() for n, values in found.items()} == {n: v.tobytes() for n, v in other.items()}


def answers(algorithm: str) -> Sequence[tuple[type[Request], bytes]]:
    """Return the bytes of all answers to devices, with the types of their requests."""
    job = Coordinator(CONFIG, INITIAL, algorithm=make_algorithm(algorithm))
    found = []
    for iteration in (1, 2):
        for message in (*messages(iteration), RequestGetModel(fl_name="faults é", iteration=iteration)):
            found.append((type(message), encode(job.handle(message, 0))))
    return found


@pytest.mark.parametrize("algorithm", STATEFUL)
def test_devices_get_the_bytes_of_fedavg_but_for_the_weights(algorithm: str) -> None:
    differing = 0
    for (kind, plain), (_, other) in zip(answers("fedavg"), answers(algorithm), strict=True):
        assert len(plain) == len(other)
        if plain != other:
            one, two = (decode(body, RESPONSES[kind]) for body in (plain, other))
            assert one.feature_map.keys() == two.feature_map.keys() == INITIAL.keys()
            assert encode(replace(two, feature_map=one.feature_map)) == plain
            differing += 1
    assert differing, "the models are others"


def test_what_devices_would_have_to_know_is_refused_by_name() -> None:
    """Whatever is registered: an algorithm with a part in the client is not served to devices that only train."""
    refused = []
    for name in REGISTERED:
        try:
            served(name)
        except OptionError as error:
            refused.append(name)
            assert "devices only train" in str(error) and "mindfl simulate --algorithm" in error.hint
    assert {*STATEFUL, "fedavg"}.isdisjoint(refused) and {"scaffold", "feddyn", "fedprox", "fedper"} <= {*refused}
