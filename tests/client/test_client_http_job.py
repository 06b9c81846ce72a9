"""Whole jobs over real sockets, while the network or the server fails."""

import random
import threading
import time
from itertools import count

import pytest
from client_standins import StandInTrainer, device, server
from http_standins import StandInServer, unused_port

from mindfl.client import HttpSettings, HttpTransport, JobResult, run
from mindfl.errors import TransportError
from mindfl.protocol import ResponseCode


def now_ms():
    return time.time_ns() // 1_000_000


def sleep_ms(milliseconds):
    time.sleep(milliseconds / 1000)


def take_part(url, number, results, sleep=sleep_ms):
    trainer = StandInTrainer(10 + number, step=0.5 + number, losses=[4.0] * 9)
    client = device(f"f{number}", trainer, now_ms, poll_ms=5, retry_ms=2)
    with HttpTransport(HttpSettings(url=url)) as transport:
        try:
            results[number] = run(client.train(), transport, now_ms, sleep)
        except BaseException as error:
            results[number] = error


def job(lose, clients=4, iterations=4):
    coordinator, records = server(clients, iterations)
    results = {}
    with StandInServer(coordinator, lose=lose) as there:
        threads = [threading.Thread(target=take_part, args=(there.url, number, results)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(range(clients), JobResult(iterations, ResponseCode.SUCCEED))
    assert [(record.valid, record.uploads) for record in records] == [(True, clients)] * iterations
    return [record.model["fc.weight"].tobytes() for record in records], len(there.seen)


def test_a_network_that_loses_a_fifth_of_everything_changes_nothing():
    expected, _ = job(lambda endpoint, number: None)
    draw = random.Random(7)
    lost = {"request": 0, "answer": 0}

    def lose(endpoint, number):
        what = draw.choices(["request", "answer", None], [1, 1, 8])[0]
        if what:
            lost[what] += 1
        return what

    models, _ = job(lose)

    assert models == expected
    assert lost["request"] and lost["answer"]


@pytest.mark.parametrize("endpoint", ["startFLJob", "updateModel", "getModel"])
@pytest.mark.parametrize("what", ["request", "answer"])
def test_every_other_try_is_lost(endpoint, what):
    """The first, the third and so on to this endpoint, whatever requests others receive meanwhile."""
    tries = count()

    def lose(asked, number):
        return what if asked == endpoint and next(tries) % 2 == 0 else None

    models, _ = job(lose, clients=2, iterations=2)
    assert models == job(lambda endpoint, number: None, clients=2, iterations=2)[0]
    assert next(tries) > 1


def test_a_server_that_is_away_for_a_while():
    """It goes away while the client waits for the model, and is back at its third try."""
    coordinator, records = server(clients=2)
    port = unused_port()
    there = StandInServer(coordinator, port=port).__enter__()
    results, away = {}, []

    def sleep(milliseconds):
        nonlocal there
        away.append(milliseconds)
        if len(away) == 1:
            there.stop()
        elif len(away) == 3:
            there = StandInServer(coordinator, port=port).__enter__()
            results["other"] = threading.Thread(target=take_part, args=(there.url, 1, results))
            results["other"].start()
        sleep_ms(milliseconds)

    try:
        take_part(there.url, 0, results, sleep)
        results.pop("other").join()
    finally:
        there.stop()

    assert results == dict.fromkeys((0, 1), JobResult(2, ResponseCode.SUCCEED))
    assert [record.uploads for record in records] == [2, 2]
    assert away[1:3] == [2, 4]


def test_a_server_that_does_not_come_back():
    coordinator, _ = server(clients=2)
    with StandInServer(coordinator, port=unused_port()) as there:
        client = device("f0", StandInTrainer(), now_ms, retry_ms=1, retry_limit_ms=20)
        with HttpTransport(HttpSettings(url=there.url)) as transport, pytest.raises(TransportError) as raised:
            run(client.train(), transport, now_ms, lambda milliseconds: there.stop())
    assert str(raised.value).startswith("client f0 in getModel of iteration 1: cannot reach http://127.0.0.1:")
