"""One device as a process of its own: what MindSpore Federated 0.1.0's ``SyncFLJob`` is."""

from __future__ import annotations

import re
import threading
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.client import (
    ClientConfig,
    ClientLog,
    DeviceClient,
    HttpSettings,
    HttpTransport,
    JobResult,
    Trainer,
    run,
)
from mindfl.client.uploading import LIKELY_REASON
from mindfl.errors import DataError, NotAggregatedError, OptionError, ProtocolError
from mindfl.lite import LiteModel
from mindfl.options.job import LENET_CLIENT
from mindfl.protocol import ResponseCode
from mindfl.sim.device_files import DeviceFiles, open_user
from mindfl.sim.engines import LiteEngine
from mindfl.sim.model_options import check_input_shape
from mindfl.sim.partial_exchange import PartialTrainer
from mindfl.sim.pool import now_ms, sleep_ms
from mindfl.sim.weights_only import WeightsTrainer
from mindfl.spelling import checked_arguments, counted


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """What a device process needs, under the names of the reference's arguments.

    ``train_data``, ``eval_data`` and ``infer_data`` are as :func:`mindfl.sim.device_files.open_user` takes them.
    ``infer_model_path`` is a second file that gets the final model, and the one that inference uses; None: the first.
    With ``train_weight_name`` only these weights are loaded, uploaded and saved; the second file gets
    ``infer_weight_name``.
    ``batch_size`` and ``input_shape``, as ``32,32,32,3;32``, must be those of the model file.
    ``server`` is needed by training and getModel. ``fl_id`` of None draws one, as the reference does. Patience is that
    of :class:`mindfl.client.ClientConfig`.
    """

    train_model_path: Path
    infer_model_path: Path | None = None
    server: HttpSettings | None = None
    train_data: str | None = None
    eval_data: str | None = None
    infer_data: str | None = None
    path_regex: str = ","
    user: str | None = None
    fl_name: str = LENET_CLIENT
    fl_id: str | None = None
    train_weight_name: tuple[str, ...] | None = None
    infer_weight_name: tuple[str, ...] | None = None
    batch_size: int | None = None
    input_shape: str | None = None
    log_file: Path = field(default=Path("client.log"))
    poll_ms: int = 200
    poll_limit_ms: int = 1_800_000
    max_restarts: int = 5
    retry_limit_ms: int = 60_000

    def __post_init__(self) -> None:
        try:
            re.compile(self.path_regex)
        except re.error as error:
            raise OptionError(f"path_regex {self.path_regex!r} is no regular expression: {error}") from None


class DeviceJob:
    """The three tasks of a device. Errors are those of :class:`mindfl.client.DeviceClient`, and :class:`OptionError`
    for a setting that a task lacks. Until a task ends, and after Ctrl-C, the model files are as before."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.settings = settings

    def train(self) -> JobResult:
        """Take part in the server's job to its end and leave the last model in the model files.

        Raises :class:`ProtocolError` where the server's job ends without this device, and :class:`NotAggregatedError`
        where all of its iterations failed: then the files are as before.
        """
        if self.settings.train_data is None:
            raise OptionError("training needs train_data", hint="--train_data_dir IMAGES,LABELS or a user's folder")
        with self._transport() as transport:
            client = self._client(self.settings.train_data, self.settings.eval_data)
            with closing(client.train()) as flow:
                result = run(flow, transport, now_ms, sleep_ms)
        if result.code != ResponseCode.SUCCEED:
            raise ProtocolError(
                f"the server's job was over before this client's was: it took part in "
                f"{counted(result.completed, 'iteration')}",
                hint="the model file is as before; start a new job on the server",
            )
        if result.failed == result.completed:
            raise NotAggregatedError(
                f"none of {counted(result.completed, 'iteration')} was aggregated: the server gave back the "
                f"model it began with",
                hint=f"{LIKELY_REASON}; the model file is as before",
            )
        return result

    def get_model(self) -> int:
        """Fetch the server's latest model into the model files; return its iteration."""
        with self._transport() as transport, closing(self._client(None, None).get_model()) as flow:
            return run(flow, transport, now_ms, sleep_ms)

    def infer(self) -> NDArray[np.int_]:
        """Return the predicted label of each sample; needs no server."""
        data = self.settings.infer_data or self.settings.eval_data
        if data is None:
            raise OptionError("inference needs infer_data", hint="--infer_data_dir IMAGES,LABELS or a user's folder")
        labels = self._client(None, data, infers=True).inference()
        if not labels.size:
            raise DataError(f"{data} holds no samples to predict")
        return labels

    def _transport(self) -> HttpTransport:
        if self.settings.server is None:
            raise OptionError("this task needs a server", hint="--domain_name http://HOST:PORT")
        return HttpTransport(self.settings.server)

    def _client(self, train: str | None, test: str | None, *, infers: bool = False) -> DeviceClient:
        settings = self.settings
        path = settings.infer_model_path if infers and settings.infer_model_path else settings.train_model_path
        model = LiteModel.load(path)
        check_input_shape(model, settings.input_shape)
        user = open_user(train, test, settings.path_regex, settings.user)
        trainer: Trainer = WeightsTrainer(model, user)
        if train is not None or infers:
            trainer = LiteEngine(model, training=train is not None).trainer(user, threading.Event())
        if settings.batch_size not in (None, trainer.batch_size):
            raise OptionError(
                f"batch_size is {settings.batch_size}, but {path} was exported for {trainer.batch_size}",
                hint=f"use --batch_size {trainer.batch_size}",
            )
        if settings.train_weight_name is not None and not infers:
            trainer = PartialTrainer(trainer, settings.train_weight_name, model)
        config = ClientConfig(
            name=user.name,
            fl_id=settings.fl_id or str(uuid.uuid4()),
            fl_name=settings.fl_name,
            model_file=str(path),
            train_data=train or "",
            eval_data=test or "",
            poll_ms=settings.poll_ms,
            poll_limit_ms=settings.poll_limit_ms,
            max_restarts=settings.max_restarts,
            retry_limit_ms=settings.retry_limit_ms,
        )
        log = ClientLog(settings.log_file, datetime.now)
        files = DeviceFiles(
            settings.train_model_path,
            settings.infer_model_path,
            settings.train_weight_name,
            settings.infer_weight_name,
        )
        return DeviceClient(config, trainer, now_ms, log, files)
