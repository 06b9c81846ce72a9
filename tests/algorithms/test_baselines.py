"""Baselines: all data in one place is a plain training of the concatenated data, and each client alone its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_job import EPOCHS, SIZES, people, samples

from mindfl.algorithms import Centralized, Local
from mindfl.algorithms.device_plan import device_plan
from mindfl.algorithms.naming import make_algorithm, recorded
from mindfl.algorithms.server_algorithm import served
from mindfl.data import Dataset
from mindfl.errors import MindflWarning, OptionError
from mindfl.lite import LiteModel, Session
from mindfl.sim import FederatedJob
from mindfl.sim.config import JobConfig

RATE = 0.05


def trained(model: LiteModel, data: list[tuple[Any, Any]], rounds: int) -> Session:
    """Return a session that was trained by hand on ``data``, one after the other, its optimizer new in each round."""
    session = Session(model)
    images, labels = (np.concatenate(each) for each in zip(*data, strict=True))
    for _ in range(rounds):
        session.reset_optimizer()
        session.set_learning_rate(RATE)
        for _ in range(EPOCHS):
            session.train(images, labels)
    return session


def accuracy(session: Session, client: int) -> float:
    images, labels = samples(client)
    return float(np.mean(session.predict(images).argmax(axis=1) == labels))


def test_centralized_is_a_plain_training_of_the_concatenated_data(run_small: Callable[..., Any]) -> None:
    with pytest.warns(MindflWarning, match="--shuffle mixes them"):
        model, result = run_small(algorithm="centralized", sampler=None, iterations=3)
    by_hand = trained(model, [samples(client) for client in range(len(SIZES))], 3)
    for name, values in by_hand.weight_views().items():  # an upload is rounded: it is the weights times the samples
        np.testing.assert_allclose(result.weights[name], values.reshape(-1), 1e-5, 1e-6, err_msg=name)
    last = result.history[-1]
    assert last.clients == 1 and last.samples == sum(SIZES) and last.evaluated == len(SIZES)
    assert dict(last.accuracies) == {f"user{client}": accuracy(by_hand, client) for client in range(len(SIZES))}
    assert last.avg == pytest.approx(np.mean([*last.accuracies.values()]))


def test_local_is_each_client_trained_alone(run_small: Callable[..., Any]) -> None:
    model, result = run_small(algorithm="local", sampler=None, iterations=3)
    last = result.history[-1]
    alone = {f"user{client}": accuracy(trained(model, [samples(client)], 3), client) for client in range(len(SIZES))}
    assert dict(last.accuracies) == alone and len(set(alone.values())) > 1
    for name, values in model.weights.items():  # nothing is averaged
        np.testing.assert_array_equal(result.weights[name], values.reshape(-1), name)
    _, single = run_small("single", algorithm="fedavg", sampler=None, iterations=3, client_num=1)
    assert single.history[-1].accuracies["user0"] == alone["user0"]


def test_pooled_samples_are_those_of_the_clients_in_order(tmp_path: Any) -> None:
    from mindfl.sim.pooled_data import pooled

    warned: list[str] = []
    config = JobConfig(client_num=3, shuffle=True)
    data = pooled(config, people(), warned.append)
    assert not warned and data.users == ("user0", "user1", "user2")
    train = data.user(0).train
    expected = np.concatenate([samples(client)[0] for client in range(3)])
    np.testing.assert_array_equal(train.images()[..., 0], expected)
    for start, stop in ((0, 1), (5, 9), (6, 28), (27, 60), (60, 60)):
        np.testing.assert_array_equal(train.images(start, stop)[..., 0], expected[start:stop])
    np.testing.assert_array_equal(train.planes(), expected)
    np.testing.assert_array_equal(train.labels, np.concatenate([samples(client)[1] for client in range(3)]))
    assert [data.user(client).train.size for client in range(3)] == [60, 0, 0]
    np.testing.assert_array_equal(data.user(2).test.images(), people().user(2).test.images())
    rgb = np.zeros((4, 5, 4, 3), np.float32)
    rgb[..., 1] = 0.5
    grey = np.zeros((2, 5, 4, 3), np.float32)
    mixed = Dataset.from_arrays({"a": (grey, np.zeros(2, int)), "b": (rgb, np.ones(4, int))}, classes=2, test_share=0)
    both = pooled(JobConfig(client_num=2, shuffle=True), mixed, warned.append).user("a").train
    np.testing.assert_array_equal(both.planes(), np.concatenate([grey, rgb]))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"clients_per_iteration": 2}, "clients are not drawn"),
        ({"sampler": "uniform"}, "clients are not drawn"),
        ({"evaluate": "drawn"}, "clients are not drawn"),
        ({"encrypt_type": "DP_ENCRYPT"}, "nothing is uploaded"),
        ({"upload_compress_type": "DIFF_SPARSE_QUANT"}, "nothing is uploaded"),
        ({"domain_name": "http://127.0.0.1:1"}, "not in one place"),
        ({"executor": "ray"}, "one process trains"),
    ],
)
def test_centralized_refuses_what_needs_clients(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionError, match=f"algorithm Centralized does not work here: .*{fault}"):
        FederatedJob(algorithm="centralized", **settings)


def test_baselines_by_name_and_on_other_programs() -> None:
    assert [recorded(each) for each in (Local(), Centralized())] == ["local", "centralized"]
    assert isinstance(make_algorithm("centralized"), Centralized)
    with pytest.raises(OptionError, match="not in one place"):
        served("centralized")
    with pytest.raises(OptionError, match="devices only train"):
        served("local")
    assert not device_plan("centralized").possible
