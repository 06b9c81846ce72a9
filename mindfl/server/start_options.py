"""Arguments of ``mindfl server start``, and warnings for those without an effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.learning_rates import ConstantRate, make_schedule
from mindfl.algorithms.naming import make_algorithm
from mindfl.errors import OptionError
from mindfl.notices import Rule, without_effect
from mindfl.options.server_options import StartOptions
from mindfl.server.iteration import IterationRecord
from mindfl.server.settings import JobSettings
from mindfl.spelling import checked_arguments

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]


class Hooks(Protocol):
    """Callbacks of a program that runs a server: called one after the other, in a thread of their own."""

    def after_started(self) -> None:
        """Requests are accepted."""

    def iteration_ended(self, record: IterationRecord, checkpoint: Path | None) -> None:
        """An iteration ended; ``checkpoint`` is the file of its model."""

    def before_stopped(self) -> None:
        """The server has answered its last request."""


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class ServerOptions(StartOptions):
    """Arguments of ``mindfl server start``.

    ``overrides`` are settings by name that count instead of the file's. ``model`` is a file, or weights (float32, any
    shape) by name, of which ``filters`` names those that checkpoints hold in another order (see
    :class:`~mindfl.server.checkpoint.CheckpointWriter`); those named in ``constant`` are never trained.
    ``http_server_address`` is the first of ``server_num`` consecutive ports. ``state_dir`` None stands for a folder
    named after the job; it is not used where ``journal`` is False. ``password`` belongs to the server's key, which
    ``server_key_path`` holds where the file of a PEM certificate does not.

    ``cluster``: share the job with the other servers of the same ``fl_name`` that meet in the Redis at
    ``distributed_cache.address``; a stored job resumes as it is, a new one begins after the newest checkpoint. Servers
    on other machines find this one at ``tcp_server_ip``. Not with ``state_dir``, ``dp_budget``,
    an ``algorithm`` or an ``lr_schedule``.

    ``dp_budget``: largest epsilon that a client may spend; the job has as many iterations as that pays for, and no
    other instance.

    ``algorithm`` makes the next model: an object, or a text for :func:`mindfl.algorithms.naming.make_algorithm`. It may
    replace ``step`` and ``state`` alone.

    ``lr_schedule`` is the learning rate of each iteration, as for
    :func:`mindfl.algorithms.learning_rates.make_schedule`.
    """

    filters: Set[str] | None = None
    constant: Set[str] = frozenset()
    password: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    hooks: Hooks | None = None

    def __post_init__(self) -> None:
        """Raise :class:`OptionError` for an option that servers of a ``cluster`` do not have."""
        if not self.cluster:
            return
        for name, (given, why) in _ONE_SERVER.items():
            if given(self):
                raise OptionError(f"--{name} is for one server: {why}", hint=f"leave --{name} or --cluster out")


def unused_options(options: ServerOptions, settings: JobSettings) -> Iterator[str]:
    """Yield a line for each option that was chosen but has no effect."""
    defaults = {item.name: item.default for item in fields(ServerOptions)}
    rules = _RULES if settings.enable_ssl else (*_RULES, _WITHOUT_TLS)
    yield from without_effect(rules, options, lambda name: getattr(options, name) != defaults[name])
    yield from unused_password(options.password, settings)


def unused_password(password: str | None, settings: JobSettings) -> Iterator[str]:
    """Yield a line where there is a password, but no key that it could belong to; it does not show the password."""
    if password is not None and not settings.enable_ssl:
        yield f"the password has no effect on this server: {_NO_TLS}"


#: option that the servers of a cluster do not have -> whether it is given, and why they do not have it
_ONE_SERVER: dict[str, tuple[Callable[[ServerOptions], bool], str]] = {
    "state_dir": (lambda options: options.state_dir is not None, "those of a --cluster keep the job in the Redis"),
    "dp_budget": (
        lambda options: options.dp_budget is not None,
        "the servers of a --cluster resume the job as it is stored",
    ),
    "algorithm": (
        lambda options: not make_algorithm(options.algorithm).is_fedavg,
        "those of a --cluster average",
    ),
    "lr_schedule": (
        lambda options: type(make_schedule(options.lr_schedule)) is not ConstantRate,
        "those of a --cluster keep one learning rate",
    ),
}
_NO_TLS = "enable_ssl is false, so nothing is encrypted"
_WITHOUT_TLS: Rule[ServerOptions] = Rule(
    ("server_key_path", "require_client_certificate"), lambda options: True, "this server", _NO_TLS
)
_RULES: tuple[Rule[ServerOptions], ...] = (
    Rule(("live_port",), lambda options: not options.live, "this server", "it is the port of --live"),
    Rule(
        ("tcp_server_ip",),
        lambda options: not options.cluster,
        "one server",
        "it is where the servers of a --cluster find each other",
    ),
    Rule(
        ("journal",),
        lambda options: options.cluster,
        "the servers of a cluster",
        "they keep the job in the Redis",
    ),
    Rule(
        ("state_dir",),
        lambda options: not options.journal and not options.cluster,
        "--no-journal",
        "nothing is kept in a folder",
    ),
)
