"""The client's flows, message by message and against the real coordinator."""

import gc
import threading
import weakref
from datetime import datetime

import numpy as np
import pytest
from client_standins import INITIAL, T0, Clock, StandInTrainer, device, server

from mindfl.client import (
    ClientLog,
    Finished,
    InProcessTransport,
    IterationDone,
    JobResult,
    Send,
    Traffic,
    Wait,
    advance,
    run,
)
from mindfl.errors import ClientError, DataError, ModelFormatError, ProtocolError
from mindfl.protocol import (
    CipherPublicParams,
    CompressType,
    FLPlan,
    PlainText,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
)

FINISHED = PlainText("The server's training job is disabled or finished.")
SAFEMODE = PlainText("The cluster is in safemode.")
NOT_READY = PlainText("The server's training job is not ready.")
MODEL = {"w": np.ones(2, np.float32)}
PLAN = FLPlan(server_mode="FEDERATED_LEARNING", iterations=2, epochs=1, mini_batch=32, lr=0.01)


def accepted(iteration=1, plan=PLAN, model=MODEL):
    return ResponseFLJob(
        retcode=200, reason="success", iteration=iteration, is_selected=True, fl_plan_config=plan, feature_map=model
    )


def refused(next_req_time, iteration=1, plan=PLAN):
    return ResponseFLJob(
        retcode=300, reason="later", iteration=iteration, next_req_time=next_req_time, fl_plan_config=plan
    )


UPLOADED = ResponseUpdateModel(retcode=200, reason="success not ready", next_req_time="0")
WAITING = ResponseGetModel(retcode=201, reason="not ready", iteration=1)


def ready(iteration):
    aggregated = {name: values + np.float32(1) for name, values in MODEL.items()}
    return ResponseGetModel(retcode=200, reason="ok", iteration=iteration + 1, feature_map=aggregated)


class Script:
    """A transport that answers from a list and keeps what was asked."""

    def __init__(self, *responses):
        self.responses, self.requests = list(responses), []

    def send(self, request, now_ms):
        self.requests.append(request)
        return self.responses.pop(0)


def endpoints(script):
    return [type(request).__name__.removeprefix("Request") for request in script.requests]


def test_the_messages_of_one_iteration():
    trainer, clock = StandInTrainer(train_size=50, eval_size=20), Clock()
    script = Script(accepted(1), UPLOADED, WAITING, ready(1), FINISHED)

    flow = device("f7", trainer, clock).train()
    assert advance(flow, script, clock) == Wait(200)
    step = advance(flow, script, clock)

    start, update, *polls = script.requests
    name = "com.mindspore.flclient.demo.lenet.LenetClient"
    assert start == RequestFLJob(
        fl_name=name,
        fl_id="id-f7",
        iteration=0,
        data_size=50,
        eval_data_size=20,
        timestamp=str(T0),
        download_compress_types=(CompressType.NO_COMPRESS, CompressType.QUANT),
        encrypt_types=("PW_EXACT",),
    )
    assert isinstance(update, RequestUpdateModel)
    assert (update.fl_name, update.fl_id, update.iteration, update.timestamp) == (name, "id-f7", 1, str(T0))
    assert list(update.feature_map) == ["w"]
    assert update.feature_map["w"].dtype == np.float32
    assert update.feature_map["w"].tolist() == [100.0, 100.0]
    assert update.upload_loss == np.float32((4.125 + 4.115) / 2)
    assert update.upload_accuracy == 0.75
    assert update.upload_compress_type == CompressType.NO_COMPRESS
    assert (update.sign, update.index_array, update.name_vec, update.compress_feature_map) == (0, None, None, None)
    poll = RequestGetModel(
        fl_name=name,
        iteration=1,
        timestamp=str(T0),
        download_compress_types=(CompressType.NO_COMPRESS, CompressType.QUANT),
    )
    assert polls == [poll, poll]
    assert isinstance(step, IterationDone)
    outcome = step.outcome
    assert (outcome.client, outcome.iteration, outcome.epochs) == ("f7", 1, 1)
    assert (outcome.data_size, outcome.eval_size) == (50, 20)
    assert (outcome.loss, outcome.accuracy_before, outcome.accuracy) == (pytest.approx(4.12), 0.75, 0.75)
    assert trainer.calls == ["load", "evaluate", "train 1 0.01", "load", "evaluate"]

    assert advance(flow, script, clock) == Finished(JobResult(1, ResponseCode.SYSTEM_ERROR))
    assert script.requests[-1].iteration == 1


def test_a_job_of_two_clients_and_two_iterations_against_the_coordinator():
    coordinator, records = server(clients=2)
    transport, clock = InProcessTransport(coordinator), Clock()
    trainers = [StandInTrainer(train_size=30, step=1.0), StandInTrainer(train_size=10, step=5.0, accuracy=0.25)]
    flows = [device(f"f{i}", trainer, clock).train() for i, trainer in enumerate(trainers)]

    for iteration in (1, 2):
        assert advance(flows[0], transport, clock) == Wait(200)
        for flow in reversed(flows):
            assert advance(flow, transport, clock).outcome.iteration == iteration
    assert [advance(flow, transport, clock) for flow in flows] == [Finished(JobResult(2, ResponseCode.SUCCEED))] * 2

    # (30 * 1 + 10 * 5) / 40 = 2 per iteration.
    assert [record.model["fc.weight"].tolist() for record in records] == [[2.0] * 3, [4.0] * 3]
    assert trainers[0].weights()["fc.weight"].tolist() == [4.0] * 3
    assert [record.accuracy for record in records] == [0.5, 0.5]
    assert [record.loss for record in records] == [4.125, float(np.float32(4.025))]
    # Per iteration: 2 starts, 2 updates, 3 polls; 5 values of 4 bytes go up twice and down four times.
    assert transport.traffic == Traffic(requests=14, bytes_up=80, bytes_down=160)


def test_each_model_is_evaluated_once():
    trainer, clock = StandInTrainer(losses=[4, 3, 2]), Clock()
    coordinator, _ = server(iterations=3)

    run(device("f0", trainer, clock).train(), InProcessTransport(coordinator), clock, clock.sleep)

    assert (
        trainer.calls
        == ["load", "evaluate"]
        + ["load", "train 1 0.01", "load", "evaluate"][1:]
        + [
            "load",
            "train 1 0.01",
            "load",
            "evaluate",
        ]
        * 2
    )


def test_as_the_reference_evaluates_only_at_the_start():
    trainer, clock = StandInTrainer(), Clock()
    coordinator, _ = server()
    flow = device("f0", trainer, clock, evaluate_aggregated=False).train()

    step = advance(flow, InProcessTransport(coordinator), clock)

    assert (step.outcome.accuracy_before, step.outcome.accuracy) == (0.75, None)
    assert trainer.calls == ["load", "evaluate", "train 1 0.01", "load"]


def test_a_later_model_than_asked_for_is_evaluated_again():
    trainer, clock = StandInTrainer(), Clock()
    script = Script(accepted(1), UPLOADED, ready(5), accepted(6, PLAN), UPLOADED, ready(6))

    run(device("f0", trainer, clock).train(), script, clock, clock.sleep)

    assert trainer.calls.count("evaluate") == 4


def test_a_client_without_test_data():
    trainer, clock = StandInTrainer(eval_size=0), Clock()
    coordinator, records = server(iterations=1)

    step = advance(device("f0", trainer, clock).train(), InProcessTransport(coordinator), clock)

    assert (step.outcome.accuracy_before, step.outcome.accuracy) == (None, None)
    assert "evaluate" not in trainer.calls
    assert records[0].accuracy == 0.0


def test_learning_rate_0_means_the_devices_default():
    trainer, clock = StandInTrainer(), Clock()
    plan = FLPlan(iterations=1, epochs=3, mini_batch=32, lr=0.0)

    run(device("f0", trainer, clock).train(), Script(accepted(1, plan), UPLOADED, ready(1)), clock, clock.sleep)

    assert "train 3 0.1" in trainer.calls


@pytest.mark.parametrize(
    ("next_req_time", "milliseconds"),
    [
        (str(T0 + 5000), 5000),
        (str(T0 - 24), 200),
        (str(T0), 200),
        ("", 200),
        (None, 200),
        ("soon", 200),
        ("9" * 5000, 200),
        (str(T0 + 10**10), 1_800_000),
    ],
)
def test_a_refused_start_waits_as_told_within_reason(next_req_time, milliseconds):
    clock, script = Clock(), Script(refused(next_req_time), FINISHED)
    flow = device("f0", clock=clock).train()

    assert advance(flow, script, clock) == Wait(milliseconds)
    assert advance(flow, script, clock).result.completed == 0
    assert endpoints(script) == ["FLJob", "FLJob"]


def test_a_refused_upload_starts_again():
    clock = Clock()
    late = ResponseUpdateModel(retcode=300, reason="enough", next_req_time=str(T0 + 700))
    script = Script(accepted(1), late, accepted(2), UPLOADED, ready(2))
    flow = device("f0", clock=clock).train()

    assert advance(flow, script, clock) == Wait(700)
    assert advance(flow, script, clock).outcome.iteration == 2
    assert advance(flow, script, clock).result == JobResult(1, ResponseCode.SUCCEED)
    assert endpoints(script) == ["FLJob", "UpdateModel", "FLJob", "UpdateModel", "GetModel"]


@pytest.mark.parametrize("text", [SAFEMODE, NOT_READY])
@pytest.mark.parametrize("before", [[], [accepted(1)]])
def test_a_server_that_is_not_ready_at_start_or_update_is_asked_again(before, text):
    clock = Clock()
    after = [UPLOADED] if before else [accepted(1), UPLOADED]
    script = Script(*before, text, *after, ready(1), FINISHED)

    flow = device("f0", clock=clock).train()

    assert advance(flow, script, clock) == Wait(200)
    assert isinstance(advance(flow, script, clock), IterationDone)
    again = ["UpdateModel", "UpdateModel"] if before else ["UpdateModel"]
    assert endpoints(script)[-1 - len(again) :] == [*again, "GetModel"]


def test_an_upload_is_sent_again_as_it_was_and_starts_over_after_some_time():
    clock = Clock()
    script = Script(accepted(1), *[SAFEMODE] * 6, accepted(2), UPLOADED, ready(2))
    flow = device("f0", clock=clock).train()

    steps = [advance(flow, script, clock) for _ in range(7)]

    assert steps[:6] == [Wait(200)] * 6 and steps[6].outcome.iteration == 2
    uploads = [request for request in script.requests if isinstance(request, RequestUpdateModel)]
    assert len(uploads) == 7
    for name, values in uploads[0].feature_map.items():
        np.testing.assert_array_equal(uploads[5].feature_map[name], values)


def test_safemode_while_waiting_for_the_model_only_waits():
    clock = Clock()
    script = Script(accepted(1), UPLOADED, SAFEMODE, WAITING, SAFEMODE, ready(1))
    flow = device("f0", clock=clock).train()

    steps = [advance(flow, script, clock) for _ in range(4)]

    assert steps[:3] == [Wait(200)] * 3
    assert isinstance(steps[3], IterationDone)
    assert endpoints(script) == ["FLJob", "UpdateModel"] + ["GetModel"] * 4


@pytest.mark.parametrize("answer", [WAITING, SAFEMODE])
def test_waiting_for_the_model_is_logged_once_however_often_it_is_asked_for(answer, tmp_path):
    clock, log = Clock(), ClientLog(tmp_path / "client.log", lambda: datetime(2026, 1, 1))
    once = Script(accepted(1), UPLOADED, answer, ready(1))
    flow = device("f0", clock=clock, log=log).train()
    while not isinstance(advance(flow, once, clock), IterationDone):
        pass
    log.flush()
    expected = log.path.read_text()
    often = Script(accepted(1), UPLOADED, *[answer] * 9, ready(1))
    other = ClientLog(tmp_path / "other.log", lambda: datetime(2026, 1, 1))
    flow = device("f0", clock=clock, log=other).train()
    while not isinstance(advance(flow, often, clock), IterationDone):
        pass
    other.flush()

    assert other.path.read_text() == expected
    without = Script(accepted(1), UPLOADED, ready(1))
    none = ClientLog(tmp_path / "none.log", lambda: datetime(2026, 1, 1))
    flow = device("f0", clock=clock, log=none).train()
    while not isinstance(advance(flow, without, clock), IterationDone):
        pass
    none.flush()
    assert len(none.path.read_text()) < len(expected)


def test_who_waits_to_start_again_takes_part_in_nothing():
    clock = Clock()
    client = device("f0", clock=clock)
    refusal = ResponseUpdateModel(retcode=300, reason="late", next_req_time=str(T0 + 1000))
    script = Script(accepted(1), refusal, accepted(2), UPLOADED, ready(2))
    flow = client.train()

    assert isinstance(advance(flow, script, clock), Wait)
    assert client.taking_part is None
    assert isinstance(advance(flow, script, clock), IterationDone)
    assert client.taking_part == 2


def test_who_begins_another_iteration_takes_part_in_none_yet():
    clock, seen = Clock(), []
    client = device("f0", clock=clock)

    class Watching(Script):
        def send(self, request, now_ms):
            seen.append((type(request).__name__, client.taking_part))
            return super().send(request, now_ms)

    script = Watching(accepted(1), UPLOADED, ready(1), accepted(2), UPLOADED, ready(2))
    run(client.train(), script, clock, clock.sleep)

    assert [part for name, part in seen if name == "RequestFLJob"] == [None, None]
    assert [part for name, part in seen if name != "RequestFLJob"] == [1, 1, 2, 2]


def test_too_many_refusals_in_a_row():
    clock = Clock()
    script = Script(*[refused(str(T0 + 10**9))] * 3)

    with pytest.raises(ProtocolError, match=r"client f0 in startFLJob of iteration 1 .* 3 times in a row"):
        run(device("f0", clock=clock, max_restarts=2).train(), script, clock, clock.sleep)
    assert script.responses == []


@pytest.mark.parametrize("text", [SAFEMODE, NOT_READY])
def test_a_server_that_does_not_get_ready(text):
    clock = Clock()
    script = Script(refused(str(T0 + 1000)), text, text)

    with pytest.raises(ProtocolError, match=f"3 times in a row: {text.text}") as raised:
        run(device("f0", clock=clock, max_restarts=2).train(), script, clock, clock.sleep)
    assert "start_fl_job_threshold" not in raised.value.line()


def test_a_server_that_is_not_ready_is_given_ever_more_time():
    clock = Clock()
    script = Script(*[SAFEMODE] * 8, PlainText("The server's training job is disabled or finished."))
    flow = device("f0", clock=clock, max_restarts=10).train()

    waits = [advance(flow, script, clock) for _ in range(8)]

    assert waits == [Wait(ms) for ms in (200, 400, 800, 1600, 3200, 6400, 8000, 8000)]


def test_refusals_that_are_not_in_a_row_are_no_failure():
    clock = Clock()
    no = refused(str(T0))
    script = Script(no, accepted(1), UPLOADED, ready(1), no, accepted(2), UPLOADED, ready(2))

    result = run(device("f0", clock=clock, max_restarts=1).train(), script, clock, clock.sleep)

    assert result == JobResult(2, ResponseCode.SUCCEED)


def test_a_model_that_never_comes(tmp_path):
    clock = Clock()
    script = Script(accepted(1), UPLOADED, *[WAITING] * 100)
    log = ClientLog(tmp_path / "client.log", lambda: datetime(2026, 11, 29))
    client = device("f0", clock=clock, log=log, poll_limit_ms=1000, poll_ms=100)

    with pytest.raises(ProtocolError, match=r"client f0 in getModel of iteration 1 got no model for 1000 ms"):
        run(client.train(), script, clock, clock.sleep)
    assert clock.now == T0 + 1000
    assert "waitTryTime is: 11 the limited time is: 10" in log.path.read_text()


FATAL = {
    "start 400": (
        [ResponseFLJob(retcode=400, reason="bad")],
        "startFLJob of iteration 0 was refused with code 400: bad",
    ),
    "start 500": ([ResponseFLJob(retcode=500, reason="x", iteration=4)], "iteration 4 was refused with code 500: x"),
    "update 400": ([accepted(3), ResponseUpdateModel(retcode=400, reason="weights")], "updateModel of iteration 3"),
    "get 500": ([accepted(3), UPLOADED, ResponseGetModel(retcode=500, reason="x")], "getModel of iteration 3"),
    "no plan": ([accepted(1, None)], "no plan or no model"),
    "no model": ([accepted(1, PLAN, {})], "no plan or no model"),
    "no model at the end": ([accepted(1), UPLOADED, ResponseGetModel(retcode=200, iteration=2)], "without weights"),
    "no epochs": ([accepted(1, FLPlan(iterations=1, mini_batch=32))], "plan of 0 epochs"),
    "encryption": (
        [accepted(1, FLPlan(iterations=1, epochs=1, mini_batch=32, cipher=CipherPublicParams(encrypt_type="PW")))],
        "encryption the server asks for \\(PW\\)",
    ),
    "strange text": ([PlainText("Internal error\nat line 3")], "cannot use: Internal error at line 3"),
    "wrong table": ([UPLOADED], "cannot use: 'ResponseUpdateModel'"),
}


@pytest.mark.parametrize("case", FATAL)
def test_what_cannot_go_on_is_one_line_naming_client_and_iteration(case):
    responses, message = FATAL[case]
    clock = Clock()

    with pytest.raises(ProtocolError, match=message) as raised:
        run(device("f0", clock=clock).train(), Script(*responses), clock, clock.sleep)

    assert str(raised.value).startswith("client f0 in ")
    assert "\n" not in raised.value.line()


def test_a_model_exported_with_another_batch_size():
    clock = Clock()
    plan = FLPlan(iterations=1, epochs=1, mini_batch=16)

    with pytest.raises(ClientError, match=r"client f0 failed in iteration 1: .*batches of 16, its model batches of 32"):
        run(device("f0", clock=clock).train(), Script(accepted(1, plan)), clock, clock.sleep)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_fails_the_client_and_uploads_nothing(loss):
    clock, script = Clock(), Script(accepted(1))

    with pytest.raises(ClientError, match="client f0 failed in iteration 1: the training loss is") as raised:
        run(device("f0", StandInTrainer(losses=[loss]), clock).train(), script, clock, clock.sleep)

    assert (raised.value.client, raised.value.iteration) == ("f0", 1)
    assert "learning rate" in raised.value.hint
    assert endpoints(script) == ["FLJob"]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.inf, r"the weights are not finite after training, with a loss of 2\.5"),
        (-(2.0**36), r"a weight is 6\.87e\+10 after training, more than a server sums"),
    ],
)
def test_weights_that_no_server_takes_fail_the_client_though_the_loss_is_a_number(weight, message):
    trainer, clock, script = StandInTrainer(losses=[2.5]), Clock(), Script(accepted(1))
    trainer.weights = lambda: {"w": np.array([1.0, weight], np.float32)}

    with pytest.raises(ClientError, match=message) as raised:
        run(device("f0", trainer, clock).train(), script, clock, clock.sleep)

    assert "learning rate" in raised.value.hint
    assert endpoints(script) == ["FLJob"]


@pytest.mark.parametrize("method", ["load", "evaluate", "train", "weights"])
def test_a_failing_trainer_names_the_client(method):
    def fail(*_):
        raise DataError("user f0: label 77 out of range", hint="mend the file")

    trainer, clock = StandInTrainer(), Clock()
    setattr(trainer, method, fail)

    with pytest.raises(ClientError, match="client f0 failed in iteration 1: user f0: label 77") as raised:
        run(device("f0", trainer, clock).train(), Script(accepted(1)), clock, clock.sleep)
    assert raised.value.hint == "mend the file"


def test_what_a_trainer_says_of_its_own_client_is_passed_on_as_it_is():
    failure = ClientError("f0", 7, "its battery is empty", hint="charge it")

    def fail(*_):
        raise failure

    trainer, clock = StandInTrainer(), Clock()
    trainer.train = fail

    with pytest.raises(ClientError) as raised:
        run(device("f0", trainer, clock).train(), Script(accepted(1)), clock, clock.sleep)
    assert raised.value is failure


def test_closing_a_client_between_iterations_is_a_normal_end(tmp_path):
    log = ClientLog(tmp_path / "client.log", lambda: datetime(2026, 1, 1))
    coordinator, _ = server()
    flow = device("f0", log=log).train()
    advance(flow, InProcessTransport(coordinator), Clock())

    flow.close()

    text = log.path.read_text()
    assert text.endswith("iterationCount: 2 resultCode: 200\n")
    assert "FAILED" not in text


def test_a_waiting_client_holds_no_weights():
    uploaded = []

    class WatchingTransport(InProcessTransport):
        def send(self, request, now_ms):
            if isinstance(request, RequestUpdateModel):
                uploaded.extend(weakref.ref(values) for values in request.feature_map.values())
            return super().send(request, now_ms)

    coordinator, _ = server(clients=2)
    clock = Clock()
    flow = device("f0", clock=clock).train()

    assert advance(flow, WatchingTransport(coordinator), clock) == Wait(200)

    gc.collect()
    assert [reference() for reference in uploaded] == [None, None]
    assert not any(isinstance(held, np.ndarray) for held in reachable(flow))


def reachable(flow):
    """Everything that the frames of a suspended flow refer to by local names."""
    while flow is not None and hasattr(flow, "gi_frame"):
        for value in flow.gi_frame.f_locals.values():
            yield value
            if isinstance(value, dict):
                yield from value.values()
        flow = flow.gi_yieldfrom


def test_a_client_that_waits_after_a_refusal_holds_no_weights_either():
    held = []

    def lent():
        weights = {"w": np.ones(1000, np.float32)}
        held.append(weakref.ref(weights["w"]))
        return accepted(1, PLAN, weights)

    class OneShot:
        """Answers start with weights that no other client keeps, then refuses the upload."""

        def send(self, request, now_ms):
            if isinstance(request, RequestFLJob):
                return lent()
            return ResponseUpdateModel(retcode=300, reason="enough", next_req_time=str(now_ms + 50))

    clock = Clock()
    flow = device("f0", clock=clock).train()

    assert advance(flow, OneShot(), clock) == Wait(200)

    gc.collect()
    assert [reference() for reference in held] == [None]


def test_get_model_asks_once_and_loads_the_latest():
    coordinator, _ = server()
    trainer, clock = StandInTrainer(), Clock()
    transport = InProcessTransport(coordinator)
    run(device("f0", StandInTrainer(), clock).train(), transport, clock, clock.sleep)
    before = transport.traffic.requests

    iteration = run(device("f9", trainer, clock).get_model(), transport, clock, clock.sleep)

    assert iteration == 2
    assert transport.traffic.requests == before + 1
    assert trainer.calls == ["load"]
    assert trainer.weights()["fc.weight"].tolist() == [2.0] * 3


@pytest.mark.parametrize("answer", [FINISHED, SAFEMODE])
def test_get_model_from_a_server_that_gives_none(answer):
    clock = Clock()
    with pytest.raises(ProtocolError, match="client f9: the server does not give its model away now"):
        run(device("f9", clock=clock).get_model(), Script(answer), clock, clock.sleep)


def test_get_model_with_weights_that_the_trainer_refuses():
    def refuse(weights):
        raise ModelFormatError("no tensor named w")

    trainer, clock = StandInTrainer(), Clock()
    trainer.load = refuse

    with pytest.raises(ClientError, match="client f9 failed in iteration 0: no tensor named w"):
        run(device("f9", trainer, clock).get_model(), Script(ready(3)), clock, clock.sleep)


def test_inference_returns_the_labels_and_asks_nobody():
    trainer = StandInTrainer()

    assert device("f0", trainer).inference().tolist() == [0, 0, 1, 2]
    assert trainer.calls == ["predict"]


def test_a_client_that_comes_in_later_iterations_only():
    """Two of three clients take part in each iteration; the third joins in the second."""
    coordinator, records = server(clients=2, iterations=2)
    transport, clock = InProcessTransport(coordinator), Clock()
    flows = [device(f"f{i}", clock=clock).train() for i in range(3)]
    for chosen in ((0, 1), (1, 2)):
        steps = [advance(flows[i], transport, clock) for i in chosen]
        assert steps[0] == Wait(200)
        assert isinstance(advance(flows[chosen[0]], transport, clock), IterationDone)
    flows[0].close()

    assert [record.uploads for record in records] == [2, 2]
    assert advance(flows[2], transport, clock) == Finished(JobResult(1, ResponseCode.SUCCEED))


def test_many_clients_on_many_threads_give_the_result_of_one_thread():
    rng = np.random.default_rng(7)
    initial = {name: rng.normal(size=values.shape).astype(np.float32) for name, values in INITIAL.items()}
    sizes, steps = rng.integers(1, 500, 24), rng.normal(size=24)

    def model(threads):
        coordinator, records = server(clients=24, weights=initial)
        transport, clock = InProcessTransport(coordinator), Clock()
        flows = [device(f"f{i}", StandInTrainer(int(sizes[i]), step=float(steps[i])), clock).train() for i in range(24)]

        def everyone():
            """All flows advance once, shared out among the threads; an error in any thread fails the test."""
            steps, errors = {}, []

            def work(thread):
                try:
                    for i in range(thread, 24, threads):
                        steps[i] = advance(flows[i], transport, clock)
                except BaseException as error:
                    errors.append(error)

            workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert errors == []
            return steps

        for _ in range(2):
            for i, step in everyone().items():
                if isinstance(step, Wait):
                    assert isinstance(advance(flows[i], transport, clock), IterationDone)
        assert set(everyone().values()) == {Finished(JobResult(2, ResponseCode.SUCCEED))}
        return [record.model["fc.weight"].tobytes() + record.model["conv.weight"].tobytes() for record in records]

    expected = model(1)
    assert len(expected) == 2
    assert model(2) == expected
    assert model(6) == expected


def test_only_sends_reach_the_transport():
    coordinator, _ = server()
    flow = device("f0").train()

    effect = next(flow)

    assert isinstance(effect, Send)
    assert isinstance(coordinator.handle(effect.request, T0), ResponseFLJob)
