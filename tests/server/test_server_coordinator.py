"""The coordinator's answers, windows and counters, with time stepped by hand."""

import random
import sys
import threading
from dataclasses import fields, replace

import numpy as np
import pytest

from mindfl.algorithms import Algorithm, Step
from mindfl.errors import OptionError, ProtocolError, StorageError
from mindfl.protocol import (
    CompressType,
    PlainText,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    UnsupervisedEvalItem,
    UnsupervisedEvalItems,
)
from mindfl.server import Coordinator, ServerConfig, ServerState
from mindfl.server.aggregate import MAX_UPLOADS
from mindfl.server.events import Uploaded

T0 = 1_795_333_460_000
CONFIG = ServerConfig(
    fl_iteration_num=2,
    start_fl_job_threshold=2,
    start_fl_job_time_window=3000,
    update_model_time_window=4000,
    global_iteration_time_window=6000,
    client_epoch_num=5,
    client_batch_size=16,
    client_learning_rate=0.02,
)
INITIAL = {"fc.weight": np.ones((2, 3), np.float32), "conv.weight": np.full(2, 5, np.float32)}


def coordinator(config=CONFIG, **changes):
    records = []
    server = Coordinator(replace(config, **changes), INITIAL, on_iteration_end=records.append)
    return server, records


def start(fl_id="a", data_size=10, eval_data_size=4, **changes):
    return RequestFLJob(
        **{
            "fl_name": "any",
            "fl_id": fl_id,
            "data_size": data_size,
            "eval_data_size": eval_data_size,
            "timestamp": str(T0),
            **changes,
        }
    )


def test_an_iteration_takes_the_clients_that_were_chosen_for_it():
    server, records = coordinator()
    server.job.set_cohort(1, T0)
    assert server.handle(start("a"), T0).retcode == 200
    assert server.handle(start("b"), T0).retcode != 200
    with pytest.raises(ProtocolError, match="the cohort of iteration 1 cannot be set: it has begun"):
        server.job.set_cohort(3, T0)
    assert server.handle(update("a"), T0).retcode == 200
    assert server.handle(start("a"), T0).retcode == server.handle(start("b"), T0).retcode == 200, "the plan's again"
    assert [(record.valid, record.uploads) for record in records] == [(True, 1)]


def test_an_iteration_of_no_clients_is_valid_and_keeps_the_model():
    server, records = coordinator()
    before = server.model
    server.job.set_cohort(0, T0)
    server.job.set_cohort(0, T0)
    assert all(np.array_equal(server.model[name], before[name]) for name in before)
    assert [(record.valid, record.started, record.data_size, record.loss) for record in records] == [
        (True, 0, 0, 0)
    ] * 2
    assert server.state is ServerState.FINISHED
    with pytest.raises(ProtocolError, match="it has begun or is over"):
        server.job.set_cohort(1, T0)


def test_an_algorithm_makes_no_step_of_an_iteration_without_clients():
    class Doubling(Algorithm):
        def step(self, round):
            return Step(model={name: 2 * values for name, values in round.average.items()})

    server = Coordinator(replace(CONFIG, start_fl_job_threshold=1), INITIAL, algorithm=Doubling())
    server.job.set_cohort(0, T0)
    assert server.model["conv.weight"].tolist() == [5, 5]
    server.handle(start("a"), T0), server.handle(update("a", iteration=2, value=3.0), T0)
    assert server.model["conv.weight"].tolist() == [6, 6]


@pytest.mark.parametrize("clients", [-1, MAX_UPLOADS + 1, 2**40])
def test_a_cohort_that_no_iteration_can_take_is_refused(clients):
    server, _ = coordinator()
    with pytest.raises(ProtocolError, match="an iteration takes 0 to"):
        server.job.set_cohort(clients, T0)


def test_the_largest_cohort_is_as_many_as_can_be_summed_exactly():
    server, ended = coordinator()
    server.job.set_cohort(MAX_UPLOADS, T0)
    server.handle(start("a"), T0), server.handle(update("a"), T0)
    assert not ended


def test_masks_need_the_number_of_the_plan():
    server, _ = coordinator(encrypt_type="STABLE_PW_ENCRYPT")
    server.job.set_cohort(2, T0)
    with pytest.raises(ProtocolError, match="STABLE_PW_ENCRYPT needs the plan's number of clients, 2, not 3"):
        server.job.set_cohort(3, T0)


def test_devices_without_test_data_weigh_nothing_in_the_accuracy():
    server, records = coordinator(start_fl_job_threshold=3)
    for fl_id, evaluated, accuracy in (("a", 4, 0.75), ("b", 0, 0.5), ("c", -7, 0.25)):
        assert server.handle(start(fl_id, eval_data_size=evaluated), T0).retcode == 200
        assert server.handle(update(fl_id, upload_accuracy=accuracy), T0).retcode == 200

    (record,) = records
    assert (record.eval_data_size, record.accuracy) == (4, 0.75)


def weights(value, data_size=10):
    return {
        "conv.weight": np.full(2, value * data_size, np.float32),
        "fc.weight": np.full(6, value * data_size, np.float32),
    }


def update(fl_id="a", iteration=1, value=2.0, data_size=10, **changes):
    return RequestUpdateModel(
        **{
            "fl_name": "any",
            "fl_id": fl_id,
            "iteration": iteration,
            "feature_map": weights(value, data_size),
            "timestamp": str(T0),
            "upload_loss": 0.5,
            "upload_accuracy": 0.25,
            **changes,
        }
    )


def get(iteration):
    return RequestGetModel(iteration=iteration)


def started(*fl_ids, **changes):
    server, records = coordinator(**changes)
    for fl_id in fl_ids:
        assert server.handle(start(fl_id), T0).retcode == 200
    return server, records


def test_a_plain_job_of_two_iterations():
    server, records = coordinator()

    first = server.handle(start("a", 30, 4), T0)
    assert isinstance(first, ResponseFLJob)
    assert (first.retcode, first.reason, first.iteration, first.is_selected) == (200, "success", 1, True)
    assert list(first.feature_map) == ["conv.weight", "fc.weight"]
    assert first.feature_map["fc.weight"].tolist() == [1] * 6
    plan = first.fl_plan_config
    assert (plan.server_mode, plan.fl_name, plan.iterations, plan.epochs) == ("FEDERATED_LEARNING", "Lenet", 2, 5)
    assert (plan.mini_batch, plan.lr, plan.cipher.encrypt_type) == (16, float(np.float32(0.02)), "NOT_ENCRYPT")
    assert (len(plan.cipher.pw_params.p), len(plan.cipher.pw_params.prime)) == (32, 33)
    assert plan.early_stop is plan.aggregation is plan.metrics is None
    assert first.timestamp is first.compress_feature_map is None
    assert first.download_compress_type == CompressType.NO_COMPRESS
    assert server.handle(start("b", 10, 12), T0).retcode == 200

    uploaded = server.handle(update("a", value=2.0, data_size=30, upload_loss=1.0, upload_accuracy=0.5), T0 + 10)
    assert isinstance(uploaded, ResponseUpdateModel)
    assert (uploaded.retcode, uploaded.reason, uploaded.feature_map) == (200, "success not ready", None)
    waiting = server.handle(get(1), T0 + 11)
    assert isinstance(waiting, ResponseGetModel)
    assert (waiting.retcode, waiting.iteration, waiting.feature_map) == (201, 1, None)
    assert waiting.reason == (
        "The model is not ready yet for iteration 1. Maybe this is because\n"
        "1. Client doesn't not send enough update model request.\n"
        "2. Worker has not push weights to server."
    )
    assert (
        server.handle(update("b", value=4.0, data_size=10, upload_loss=2.0, upload_accuracy=1.0), T0 + 20).retcode
        == 200
    )

    ready = server.handle(get(1), T0 + 21)
    assert (ready.retcode, ready.reason, ready.iteration) == (200, "Get model for iteration 1", 2)
    assert ready.feature_map["conv.weight"].tolist() == [2.5, 2.5]
    (record,) = records
    assert (record.iteration, record.valid, record.started, record.uploads) == (1, True, 2, 2)
    assert (record.data_size, record.eval_data_size) == (40, 16)
    assert (record.loss, record.accuracy) == (1.25, 0.875)
    assert (record.start_ms, record.end_ms) == (T0, T0 + 20)
    assert "This iteration is valid" in record.reason
    assert record.model["fc.weight"].tolist() == [2.5] * 6
    assert {name: (v.total, v.accepted, v.rejected) for name, v in record.visits.items()} == {
        "startFLJob": (2, 2, 0),
        "updateModel": (2, 2, 0),
        "getModel": (1, 0, 1),
    }
    assert record.refusals == {"model_not_ready": 1}

    again = server.handle(start("a"), T0 + 30)
    assert (again.iteration, again.feature_map["fc.weight"][0]) == (2, 2.5)
    server.handle(start("b"), T0 + 30)
    server.handle(update("a", 2), T0 + 40)
    server.handle(update("b", 2), T0 + 40)
    assert server.state is ServerState.FINISHED
    assert server.handle(start("a"), T0 + 50) == PlainText("The server's training job is disabled or finished.")
    assert server.handle(update("a", 2), T0 + 50) == PlainText("The server's training job is disabled or finished.")
    last = server.handle(get(2), T0 + 10**9)
    assert (last.retcode, last.iteration, last.feature_map["fc.weight"][0]) == (200, 3, 2.0)


# One row per line of the reference's table of refusals: requests before, the request, code, reason, counter.
START_REFUSALS = {
    "quota": ([start("x"), start("y")], start("z"), 300,
              "Current amount for startFLJob has reached the threshold. Please startFLJob later.", "start_quota_full"),
    "duplicate": ([start("x")], start("x"), 300, "Updating device metadata failed for fl id x", "start_duplicate"),
    "size 0": ([], start(data_size=0), 300, "FL job data size is not enough.", "data_size_small"),
    "size -1": ([], start(data_size=-1), 300, "FL job data size is not enough.", "data_size_small"),
    "size 65536": ([], start(data_size=65536), 300, "FL job data size is too large.", "data_size_large"),
    "quota before size": ([start("x"), start("y")], start("x", 0), 300,
                          "Current amount for startFLJob has reached the threshold. Please startFLJob later.",
                          "start_quota_full"),
    "size before duplicate": ([start("x")], start("x", 0), 300, "FL job data size is not enough.", "data_size_small"),
}  # fmt: skip


@pytest.mark.parametrize("case", START_REFUSALS)
def test_start_refusals(case):
    before, request, code, reason, counter = START_REFUSALS[case]
    server, _ = coordinator()
    for earlier in before:
        assert server.handle(earlier, T0).retcode == 200

    response = server.handle(request, T0 + 100)

    assert (response.retcode, response.reason, response.is_selected) == (code, reason, False)
    assert response.feature_map is None
    assert response.fl_plan_config is not None
    assert int(response.next_req_time) >= T0 + 100 + 1000
    assert server.job.refusals == {counter: 1}


@pytest.mark.parametrize("missing", ["fl_name", "fl_id", "timestamp"])
def test_start_without_a_required_string_gets_bare_text(missing):
    server, _ = coordinator()

    response = server.handle(start(**{missing: None}), T0)

    assert response == PlainText("Verify flatbuffers schema failed for RequestFLJob.")
    assert server.job.refusals == {"start_schema": 1}


@pytest.mark.parametrize("data_size", [1, 65535])
def test_the_extreme_data_sizes_are_accepted(data_size):
    server, _ = coordinator()

    assert server.handle(start(data_size=data_size), T0).retcode == 200


FEATURES = "Verify model feature map failed, retry later at time: {time}"
SCHEMA = "Verify flatbuffers schema failed for RequestUpdateModel."
ONE = np.ones(2, np.float32)
UPDATE_REFUSALS = {
    "not started": (update("z"), 300, "devices_meta for z is not set. Please retry later.", "update_not_started"),
    "braces in the id": (update("{z}"), 300, "devices_meta for {z} is not set. Please retry later.",
                         "update_not_started"),
    "stale": (update("x", 0), 300, "UpdateModel iteration number is invalid:0, current iteration:1, "
              "Retry later at time: {time}, fl id is x", "update_stale_iteration"),
    "future": (update("x", 2), 300, "UpdateModel iteration number is invalid:2, current iteration:1, "
               "Retry later at time: {time}, fl id is x", "update_stale_iteration"),
    "duplicate": (update("y"), 300, "Updating metadata of UpdateModelClientList failed for fl id y",
                  "update_duplicate"),
    "no weights": (update("x", feature_map={}), 400, FEATURES, "weights_empty"),
    "unknown name": (update("x", feature_map={**weights(1), "q": ONE}), 400, FEATURES, "weights_unknown_name"),
    "short": (update("x", feature_map={"conv.weight": ONE[:1]}), 400, FEATURES, "weights_wrong_shape"),
    "NaN weight": (update("x", feature_map={"conv.weight": ONE * np.nan}), 400, FEATURES, "weights_not_finite"),
    "Inf weight": (update("x", feature_map={"conv.weight": ONE * np.inf}), 400, FEATURES, "weights_not_finite"),
    "huge weight": (update("x", feature_map={"conv.weight": ONE * 2**36}), 400, FEATURES, "weights_not_finite"),
    "no feature map": (update("x", feature_map=None), 400, SCHEMA, "update_schema"),
    "a compression not offered": (update("x", upload_compress_type=CompressType.DIFF_SPARSE_QUANT), 400, SCHEMA,
                                  "update_schema"),
    "no fl_id": (update(None), 400, SCHEMA, "update_schema"),
    "no timestamp": (update("x", timestamp=None), 400, SCHEMA, "update_schema"),
    "NaN loss": (update("x", upload_loss=float("nan")), 400, SCHEMA, "update_loss_or_accuracy_not_finite"),
    "Inf loss": (update("x", upload_loss=float("inf")), 400, SCHEMA, "update_loss_or_accuracy_not_finite"),
    "loss beyond float32": (update("x", upload_loss=1e300), 400, SCHEMA, "update_loss_or_accuracy_not_finite"),
    "NaN accuracy": (update("x", upload_accuracy=float("nan")), 400, SCHEMA, "update_loss_or_accuracy_not_finite"),
    "strings before device": (update("z", upload_loss=float("nan")), 400, SCHEMA,
                              "update_loss_or_accuracy_not_finite"),
    "device before iteration": (update("z", 7), 300, "devices_meta for z is not set. Please retry later.",
                                "update_not_started"),
    "iteration before weights": (update("x", 7, feature_map={}), 300, "UpdateModel iteration number is invalid:7, "
                                 "current iteration:1, Retry later at time: {time}, fl id is x",
                                 "update_stale_iteration"),
    "weights before duplicate": (update("y", feature_map={}), 400, FEATURES, "weights_empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", UPDATE_REFUSALS)
def test_update_refusals_change_nothing_but_the_counters(case):
    request, code, reason, counter = UPDATE_REFUSALS[case]
    server, records = started("x", "y", start_fl_job_threshold=3, update_model_ratio=0.6)
    assert server.handle(update("y", value=4.0), T0).retcode == 200

    response = server.handle(request, T0 + 50)

    assert isinstance(response, ResponseUpdateModel)
    assert response.retcode == code
    if reason is SCHEMA:
        assert response.next_req_time == ""
    else:
        assert int(response.next_req_time) >= T0 + 50 + 1000
    assert response.reason == reason.replace("{time}", response.next_req_time)
    assert server.job.refusals == {counter: 1}
    assert server.handle(update("x", value=2.0), T0 + 60).retcode == 200
    (record,) = records
    assert record.model["conv.weight"].tolist() == [3.0, 3.0]
    assert record.visits["updateModel"].rejected == 1
    assert record.refusals == {counter: 1}


def test_an_upload_after_the_quota_was_met():
    server, _ = started("a", "b", "c", start_fl_job_threshold=3, update_model_ratio=0.6)
    server.handle(update("a"), T0 + 1)
    server.handle(update("b"), T0 + 2)

    late = server.handle(update("c"), T0 + 3)

    assert (late.retcode, late.reason) == (300, "Current amount for updateModel is enough. Please retry later.")
    # The next iteration is open already and has room.
    assert int(late.next_req_time) == T0 + 3 + 1000
    assert server.handle(start("c"), int(late.next_req_time)).iteration == 2


def test_who_may_still_join_the_running_iteration_is_not_sent_away_until_its_end():
    server, _ = started("a", "b", "c", start_fl_job_threshold=3, update_model_ratio=0.6)
    for fl_id in "ab":
        server.handle(update(fl_id), T0 + 1)
    server.handle(start("a"), T0 + 2)

    assert int(server.handle(update("c"), T0 + 3).next_req_time) == T0 + 3 + 1000
    assert int(server.handle(start("a"), T0 + 3).next_req_time) == T0 + 2 + 6000 + 1000


@pytest.mark.parametrize(
    ("threshold", "ratio", "quota"),
    [(3, 0.6, 2), (5, 0.2, 1), (100, 0.07, 7), (1, 0.01, 1), (4, 1.0, 4), (10, 0.75, 8)],
)
def test_update_quota(threshold, ratio, quota):
    assert replace(CONFIG, start_fl_job_threshold=threshold, update_model_ratio=ratio).update_quota == quota


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fl_iteration_num", 0),
        ("start_fl_job_threshold", 0),
        ("start_fl_job_threshold", 2**17),
        ("update_model_ratio", 0.0),
        ("update_model_ratio", 1.1),
        ("update_model_ratio", float("nan")),
        ("start_fl_job_time_window", 0),
        ("update_model_time_window", -1),
        ("global_iteration_time_window", 0),
        ("client_epoch_num", 0),
        ("client_batch_size", 0),
        ("client_learning_rate", 0.0),
        ("client_learning_rate", float("nan")),
    ],
)
def test_an_unusable_setting_is_named(name, value):
    with pytest.raises(OptionError, match=name):
        replace(CONFIG, **{name: value})


def test_an_iteration_may_close_before_all_have_started():
    server, records = started("a", "b", start_fl_job_threshold=3, update_model_ratio=0.6)
    server.handle(update("a"), T0)
    server.handle(update("b"), T0)

    assert records[0].valid
    assert (records[0].started, server.iteration) == (2, 2)


def test_start_window():
    server, records = started("a")
    assert server.next_deadline() == T0 + 3000

    server.tick(T0 + 2999)
    assert records == []
    server.tick(T0 + 3000)

    assert (records[0].valid, server.iteration) == (False, 2)
    assert records[0].reason == "Round startFLJob timeout! This iteration is invalid. Proceed to next iteration."
    assert server.next_deadline() is None
    waiting = server.handle(get(1), T0 + 3001)
    assert (waiting.retcode, waiting.feature_map["conv.weight"][0]) == (200, 5.0)


def test_a_full_start_ends_the_start_window():
    server, records = started("a", "b")

    server.tick(T0 + 5999)

    assert records == []


def test_update_window_counts_from_the_first_upload():
    server, records = started("a", "b")
    server.handle(update("a"), T0 + 1000)

    server.tick(T0 + 4999)
    assert records == []
    server.tick(T0 + 5000)

    assert records[0].reason == "Round updateModel timeout! This iteration is invalid. Proceed to next iteration."
    assert (records[0].uploads, records[0].valid) == (1, False)
    assert records[0].model["conv.weight"].tolist() == [5.0, 5.0]


def test_global_window_comes_first_where_it_is_the_shortest():
    server, records = started("a", "b")
    server.handle(update("a"), T0 + 3000)

    server.tick(T0 + 6000)

    assert records[0].reason == "Global timer timeout! This iteration is invalid. Proceed to next iteration."


def test_a_request_after_the_end_of_a_window_is_never_counted_in_it():
    server, records = started("a", "b")
    server.handle(update("a"), T0)

    late = server.handle(update("b"), T0 + 4000)

    assert late.reason == "devices_meta for b is not set. Please retry later."
    assert (len(records), records[0].valid) == (1, False)


def test_what_a_failed_iteration_received_is_not_in_the_next_model():
    server, records = started("a", "b")
    server.handle(update("a", value=1000.0), T0)
    server.tick(T0 + 4000)
    for fl_id in "ab":
        server.handle(start(fl_id), T0 + 5000)
        server.handle(update(fl_id, 2, value=3.0), T0 + 5000)

    assert records[1].valid
    assert records[1].model["fc.weight"].tolist() == [3.0] * 6
    assert records[1].loss == 0.5


def test_failed_iterations_use_up_the_job():
    server, records = coordinator()
    for iteration in (1, 2):
        server.handle(start("a"), T0 + iteration * 10_000)
    server.tick(T0 + 23_000)

    assert [record.valid for record in records] == [False, False]
    assert server.state is ServerState.FINISHED


def test_a_refused_start_may_return_when_the_next_iteration_is_surely_open():
    server, _ = started("a", "b")
    refused = server.handle(start("c"), T0 + 100)
    assert int(refused.next_req_time) == T0 + 6000 + 1000

    server.handle(update("a"), T0 + 500)
    refused = server.handle(start("c"), T0 + 600)
    assert int(refused.next_req_time) == T0 + 500 + 4000 + 1000

    assert server.handle(start("c"), int(refused.next_req_time)).iteration == 2


def test_retry_times_are_computed_for_each_reply():
    server, _ = coordinator()
    for now in (T0, T0 + 77, T0 + 100_000):
        assert int(server.handle(start(data_size=0), now).next_req_time) == now + 1000


def test_a_clock_that_steps_back_ends_nothing():
    server, records = started("a", "b")

    server.tick(T0 - 600_000)

    assert records == []
    assert server.handle(update("a"), T0 - 600_000).retcode == 200


def test_three_models_are_kept_and_other_iterations_get_the_latest():
    server, _ = coordinator(start_fl_job_threshold=1, fl_iteration_num=9)
    for iteration in range(1, 6):
        server.handle(start("a"), T0)
        server.handle(update("a", iteration, value=float(iteration)), T0)

    def value(iteration):
        response = server.handle(get(iteration), T0)
        assert (response.retcode, response.iteration) == (200, 6)
        assert response.reason == f"Get model for iteration {iteration}"
        return response.feature_map["conv.weight"][0]

    assert [value(k) for k in (5, 4, 3)] == [5.0, 4.0, 3.0]
    assert [value(k) for k in (2, 1, 0, -1, 7, 99)] == [5.0] * 6
    assert server.handle(get(6), T0).retcode == 201


def test_the_latest_model_is_meant_by_iteration_0_even_while_the_untrained_one_is_kept():
    server, _ = coordinator(start_fl_job_threshold=1)
    server.handle(start("a"), T0)
    server.handle(update("a", value=7.0), T0)

    assert server.handle(get(0), T0).feature_map["conv.weight"][0] == 7.0


def test_models_handed_out_cannot_be_changed():
    server, _ = coordinator()

    model = server.handle(start("a"), T0).feature_map

    with pytest.raises(ValueError, match="read-only"):
        model["fc.weight"][0] = 3
    with pytest.raises(TypeError):
        model["fc.weight"] = None


def test_disable_abandons_the_iteration_and_enable_goes_on():
    server, records = started("a", "b", fl_iteration_num=3)
    finished = PlainText("The server's training job is disabled or finished.")

    server.job.disable(T0 + 10)

    assert server.state is ServerState.DISABLED
    assert [server.handle(request, T0 + 20) for request in (start("c"), update("a"), get(1))] == [finished] * 3
    assert [record.valid for record in records] == [False]
    server.job.enable()
    assert server.handle(start("a"), T0 + 30).iteration == 2
    assert server.job.refusals == {"finished": 3}


def test_what_cannot_be_switched_is_refused_in_the_words_of_the_reference():
    server, records = coordinator(fl_iteration_num=1, start_fl_job_threshold=1)
    with pytest.raises(ProtocolError, match=r"^The instance has already been enabled\.$"):
        server.job.enable()
    server.job.disable(T0)
    with pytest.raises(ProtocolError, match=r"^The instance has already been disabled\.$"):
        server.job.disable(T0)
    server.job.enable()

    assert server.state is ServerState.FINISHED
    with pytest.raises(ProtocolError, match=r"^The instance is completed and cannot be disabled\.$"):
        server.job.disable(T0)
    with pytest.raises(ProtocolError, match=r"^The instance is completed and cannot be enabled\.$"):
        server.job.enable()
    assert len(records) == 1
    assert server.handle(get(1), T0).retcode == 200


def test_a_new_instance_begins_at_iteration_1_with_the_model_so_far():
    server, records = coordinator(start_fl_job_threshold=1, fl_iteration_num=1)
    server.handle(start("a"), T0)
    server.handle(update("a", value=7.0), T0)
    assert server.state is ServerState.FINISHED

    server.job.new_instance(replace(CONFIG, client_epoch_num=9), "second", T0 + 10)

    assert (server.state, server.iteration, server.job.instance) == (ServerState.RUNNING, 1, "second")
    answer = server.handle(start("a"), T0 + 20)
    assert (answer.iteration, answer.fl_plan_config.epochs, answer.feature_map["fc.weight"][0]) == (1, 9, 7.0)
    assert server.handle(get(1), T0 + 20).retcode == 201
    assert server.handle(get(0), T0 + 20).feature_map["fc.weight"][0] == 7.0
    assert len(records) == 1


def test_a_new_instance_forgets_the_running_iteration_and_enables():
    server, records = started("a", "b")
    server.handle(update("a", value=1000.0), T0)
    server.job.disable(T0)
    server.job.new_instance(replace(CONFIG, start_fl_job_threshold=1), "second", T0 + 10)
    assert server.next_deadline() is None

    late = server.handle(update("b", 1), T0 + 20)
    server.handle(start("c"), T0 + 30)
    server.handle(update("c", value=3.0), T0 + 30)

    assert late.reason == "devices_meta for b is not set. Please retry later."
    assert records[-1].valid
    assert records[-1].model["fc.weight"].tolist() == [3.0] * 6


def test_items_of_an_evaluation_without_labels_are_accepted_and_ignored():
    plain, records = coordinator(start_fl_job_threshold=1)
    items = UnsupervisedEvalItems(
        eval_items=(
            UnsupervisedEvalItem(eval_name="DirectClassifierResult", eval_data=np.full(62, np.nan, np.float32)),
        )
    )
    plain.handle(start("a"), T0)

    assert plain.handle(update("a", unsupervised_eval_items=items), T0).retcode == 200
    assert (records[0].valid, records[0].loss) == (True, 0.5)


class Shelf:
    """A log that keeps events in a list, or refuses them while it is full."""

    def __init__(self):
        self.events = []
        self.full = False

    def prepare(self, event):
        def append():
            if self.full:
                raise StorageError("no room")
            self.events.append(event)

        return append


def logged(**changes):
    shelf, records = Shelf(), []
    server = Coordinator(replace(CONFIG, **changes), INITIAL, on_iteration_end=records.append, log=shelf)
    return server, shelf, records


def test_what_the_log_cannot_take_does_not_happen_and_devices_are_told_to_come_back():
    server, shelf, records = logged()
    server.handle(start("a"), T0)
    shelf.full = True

    refused_start = server.handle(start("b"), T0 + 1)
    refused_update = server.handle(update("a"), T0 + 1)
    for refused in (refused_start, refused_update):
        assert refused.retcode == 300
        assert int(refused.next_req_time) >= T0 + 1 + 30_000
        assert refused.reason == (
            "The server cannot store the request, its disk may be full. "
            f"Please retry later at time: {refused.next_req_time}"
        )
    assert refused_start.fl_plan_config is not None
    assert server.job.refusals == {"not_stored": 2}
    for change in (lambda: server.job.disable(T0), lambda: server.job.new_instance(CONFIG, "x", T0)):
        with pytest.raises(StorageError, match="no room"):
            change()
    shelf.full = False
    server.handle(start("b"), T0 + 2)
    for fl_id in "ab":
        assert server.handle(update(fl_id, value=3.0), T0 + 2).retcode == 200

    assert (records[0].uploads, records[0].model["fc.weight"].tolist()) == (2, [3.0] * 6)


def test_a_window_whose_end_cannot_be_stored_ends_when_it_can():
    server, shelf, records = logged()
    server.handle(start("a"), T0)
    shelf.full = True

    server.tick(T0 + 3000)

    assert (records, server.iteration) == ([], 1)
    assert server.next_deadline() == T0 + 4000
    shelf.full = False
    server.tick(T0 + 3999)
    assert records == []
    server.tick(T0 + 4000)
    assert [record.valid for record in records] == [False]


def test_replaying_the_log_gives_the_same_coordinator():
    server, shelf, records = logged(fl_iteration_num=9)
    rng = np.random.default_rng(3)
    now = T0
    for step in range(1, 7):
        for fl_id in "ab":
            now += 7
            server.handle(start(fl_id, int(rng.integers(1, 99))), now)
            value = float(rng.normal())
            server.handle(update(fl_id, server.iteration, value=value, upload_loss=value / 3), now + step * 900)
        server.handle(start("a", 0), now)
        if step == 3:
            server.job.disable(now)
            server.job.enable()
        if step == 4:
            server.job.new_instance(replace(CONFIG, fl_iteration_num=7), "second", now)
    server.handle(start("c"), now)

    again_records = []
    again = Coordinator(replace(CONFIG, fl_iteration_num=9), INITIAL, on_iteration_end=again_records.append)
    for event in shelf.events:
        again.job.replay(event)

    assert len(records) > 4

    def seen(record):
        model = {name: values.tobytes() for name, values in record.model.items()}
        return {**{f.name: getattr(record, f.name) for f in fields(record)}, "model": model, "refusals": 0, "visits": 0}

    assert list(map(seen, again_records)) == list(map(seen, records))
    assert (again.iteration, again.state, again.job.instance) == (server.iteration, server.state, server.job.instance)
    assert again.next_deadline() == server.next_deadline()


def test_an_upload_without_a_start_cannot_be_replayed():
    server, _ = coordinator()
    with pytest.raises(ProtocolError, match="an upload of z, which did not start"):
        server.job.replay(Uploaded.of(update("z"), {}, T0))


@pytest.mark.parametrize("step", [-600_000, 0, 600_000, 10**9])
def test_a_pause_is_not_counted_in_the_windows(step):
    server, records = started("a", "b")
    server.handle(update("a"), T0 + 1000)

    server.job.resume(T0 + 1000 + step)

    assert server.next_deadline() == T0 + 1000 + step + 4000
    server.tick(T0 + 1000 + step + 3999)
    assert records == []
    server.tick(T0 + 1000 + step + 4000)
    assert [record.valid for record in records] == [False]


def test_devices_are_told_wall_time_while_windows_follow_the_clock_of_the_job():
    ahead = 600_000
    records = []
    server = Coordinator(CONFIG, INITIAL, on_iteration_end=records.append, wall=lambda job_ms: job_ms + ahead)
    for fl_id in "ab":
        assert int(server.handle(start(fl_id), T0).next_req_time) > T0 + ahead
    refused = server.handle(start("c"), T0 + 100)

    assert int(refused.next_req_time) == T0 + ahead + 6000 + 1000
    assert int(server.handle(get(1), T0 + 100).timestamp) > T0 + ahead
    assert server.next_deadline() == T0 + 6000
    server.tick(T0 + 6000)
    assert (records[0].start_ms, records[0].end_ms) == (T0 + ahead, T0 + ahead + 6000)


def test_a_job_goes_on_from_a_snapshot_taken_at_the_end_of_an_iteration():
    server, _ = coordinator(start_fl_job_threshold=1, fl_iteration_num=9)
    for iteration in range(1, 5):
        server.handle(start("a"), T0)
        server.handle(update("a", iteration, value=float(iteration)), T0)

    other = Coordinator(CONFIG, INITIAL, state=server.job.snapshot())

    assert (other.iteration, other.config) == (5, server.config)
    assert [other.handle(get(k), T0).feature_map["conv.weight"][0] for k in (2, 3, 4, 1)] == [2.0, 3.0, 4.0, 4.0]
    late = other.handle(update("z", 4), T0)
    assert late.reason == "Current amount for updateModel is enough. Please retry later."


def test_order_of_clients_changes_neither_the_model_nor_the_averages():
    rng = np.random.default_rng(0)
    clients = [(f"c{i}", int(rng.integers(1, 400)), rng.normal(0, 30, 8).astype(np.float32)) for i in range(40)]

    def outcome(order):
        server, records = coordinator(start_fl_job_threshold=40)
        for fl_id, size, _ in order:
            server.handle(start(fl_id, size, size), T0)
        for fl_id, _, values in reversed(order):
            features = {"fc.weight": values[2:], "conv.weight": values[:2]}
            loss = float(values[0]) / 3
            server.handle(update(fl_id, feature_map=features, upload_loss=loss, upload_accuracy=loss / 7), T0)
        model = records[0].model
        return model["conv.weight"].tobytes() + model["fc.weight"].tobytes(), records[0].loss, records[0].accuracy

    expected = outcome(clients)
    for seed in range(3):
        assert outcome(random.Random(seed).sample(clients, len(clients))) == expected


@pytest.fixture
def busy_switching():
    """Let threads take turns as often as possible, so that a missing lock shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_many_threads_lose_nothing(busy_switching):
    """Four threads drive 40 clients each through three iterations, meeting at a barrier after each."""
    threads, each, iterations, length = 4, 40, 3, 20_000
    records = []
    config = replace(CONFIG, start_fl_job_threshold=threads * each, fl_iteration_num=iterations)
    server = Coordinator(config, {"w": np.zeros(length, np.float32)}, on_iteration_end=records.append)
    barrier = threading.Barrier(threads)
    failures = []

    def work(thread):
        try:
            for iteration in range(1, iterations + 1):
                for client in range(each):
                    fl_id, size = f"{thread}-{client}", thread * each + client + 1
                    assert server.handle(start(fl_id, size), T0).retcode == 200
                    server.handle(update(fl_id, iteration, feature_map={"w": ONE}), T0)
                    features = {"w": np.full(length, thread * size, np.float32)}
                    assert server.handle(update(fl_id, iteration, feature_map=features), T0).retcode == 200
                barrier.wait(60)
        except BaseException as error:
            failures.append(error)
            barrier.abort()
            raise

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert failures == []
    assert server.state is ServerState.FINISHED
    sizes = np.arange(1, threads * each + 1)
    expected = np.float32((sizes * np.repeat(np.arange(threads), each)).sum() / sizes.sum())
    for record in records:
        assert record.valid
        assert (record.uploads, record.data_size) == (threads * each, sizes.sum())
        assert set(record.model["w"].tolist()) == {float(expected)}
        assert record.visits["updateModel"].rejected == threads * each
    assert server.job.refusals == {"weights_wrong_shape": threads * each * iterations}


class Interrupted(dict):
    """Weights during whose conversion something else happens first."""

    def __init__(self, weights, event):
        super().__init__(weights)
        self.event = event

    def items(self):
        self.event()
        return super().items()


def test_an_iteration_that_ends_while_an_upload_is_being_read():
    server, records = started("a", "b", "c", start_fl_job_threshold=3, update_model_ratio=0.6)
    server.handle(update("a"), T0)

    late = server.handle(
        update("c", feature_map=Interrupted(weights(9.0), lambda: server.handle(update("b"), T0 + 1))), T0 + 1
    )

    assert late.reason == "Current amount for updateModel is enough. Please retry later."
    assert records[0].model["conv.weight"].tolist() == [2.0, 2.0]
    assert server.handle(start("c"), T0 + 2).iteration == 2
    server.handle(start("a"), T0 + 2)
    server.handle(update("a", 2, value=4.0), T0 + 2)
    server.handle(update("c", 2, value=4.0), T0 + 2)
    assert records[1].model["conv.weight"].tolist() == [4.0, 4.0]


def test_the_same_upload_sent_twice_at_once_counts_once():
    server, records = started("a", "b")
    answers = []

    again = Interrupted(weights(2.0), lambda: answers.append(server.handle(update("a"), T0)))
    answers.append(server.handle(update("a", feature_map=again), T0))
    server.handle(update("b"), T0)

    assert [answer.retcode for answer in answers] == [200, 300]
    assert (records[0].uploads, records[0].data_size) == (2, 20)


def test_the_callback_sees_iterations_in_order_and_may_read_the_coordinator():
    seen = []
    server = Coordinator(
        replace(CONFIG, start_fl_job_threshold=1),
        INITIAL,
        on_iteration_end=lambda record: seen.append((record.iteration, server.iteration, server.model is record.model)),
    )
    for iteration in (1, 2):
        server.handle(start("a"), T0)
        server.handle(update("a", iteration), T0)

    assert seen == [(1, 2, True), (2, 3, True)]
