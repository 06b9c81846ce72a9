"""What each Java client has of its own: data and model files."""

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
from mindfl.files import PathLike, local_path, read_file, write_atomic

_PATHS = ("train_data", "eval_data", "infer_data", "train_model", "infer_model")


@dataclass(frozen=True, kw_only=True)
class JavaClientFiles:
    """One client's ``name`` and files. Relative paths are made absolute, as each client runs in a folder of its own.

    Each of the data lists is as the model script wants it: images and labels for LeNet. ``infer_model`` is a second
    model, None: the first one is for inference too.
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
        """Remove the copy of the model that a client made in an earlier job.

        The client makes one only where there is none, and puts it back when its loss is no number: it would go back to
        a model of long ago. Raises :class:`StorageError`.
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
    """Return the files of one client per user, as the tutorial's script finds them in its data set's folders.

    Evaluation and inference use the test bins, of ``test_dataset`` where that is given, there of ``test_users``, one
    for each of ``users`` (None: those of the same names); users without test data have none. Raises
    :class:`DataError` where a data set is not made of the tutorial's bins, which is all that its clients read, or a
    user lacks one.
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
            raise DataError(f"{folder} holds {len(bins)} files *_{part}_{kind}.bin instead of one")
        found += bins
    return tuple(found)


def copy_models(model: PathLike, folder: PathLike, name: str, clients: int) -> list[Path]:
    """Write ``<name>{i}.ms`` into ``folder`` for each client, as the tutorial does; return the absolute paths.

    Raises :class:`StorageError`.
    """
    content = read_file(model)
    paths = [(Path(folder) / f"{name}{index}.ms").absolute() for index in range(clients)]
    for path in paths:
        write_atomic(path, content)
    return paths


def final_accuracies(
    clients: Sequence[JavaClientFiles], weights: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, float]:
    """Return each client's accuracy 0..1 on its own evaluation bins, computed by mindfl's own device runtime.

    A Java client evaluates the model that an iteration begins with, so nobody but mindfl evaluates that of the last
    iteration. With ``weights`` these are put into the client's model file's content first, else the file counts as it
    is: a Java client leaves the last model there. Clients without such bins, or without images in them, are left out.

    Raises :class:`ModelFormatError` for a model that mindfl's runtime cannot execute.
    """
    from mindfl.lite import LiteModel
    from mindfl.sim.device_files import open_user
    from mindfl.sim.engines import LiteEngine

    accuracies = {}
    engine, loaded = None, b""
    for client in clients:
        with suppress(DataError):
            # A line feed stands in no usual path; both files, as the client reads them: with the samples that fill up.
            user = open_user(None, "\n".join(map(str, client.eval_data)), "\n", None)
            if not user.test.size:
                continue
            model = LiteModel.load(client.train_model)
            content = model.content if weights is None else model.patched(weights)
            if engine is None or content != loaded:
                engine, loaded = LiteEngine(LiteModel.from_bytes(content), training=False), content
            accuracies[client.name] = engine.trainer(user, threading.Event()).evaluate()
    return accuracies
