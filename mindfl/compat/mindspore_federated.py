"""The server interface of MindSpore Federated 0.1.0: its scripts run after changing the import line.

    from mindfl.compat.mindspore_federated import Callback, FeatureMap, FLServerJob, FlSchedulerJob, SSLConfig

One job per process, run from the main thread, as in the original. Servers with the same ``fl_name`` and
``distributed_cache.address`` in their YAML share one job, and a scheduler finds it. Unusable arguments and
settings raise ``RuntimeError`` as in the original, with its messages if it has any; they are also a
:class:`mindfl.MindflError`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.compat.refusals import (
    as_runtime_error,
    check_number,
    check_text,
    checked_keywords,
    refused,
    refusing,
    refusing_settings,
)
from mindfl.errors import ModelFormatError, OptionError, StorageError
from mindfl.options.server_options import EMBEDDED
from mindfl.server.checkpoint import latest
from mindfl.server.http import Address
from mindfl.server.initial import MODEL_FILES, DeviceWeights, device_weights, initial_weights
from mindfl.server.iteration import IterationRecord
from mindfl.server.serving import run_server
from mindfl.server.settings import JobSettings, read_settings, require_supported
from mindfl.server.start_options import ServerOptions

__all__ = ["Callback", "CallbackContext", "FLServerJob", "FeatureItem", "FeatureMap", "FlSchedulerJob", "SSLConfig"]

_logger = logging.getLogger("mindfl.server")


_CERTIFICATES = ("server_cert_path", "client_cert_path", "ca_cert_path", "cipher_list")


class SSLConfig:
    """The passwords of the certificates that the YAML file names. ``client_password`` is not needed here.

    Paths, ``cipher_list`` and days are for the reference's vertical jobs; a server takes those of its YAML file.
    """

    @checked_keywords
    def __init__(
        self,
        server_password: str,
        client_password: str,
        server_cert_path: str | None = None,
        client_cert_path: str | None = None,
        ca_cert_path: str | None = None,
        crl_path: str | None = None,
        cipher_list: str | None = None,
        cert_expire_warning_time_in_day: int = 90,
    ) -> None:
        check_text("server_password", server_password)
        check_text("client_password", client_password)
        unused = (server_cert_path, client_cert_path, ca_cert_path, cipher_list)
        for name, value in zip(_CERTIFICATES, unused, strict=True):
            if value is not None:
                check_text(name, value)
        if crl_path not in (None, ""):
            check_text("crl_path", crl_path)
        check_number("cert_expire_warning_time_in_day", cert_expire_warning_time_in_day)
        self.server_password = server_password
        self.client_password = client_password
        if any(unused) or crl_path:
            _logger.warning("paths and ciphers of an SSLConfig have no effect: a server takes those of its YAML file")

    def __repr__(self) -> str:
        return "SSLConfig()"


@dataclass(eq=False)
class FeatureItem:
    """One weight: float32, any shape. With ``require_aggr`` False it keeps its value, whatever devices upload.

    Raises ``RuntimeError`` for other values.
    """

    feature_name: str
    data: NDArray[np.float32]
    require_aggr: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.data, np.ndarray):
            raise refused("The type of parameter 'data' is expected to be instance of numpy.ndarray")
        if self.data.dtype != np.float32:
            raise refused(f"The value type of parameter 'data' is expected to be float32, but got {self.data.dtype}")
        if self.data.size == 0:
            raise refused("The value size of parameter 'data' is expected to > 0")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``data``."""
        return self.data.shape


class FeatureMap:
    """Weights by name."""

    def __init__(self) -> None:
        self._items: dict[str, FeatureItem] = {}

    @checked_keywords
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
    """Outcome of an iteration.

    ``checkpoint_file`` is "" without a checkpoint folder. ``iteration_result`` is the reason, in words.
    """

    feature_map: FeatureMap
    checkpoint_file: str
    fl_name: str
    instance_name: str
    iteration_num: int
    iteration_valid: bool
    iteration_result: str


class Callback:
    """Base class of a script's callbacks. Methods are called one after the other, in a separate thread.

    An exception in one is logged as a warning, and the job continues.
    """

    def after_started(self) -> None:
        """Called when the server accepts requests."""

    def before_stopped(self) -> None:
        """Called when the server has answered its last request."""

    def on_iteration_end(self, context: CallbackContext) -> None:
        """Called when an iteration has ended, on every server of the job."""


class FLServerJob:
    """A server of the job described in the YAML file ``yaml_config``.

    ``http_server_address``: address for devices. ``tcp_server_ip``: address for servers on other machines.
    ``checkpoint_dir``, if it exists when the job is run: a folder for the model of each iteration,
    from which a new job begins. Raises ``RuntimeError`` for arguments and settings that cannot be used.
    """

    @checked_keywords
    def __init__(
        self,
        yaml_config: str,
        http_server_address: str,
        tcp_server_ip: str = "127.0.0.1",
        checkpoint_dir: str = "./fl_ckpt/",
        ssl_config: SSLConfig | None = None,
    ) -> None:
        for name, value in (
            ("yaml_config", yaml_config),
            ("http_server_address", http_server_address),
            ("tcp_server_ip", tcp_server_ip),
            ("checkpoint_dir", checkpoint_dir),
        ):
            check_text(name, value)
        self._password = _password(ssl_config)
        self._settings = _settings(yaml_config)
        with refusing():
            require_supported(self._settings)
        self._yaml_config = yaml_config
        self._http_server_address = http_server_address
        self._tcp_server_ip = tcp_server_ip
        self._checkpoint_dir = checkpoint_dir

    @checked_keywords
    def run(
        self,
        feature_map: Mapping[str, NDArray[np.float32]] | FeatureMap | str | None = None,
        callback: Callback | None = None,
    ) -> None:
        """Serve until SIGTERM or SIGINT.

        ``feature_map``: the initial weights, or a ``.ckpt``, ``.mindir``, ``.ms`` or ``.npz`` file with them, used
        unchanged. It may be missing if the checkpoint folder contains a model. Raises ``RuntimeError`` for unusable
        arguments and files, and if the job runs with other weights or settings.
        """
        if callback is not None and not isinstance(callback, Callback):
            raise refused(
                "Parameter 'callback' is expected to be instance of Callback when it's not None, but"
                f" got {type(callback)}."
            )
        with refusing(self._settings):
            self._run(feature_map, callback)

    def _run(self, feature_map: object, callback: Callback | None) -> None:
        folder = Path(self._checkpoint_dir)
        features, filters = _features(feature_map, folder, self._settings.fl_name)
        try:
            Address.parse(self._http_server_address, "http_server_address")
        except OptionError as error:
            text = f"The format of http server address '{self._http_server_address}' is invalid"
            raise refused(text, str(error)) from None
        options = ServerOptions(
            config=self._yaml_config,
            model={name: item.data for name, item in features.items()},
            filters=filters,
            constant=frozenset(name for name, item in features.items() if not item.require_aggr),
            http_server_address=self._http_server_address,
            checkpoint_dir=folder if folder.is_dir() else None,
            cluster=self._settings.distributed_cache.type != EMBEDDED,
            tcp_server_ip=self._tcp_server_ip,
            password=self._password,
            hooks=None if callback is None else _Hooks(callback, features, self._settings.fl_name),
        )
        run_server(options, ready=lambda url: _logger.info("ready %s", url), tell=_tell)


class FlSchedulerJob:
    """The scheduler of the job described in ``yaml_config``; it listens at ``manage_address``."""

    @checked_keywords
    def __init__(self, yaml_config: str, manage_address: str, ssl_config: SSLConfig | None = None) -> None:
        from mindfl.server.cluster import SchedulerOptions

        check_text("yaml_config", yaml_config)
        check_text("manage_address", manage_address)
        password = _password(ssl_config)
        self._settings = _settings(yaml_config)
        self._options = SchedulerOptions(config=yaml_config, manage_address=manage_address, password=password)

    def run(self) -> None:
        """Answer until SIGTERM or SIGINT."""
        from mindfl.server.cluster import run_scheduler

        with refusing(self._settings):
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


def _settings(yaml_config: str) -> JobSettings:
    if not Path(yaml_config).exists():
        raise refused(f"yaml config file {yaml_config} not exist")
    with refusing_settings(yaml_config):
        return read_settings(yaml_config)


def _features(given: object, folder: Path, fl_name: str) -> tuple[Mapping[str, FeatureItem], Set[str]]:
    """Return the initial weights as the callback gets them, and the names of those that checkpoints hold in another
    order. Weights given by a script are written unchanged, as in the original."""
    features = FeatureMap()
    filters: Set[str] = frozenset()
    if isinstance(given, FeatureMap):
        features = given
    elif isinstance(given, Mapping):
        for name, values in given.items():
            features.add_feature(name, values)
    found = latest(folder, fl_name) if folder.is_dir() else None
    if found is None:
        if not isinstance(given, FeatureMap | Mapping):
            features, filters = _from_file(given)
        return _checked(features.feature_map()), filters
    before, newest = features.feature_map(), FeatureMap()
    for name, values in found.weights.items():
        newest.add_feature(name, values, before[name].require_aggr if name in before else True)
    return newest.feature_map(), found.filters or filters


def _from_file(given: object) -> tuple[FeatureMap, Set[str]]:
    """Return the weights in a file unchanged; those of a mindfl checkpoint in the order of devices."""
    if not isinstance(given, str):
        raise refused(
            "The parameter 'feature_map' is expected to be instance of dict(feature_name, feature_val), FeatureMap, "
            f"or a checkpoint or mindir file path, but got '{type(given)}'."
        )
    if Path(given).suffix not in MODEL_FILES:
        raise refused(
            "The value of parameter 'feature_map' is expected to be checkpoint file path, ends with '.ckpt', or MindIR "
            "file path, ends with '.mindir', when the type of parameter 'feature_map' is str."
        )
    features = FeatureMap()
    try:
        if Path(given).suffix == ".mindir":
            weights = DeviceWeights(initial_weights(given, kchw=False), frozenset())
        else:
            weights = device_weights(given)
        for name, values in weights.arrays.items():
            features.add_feature(name, values)
    except (ModelFormatError, StorageError) as error:
        # In the original MindSpore reads them and raises ValueError.
        raise as_runtime_error(type(error), ValueError)(str(error), hint=error.hint) from None
    return features, weights.filters or frozenset()


def _checked(items: Mapping[str, FeatureItem]) -> Mapping[str, FeatureItem]:
    """Return ``items``. Raises an error of the reference's class for names and switches of another type."""
    for name, item in items.items():
        for value, kind in ((name, str), (item.require_aggr, bool | int)):
            if not isinstance(value, kind):
                text = f"feature {name!r} with require_aggr {item.require_aggr!r}: {value!r} has a wrong type"
                raise as_runtime_error(OptionError, TypeError)(text)
    if not items:
        raise refused("Model size 0 cannot <=0 or >=UINT32_MAX: there are no weights")
    return items


def _password(ssl_config: SSLConfig | None) -> str | None:
    if ssl_config is not None and not isinstance(ssl_config, SSLConfig):
        raise refused(f"Parameter 'ssl_config' should be None or instance of SSLConfig, but got {type(ssl_config)}")
    return None if ssl_config is None else ssl_config.server_password


def _tell(text: str) -> None:
    warning = text.startswith("warning: ")
    _logger.log(logging.WARNING if warning else logging.INFO, "%s", text.removeprefix("warning: "))
