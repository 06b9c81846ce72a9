"""One simulated client: its settings, its flow, and what it did in an iteration."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.client_algorithm import AlgorithmTrainer, Keeper
from mindfl.client import (
    ClientConfig,
    ClientLog,
    DeviceClient,
    Finished,
    Flow,
    IterationDone,
    IterationOutcome,
    JobResult,
    MeteredTransport,
    Wait,
    advance,
)
from mindfl.client.uploading import Randomness
from mindfl.data import UserData
from mindfl.errors import SimulationError
from mindfl.lite import LiteModel
from mindfl.modes import UploadMode, own_mode
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, LiteEngine
from mindfl.sim.evaluation import Measured
from mindfl.sim.network_model import JobModel
from mindfl.sim.trainers import PartialTrainer, WeightsTrainer
from mindfl.sim.upload_mode import NO_WINDOW

if TYPE_CHECKING:
    from mindfl.privacy.secagg import PairKeys

#: why a device paused
Step: TypeAlias = Wait | IterationDone | Finished[JobResult]
#: keep the orders of samples, and what dropout drops, apart from what else is drawn from the job's seed
_SHUFFLE = int.from_bytes(b"shuffle", "big")
_DROPOUT = int.from_bytes(b"dropout", "big")
#: pause before a simulated client asks again
POLL_MS = 1
#: refusals in a row that a client of a server elsewhere accepts, which may want fewer clients than there are
PATIENT_RESTARTS = 1000
#: MindSpore Federated's server tells a client that asks a moment too early, between two iterations, to come back when
#: its windows are over: hours for a simulation
LONGEST_WAIT_FOR_FEDERATED = 5_000
#: a device that the server lets lag behind may still be at work in the iteration before
_ITERATIONS_KEPT = 2


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def sleep_ms(milliseconds: int) -> None:
    """Wait."""
    time.sleep(milliseconds / 1000)


def client_settings(config: JobConfig, index: int, user: UserData) -> ClientConfig:
    """Return the settings of client ``index``: known by its user's name, patient as long as the simulation runs.

    A server elsewhere may know other clients of that name, so there the name is drawn, as the reference's is, and the
    more clients there are, the less often each asks for the model.
    """
    settings = ClientConfig(
        name=user.name,
        fl_id=user.name,
        fl_name=config.fl_name,
        model_file=str(config.client_model(index)),
        train_data=f"{user.name}_train",
        eval_data=f"{user.name}_test",
        poll_ms=POLL_MS,
        poll_limit_ms=NO_WINDOW,
        evaluate_every=config.evaluate_every or 1,
        evaluate_aggregated=config.evaluate != "central",
        evaluate_received=config.evaluate != "central",
    )
    if config.server_side.embedded:
        # The embedded server does not read the accuracy in an upload, and knows itself whether it aggregated.
        received = settings.evaluate_received and settings.evaluate_every == 1
        return replace(settings, evaluate_received=received, compare_models=False)
    poll_ms = max(200, 2 * config.client_num)
    longest_ms = LONGEST_WAIT_FOR_FEDERATED if config.server_side.reference else settings.longest_wait_ms
    return replace(
        settings,
        fl_id=str(uuid.uuid4()),
        poll_ms=poll_ms,
        longest_wait_ms=longest_ms,
        max_restarts=PATIENT_RESTARTS,
    )


@dataclass(frozen=True)
class ClientResult:
    """What a client did in an iteration: mean loss of its last local epoch, training steps, and its accuracy 0..1 with
    the aggregated model. ``remembered`` are the values that its upload mode keeps for its next iteration."""

    loss: float
    steps: int
    measured: Measured
    remembered: Mapping[str, Any] = field(default_factory=dict)


class Participant:
    """One simulated device: its data, its flow, and what it did in the running iteration."""

    def __init__(
        self,
        index: int,
        user: UserData,
        config: JobConfig,
        engine: Engine,
        stop: threading.Event,
        randomness: Randomness,
        pair_keys: PairKeyRing,
        keeper: Keeper,
    ) -> None:
        self.name = user.name
        self._batches = -(-user.train.size // engine.batch_size)
        log = ClientLog(config.client_log(index), datetime.now, brief=not config.writes_client_models)
        trainer: Any = engine.trainer(user, stop)
        self._trainer = trainer
        self.client = DeviceClient(
            client_settings(config, index, user),
            trainer,
            now_ms,
            log,
            randomness=randomness,
            pair_keys=pair_keys,
            own_mode=own_mode(config),
        )
        if isinstance(trainer, AlgorithmTrainer):
            trainer.iteration = lambda: self.client.taking_part or 0
            trainer.keeper = keeper
        self._trainer.set_seed(partial(self._dropout_seed, config.seed, index))
        if config.shuffle:
            self._trainer.set_order(partial(self._shuffled, config.seed, index))
        self._flow: Flow[JobResult] = self.client.train()
        self.outcome: IterationOutcome | None = None

    @property
    def own(self) -> Mapping[str, NDArray[np.float32]]:
        """The running statistics that stay with this device."""
        own: Mapping[str, NDArray[np.float32]] = self._trainer.own
        return own

    def _shuffled(self, seed: int, index: int, epoch: int) -> NDArray[np.int64]:
        """Return the order of the training samples in a local epoch of the running iteration."""
        iteration = self.client.taking_part or 0
        return np.random.default_rng((_SHUFFLE, seed, index, iteration, epoch)).permutation(self._trainer.train_size)

    def _dropout_seed(self, seed: int, index: int) -> int:
        """Return the seed of dropout in the running iteration."""
        iteration = self.client.taking_part or 0
        return int(np.random.SeedSequence((_DROPOUT, seed, index, iteration)).generate_state(1, np.uint64)[0])

    def advance(self, transport: MeteredTransport) -> Step:
        """Run until the device must wait for the others, or has the new model and its accuracy, or ends its job."""
        step = advance(self._flow, transport, now_ms)
        self.outcome = step.outcome if isinstance(step, IterationDone) else None
        return step

    def finish(self, transport: MeteredTransport) -> None:
        """Let the device end its job."""
        if not isinstance(advance(self._flow, transport, now_ms), Finished):
            self._flow.close()

    def close(self) -> None:
        """End the client's job at once."""
        self._flow.close()

    @property
    def loss(self) -> float:
        """Mean loss of the last local epoch so far."""
        return float(self._trainer.last_loss)

    def result(self) -> ClientResult:
        """Return what the device did in the iteration that it ended."""
        if self.outcome is None:
            raise SimulationError(f"client {self.name} did not end the iteration")
        steps = self.steps(self.outcome)
        return ClientResult(self.outcome.loss, steps, self.measured(self.outcome), self.client.memory)

    def measured(self, outcome: IterationOutcome) -> Measured:
        """Return the device's latest evaluation, that of the iteration that it ended last."""
        return Measured.by(self._trainer, self.name, outcome.accuracy)

    def steps(self, outcome: IterationOutcome) -> int:
        """Return the training steps of an iteration."""
        return self._batches * outcome.epochs


class PairKeyRing:
    """Gives all devices the same :class:`~mindfl.privacy.secagg.PairKeys` in an iteration; forgets old ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], PairKeys] = {}

    def __call__(self, mode: UploadMode, iteration: int) -> PairKeys:
        """Return what derives the keys of ``iteration``."""
        with self._lock:
            known = self._kept.get((mode.name, iteration))
            if known is None:
                known = mode.pair_keys()
                self._kept[mode.name, iteration] = known
                for old in [key for key in self._kept if key[1] <= iteration - _ITERATIONS_KEPT]:
                    self._kept.pop(old).forget()
            return known

    def close(self) -> None:
        """Forget all keys and end the threads. No device may be at work."""
        with self._lock:
            for keys in self._kept.values():
                keys.forget()
            self._kept.clear()


def single_device(
    config: JobConfig,
    index: int,
    user: UserData,
    model: JobModel,
    *,
    fetches: bool = False,
    engine: Engine | None = None,
) -> tuple[DeviceClient, Any]:
    """Return a client, with the model loaded, and its trainer. The next device may take the model's place.

    A client that only ``fetches`` a model needs weights, not operators. Without ``engine`` the ``.ms`` is executed.
    """
    trainer: Any = WeightsTrainer(model, user)
    if not fetches:
        trainer = (engine or _engine_of(model.content)).trainer(user, threading.Event())
        names = model.weights.keys() if engine is None else engine.names
        trainer.load({name: values for name, values in model.weights.items() if name in names})
    if config.train_weights is not None:
        trainer = PartialTrainer(trainer, config.train_weights, model)
    log = ClientLog(config.client_log(index), datetime.now)
    return DeviceClient(client_settings(config, index, user), trainer, now_ms, log), trainer


@lru_cache(maxsize=1)
def _engine_of(content: bytes) -> LiteEngine:
    """Return an engine; clients one after the other mostly have the same model."""
    return LiteEngine(LiteModel.from_bytes(content), training=False)
