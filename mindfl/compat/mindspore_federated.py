"""The server interface of MindSpore Federated 0.1.0: its scripts run after changing the import line.

    from mindfl.compat.mindspore_federated import Callback, FeatureMap, FLServerJob, FlSchedulerJob, SSLConfig

One job per process, run from the main thread, as there. Servers with the same ``fl_name`` and
``distributed_cache.address`` in their YAML share one job, and a scheduler finds it. What is refused raises
:class:`mindfl.MindflError`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.server.checkpoint import latest
from mindfl.server.cluster import SchedulerOptions, run_scheduler
from mindfl.server.initial import initial_weights
from mindfl.server.iteration import IterationRecord
from mindfl.server.options import ServerOptions
from mindfl.server.process import run_server
from mindfl.server.settings import read_settings, require_supported

__all__ = ["Callback", "CallbackContext", "FLServerJob", "FeatureItem", "FeatureMap", "FlSchedulerJob", "SSLConfig"]

_logger = logging.getLogger("mindfl.server")


@dataclass
class SSLConfig:
    """The passwords of the certificates that the YAML file names. ``client_password`` is not needed here."""

    server_password: str = field(repr=False)
    client_password: str = field(repr=False)


@dataclass(eq=False)
class FeatureItem:
    """One weight: float32, any shape. ``require_aggr`` False: it keeps its value, whatever devices upload.

    Raises :class:`OptionError` for anything else.
    """

    feature_name: str
    data: NDArray[np.float32]
    require_aggr: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.data, np.ndarray) or self.data.dtype != np.float32 or self.data.size == 0:
            found = f"{self.data.dtype} {self.data.shape}" if isinstance(self.data, np.ndarray) else type(self.data)
            raise OptionError(f"feature {self.feature_name} must be a NumPy array of float32 with values, not {found}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``data``."""
        return self.data.shape


class FeatureMap:
    """Weights by name."""

    def __init__(self) -> None:
        self._items: dict[str, FeatureItem] = {}

    def add_feature(self, feature_name: str, tensor: NDArray[np.float32], require_aggr: bool = True) -> FeatureItem:
        """Add a weight, or replace the one of this name."""
        item = FeatureItem(feature_name, tensor, require_aggr)
        self._items[feature_name] = item
        return item

    def feature_map(self) -> dict[str, FeatureItem]:
        """Return the weights."""
        return self._items


@dataclass(frozen=True, eq=False)
class CallbackContext:
    """What became of an iteration.

    ``checkpoint_file`` is "" where there is no checkpoint folder. ``iteration_result`` is the reason, in words.
    """

    feature_map: FeatureMap
    checkpoint_file: str
    fl_name: str
    instance_name: str
    iteration_num: int
    iteration_valid: bool
    iteration_result: str


class Callback:
    """What a script wants to be told. Methods are called one after the other, in a thread of their own.

    An exception in one is logged as a warning, and the job goes on.
    """

    def after_started(self) -> None:
        """The server accepts requests."""

    def before_stopped(self) -> None:
        """The server has answered its last request."""

    def on_iteration_end(self, context: CallbackContext) -> None:
        """An iteration has ended, whichever server of the job was in charge."""


class FLServerJob:
    """A server of the job that the YAML file ``yaml_config`` describes.

    ``http_server_address``: where devices connect. ``tcp_server_ip``: where servers on other machines find this one.
    ``checkpoint_dir``, if it exists when the job is run: a folder for the model of each iteration,
    from which a new job begins. Raises :class:`OptionError` for settings that cannot be used.
    """

    def __init__(
        self,
        yaml_config: str,
        http_server_address: str,
        tcp_server_ip: str = "127.0.0.1",
        checkpoint_dir: str = "./fl_ckpt/",
        ssl_config: SSLConfig | None = None,
    ) -> None:
        self._settings = read_settings(yaml_config)
        require_supported(self._settings)
        self._yaml_config = yaml_config
        self._http_server_address = http_server_address
        self._tcp_server_ip = tcp_server_ip
        self._checkpoint_dir = checkpoint_dir
        self._password = _password(ssl_config)

    def run(
        self,
        feature_map: Mapping[str, NDArray[np.float32]] | FeatureMap | str | None = None,
        callback: Callback | None = None,
    ) -> None:
        """Serve until SIGTERM or SIGINT.

        ``feature_map``: the initial weights, or a ``.ckpt``, ``.mindir``, ``.ms`` or ``.npz`` file with them, taken as
        they lie. It may be missing where the checkpoint folder holds a model. Raises :class:`OptionError`, and
        :class:`StorageError` for files that cannot be used.
        """
        if callback is not None and not isinstance(callback, Callback):
            raise OptionError(f"callback must be a Callback, not {type(callback)}")
        folder = Path(self._checkpoint_dir)
        features = _features(feature_map, folder, self._settings.fl_name)
        options = ServerOptions(
            config=self._yaml_config,
            model={name: item.data for name, item in features.items()},
            constant=frozenset(name for name, item in features.items() if not item.require_aggr),
            http_server_address=self._http_server_address,
            checkpoint_dir=folder if folder.is_dir() else None,
            cluster=True,
            tcp_server_ip=self._tcp_server_ip,
            password=self._password,
            hooks=None if callback is None else _Hooks(callback, features, self._settings.fl_name),
        )
        run_server(options, ready=lambda url: _logger.info("ready %s", url), tell=_tell)


class FlSchedulerJob:
    """The scheduler of the job that ``yaml_config`` describes: it answers on ``manage_address``."""

    def __init__(self, yaml_config: str, manage_address: str, ssl_config: SSLConfig | None = None) -> None:
        read_settings(yaml_config)
        self._options = SchedulerOptions(
            config=yaml_config, manage_address=manage_address, password=_password(ssl_config)
        )

    def run(self) -> None:
        """Answer until SIGTERM or SIGINT."""
        run_scheduler(self._options, ready=lambda url: _logger.info("ready %s", url))


class _Hooks:
    """Calls a script's callback."""

    def __init__(self, callback: Callback, features: Mapping[str, FeatureItem], fl_name: str) -> None:
        self._callback = callback
        self._features = features
        self._fl_name = fl_name

    def after_started(self) -> None:
        self._call("after_started")

    def before_stopped(self) -> None:
        self._call("before_stopped")

    def iteration_ended(self, record: IterationRecord, checkpoint: Path | None) -> None:
        model = FeatureMap()
        for name, item in self._features.items():
            model.add_feature(name, record.model[name].reshape(item.shape), item.require_aggr)
        context = CallbackContext(
            feature_map=model,
            checkpoint_file=str(checkpoint or ""),
            fl_name=self._fl_name,
            instance_name=record.instance,
            iteration_num=record.iteration,
            iteration_valid=record.valid,
            iteration_result=record.reason,
        )
        self._call("on_iteration_end", context)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            getattr(self._callback, name)(*arguments)
        except Exception as error:
            _logger.warning("the callback's %s failed: %r", name, error, exc_info=True)


def _features(given: object, folder: Path, fl_name: str) -> Mapping[str, FeatureItem]:
    """Return the initial weights in the form in which they will be handed to the callback."""
    features = FeatureMap()
    if isinstance(given, FeatureMap):
        features = given
    elif isinstance(given, Mapping):
        for name, values in given.items():
            features.add_feature(name, values)
    elif isinstance(given, str | Path):
        for name, values in initial_weights(given, kchw=False).items():
            features.add_feature(name, values)
    elif given is not None:
        raise OptionError(
            f"feature_map must be a dict of arrays, a FeatureMap or the path of a file, not {type(given)}"
        )
    found = latest(folder, fl_name) if folder.is_dir() else None
    if found is None:
        if given is None:
            raise OptionError(f"feature_map is missing, and {folder} holds no checkpoint to begin with")
        return features.feature_map()
    before, newest = features.feature_map(), FeatureMap()
    for name, values in found.weights.items():
        newest.add_feature(name, values, before[name].require_aggr if name in before else True)
    return newest.feature_map()


def _password(ssl_config: SSLConfig | None) -> str | None:
    if ssl_config is not None and not isinstance(ssl_config, SSLConfig):
        raise OptionError(f"ssl_config must be an SSLConfig, not {type(ssl_config)}")
    return None if ssl_config is None else ssl_config.server_password


def _tell(text: str) -> None:
    warning = text.startswith("warning: ")
    _logger.log(logging.WARNING if warning else logging.INFO, "%s", text.removeprefix("warning: "))
