"""What a client does when the network fails: it continues where that is safe, and nothing is counted twice or lost."""

from datetime import datetime

import numpy as np
import pytest
from client_standins import INITIAL, T0, Clock, StandInTrainer, device, server
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.client import ClientLog, Finished, InProcessTransport, IterationDone, JobResult, Wait, advance, run
from mindfl.errors import ClientError, TlsError, TransportError
from mindfl.protocol import PlainText, ResponseCode


class Network:
    """Loses the exchanges whose numbers (from 1) are in ``losses``: the "request", or the "answer"; or raises an
    error that stands there."""

    def __init__(self, coordinator, losses=()):
        self.coordinator, self.losses = coordinator, dict(losses)
        self.requests = []

    def send(self, request, now_ms):
        self.requests.append(type(request).__name__.removeprefix("Request"))
        loss = self.losses.get(len(self.requests))
        if isinstance(loss, Exception):
            raise loss
        if loss == "request":
            raise TransportError("the line is dead", sent=True)
        response = self.coordinator.handle(request, now_ms)
        if loss == "answer":
            raise TransportError("the line is dead", sent=True)
        return response


REFUSED = TransportError("connection refused", hint="start the server")


def job(losses, **changes):
    """Run a job of one client and two iterations; return (network, records, result)."""
    coordinator, records = server()
    network, clock = Network(coordinator, losses), Clock()
    result = run(device("f0", clock=clock, **changes).train(), network, clock, clock.sleep)
    return network, records, result


def final(records):
    return [record.model["fc.weight"].tolist() for record in records]


class TestLostStart:
    def test_the_request(self):
        network, records, _ = job({1: "request"})
        assert network.requests[:3] == ["FLJob", "FLJob", "UpdateModel"]
        assert final(records) == [[1.0] * 3, [2.0] * 3]

    def test_the_answer_means_that_the_client_takes_part(self):
        network, records, result = job({1: "answer"})
        assert network.requests[:4] == ["FLJob", "FLJob", "GetModel", "UpdateModel"]
        assert (records[0].started, records[0].uploads) == (1, 1)
        assert final(records) == [[1.0] * 3, [2.0] * 3]
        assert result == JobResult(2, ResponseCode.SUCCEED)

    def test_in_a_later_iteration_the_model_of_the_one_before_is_fetched(self):
        network, records, _ = job({4: "answer"})
        assert network.requests[3:7] == ["FLJob", "FLJob", "GetModel", "UpdateModel"]
        assert final(records) == [[1.0] * 3, [2.0] * 3]

    def test_a_refusal_without_a_lost_request_is_a_refusal(self):
        coordinator, _ = server(clients=2)
        network, clock = Network(coordinator), Clock()
        flows = [device("same", clock=clock).train() for _ in range(2)]

        assert [type(advance(flow, network, clock)) for flow in flows] == [Wait, Wait]
        assert network.requests == ["FLJob", "UpdateModel", "GetModel", "FLJob"]

    def test_a_full_quota_that_does_not_hold_the_client(self):
        """Its training does not count; it is told so, and joins the next iteration."""
        coordinator, records = server(clients=1)
        network, clock = Network(coordinator, {2: "request"}), Clock()
        first, second = device("f0", clock=clock).train(), device("f1", clock=clock).train()
        effect = first.send(None)
        first.send(network.send(effect.request, clock()))

        assert advance(second, network, clock) == Wait(250)
        wait = advance(second, network, clock)
        assert network.requests == ["FLJob", "FLJob", "FLJob", "GetModel", "UpdateModel"]
        assert isinstance(wait, Wait)
        assert records == []


class TestLostUpdate:
    def test_the_request(self):
        network, records, _ = job({2: "request"})
        assert network.requests[:4] == ["FLJob", "UpdateModel", "UpdateModel", "GetModel"]
        assert final(records) == [[1.0] * 3, [2.0] * 3]

    @pytest.mark.parametrize("number", [2, 5])
    def test_the_answer(self, number):
        """The repeated upload is refused as late (in the last iteration with the finished text), yet it counted."""
        network, records, result = job({number: "answer"})
        assert [record.uploads for record in records] == [1, 1]
        assert final(records) == [[1.0] * 3, [2.0] * 3]
        assert result == JobResult(2, ResponseCode.SUCCEED)
        assert network.requests.count("FLJob") == 2

    def test_the_answer_while_others_are_still_training(self):
        coordinator, records = server(clients=2, iterations=1)
        network, clock = Network(coordinator, {2: "answer"}), Clock()
        flows = [device(f"f{i}", clock=clock).train() for i in range(2)]

        assert advance(flows[0], network, clock) == Wait(250)
        assert advance(flows[0], network, clock) == Wait(200)
        assert network.requests[2:] == ["UpdateModel", "GetModel"]
        assert coordinator.job.refusals == {"update_duplicate": 1, "model_not_ready": 1}
        advance(flows[1], network, clock)
        assert isinstance(advance(flows[0], network, clock), IterationDone)
        assert [record.uploads for record in records] == [2]

    def test_a_server_that_lost_its_memory_is_joined_again(self):
        network, clock = Network(server(iterations=1)[0], {2: "answer", 3: "request"}), Clock()
        flow = device("f0", clock=clock).train()
        advance(flow, network, clock)
        network.coordinator, records = server(iterations=1)

        result = run(flow, network, clock, clock.sleep)

        requests = ["FLJob", *["UpdateModel"] * 3, "GetModel", "FLJob", "UpdateModel", "GetModel"]
        assert network.requests == requests
        assert (len(records), result.completed) == (1, 1)

    def test_weights_that_are_sent_again_are_those_of_this_client(self):
        """Meanwhile its trainer may have worked for others."""
        coordinator, records = server(iterations=1)
        trainer, clock = StandInTrainer(), Clock()
        network = Network(coordinator, {2: "request"})
        flow = device("f0", trainer, clock).train()

        assert advance(flow, network, clock) == Wait(250)
        trainer.load({name: values + 99 for name, values in INITIAL.items()})
        advance(flow, network, clock)

        assert final(records) == [[1.0] * 3]


class TestPatience:
    def test_a_server_never_heard_of_is_not_waited_for(self):
        with pytest.raises(TransportError) as raised:
            job({1: REFUSED})
        assert str(raised.value) == "client f0 in startFLJob of iteration 0: connection refused"
        assert raised.value.hint == "start the server"

    def test_one_that_answered_before_is(self):
        network, records, _ = job({2: REFUSED, 3: REFUSED})
        assert network.requests[1:4] == ["UpdateModel"] * 3
        assert len(records) == 2

    @pytest.mark.parametrize("error", [TransportError("404", sent=True, lasting=True), TlsError("revoked")])
    def test_what_will_not_pass_is_not_tried_again(self, error):
        coordinator, _ = server()
        network, clock = Network(coordinator, {2: error}), Clock()
        with pytest.raises(type(error), match="client f0 in updateModel of iteration 1: ") as raised:
            run(device("f0", clock=clock).train(), network, clock, clock.sleep)
        assert len(network.requests) == 2
        assert raised.value.lasting

    def test_pauses_double_until_the_limit(self):
        coordinator, _ = server()
        network, clock = Network(coordinator, dict.fromkeys(range(2, 99), REFUSED)), Clock()
        flow = device("f0", clock=clock, retry_limit_ms=40_000).train()

        waits = []
        with pytest.raises(TransportError, match="client f0 in updateModel of iteration 1: connection refused"):
            while True:
                waits.append(advance(flow, network, clock).ms)
                clock.sleep(waits[-1])
        assert waits == [250, 500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]

    def test_no_patience(self):
        with pytest.raises(TransportError):
            job({2: "request"}, retry_limit_ms=0)

    def test_get_model_is_asked_again(self):
        coordinator, _ = server()
        network, clock = Network(coordinator, {1: "answer"}), Clock()
        assert run(device("f0", clock=clock).get_model(), network, clock, clock.sleep) == 0
        assert network.requests == ["GetModel"] * 2

    def test_polling_goes_on_through_losses(self):
        network, _, result = job({3: "request", 4: "answer"})
        assert network.requests[2:5] == ["GetModel"] * 3
        assert result.completed == 2


class Files:
    """Records the calls for the model files."""

    def __init__(self):
        self.calls = []

    def back_up(self):
        self.calls.append("back up")

    def restore(self):
        self.calls.append("restore")

    def save(self, weights):
        self.calls.append(("save", weights["fc.weight"].tolist()))


class TestFiles:
    def run(self, files, losses=(), trainer=None, task="train"):
        coordinator, _ = server()
        clock = Clock()
        client = device("f0", trainer, clock, files=files, model_file="lenet.ms")
        return run(getattr(client, task)(), Network(coordinator, losses), clock, clock.sleep)

    def test_the_last_model_is_saved(self):
        files = Files()
        self.run(files)
        assert files.calls == ["back up", ("save", [2.0] * 3)]

    def test_a_loss_that_is_no_number_puts_the_file_back(self):
        files = Files()
        with pytest.raises(ClientError):
            self.run(files, trainer=StandInTrainer(losses=[float("nan")]))
        assert files.calls == ["back up", "restore"]

    def test_nothing_is_saved_where_the_server_is_gone(self):
        files = Files()
        with pytest.raises(TransportError):
            self.run(files, {5: TransportError("gone", lasting=True)})
        assert files.calls == ["back up"]

    def test_the_fetched_model_is_saved(self):
        files = Files()
        self.run(files, task="get_model")
        assert files.calls == ["back up", ("save", [0.0] * 3)]


def test_the_log_of_a_server_that_goes_away(tmp_path):
    log = ClientLog(tmp_path / "client.log", lambda: datetime(2026, 11, 22, 7, 44, 19))
    coordinator, _ = server()
    network, clock = Network(coordinator, dict.fromkeys(range(2, 99), REFUSED)), Clock()
    with pytest.raises(TransportError):
        run(device("f0", clock=clock, log=log, retry_limit_ms=300).train(), network, clock, clock.sleep)

    lines = [line for line in log.path.read_text().splitlines() if "com.mindspore.flclient." not in line]
    assert [line for line in lines if "updateModel" in line or "FAILED" in line] == [
        "WARNING: <FLClient> [updateModel] connection refused: request again in 250 ms",
        "SEVERE: <FLClient> [updateModel] unsolved error code in updateModel: catch IOException: connection refused",
        "INFO: <FLClient> [updateModel] updateModel failed",
        "INFO: <FLClient> " + "=" * 41 + "the total response of 1: FAILED" + "=" * 41,
    ]
    assert log.path.read_text().endswith("iterationCount: 2 resultCode: 400\n")


def play(clients, losses, iterations=3):
    """Run ``clients`` clients side by side; ``losses`` maps the number of an exchange to the lost message."""
    coordinator, records = server(clients, iterations)
    network, clock = Network(coordinator, losses), Clock()
    trainers = [StandInTrainer(10 + i, step=0.5 + i, losses=[4.0] * 9) for i in range(clients)]
    waiting = {i: (T0, device(f"f{i}", trainer, clock).train()) for i, trainer in enumerate(trainers)}
    results = []
    while waiting:
        number = min(waiting, key=lambda i: (waiting[i][0], i))
        clock.now = max(clock.now, waiting[number][0])
        flow = waiting.pop(number)[1]
        step = advance(flow, network, clock)
        if isinstance(step, Finished):
            results.append(step.result)
        else:
            waiting[number] = (clock.now + (step.ms if isinstance(step, Wait) else 0), flow)
    return records, results


@settings(max_examples=150, deadline=None)
@given(
    clients=st.integers(1, 4),
    losses=st.dictionaries(st.integers(1, 60), st.sampled_from(["request", "answer"]), max_size=12),
)
def test_whatever_is_lost_every_client_counts_once_in_every_iteration(clients, losses):
    expected, _ = play(clients, {})
    records, results = play(clients, losses)

    assert [(record.valid, record.started, record.uploads) for record in records] == [(True, clients, clients)] * 3
    for ours, undisturbed in zip(records, expected, strict=True):
        for name, values in undisturbed.model.items():
            np.testing.assert_array_equal(ours.model[name], values)
    assert results == [JobResult(3, ResponseCode.SUCCEED)] * clients


def test_the_network_of_the_tests_is_the_transport_where_nothing_is_lost():
    coordinator, records = server()
    clock = Clock()
    run(device("f0", clock=clock).train(), InProcessTransport(coordinator), clock, clock.sleep)
    assert final(job({})[1]) == final(records)


def test_a_lost_start_is_remembered_through_safemode():
    """The model that the lost answer held cannot be had at once; the client still knows that it may take part."""
    coordinator, records = server(iterations=1)
    network, clock = Network(coordinator, {1: "answer"}), Clock()
    handle = coordinator.handle

    def not_ready(request, now_ms):
        if len(network.requests) == 3:
            return PlainText("The cluster is in safemode.")
        return handle(request, now_ms)

    coordinator.handle = not_ready
    run(device("f0", clock=clock).train(), network, clock, clock.sleep)
    requests = ["FLJob", "FLJob", "GetModel", "FLJob", "GetModel", "UpdateModel", "GetModel"]
    assert network.requests == requests
    assert final(records) == [[1.0] * 3]
