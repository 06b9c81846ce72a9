"""Everything that can be chosen about a federated job, checked in one place."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from mindfl.client.config import LENET_CLIENT
from mindfl.data.folder import local_path
from mindfl.errors import OptionError
from mindfl.models import DEVICE_TARGETS, INITIALIZERS, model_spec
from mindfl.sim.modes import check_modes
from mindfl.spelling import checked_arguments, nearest

if TYPE_CHECKING:
    from mindfl.client import HttpSettings

EngineName = Literal["lite", "mindspore"]
LossName = Literal["sparse", "onehot"]
ExecutorName = Literal["local", "ray"]
TransportName = Literal["in_process", "http"]
DataForm = Literal["compact", "bin"]
StackName = Literal["embedded", "federated"]
ClientsName = Literal["embedded", "java"]
EvaluateName = Literal["all", "drawn"]

#: settings with a fixed set of values, in the words of MindSpore Federated 0.1.0 where they are its own
_CHOICES: dict[str, tuple[str, ...]] = {
    "engine": get_args(EngineName),
    "loss": get_args(LossName),
    "executor": get_args(ExecutorName),
    "transport": get_args(TransportName),
    "data_format": get_args(DataForm),
    "stack": get_args(StackName),
    "clients": get_args(ClientsName),
    "evaluate": get_args(EvaluateName),
    "deploy_env": ("x86", "android"),
    "device_target": DEVICE_TARGETS,
    "init": INITIALIZERS,
    "optimizer": ("momentum", "sgd", "adam"),
    "ssl_protocol": ("TLSv1.2", "TLSv1.3"),
    "cpu_bind_mode": ("NOT_BINDING_CORE", "BIND_LARGE_CORE", "BIND_MIDDLE_CORE"),
    "server_mode": ("FEDERATED_LEARNING", "HYBRID_TRAINING"),
}
#: those of them without a default
_MAY_BE_NONE = ("loss", "clients", "ssl_protocol", "cpu_bind_mode", "init", "optimizer")
_WHOLE = ("client_num", "iterations", "epochs", "server_num")
_WHOLE_OR_NONE = (
    *("save_every", "batch_size", "clients_per_iteration", "evaluate_every"),
    *("workers", "thread_num", "parallel"),
)
#: paths that Java clients are given; each runs in a folder of its own, where a relative one would name something else
_JAVA_PATHS = (
    *("train_dataset", "test_dataset", "infer_dataset", "train_model_path", "infer_model_path"),
    *("origin_train_model_path", "origin_infer_model_path", "cert_path", "jar_path", "case_jar_path", "lite_jar_path"),
)
#: declared type -> what a value must be, and in words; whole numbers and choices are checked one by one
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "Path": ((str, os.PathLike), "a path"),
    "str": ((str,), "a text"),
    "bool": ((bool,), "True or False"),
    "float": ((int, float), "a number"),
}
_SHAPES = re.compile(r"\d+(,\d+)*(;\d+(,\d+)*)*")
#: how to reach a running server over TLS
_TLS = ("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path")
_PATHS = ("work_dir", "converter", "init_from", "python", "client_cert", "client_key", "crl_path", *_JAVA_PATHS)

#: step sizes that train LeNet; Momentum's and SGD's are the tutorial's
LEARNING_RATES = {"momentum": 0.01, "sgd": 0.01, "adam": 0.001}
#: what a 32-bit number, which devices and models hold it in, can be
_LEAST_RATE, _MOST_RATE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
#: bytes of a model file's name without what follows it, such as ``_trained.json``: file systems allow 255 in all
_LONGEST_NAME = 200
#: up to this many clients each gets a model file of its own, as in the tutorial
MODEL_FILES_LIMIT = 100


def default_workers() -> int:
    """Return one worker thread for each processor this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a job exports where it has no model file of the user's own."""

    model: str = "lenet"
    init: str = "lecun"
    optimizer: str = "momentum"
    momentum: float = 0.9
    loss: str = "sparse"
    batch_size: int = 32


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Settings of a :class:`~mindfl.sim.FederatedLeNetJob`.

    A name is the tutorial's or MindSpore Federated 0.1.0's where they have one. Settings that say nothing to the parts
    chosen are listed by :func:`mindfl.sim.notes.unused_settings`.

    Args:
        work_dir: folder for everything the job writes.
        resume: go on with the run in work_dir, with its settings where others are not given; False: a folder that holds
            a result is refused.
        overwrite: replace the run in work_dir.
        save_every: keep the model after every so many iterations as ``<name>_iteration{k}.ms``; None: not.
        save_best: keep the model with the highest AVG so far as ``<name>_best.ms``.
        train_dataset: data set made by ``mindfl data``, or the tutorial's folders; None: a synthetic one is drawn.
        test_dataset: data set whose test parts the clients are evaluated with: that of the user of the same name, or at
            the same position where no name is in both; one user's where it has only one. None: train_dataset.
        infer_dataset: the same for inference; None: what evaluation uses.
        train_model_path: folder of the model files; None: ``ms`` in the work folder.
        train_ms_name: common part of their names: ``<name>.ms`` to start from (made from ``<name>0.ms`` where only that
            is there), ``<name>{i}.ms`` of client i, ``<name>_trained.ms`` the result.
        infer_model_path, infer_ms_name: folder and name of second model files ``<name>{i}.ms``, which get the final
            model and which inference uses; None: as above, so that there is one file. They begin as copies of
            ``origin_infer_model_path``, else of the model to start from.
        origin_train_model_path: the ``.ms`` file to start from, instead of one in train_model_path.
        train_weight_name: names of the weights that clients exchange with the server, joined by what the regular
            expression ``name_regex`` matches; the others begin each iteration as in the model file. None: all.
        infer_weight_name: names of those that the second model files get; None: all.
        model, init, optimizer, momentum, loss: what is exported; see :func:`mindfl.export.export_mindir`. None: what a
            model file of the user's own holds; for one that is exported ``lenet``, ``lecun``, ``momentum``, 0.9 and
            ``sparse``. What contradicts such a file is refused.
        init_from: file with the initial weights in MindSpore's order, instead of ``init``: ``.ckpt``, ``.npz``,
            ``.safetensors``, ``.mindir`` or ``.ms``.
        client_num: clients; the data set's first ones in natural order of name.
        clients_per_iteration: clients drawn for each iteration with the seed; None: all.
        iterations, epochs, batch_size, learning_rate: the federated plan; the rate's default depends on the optimizer,
            that of batch_size is the model file's, else 32.
        evaluate: whose accuracies a row of the history holds: those of ``all`` clients, or of those ``drawn`` for the
            iteration. All are those of this process where a server elsewhere chooses.
        evaluate_every: the models of every so many iterations, and the last one, are evaluated. None: every one; or, of
            all clients, so seldom that it costs no more than the training, counted in batches.
        input_shape: shapes of the model's inputs, as ``32,32,32,3;32``; checked against the model file.
        fl_name: client class, as it appears in messages and logs.
        seed: of initial weights, synthetic data and the choice of clients.
        workers: threads; None: one per processor. The result does not depend on it.
        engine: ``lite`` executes the .ms file; ``mindspore`` trains the same network with MindSpore.
        device_target: MindSpore's device for the MindSpore engine: ``CPU``, ``GPU`` or ``Ascend``. All others train on
            the CPU.
        executor: ``local`` runs all clients here; ``ray`` spreads them over a Ray cluster, with the same result. Data
            set and work folder must have the same paths on every node; logs are written where a client runs.
        ray_address: address of the cluster; None: the one Ray finds, else one is started here.
        transport: how clients reach the embedded server: ``in_process``, or ``http`` over this machine's own network,
            with the same result.
        stack: ``embedded``, or ``federated``: MindSpore Federated 0.1.0's own server, started and stopped by the job
            unless ``domain_name`` says where it runs.
        server_num: number of its servers; the embedded stack needs no more than one. With ``domain_name`` and
            ``use_elb`` the number of that server's consecutive ports.
        enable_ssl, redis_address, python: of the stack ``federated``: whether it speaks TLS only, with certificates
            made for the job; a Redis that runs already; its interpreter. See :mod:`mindfl.sim.federated`.
        domain_name: URL of a running server to join, whoever made it. Iterations, epochs and learning rate are then
            those of its plan, and it chooses the clients of each iteration.
        cert_path, ssl_protocol, client_cert, client_key, crl_path, use_elb: how to reach it; see
            :class:`mindfl.client.HttpSettings` and :class:`mindfl.client.TlsSettings`.
        clients: ``embedded``, or ``java``: MindSpore Federated's own clients; None: java where ``jar_path`` is given.
        jar_path, case_jar_path, lite_jar_path, heap, java, parallel, thread_num, cpu_bind_mode, path_regex: of Java
            clients; see :class:`mindfl.sim.java.JavaSettings`.
        server_mode, deploy_env: ``HYBRID_TRAINING`` is for Java clients only, ``android`` for none.
        encrypt_type, dp_eps, dp_delta, dp_norm_clip, sign_k, sign_eps, sign_thr_ratio, sign_global_lr, sign_dim_out,
            exact_corrupt_ratio, upload_compress_type, upload_sparse_rate, download_compress_type: the form in which
            weights travel; see :class:`mindfl.server.ServerConfig`. Noise, choices and secrets follow from ``seed``.
        reconstruct_secrets_threshold: likewise; None: more than two thirds of the clients.
        dp_budget: epsilon that the job never exceeds: it ends before the iteration that would.
        vocal_file, ids_file: of the reference's text classification; LeNet has no use for them.
        converter: a ``converter_lite`` to use; see :func:`mindfl.convert.convert_model`.
        data_format: form of a synthetic data set.
        per_client_models: write ``<name>{i}.ms`` for each client; None: up to 100 clients.

    Raises :class:`OptionError` naming the argument without usable value.
    """

    work_dir: Path = field(default=Path("mindfl_work"))
    resume: bool = False
    overwrite: bool = False
    save_every: int | None = None
    save_best: bool = False
    train_dataset: Path | None = None
    test_dataset: Path | None = None
    infer_dataset: Path | None = None
    train_model_path: Path | None = None
    train_ms_name: str = "lenet_train"
    infer_model_path: Path | None = None
    infer_ms_name: str | None = None
    origin_train_model_path: Path | None = None
    origin_infer_model_path: Path | None = None
    train_weight_name: str | None = None
    infer_weight_name: str | None = None
    name_regex: str = ","
    model: str | None = None
    init: str | None = None
    init_from: Path | None = None
    optimizer: str | None = None
    loss: LossName | None = None
    momentum: float | None = None
    learning_rate: float | None = None
    client_num: int = 50
    clients_per_iteration: int | None = None
    evaluate: EvaluateName = "all"
    evaluate_every: int | None = None
    iterations: int = 20
    epochs: int = 5
    batch_size: int | None = None
    input_shape: str | None = None
    fl_name: str = LENET_CLIENT
    seed: int = 0
    workers: int | None = None
    engine: EngineName = "lite"
    device_target: str = "CPU"
    executor: ExecutorName = "local"
    ray_address: str | None = None
    transport: TransportName = "in_process"
    stack: StackName = "embedded"
    server_num: int = 1
    enable_ssl: bool = False
    redis_address: str | None = None
    python: Path | None = None
    domain_name: str | None = None
    cert_path: Path | None = None
    ssl_protocol: str | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    crl_path: Path | None = None
    use_elb: bool = False
    clients: ClientsName | None = None
    jar_path: Path | None = None
    case_jar_path: Path | None = None
    lite_jar_path: Path | None = None
    heap: str | None = None
    java: str | None = None
    parallel: int | None = None
    thread_num: int | None = None
    cpu_bind_mode: str | None = None
    path_regex: str | None = None
    server_mode: str = "FEDERATED_LEARNING"
    deploy_env: str = "x86"
    encrypt_type: str = "NOT_ENCRYPT"
    dp_eps: float = 50.0
    dp_delta: float = 0.01
    dp_norm_clip: float = 1.0
    sign_k: float = 0.01
    sign_eps: float = 100.0
    sign_thr_ratio: float = 0.6
    sign_global_lr: float = 0.1
    sign_dim_out: int = 0
    reconstruct_secrets_threshold: int | None = None
    exact_corrupt_ratio: float = 0.1
    upload_compress_type: str = "NO_COMPRESS"
    upload_sparse_rate: float = 0.4
    download_compress_type: str = "NO_COMPRESS"
    dp_budget: float | None = None
    vocal_file: str | None = None
    ids_file: str | None = None
    converter: Path | None = None
    data_format: DataForm = "compact"
    per_client_models: bool | None = None

    def __post_init__(self) -> None:
        self._check_types()
        for name in _PATHS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, local_path(value))
        if self.clients is None:
            object.__setattr__(self, "clients", "embedded" if self.jar_path is None else "java")
        self._check_words()
        self._check_numbers()
        self._check_weights()
        self._check_files()
        self._check_parts()
        self._check_server()
        check_modes(self)
        if self.clients == "java":
            self._check_java()

    def _check_types(self) -> None:
        """Refuse values of another type than declared; numbers of NumPy become Python's."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.generic):
                value = value.item()
                object.__setattr__(self, item.name, value)
            declared, *optional = str(item.type).split(" | ")
            if declared not in _TYPES or (optional and value is None):
                continue
            types, words = _TYPES[declared]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise OptionError(f"{item.name} must be {words}, got {value!r}")

    def _check_numbers(self) -> None:
        for name in _WHOLE:
            _check_whole(name, getattr(self, name), least=1)
        _check_whole("seed", self.seed, least=0)
        for name in _WHOLE_OR_NONE:
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), least=1)
        if self.clients_per_iteration is not None and self.clients_per_iteration > self.client_num:
            raise OptionError(f"clients_per_iteration is {self.clients_per_iteration}, above client_num")
        if not 0 < self.rate < math.inf:
            raise OptionError(f"learning_rate must be a finite number above 0, got {self.rate!r}")
        if not _LEAST_RATE <= self.rate <= _MOST_RATE:
            raise OptionError(f"learning_rate {self.rate!r} is beyond 32-bit floating point numbers")

    def _check_words(self) -> None:
        for option in ("train_ms_name", "infer_ms_name"):
            name = getattr(self, option)
            if name is not None and (not name.isprintable() or not name or "/" in name or name.startswith(".")):
                raise OptionError(f"{option} must be a plain file name without folder, got {name!r}")
            if name is not None and len(name.encode()) > _LONGEST_NAME:
                raise OptionError(f"{option} is longer than {_LONGEST_NAME} bytes: {name[:40]}...")
        for name, choices in _CHOICES.items():
            if getattr(self, name) is not None or name not in _MAY_BE_NONE:
                _check_choice(name, getattr(self, name), choices)
        if self.deploy_env == "android":
            raise OptionError(
                "deploy_env android: clients are simulated on this machine only",
                hint="build the app with MindSpore Federated's Android package and let it join mindfl server",
            )
        if self.input_shape is not None and not _SHAPES.fullmatch(self.input_shape):
            raise OptionError(f"input_shape must be numbers such as 32,32,32,3;32, got {self.input_shape!r}")
        if not self.fl_name.strip():
            raise OptionError("fl_name is empty")

    def _check_weights(self) -> None:
        if self.init_from is not None and self.init is not None:
            raise OptionError(
                f"init {self.init} and init_from both give the initial weights", hint="leave one of them out"
            )
        exchanged, _ = self.train_weights, self.infer_weights
        if exchanged is not None and (self.engine != "lite" or self.executor != "local"):
            raise OptionError("train_weight_name works with engine lite and executor local only")

    def _check_files(self) -> None:
        """Refuse names that make one file the first model of a client and the second of another."""
        if not self.writes_client_models:
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
        """Check which parts go together."""
        if self.resume and self.overwrite:
            raise OptionError("resume and overwrite contradict each other", hint="give one of them")
        if self.resume and (self.domain_name is not None or self.stack == "federated" or self.clients == "java"):
            raise OptionError(
                "resume needs the embedded server and clients: other servers and Java clients keep their own state",
                hint="choose another work_dir, or overwrite; a server that runs goes on where it is",
            )
        if self.model is not None:
            model_spec(self.model)
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise OptionError(f"momentum must be at least 0 and below 1, got {self.momentum!r}")
        if self.device_target != "CPU" and (self.engine != "mindspore" or self.clients == "java"):
            whom = "Java clients train" if self.clients == "java" else f"engine {self.engine} trains"
            raise OptionError(
                f"device_target {self.device_target} is for engine mindspore: {whom} on the CPU",
                hint="leave it out, or choose --engine mindspore",
            )
        if self.executor == "ray" and self.engine != "lite":
            raise OptionError(f"executor ray runs the engine lite only, not {self.engine}")
        elsewhere = self.domain_name is not None or self.stack == "federated" or self.clients == "java"
        if self.executor == "ray" and (self.transport != "in_process" or elsewhere):
            raise OptionError(
                "executor ray sums on each node, so it has no use for transport, servers and Java clients"
            )
        if self.executor == "ray" and self.test_dataset is not None:
            raise OptionError("executor ray opens one data set on each node, so test_dataset cannot be used with it")
        if self.server_mode != "FEDERATED_LEARNING" and self.clients != "java":
            raise OptionError(f"server_mode {self.server_mode} is for Java clients", hint="leave it out for LeNet")
        if self.clients_per_iteration is not None and elsewhere:
            reason = next(text for applies, text in _ALL_TAKE_PART.items() if applies(self))
            raise OptionError(f"{reason}: leave clients_per_iteration out")

    def _check_server(self) -> None:
        if self.enable_ssl and (self.stack != "federated" or self.domain_name is not None):
            raise OptionError(
                "enable_ssl is for a server that the job starts: --stack federated",
                hint="for one that runs already: --domain_name https://HOST:PORT --cert_path CA",
            )
        if self.domain_name is None:
            chosen = ("ssl_protocol",) if self.enable_ssl else ()
            unused = [name for name in (*_TLS, "use_elb") if getattr(self, name) and name not in chosen]
            if unused:
                raise OptionError(f"{unused[0]} is given, but no domain_name", hint="--domain_name http://HOST:PORT")
            return
        self.server_settings()

    def _check_java(self) -> None:
        missing = [name for name in ("jar_path", "case_jar_path") if getattr(self, name) is None]
        if missing:
            raise OptionError(f"Java clients need {missing[0]}", hint="--jarPath and --case_jarPath")
        for name in _JAVA_PATHS:
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, path.absolute())
        if not self.writes_client_models:
            raise OptionError("each Java client needs a model file of its own", hint="give --per_client_models")

    def derived(self, **changes: object) -> JobConfig:
        """Return a copy with other values. They are not checked: the job chose them, not the user."""
        copied = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(copied, name, value)
        return copied

    def server_settings(self) -> HttpSettings:
        """Return how to reach the server in ``domain_name``."""
        from mindfl.client import HttpSettings, TlsSettings

        return HttpSettings(
            url=self.domain_name or "",
            use_elb=self.use_elb,
            server_num=self.server_num,
            tls=TlsSettings(**{name: getattr(self, name) for name in _TLS}),
            connections=self.threads,
        )

    @property
    def rate(self) -> float:
        """The learning rate."""
        return LEARNING_RATES[self.network.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def network(self) -> Network:
        """The network to export, with the defaults of what is not given."""
        return Network(
            **{item.name: value for item in fields(Network) if (value := getattr(self, item.name)) is not None}
        )

    @property
    def cohort(self) -> int:
        """Clients per iteration."""
        return self.client_num if self.clients_per_iteration is None else self.clients_per_iteration

    @property
    def threads(self) -> int:
        """Worker threads."""
        return self.workers or default_workers()

    @property
    def models(self) -> Path:
        """Folder of the model files."""
        return self.train_model_path or self.work_dir / "ms"

    @property
    def writes_client_models(self) -> bool:
        """Whether each client gets a model file of its own."""
        return self.client_num <= MODEL_FILES_LIMIT if self.per_client_models is None else self.per_client_models

    @property
    def train_weights(self) -> tuple[str, ...] | None:
        """Names of the weights that are exchanged; None: all."""
        return split_names(self.train_weight_name, self.name_regex, "train_weight_name")

    @property
    def infer_weights(self) -> tuple[str, ...] | None:
        """Names of the weights that second model files get; None: all."""
        return split_names(self.infer_weight_name, self.name_regex, "infer_weight_name")

    def client_model(self, index: int) -> Path:
        """Return the model file of client ``index``."""
        return self.models / f"{self.train_ms_name}{index}.ms"

    def client_infer_model(self, index: int) -> Path | None:
        """Return the second model file of client ``index``; None where it has one only."""
        folder = self.infer_model_path or self.models
        path = folder / f"{self.infer_ms_name or self.train_ms_name}{index}.ms"
        return None if path.absolute() == self.client_model(index).absolute() else path

    def client_log(self, index: int) -> Path:
        """Return the log file of client ``index``."""
        return self.work_dir / f"client_{index}" / "client.log"


def split_names(value: str | None, separator: str, option: str) -> tuple[str, ...] | None:
    """Return the names of weights in ``value``, which stand between matches of the regular expression ``separator``.

    None gives None. Raises :class:`OptionError` where ``separator`` is no regular expression or there is no name.
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


def _check_whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = nearest(str(value), choices)
        hint = f"did you mean {near}?" if near else ""
        raise OptionError(f"{name} must be one of {', '.join(choices)}, got {value!r}", hint=hint)


#: why ``clients_per_iteration`` cannot be chosen
_ALL_TAKE_PART: dict[Callable[[JobConfig], bool], str] = {
    lambda config: config.clients == "java": "Java clients all take part",
    lambda config: config.stack == "federated": "stack federated needs all clients in each iteration",
    lambda config: config.domain_name is not None: "the server in domain_name chooses its clients",
}
