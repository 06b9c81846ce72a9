"""Checked options of a federated job."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mindfl.algorithms.learning_rates import LearningRates, settled
from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.sampler import OnlyFirst, Sampler, Uniform, make_sampler, sampling_rate
from mindfl.data import Dataset, StoredDataset
from mindfl.errors import OptionError
from mindfl.models import Model, model_spec
from mindfl.options import check_options
from mindfl.options.declaration import shown
from mindfl.options.job_options import JobOptions, LossName, reads_texts
from mindfl.sim.backends import ClientSide, ServerSide, check_backends, client_side, server_side
from mindfl.sim.compatibility import check_algorithm, check_modes
from mindfl.spelling import checked_arguments

if TYPE_CHECKING:
    from mindfl.client import HttpSettings

#: paths that are passed to Java clients: made absolute, because each client runs in its own folder
_JAVA_PATHS = (
    *("train_dataset", "test_dataset", "infer_dataset", "train_model_path", "infer_model_path"),
    *("origin_train_model_path", "origin_infer_model_path", "cert_path", "jar_path", "case_jar_path", "lite_jar_path"),
)
_DATASETS = ("train_dataset", "test_dataset", "infer_dataset")
#: options of a TLS connection to a running server
_TLS = ("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path")

#: default learning rates; those of Momentum and SGD are the tutorial's
LEARNING_RATES = {"momentum": 0.01, "sgd": 0.01, "adam": 0.001, "adam_weight_decay": 0.001}
#: longest name of a model file in bytes, without suffixes such as ``_trained.json``: file systems allow 255 in all
_LONGEST_NAME = 200
#: up to this number of clients, each has its own model file, as in the tutorial
MODEL_FILES_LIMIT = 100


def default_workers() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network that a job exports if the user gave no model file."""

    model: Model = "lenet"
    init: str = "lecun"
    optimizer: str = "momentum"
    momentum: float = 0.9
    weight_decay: float = 0.0
    loss: LossName = "sparse"
    batch_size: int = 32


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class JobConfig(JobOptions):
    """Settings of a :class:`~mindfl.sim.FederatedJob`.

    The options are declared in :class:`mindfl.options.job_options.JobOptions`; docs/options.md lists them.
    :func:`mindfl.sim.option_warnings.unused_settings` names those that have no effect.

    Raises:
        OptionError: a value is out of range, or options contradict each other.
    """

    #: ending of the model files: ``.ckpt`` where MindSpore trains a network that is not converted
    model_suffix: ClassVar[str] = ".ms"

    def __post_init__(self) -> None:
        check_options(self)
        for name in _DATASETS:
            data = getattr(self, name)
            if not isinstance(data, Dataset | str | os.PathLike | None):
                raise OptionError(f"{name} must be a path or a data set, got {shown(data)}")
            if isinstance(data, StoredDataset):
                object.__setattr__(self, name, data.root)
        object.__setattr__(self, "clients", self.client_side.name)
        self._check_words()
        self._check_numbers()
        self._check_weights()
        self._check_files()
        self._check_parts()
        self._check_server()
        self._check_rates()
        check_modes(self)
        check_algorithm(self)
        if not self.client_side.simulated:
            self._check_java()

    def _check_numbers(self) -> None:
        if self.clients_per_iteration is not None and self.clients_per_iteration > self.client_num:
            raise OptionError(f"clients_per_iteration is {self.clients_per_iteration}, above client_num")

    def _check_words(self) -> None:
        for option in ("train_ms_name", "infer_ms_name"):
            name = getattr(self, option)
            if name is not None and (not name.isprintable() or not name or "/" in name or name.startswith(".")):
                raise OptionError(f"{option} must be a plain file name without folder, got {name!r}")
            if name is not None and len(name.encode()) > _LONGEST_NAME:
                raise OptionError(f"{option} is longer than {_LONGEST_NAME} bytes: {name[:40]}...")
        if len(self.model_name.encode()) > _LONGEST_NAME:
            raise OptionError(
                f"the model files' name is longer than {_LONGEST_NAME} bytes: {self.model_name[:40]}...",
                hint="choose another with --train_ms_name",
            )
        if self.deploy_env == "android":
            raise OptionError(
                "deploy_env android: clients are simulated on this machine only",
                hint="build the app with MindSpore Federated's Android package and let it join mindfl server",
            )
        if not self.fl_name.strip():
            raise OptionError("fl_name is empty")

    def _check_weights(self) -> None:
        if self.init_from is not None and self.init is not None:
            raise OptionError(
                f"init {self.init} and init_from both give the initial weights", hint="leave one of them out"
            )
        _ = self.train_weights, self.infer_weights

    def _check_files(self) -> None:
        """Check that no file is the first model of one client and the second model of another."""
        if not self.writes_client_models or (self.infer_model_path is None and self.infer_ms_name is None):
            return
        first = {self.client_model(index).absolute(): index for index in range(self.client_num)}
        for index in range(self.client_num):
            second = self.client_infer_model(index)
            other = None if second is None else first.get(second.absolute())
            if other is not None:
                raise OptionError(
                    f"{second} would be the first model of client {other} and the second one of client {index}",
                    hint="choose another infer_ms_name",
                )

    def _check_parts(self) -> None:
        """Check options that exclude each other, the backends and the user's objects."""
        if self.resume and self.overwrite:
            raise OptionError("resume and overwrite contradict each other", hint="give one of them")
        if self.model is not None:
            model_spec(self.model)
        check_backends(self)
        if isinstance(self.callbacks, str) or not isinstance(self.callbacks, Iterable):
            raise OptionError(f"callbacks must be a list of objects or names, got {self.callbacks!r}")
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        if self.sampler is not None and self.clients_per_iteration is not None:
            raise OptionError(
                "sampler and clients_per_iteration both choose the clients of an iteration",
                hint="leave one of them out; --sampler uniform:cohort=20 is --clients_per_iteration 20",
            )
        self.sampling_rate  # noqa: B018 - raises

    def _check_rates(self) -> None:
        """Check the learning rates of all rounds, as far as they are known; write the schedule out in full."""
        object.__setattr__(self, "lr_schedule", settled(self.lr_schedule, self.iterations))
        rates = LearningRates(self.lr_schedule, self.iterations)
        if rates.constant or not self.server_side.planned_here:
            return
        rates.check(self.rate)
        if self.server_side.reference:
            raise OptionError(
                f"lr_schedule {rates.name} does not work here: MindSpore Federated's server gives every client the one "
                "learning rate of its file, in all iterations",
                hint="leave --stack or --lr_schedule out; Java clients of the embedded server follow a schedule too",
            )

    def _check_server(self) -> None:
        """Check the options of a connection to a server; refuse them if the job has its own server."""
        if not self.server_side.planned_here:
            self.server_settings()
            return
        chosen = ("ssl_protocol",) if self.enable_ssl else ()
        unused = [name for name in (*_TLS, "use_elb") if getattr(self, name) and name not in chosen]
        if unused:
            raise OptionError(f"{unused[0]} is given, but no domain_name", hint="--domain_name http://HOST:PORT")

    def _check_java(self) -> None:
        missing = [name for name in ("jar_path", "case_jar_path") if getattr(self, name) is None]
        if missing:
            raise OptionError(f"Java clients need {missing[0]}", hint="--jarPath and --case_jarPath")
        for name in _JAVA_PATHS:
            path = getattr(self, name)
            if isinstance(path, Path):
                object.__setattr__(self, name, path.absolute())
        if not self.writes_client_models:
            raise OptionError("each Java client needs a model file of its own", hint="give --per_client_models")

    def derived(self, **changes: object) -> JobConfig:
        """Return a copy with other values, which are not checked."""
        copied = copy.copy(self)
        if "sampler" in changes:
            vars(copied).pop("chooser", None)
        vars(copied).pop("model_name", None)
        for name, value in changes.items():
            object.__setattr__(copied, name, value)
        return copied

    def server_settings(self) -> HttpSettings:
        """Return the settings of connections to the server in ``domain_name``."""
        from mindfl.client import HttpSettings, TlsSettings

        return HttpSettings(
            url=self.domain_name or "",
            use_elb=self.use_elb,
            server_num=self.server_num,
            tls=TlsSettings(**{name: getattr(self, name) for name in _TLS}),
            connections=self.threads,
        )

    @property
    def server_side(self) -> ServerSide:
        """The kind of server."""
        return server_side(self)

    @property
    def client_side(self) -> ClientSide:
        """The kind of clients."""
        return client_side(self)

    @property
    def rate(self) -> float:
        """The learning rate."""
        return LEARNING_RATES[self.network.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def network(self) -> Network:
        """The network to export; missing settings have their defaults."""
        given = {item.name: value for item in fields(Network) if (value := getattr(self, item.name)) is not None}
        if reads_texts(self.fl_name):
            given.setdefault("model", "albert")
        return Network(**given)

    @property
    def resumable(self) -> bool:
        """Whether ``resume`` can continue the run: other servers and Java clients keep their own state."""
        return self.server_side.embedded and self.client_side.simulated

    @cached_property
    def chooser(self) -> Sampler:
        """The sampler: the one that was given, or the uniform one of ``clients_per_iteration``."""
        if make_algorithm(self.algorithm).pools_data:
            return OnlyFirst()
        return Uniform(self.clients_per_iteration) if self.sampler is None else make_sampler(self.sampler)

    @property
    def sampling_rate(self) -> float | None:
        """The probability with which each client takes part in an iteration; None if the sampler has no rate."""
        return sampling_rate(self.chooser, self.client_num)

    @property
    def network_name(self) -> str:
        """Name of the network to export, in titles and messages."""
        return model_spec(self.network.model).name

    @cached_property
    def model_name(self) -> str:
        """Common part of the model files' names: ``train_ms_name``, or what follows from the network.

        Of an ``origin_train_model_path`` with an unknown network it is the name of that file.
        """
        if self.train_ms_name is not None:
            return self.train_ms_name
        if self.origin_train_model_path is not None and self.model is None and not reads_texts(self.fl_name):
            return self.origin_train_model_path.stem
        return model_spec(self.network.model).file_name

    @property
    def cohort(self) -> int:
        """Mean number of clients per iteration; all clients if the sampler has no rate."""
        rate = self.sampling_rate
        return self.client_num if rate is None else max(1, round(rate * self.client_num))

    @property
    def all_take_part(self) -> bool:
        """Whether every client takes part in every iteration."""
        return isinstance(self.chooser, Uniform) and self.cohort == self.client_num

    @property
    def threads(self) -> int:
        """Worker threads."""
        return self.workers or default_workers()

    @property
    def models(self) -> Path:
        """Folder of the model files."""
        return self.train_model_path or self.work_dir / "ms"

    @property
    def converts(self) -> bool:
        """Whether the network is converted, so that devices could train it."""
        return self.model_suffix == JobConfig.model_suffix

    @property
    def writes_client_models(self) -> bool:
        """Whether each client gets its own model file."""
        return self.client_num <= MODEL_FILES_LIMIT if self.per_client_models is None else self.per_client_models

    @property
    def train_weights(self) -> tuple[str, ...] | None:
        """Names of the weights that clients exchange with the server; None: all."""
        return split_names(self.train_weight_name, self.name_regex, "train_weight_name")

    @property
    def infer_weights(self) -> tuple[str, ...] | None:
        """Names of the weights that are written to second model files; None: all."""
        return split_names(self.infer_weight_name, self.name_regex, "infer_weight_name")

    def client_model(self, index: int) -> Path:
        """Return the model file of client ``index``."""
        return self.models / f"{self.model_name}{index}{self.model_suffix}"

    def client_infer_model(self, index: int) -> Path | None:
        """Return the second model file of client ``index``; None if it has one file only."""
        folder = self.infer_model_path or self.models
        path = folder / f"{self.infer_ms_name or self.model_name}{index}{self.model_suffix}"
        return None if path.absolute() == self.client_model(index).absolute() else path

    def client_log(self, index: int) -> Path:
        """Return the log file of client ``index``."""
        return self.work_dir / f"client_{index}" / "client.log"


def split_names(value: str | None, separator: str, option: str) -> tuple[str, ...] | None:
    """Return the names of weights in ``value``, separated by the regular expression ``separator``; None for None.

    Raises :class:`OptionError` if ``separator`` is no regular expression, or ``value`` has no name.
    """
    if value is None:
        return None
    try:
        names = tuple(filter(None, re.split(separator or ",", value)))
    except re.error as error:
        raise OptionError(f"name_regex {separator!r} is no regular expression: {error}") from None
    if not names:
        raise OptionError(f"{option} names no weight")
    return names
