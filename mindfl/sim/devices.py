"""One device of a job after the other, outside of training: inference and fetching the model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from mindfl.client import ClientLog, DeviceClient
from mindfl.data import Dataset, UserData
from mindfl.data.samples import check_name
from mindfl.errors import DataError
from mindfl.lite import LiteModel
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import LiteEngine
from mindfl.sim.partial_exchange import PartialTrainer
from mindfl.sim.pool import client_settings, now_ms
from mindfl.sim.weights_only import WeightsTrainer
from mindfl.spelling import counted


def single_device(
    config: JobConfig, index: int, user: UserData, model: LiteModel, *, fetches: bool = False
) -> tuple[DeviceClient, Any]:
    """Return a client, with the model loaded, and its trainer. The next device may take the model's place.

    A client that only ``fetches`` a model needs weights, not operators.
    """
    trainer: Any = WeightsTrainer(model, user)
    if not fetches:
        trainer = _engine_of(model.content).trainer(user, threading.Event())
        trainer.load(model.weights)
    if config.train_weights is not None:
        trainer = PartialTrainer(trainer, config.train_weights, model)
    log = ClientLog(config.client_log(index), datetime.now)
    return DeviceClient(client_settings(config, index, user), trainer, now_ms, log), trainer


def first_samples(user: UserData, samples: int | None) -> UserData:
    """Return ``user`` with the first ``samples`` test samples only; None: all."""
    if samples is None:
        return user
    return replace(user, test=replace(user.test, labels=user.test.labels[:samples], size=min(samples, user.test.size)))


class ClientSamples(NamedTuple):
    """A client's name and its numbers of train and test samples."""

    name: str
    train: int
    test: int


def usable_users(dataset: Dataset, wanted: int, warn: Callable[[str], None]) -> list[ClientSamples]:
    """Return the first ``wanted`` usable users, read to the end; broken ones are named and passed over.

    Raises the first one's :class:`DataError` where none is usable.
    """
    usable: list[ClientSamples] = []
    broken: list[DataError] = []
    for name in dataset.users:
        if len(usable) == wanted:
            break
        try:
            user = dataset.user(check_name(name))
            user.train.planes(), user.test.planes()
            usable.append(ClientSamples(name, user.train.size, user.test.size))
        except DataError as error:
            broken.append(error)
            warn(f"left out: {error}")
    if not usable:
        raise broken[0] if broken else DataError(f"the data set {dataset.name} has no users")
    if len(usable) < wanted:
        warn(f"the data set {dataset.name} has {counted(len(usable), 'usable user')}, {wanted} were asked for")
    return usable


@lru_cache(maxsize=1)
def _engine_of(content: bytes) -> LiteEngine:
    """Return an engine; clients one after the other mostly have the same model."""
    return LiteEngine(LiteModel.from_bytes(content), training=False)
