"""Refuses jobs whose parts do not work together: upload mode, algorithm and installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mindfl.algorithms.algorithm import Algorithm, replaced
from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.sampler import Uniform
from mindfl.algorithms.server_algorithm import check_uploads, refusal
from mindfl.errors import OptionError
from mindfl.imports import require
from mindfl.modes import UploadMode, mode_of
from mindfl.server.aggregate import MAX_UPLOADS
from mindfl.server.server_config import ServerConfig
from mindfl.sim.upload_mode import mode_settings

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig


def check_modes(config: JobConfig) -> None:
    """Raise :class:`OptionError` for an unusable setting of the upload mode, or one that other parts do not support."""
    mode = mode_of(config)
    if config.server_side.planned_here or not mode.masked:
        clients = min(config.cohort, config.client_num, MAX_UPLOADS)
        ServerConfig(fl_iteration_num=1, start_fl_job_threshold=clients, **mode_settings(config, clients))
    if config.server_side.planned_here:
        _check_parts(config, mode)


def _check_parts(config: JobConfig, mode: UploadMode) -> None:
    """Raise :class:`OptionError` if the mode does not work with the job's other parts."""
    if mode.masked and config.client_side.spread:
        raise OptionError(
            f"executor ray does not work with {mode.name}: it sums on each node, and masks need all uploads"
        )
    if mode.masked and not isinstance(config.chooser, Uniform):
        raise OptionError(
            f"sampler does not work with {mode.name}: masks are made for a fixed number of clients",
            hint="choose clients_per_iteration, or another encrypt_type",
        )
    if not config.client_side.simulated:
        if mode.masked:
            raise OptionError(
                f"Java clients do not work with {mode.name}: 0.1.0 begins its mask anew in every weight, so that no "
                "server can take it out of the sum",
                hint="let embedded clients train, or choose another encrypt_type",
            )
        if not mode.in_reference:
            raise OptionError(
                f"Java clients do not know the upload mode {mode.name}", hint="let embedded clients train"
            )
    if config.server_side.reference and not mode.in_reference:
        raise OptionError(
            f"{mode.name} is {mode.origin}: MindSpore Federated's server does not know it",
            hint="leave --stack out, or choose another encrypt_type",
        )
    if mode.masked and config.train_weight_name is not None:
        raise OptionError(f"train_weight_name does not work with {mode.name}: a mask covers all weights")


@dataclass(frozen=True)
class _Rule:
    """Algorithms that replace one of ``methods`` do not work in jobs for which ``applies`` is true."""

    methods: tuple[str, ...]
    applies: Callable[[JobConfig], bool]
    reason: str
    hint: str


_SERVER_ONLY = "an algorithm that replaces step alone works"
_RULES = (
    _Rule(
        ("extras", "state", "step"),
        lambda config: not config.server_side.embedded,
        "a server of its own process makes the next model itself",
        "an algorithm that replaces begin and end alone works; `mindfl server start --algorithm` has the others",
    ),
    _Rule(
        ("extras", "start", "personal", "personal_training", "begin", "end"),
        lambda config: not config.client_side.simulated,
        "Java clients train and upload as MindSpore Federated does",
        f"{_SERVER_ONLY}, or embedded clients",
    ),
    _Rule(
        ("start",),
        lambda config: config.evaluate == "central",
        "parts of the model stay on the devices, so the server has no whole model to evaluate on a central test set",
        "use --evaluate all or drawn",
    ),
    _Rule(
        ("begin", "personal_training"),
        lambda config: not config.client_side.engine.executes_files,
        "MindSpore's training step cannot be corrected",
        "use --engine lite, or an algorithm whose clients train as they are, such as fedavg or fednova",
    ),
)


def check_algorithm(config: JobConfig) -> None:
    """Raise :class:`OptionError` if there is no such algorithm, or another part of the job does not support it."""
    algorithm = make_algorithm(config.algorithm)
    methods = replaced(algorithm)
    for rule in _RULES:
        if methods.intersection(rule.methods) and rule.applies(config):
            raise refusal(algorithm, rule.reason, rule.hint)
    if algorithm.pools_data:
        _check_pooled(config, algorithm)
    if "extras" in methods and (fault := mode_of(config).extras_fault):
        raise refusal(algorithm, fault, "use plain uploads or secure aggregation, or an algorithm without extras")
    check_cohort(config, config.client_num)


def _check_pooled(config: JobConfig, algorithm: Algorithm) -> None:
    """Raise :class:`OptionError` where the samples of all clients cannot lie in one place, or others are asked for."""
    faults = {
        "the data of devices are not in one place": not config.server_side.embedded or not config.client_side.simulated,
        "all samples are trained on in each iteration, so clients are not drawn": config.sampler is not None
        or config.clients_per_iteration is not None
        or config.evaluate == "drawn",
        "nothing is uploaded": bool(mode_of(config).section) or mode_of(config).compresses,
        "one process trains": config.client_side.spread,
    }
    for reason in (text for text, applies in faults.items() if applies):
        raise refusal(algorithm, reason, "leave that option out")


def check_cohort(config: JobConfig, clients: int) -> None:
    """Raise :class:`OptionError` where a round of a job of so many ``clients`` has too few for its algorithm."""
    cohort = min(config.cohort, clients) if isinstance(config.chooser, Uniform) else None
    check_uploads(make_algorithm(config.algorithm), mode_of(config), cohort)


class _Need(NamedTuple):
    """Where ``applies``, the tasks ``tasks`` need ``package``, because of ``what``."""

    package: str
    tasks: tuple[str, ...]
    applies: Callable[[JobConfig], bool]
    what: Callable[[JobConfig], str]


def check_packages(config: JobConfig, task: str = "train") -> None:
    """Raise :class:`OptionError` naming a package that ``task``, ``train`` or ``getModel``, needs and does not find."""
    for need in _NEEDS:
        if task in need.tasks and need.applies(config):
            require(need.what(config), need.package)


def _own_server(config: JobConfig) -> bool:
    return config.server_side.planned_here


def _masks(config: JobConfig) -> bool:
    has_part = config.server_side.embedded or config.client_side.simulated
    return _own_server(config) and mode_of(config).masked and has_part


def _counts_sampled(config: JobConfig) -> bool:
    return _own_server(config) and bool(mode_of(config).accounting_package) and (config.sampling_rate or 1) < 1


_NEEDS = (
    _Need("tensorboard", ("train",), lambda config: config.tensorboard, lambda config: "--tensorboard"),
    _Need("ray", ("train",), lambda config: config.client_side.spread, lambda config: "--executor ray"),
    _Need("cryptography", ("train",), _masks, lambda config: f"--encrypt_type {mode_of(config).name}"),
    _Need(
        "cryptography",
        ("train", "getModel"),
        lambda config: config.enable_ssl,
        lambda config: "--enable_ssl makes certificates, which",
    ),
    _Need(
        "dp-accounting",
        ("train",),
        _counts_sampled,
        lambda config: f"what {mode_of(config).name} costs with {config.cohort} of {config.client_num} clients",
    ),
    _Need(
        "redis",
        ("train", "getModel"),
        lambda config: config.redis_address is not None and config.server_side.started,
        lambda config: f"--redis_address {config.redis_address}",
    ),
)
