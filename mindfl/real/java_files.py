"""Data and model files of each Java client."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.data import Dataset
from mindfl.data.bins import BinDataset
from mindfl.errors import DataError, StorageError
from mindfl.files import local_path

_PATHS = ("train_data", "eval_data", "infer_data", "train_model", "infer_model")


@dataclass(frozen=True, kw_only=True)
class JavaClientFiles:
    """One client's files. Relative paths are made absolute, as each client runs in a folder of its own.

    Args:
        name: name of the client.
        train_model: the model to train.
        infer_model: a second model, for inference; None: ``train_model``.
        train_data: files in the order of the model script: images and labels for LeNet.
        eval_data: files for evaluation.
        infer_data: files for inference.
    """

    name: str
    train_model: Path
    infer_model: Path | None = None
    train_data: tuple[Path, ...] = ()
    eval_data: tuple[Path, ...] = ()
    infer_data: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for field in _PATHS:
            value = getattr(self, field)
            if isinstance(value, tuple):
                object.__setattr__(self, field, tuple(local_path(path).absolute() for path in value))
            elif value is not None:
                object.__setattr__(self, field, local_path(value).absolute())

    def remove_backup(self) -> None:
        """Remove the copy of the model that a client made in an earlier job. Raises :class:`StorageError`.

        The client makes a copy only if there is none, and restores it when its loss is no number: an old copy
        would restore the model of an earlier job.
        """
        backup = self.train_model.with_name(f"bak_{self.train_model.name}")
        try:
            backup.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError.from_os_error(error, "remove", backup) from None


def client_files(
    dataset: Dataset,
    users: Sequence[str],
    train_models: Sequence[Path],
    infer_models: Sequence[Path] | None = None,
    *,
    test_dataset: Dataset | None = None,
    test_users: Sequence[str] | None = None,
) -> list[JavaClientFiles]:
    """Return the files of one client per user.

    Args:
        dataset: data set of .bin files, the tutorial's form; Java clients read no other.
        users: names of users in it.
        train_models: model file of each user.
        infer_models: second model file of each user.
        test_dataset: data set for evaluation and inference; None: the test bins of ``dataset``. Users without test
            data have no files there.
        test_users: name in ``test_dataset`` of each user; None: the same names.

    Raises:
        DataError: a data set has another form, or a user lacks a file.
    """
    data, tests = _bins_of(dataset), _bins_of(test_dataset or dataset)
    return [
        JavaClientFiles(
            name=user,
            train_model=model,
            infer_model=infer_models[index] if infer_models else None,
            train_data=_bins(data.root / user, "train"),
            eval_data=_test_bins(tests, tested),
            infer_data=_test_bins(tests, tested),
        )
        for index, (user, tested, model) in enumerate(zip(users, test_users or users, train_models, strict=True))
    ]


def _bins_of(dataset: Dataset) -> BinDataset:
    if not isinstance(dataset, BinDataset):
        raise DataError(
            f"{dataset.name} is no folder of .bin files", hint="mindfl data convert makes one: --format bin"
        )
    return dataset


def _test_bins(dataset: BinDataset, user: str) -> tuple[Path, ...]:
    """Return a user's test bins; none where they are empty, which the client would take for data."""
    return _bins(dataset.root / user, "test") if dataset.test_part(user).size else ()


def _bins(folder: Path, part: str) -> tuple[Path, ...]:
    found = []
    for kind in ("data", "label"):
        bins = sorted(folder.glob(f"*_bn_*_{part}_{kind}.bin"))
        if len(bins) != 1:
            raise DataError(f"{folder} contains {len(bins)} files *_{part}_{kind}.bin instead of one")
        found += bins
    return tuple(found)


def final_accuracies(
    clients: Sequence[JavaClientFiles], weights: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, float]:
    """Return each client's accuracy 0..1 on its own evaluation bins, computed by mindfl's device runtime.

    Java clients evaluate the model that an iteration begins with, so none evaluates the model of the last iteration.
    Clients without evaluation data are left out.

    Args:
        clients: files of the clients.
        weights: float32 weights by name, in place of those in the model files; None: the files' own, which are the
            final model after a Java client has ended.

    Raises:
        ModelFormatError: mindfl's runtime cannot execute the model.
    """
    from mindfl.lite import LiteModel
    from mindfl.sim.device_job import open_user
    from mindfl.sim.engines import LiteEngine

    accuracies = {}
    engine, loaded = None, b""
    for client in clients:
        with suppress(DataError):
            # Joined by a character that paths do not contain. Both files are read as the client reads them.
            user = open_user(None, "\n".join(map(str, client.eval_data)), "\n", None)
            if not user.test.size:
                continue
            model = LiteModel.load(client.train_model)
            content = model.content if weights is None else model.patched(weights)
            if engine is None or content != loaded:
                engine, loaded = LiteEngine(LiteModel.from_bytes(content), training=False), content
            accuracies[client.name] = engine.trainer(user, threading.Event()).evaluate()
    return accuracies
