"""Devices with MindSpore Federated's Java client complete jobs: a strict stand-in for it, on a clock that jumps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from faults_process import ServerProcess, write_job
from hypothesis import given, settings
from hypothesis import strategies as st
from java_standin import FAILED, MOST_POLLS, POLL_MS, RESTART, SUCCESS, Fleet, JavaClient, Post, Sleep

from mindfl.protocol import REQUESTS, decode
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.http import BackgroundServer
from mindfl.server.http.front import ReplyCache
from mindfl.server.iteration import Clock

INITIAL = {"fc.weight": np.ones((2, 3), np.float32), "conv.weight": np.zeros(4, np.float32)}
SIZES = {name: values.size for name, values in INITIAL.items()}


class Job:
    """A job, its time in the hands of a fleet."""

    def __init__(self, threshold: int, iterations: int, latency_ms: int = 20, **changes: float) -> None:
        self.fleet = Fleet(latency_ms=latency_ms)
        self.clock = Clock(lambda: self.fleet.now * 1_000_000, lambda: self.fleet.now * 1_000_000)
        self.records: list[IterationRecord] = []
        config = ServerConfig(fl_iteration_num=iterations, start_fl_job_threshold=threshold, **changes)  # type: ignore[arg-type]
        self.coordinator = Coordinator(config, INITIAL, on_iteration_end=self.records.append, wall=self.clock.wall_ms)
        self._replies = ReplyCache()

    def directly(self, endpoint: str, body: bytes) -> tuple[int, bytes]:
        """Post without a socket."""
        request = decode(body, REQUESTS[endpoint])
        response = self.coordinator.handle(request, self.clock.now_ms())  # type: ignore[arg-type]
        return 200, self._replies.encode(response)

    def client(self, fl_id: str, post: Post, *, train_ms: Sequence[int] = (1000,), data_size: int = 32) -> JavaClient:
        """Return a client that trains so long in its first, second, ... attempt, and as in the last one later."""
        times = list(train_ms)

        def spent(iteration: int) -> int:
            return times.pop(0) if len(times) > 1 else times[0]

        return JavaClient(
            fl_id, self.fleet.slowly(post), lambda: self.fleet.now, SIZES, data_size=data_size, train_ms=spent
        )

    @contextmanager
    def served(self, prefix: str = "") -> Iterator[str]:
        """Serve over HTTP; yield the URL as a device is given it."""
        with BackgroundServer(self.coordinator, prefix=prefix, clock=self.clock) as server:
            yield server.url

    def check(self, clients: Sequence[JavaClient]) -> None:
        """Check what holds for every fleet, whatever became of its members."""
        assert self.fleet.crashes == {}
        for client in clients:
            assert client.complaints == []
            turned_away = [iteration for endpoint, iteration, _ in client.refused if endpoint == "startFLJob"]
            assert turned_away == sorted(set(turned_away)), "the iteration was still the same after the wait"


@contextmanager
def posting(url: str) -> Iterator[Post]:
    """Yield a way to post over one connection that stays open, as the client's does."""
    place = urlsplit(url)
    connection = HTTPConnection(place.netloc, timeout=30)

    def post(endpoint: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "applicatiom/json;charset=utf-8", "Accept-Encoding": "gzip"}
        connection.request("POST", f"{place.path}/{endpoint}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield post
    connection.close()


def run_over_http(job: Job, makers: Sequence[tuple[dict[str, object], int]], prefix: str = "") -> list[JavaClient]:
    """Run clients with these settings and starting times; return them."""
    with job.served(prefix) as url, ExitStack() as connections:
        clients = [
            (job.client(f"java-{number}", connections.enter_context(posting(url)), **changes), start)  # type: ignore[arg-type]
            for number, (changes, start) in enumerate(makers)
        ]
        job.fleet.run(clients)
    job.check([client for client, _ in clients])
    return [client for client, _ in clients]


def assert_all_succeeded(clients: Sequence[JavaClient], iterations: int) -> None:
    assert [(client.status, client.code, client.saved) for client in clients] == [(SUCCESS, 200, True)] * len(clients)
    assert [client.done for client in clients] == [list(range(1, iterations + 1))] * len(clients)


@pytest.mark.parametrize("prefix", ["", "/", "/pre/fix/"])
@pytest.mark.parametrize("count", [1, 3])
def test_as_many_clients_as_the_threshold(count: int, prefix: str) -> None:
    job = Job(threshold=count, iterations=4)
    clients = run_over_http(job, [({"data_size": 16 * (1 + n)}, 37 * n) for n in range(count)], prefix)
    assert_all_succeeded(clients, 4)
    assert [(record.valid, record.uploads) for record in job.records] == [(True, count)] * 4
    for name, values in job.coordinator.model.items():
        for client in clients:
            np.testing.assert_array_equal(client.weights[name], values)


def test_the_model_is_the_average_of_what_the_clients_trained() -> None:
    job = Job(threshold=3, iterations=3)
    run_over_http(job, [({"data_size": size}, 0) for size in (8, 16, 40)])
    model = {name: values.reshape(-1).astype(float) for name, values in INITIAL.items()}
    for iteration, record in enumerate(job.records, 1):
        step = sum(size * (size / 8 + iteration) for size in (8, 16, 40)) / 64
        model = {name: values * 0.5 + step for name, values in model.items()}
        for name, values in record.model.items():
            np.testing.assert_allclose(values, model[name], rtol=1e-6)


def test_more_clients_than_places() -> None:
    """A client that is sent away comes back to an open iteration and takes a free place, which others then lose."""
    job = Job(threshold=3, iterations=12)
    clients = run_over_http(job, [({}, 10 * number) for number in range(5)])
    assert [(record.valid, record.uploads) for record in job.records] == [(True, 3)] * 12
    assert sum(len(client.done) for client in clients) == 3 * 12
    assert sorted(client.status for client in clients) == [FAILED, FAILED, SUCCESS, SUCCESS, SUCCESS]
    for client in clients:
        assert client.status == SUCCESS or client.code in (300, 500)


def test_a_client_without_a_place_gets_one_in_the_next_iteration() -> None:
    """One of the two first never uploads, so the iteration fails; the third takes its place and stays."""
    job = Job(threshold=2, iterations=4)
    with job.served() as url, posting(url) as first, posting(url) as second, posting(url) as third:
        gone = job.client("gone", second).run()
        assert isinstance(next(gone), Sleep)
        clients = [job.client("stays", first), job.client("waits", third)]
        job.fleet.run(zip(clients, (0, 500), strict=True))
    job.check(clients)
    stays, waits = clients
    assert [(client.status, client.saved) for client in clients] == [(SUCCESS, True)] * 2
    assert (stays.done, waits.done) == ([1, 2, 3, 4], [2, 3, 4])
    assert [endpoint for endpoint, _, _ in waits.refused] == ["startFLJob"]
    assert [record.valid for record in job.records] == [False, True, True, True]


def test_an_iteration_that_nobody_else_joins_fails_and_the_next_ones_go_on() -> None:
    """The start window ends while the client asks for its model; it cannot tell, and takes part again."""
    job = Job(threshold=2, iterations=3)
    early, late = run_over_http(job, [({}, 0), ({}, 45_000)])
    assert (early.status, early.done) == (SUCCESS, [1, 2, 3])
    assert [record.valid for record in job.records][-1]
    assert late.status == SUCCESS and late.done[-1] == 3


@pytest.mark.parametrize("latency_ms", [5, 400, 900])
def test_a_client_that_trains_too_long_once(latency_ms: int) -> None:
    """Its upload comes after the iteration has closed: it is sent back, at a time still ahead, and takes part again."""
    job = Job(threshold=3, iterations=8, latency_ms=latency_ms, update_model_ratio=0.6)
    quick: dict[str, object] = {"train_ms": [6000]}
    *_, slow = run_over_http(job, [(quick, 0), (quick, 0), ({"train_ms": [25_000, 100]}, 0)])
    assert slow.refused[0][0] == "updateModel"
    assert slow.done and slow.done[0] > 1
    assert [(record.valid, record.uploads) for record in job.records] == [(True, 2)] * 8


def test_the_last_model_is_given_away_long_after_the_end() -> None:
    """The other client's poll comes up to 10 s after the last iteration, a phone that slept asks minutes later."""
    job = Job(threshold=2, iterations=1)
    with job.served() as url, posting(url) as first, posting(url) as second:
        one, two = job.client("one", first), job.client("two", second, train_ms=[9000])
        flow = one.run()
        sleeps = [next(flow), next(flow)]
        job.fleet.run([(two, 0)])
        assert [sleep.ms for sleep in sleeps] == [1000, POLL_MS]
        job.fleet.now += 3 * 60_000
        assert list(flow) == []
    assert_all_succeeded([one, two], 1)
    assert one.fl_id == "one" and job.fleet.crashes == {}


def test_a_client_gives_up_asking_only_when_no_window_of_the_server_can_still_end() -> None:
    job = Job(threshold=2, iterations=2)
    (alone,) = run_over_http(job, [({}, 0)])
    assert (alone.status, alone.done) == (SUCCESS, [1, 2])
    assert [record.valid for record in job.records] == [False, False]
    assert MOST_POLLS * POLL_MS > 2 * 60_000


PLANS = st.lists(
    st.tuples(
        st.integers(0, 90_000),
        st.lists(st.sampled_from([50, 900, 8000, 15_000, 31_000, 45_000, 75_000]), min_size=1, max_size=3),
        st.none() | st.integers(1, 9),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    threshold=st.integers(1, 4),
    ratio=st.sampled_from([1.0, 0.75, 0.5]),
    iterations=st.integers(1, 6),
    latency_ms=st.sampled_from([1, 40, 450]),
    plans=PLANS,
)
def test_any_fleet(
    threshold: int, ratio: float, iterations: int, latency_ms: int, plans: list[tuple[int, list[int], int | None]]
) -> None:
    """Late, slow and dying clients, any number of places: no client gets an answer that it cannot handle."""
    job = Job(threshold, iterations, latency_ms, update_model_ratio=ratio)
    clients = [
        job.client(f"java-{number}", job.directly, train_ms=train_ms) for number, (_, train_ms, _) in enumerate(plans)
    ]
    lives = {client.fl_id: life for client, (_, _, life) in zip(clients, plans, strict=True)}
    job.fleet.run(zip(clients, (start for start, _, _ in plans), strict=True), lives)
    job.check(clients)
    for client in clients:
        ends = {(SUCCESS, 200), (FAILED, 300), (FAILED, 500), (RESTART, 300)}
        assert (client.status, client.code) in ends or lives[client.fl_id] is not None
        assert client.done == sorted(set(client.done))
    for record in job.records:
        assert record.uploads <= job.coordinator.config.update_quota


class TestOverSeveralPorts:
    """With use_elb every request goes to a random one of the ports; a real server process, real time."""

    def test_every_port_is_the_same_job(self, tmp_path: Path) -> None:
        count, iterations, ports = 4, 3, 3
        write_job(tmp_path, clients=count, iterations=iterations, weights=INITIAL)
        with ServerProcess(tmp_path, "--server_num", str(ports), "--no-journal") as server:
            place = urlsplit(server.url)
            clients = [self._client(number, place.hostname or "", place.port or 0, ports) for number in range(count)]
            threads = [threading.Thread(target=self._run, args=(client,)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert_all_succeeded(clients, iterations)
        assert [client.complaints for client in clients] == [[]] * count

    @staticmethod
    def _client(number: int, host: str, port: int, ports: int) -> JavaClient:
        draw = random.Random(number)

        def post(endpoint: str, body: bytes) -> tuple[int, bytes]:
            with posting(f"http://{host}:{port + draw.randrange(ports)}") as once:
                return once(endpoint, body)

        return JavaClient(
            f"java-{number}",
            post,
            lambda: time.time_ns() // 1_000_000,
            SIZES,
            data_size=8 * (number + 1),
            train_ms=lambda iteration: 1,
            poll_ms=20,
        )

    @staticmethod
    def _run(client: JavaClient) -> None:
        for sleep in client.run():
            time.sleep(sleep.ms / 1000)
