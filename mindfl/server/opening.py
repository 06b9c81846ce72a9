"""The job of a server: a new one, which begins with a model file or a checkpoint, or the one that is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from datetime import datetime, timezone
from pathlib import Path

from mindfl.algorithms.algorithm import replaced
from mindfl.algorithms.learning_rates import LearningRates
from mindfl.algorithms.naming import describe
from mindfl.algorithms.server_algorithm import ServerAlgorithm, check_uploads, served
from mindfl.files import make_dir
from mindfl.server.aggregate import initial_model
from mindfl.server.checkpoint import CheckpointWriter, latest
from mindfl.server.coordinator import Coordinator
from mindfl.server.durable import DurableJob
from mindfl.server.initial import device_weights, four_dimensional, unknown_order
from mindfl.server.iteration import Clock
from mindfl.server.management import instance_name
from mindfl.server.reports import Sink
from mindfl.server.settings import JobSettings
from mindfl.server.start_options import ServerOptions, Weights
from mindfl.server.state import JobState
from mindfl.server.storage import Memory, Storage


class JobOpener:
    """Opens the job that ``options`` and ``settings`` describe; ``tell`` is given lines of progress.

    ``weights`` are those that a new job begins with, in ``first_iteration``.
    """

    def __init__(
        self, options: ServerOptions, settings: JobSettings, clock: Clock, tell: Callable[[str], None]
    ) -> None:
        self._options = options
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._algorithm = served(options.algorithm)
        self._lr_schedule = options.lr_schedule
        job = settings.server_config()
        LearningRates(options.lr_schedule, job.fl_iteration_num).check(job.client_learning_rate)
        check_uploads(self._algorithm, job.mode, job.update_quota)
        self._checkpoint_dir = options.checkpoint_dir or settings.checkpoint_dir or None
        self.instance = instance_name(datetime.now(timezone.utc).astimezone())
        self.first_iteration = 1
        self.weights, self._filters = self._initial()

    def begin_after_checkpoint(self) -> None:
        """Let a new job begin as the reference's after the newest checkpoint, unless this server keeps the models.

        Several servers that share a job do not keep them.
        """
        if self._checkpoint_dir is None or (self._options.journal and not self._options.cluster):
            return
        found = latest(self._checkpoint_dir, self._settings.fl_name)
        if found is not None:
            self._tell(f"iterations 1 to {found.iteration} are done: {found.path} is loaded")
            self._filters = found.filters or self._filters
            self.first_iteration, self.weights = found.iteration + 1, found.weights

    def _initial(self) -> tuple[Weights, Set[str] | None]:
        """Return the weights to begin with, and which of them are filters of convolutions, where that is known."""
        model = self._options.model
        if isinstance(model, Mapping):
            return model, self._options.filters
        found = device_weights(model)
        if found.filters is None:
            self._tell(unknown_order(model, four_dimensional(found.arrays)))
        return found.arrays, found.filters

    def checkpoint_writer(self) -> CheckpointWriter | None:
        """Return the writer of checkpoints; None where no folder is named for them."""
        if self._checkpoint_dir is None:
            return None
        shapes = {name: values.shape for name, values in self.weights.items()}
        return CheckpointWriter(make_dir(self._checkpoint_dir), self._settings.fl_name, shapes, self._filters)

    def durable(self, storage: Storage | None, ended: Sink, memory: Memory | None = None) -> DurableJob:
        """Return the job in ``storage``, or in the state folder; ``ended`` is given the records of iterations.

        ``memory``: where the job continues if nothing is stored. Raises :class:`StorageError`.
        """
        job = DurableJob(
            storage or self._state_dir,
            self._settings.server_config(),
            self.weights,
            clock=self._clock,
            on_iteration_end=ended,
            instance=self.instance,
            first_iteration=self.first_iteration,
            as_stored=self._options.cluster,
            constant=self._options.constant,
            algorithm=self._algorithm,
            lr_schedule=self._lr_schedule,
            memory=memory,
        )
        if not job.resumed:
            self._warn_of_lost_state()
        self._tell_recovery(job, storage.place if storage else str(self._state_dir))
        return job

    @property
    def _state_dir(self) -> Path:
        return Path(self._options.state_dir or re.sub(r"[^\w.-]+", "_", self._settings.fl_name) + "_state")

    def _tell_recovery(self, job: DurableJob, place: str) -> None:
        if job.recovery.cut:
            self._tell(
                f"the journal in {place} ended torn: its last {job.recovery.cut} bytes hold no whole record and are"
                " removed; a crash leaves no acknowledged upload there, a damaged disk or a shortened file may"
            )
        if job.revived:
            self._tell(
                f"warning: {place} had lost the job: it goes on from this server's memory with iteration "
                f"{job.coordinator.iteration}"
            )
        elif job.recovery.events or job.coordinator.iteration > self.first_iteration:
            self._tell(
                f"the job in {place} goes on with iteration {job.coordinator.iteration}:"
                f" {job.recovery.uploads} of its uploads were read back in {job.recovery.seconds:.1f} s"
            )

    def volatile(self, ended: Sink) -> Coordinator:
        """Return a new job that is kept in memory alone."""
        config, first = self._settings.server_config(), self.first_iteration
        _, model = initial_model(self.weights)
        arrays = ServerAlgorithm(self._algorithm).first_state(model)
        self._warn_of_lost_state()
        return Coordinator(
            config,
            self.weights,
            on_iteration_end=ended,
            wall=self._clock.wall_ms,
            state=JobState(config, self.instance, first, True, {first - 1: model}, arrays=arrays),
            constant=self._options.constant,
            algorithm=self._algorithm,
            lr_schedule=self._lr_schedule,
        )

    def _warn_of_lost_state(self) -> None:
        """Warn that a job which begins after a checkpoint lacks the state of its algorithm, which is not in there."""
        if self.first_iteration > 1 and "state" in replaced(self._algorithm):
            name = describe(self._algorithm)
            self._tell(f"warning: a checkpoint holds the model alone: the state of algorithm {name} begins anew")
