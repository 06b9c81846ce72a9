"""One device as a process of its own: what MindSpore Federated 0.1.0's ``SyncFLJob`` is."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Mapping
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
from mindfl.data import Dataset, Split, UserData, open_dataset
from mindfl.data.bins import BinDataset
from mindfl.data.pixels import FloatFile
from mindfl.data.samples import check_labels, check_name
from mindfl.data.text_parts import device_texts
from mindfl.data.tokenizer import read_vocabulary
from mindfl.errors import DataError, NotAggregatedError, OptionError, ProtocolError, StorageError
from mindfl.files import local_path, read_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.options.job_options import LENET_CLIENT, reads_texts
from mindfl.protocol import ResponseCode
from mindfl.sim.engines import LiteEngine
from mindfl.sim.model_options import check_input_shape
from mindfl.sim.participant import now_ms, sleep_ms
from mindfl.sim.trainers import PartialTrainer, WeightsTrainer
from mindfl.spelling import checked_arguments, counted


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """What a device process needs, under the names of the reference's arguments.

    ``train_data``, ``eval_data`` and ``infer_data`` are as :func:`mindfl.sim.device_job.open_user` takes them.
    ``infer_model_path`` is a second file that gets the final model, and the one that inference uses; None: the first.
    With ``train_weight_name`` only these weights are loaded, uploaded and saved; the second file gets
    ``infer_weight_name``.
    For the ``fl_name`` of ALBERT's client they may be files of texts, with the vocabulary in ``vocab_path`` and the
    numbers of its lines in ``ids_path``.
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
    vocab_path: Path | None = None
    ids_path: Path | None = None
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

    def _vocabulary(self) -> dict[str, int] | None:
        """Return the vocabulary of a device of texts, None for others."""
        settings = self.settings
        if not reads_texts(settings.fl_name):
            return None
        if settings.vocab_path is None:
            given = [path for path in (settings.train_data, settings.eval_data, settings.infer_data) if path]
            if settings.ids_path is not None or any(path.endswith(".txt") for path in given):
                raise OptionError("a device of texts needs a vocabulary", hint="--vocab_path FILE")
            return None
        return read_vocabulary(settings.vocab_path, settings.ids_path)

    def _client(self, train: str | None, test: str | None, *, infers: bool = False) -> DeviceClient:
        settings = self.settings
        path = settings.infer_model_path if infers and settings.infer_model_path else settings.train_model_path
        model = LiteModel.load(path)
        check_input_shape(model, settings.input_shape)
        user = open_user(train, test, settings.path_regex, settings.user, self._vocabulary())
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


_LABEL = np.dtype("<i4")


class DeviceFiles:
    """The model to train and the model to infer with, which may be the same file.

    ``bak_<name>`` beside the first holds what it was when the latest task began. A file is replaced in one step. Each
    gets the weights that are named for it, by default all. Raises :class:`StorageError` and
    :class:`ModelFormatError` naming the file.
    """

    def __init__(
        self,
        train: Path,
        infer: Path | None = None,
        train_names: tuple[str, ...] | None = None,
        infer_names: tuple[str, ...] | None = None,
    ) -> None:
        self._train = train
        self._targets = {train: train_names}
        if infer is not None:
            self._targets[infer] = infer_names
        self._backup = train.with_name(f"bak_{train.name}")

    def back_up(self) -> None:
        """Keep a copy of the file as it is now."""
        write_atomic(self._backup, read_file(self._train))

    def restore(self) -> None:
        """Put the copy back."""
        write_atomic(self._train, read_file(self._backup))

    def save(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the files with these weights: both, or, where one of them cannot take them, none."""
        changed = {
            path: LiteModel.load(path).patched({name: weights[name] for name in names or weights if name in weights})
            for path, names in self._targets.items()
        }
        for path, content in changed.items():
            write_atomic(path, content)


def open_user(
    train: str | None,
    test: str | None,
    separator: str,
    user: str | None,
    vocabulary: Mapping[str, int] | None = None,
) -> UserData:
    """Return a device's data. Each of ``train`` and ``test`` is one of

    - ``IMAGES,LABELS``: two bins, with what the regular expression ``separator`` matches between them, all of whose
      samples are true ones, as in the reference;
    - the folder of one user, with its bins;
    - a data set of ``mindfl data``, of which ``user`` is taken: a name, or a position from 0;
    - with a ``vocabulary``, a file of lines ``<<<label>>>text`` with the labels of the ALBERT demo.

    None gives an empty part, as do empty bins of a test part. Raises :class:`DataError`.
    """
    sources = ((train, "train"), (test, "test"))
    parts = [_open_part(path, part, separator, user, vocabulary) for path, part in sources]
    name = next((name for name, _ in parts if name), "device")
    return UserData(name, *(split for _, split in parts))


def _open_part(
    source: str | None, part: str, separator: str, user: str | None, vocabulary: Mapping[str, int] | None
) -> tuple[str, Split]:
    if not source:
        return "", _EMPTY
    path = local_path(source)
    if vocabulary is not None and path.is_file():
        return check_name(path.stem), device_texts(path, vocabulary, part)
    if not path.is_dir():
        return _open_pair(source, separator, may_be_empty=part == "test")
    if any(path.glob(f"*_bn_*_{part}_*.bin")):
        dataset: Dataset = BinDataset(path.resolve().parent)
        name = path.resolve().name
    else:
        dataset = open_dataset(path)
        if user is None:
            raise DataError(f"{path} holds {counted(len(dataset), 'user')}", hint="choose one with --user")
        known = user in dataset.users or not user.isdecimal()
        name = dataset.name_of(user if known else int(user))
    return name, dataset.user(name).train if part == "train" else dataset.test_part(name)


def _open_pair(source: str, separator: str, *, may_be_empty: bool) -> tuple[str, Split]:
    pieces = re.split(separator, source)
    if len(pieces) != 2:
        raise DataError(f"{source} is neither a folder nor two files", hint=f"with {separator!r} between them")
    images, labels = map(local_path, pieces)
    name = images.name.partition("_bn_")[0] or images.stem
    values = np.frombuffer(_content(labels, _LABEL.itemsize), _LABEL)
    try:
        size, rest = divmod(images.stat().st_size, FloatFile.image_bytes())
    except OSError as error:
        raise StorageError.from_os_error(error, "read", images) from None
    if may_be_empty and not (size or rest or len(values)):
        return name, _EMPTY
    if rest or not size:
        raise DataError(f"{images} is not whole images of {FloatFile.image_bytes()} bytes (truncated?)")
    if len(values) != size:
        raise DataError(f"{images} has {counted(size, 'image')} but {labels} has {counted(len(values), 'label')}")
    return name, Split(check_labels(values, name, labels), size, FloatFile(images, name))


def _content(path: Path, unit: int) -> bytes:
    content = read_file(path)
    if len(content) % unit:
        raise DataError(f"{path} is not whole int32 labels (truncated?)")
    return content


_EMPTY = Split(np.zeros(0, np.int32), 0, FloatFile(Path(), ""))
