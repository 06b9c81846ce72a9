"""The data of a job: opened or drawn, paired with other test data, and read by user."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from mindfl.data import Dataset, UserData, make_synthetic, open_dataset
from mindfl.data.folder import recovered
from mindfl.data.samples import Split, check_name, no_samples
from mindfl.data.text_parts import evaluation_texts, is_texts
from mindfl.errors import DataError, MindflError, OptionError, StorageError
from mindfl.export.trained import network_sizes
from mindfl.extensions import make_object
from mindfl.files import PathLike, local_path, write_atomic
from mindfl.lite import LiteModel
from mindfl.lite.loss_part import LabelKind
from mindfl.lite.model_graph import label_kind
from mindfl.models import MODELS, ModelSpec, NetworkSizes
from mindfl.options.job_options import DataForm, DataSource, LossName, reads_texts
from mindfl.sim.config import JobConfig
from mindfl.sim.job_texts import texts_of_job
from mindfl.sim.network_model import JobModel
from mindfl.spelling import counted
from mindfl.user_code import raised


def open_data(config: JobConfig, warn: Callable[[str], None], *, inference: bool = False) -> Dataset:
    """Open the data set of a job, with the test parts for evaluation or for ``inference``.

    Makes synthetic data if none are given; ``warn`` reports that those of an earlier run were changed. Raises
    :class:`DataError`, and :class:`OptionError` for an object that is no data set.
    """
    train = training_data(config, warn, progress=True)
    option = "infer_dataset" if inference and config.infer_dataset is not None else "test_dataset"
    tests = getattr(config, option)
    if tests is None:
        return train
    if _holds_texts(tests, config):
        return PairedDataset(train, evaluation_texts(local_path(tests), train))
    return PairedDataset(train, _opened(tests, option))


def training_data(config: JobConfig, warn: Callable[[str], None], *, progress: bool = False) -> Dataset:
    """Open the data set that a job trains on; see :func:`open_data`."""
    if _holds_texts(config.train_dataset, config):
        return texts_of_job(config, local_path(config.train_dataset), progress=progress)
    if config.train_dataset is not None:
        return _opened(config.train_dataset, "train_dataset")
    if reads_texts(config.fl_name):
        raise OptionError(f"{config.fl_name} trains on texts", hint="name their folder: --train_dataset DIR")
    form = config.data_format if config.client_side.simulated else "bin"
    folder = config.work_dir / "data" / f"synthetic_{config.client_num}_seed{config.seed}_{form}"
    synthetic_data(folder, config.client_num, config.seed, form, warn=warn, progress=progress)
    return open_dataset(folder)


def _holds_texts(data: DataSource | None, config: JobConfig) -> TypeGuard[PathLike]:
    return reads_texts(config.fl_name) and isinstance(data, os.PathLike) and is_texts(local_path(data))


def first_samples(user: UserData, samples: int | None) -> UserData:
    """Return ``user`` with the first ``samples`` test samples only; None: all."""
    if samples is None:
        return user
    return replace(user, test=replace(user.test, labels=user.test.labels[:samples], size=min(samples, user.test.size)))


class ClientSamples(NamedTuple):
    """A client's name and its numbers of train and test samples."""

    name: str
    train: int
    test: int


def usable_users(dataset: Dataset, wanted: int, warn: Callable[[str], None]) -> list[ClientSamples]:
    """Return the first ``wanted`` usable users, read to the end; broken ones are named and passed over.

    Raises the first one's :class:`DataError` where none is usable.
    """
    usable: list[ClientSamples] = []
    broken: list[DataError] = []
    for name in dataset.users:
        if len(usable) == wanted:
            break
        try:
            user = dataset.user(check_name(name))
            user.train.planes(), user.test.planes()
            usable.append(ClientSamples(name, user.train.size, user.test.size))
        except DataError as error:
            broken.append(error)
            warn(f"left out: {error}")
    if not usable:
        raise broken[0] if broken else DataError(f"the data set {dataset.name} has no users")
    if len(usable) < wanted:
        warn(f"the data set {dataset.name} has {counted(len(usable), 'usable user')}, {wanted} were asked for")
    return usable


#: most samples, and values of images, of one part of a data set's own central test set
_PART, _PART_VALUES = 1024, 1 << 22


def central_parts(dataset: Dataset, users: Sequence[str]) -> tuple[UserData, ...]:
    """Return the central test set in parts that can be evaluated at the same time, as users without train samples.

    It is the data set's own, in parts of a fixed size; without one, the test samples of ``users`` together, each once.
    """
    own, tests = dataset.central_test, dataset
    if own is not None:
        size = min(_PART, max(1, _PART_VALUES // math.prod(dataset.form.shape)))
        return tuple(_central_part(own, first, size) for first in range(0, own.size, size))
    names: Iterable[str] = users
    if isinstance(dataset, PairedDataset):
        tests = dataset.test
        names = dict.fromkeys(tests.name_of(dataset.partner(user)) for user in users)
    parts = ((name, tests.test_part(name)) for name in names)
    return tuple(UserData(name, no_samples(part.source), part) for name, part in parts if part.size)


def _central_part(test: Split, first: int, size: int) -> UserData:
    size = min(size, test.size - first)
    part = Split(test.labels[first : first + size], size, test.source, test.first + first)
    return UserData(f"samples {first} to {first + size - 1}", no_samples(test.source), part)


def check_central(dataset: Dataset, users: Sequence[str]) -> None:
    """Raise :class:`DataError` if there are no samples for a central test set."""
    if not central_parts(dataset, users):
        raise DataError(
            f"--evaluate central: the data set {dataset.name} has no central test set, and no client has test data",
            hint="give --test_dataset, or Dataset.from_arrays(..., central_test=(images, labels))",
        )


def check_data(model: JobModel, dataset: Dataset, path: Path) -> None:
    """Raise :class:`OptionError` where the model file ``path`` is for other samples or classes than the data set's."""
    if isinstance(model, LiteModel):
        _check_labels(label_kind(model), dataset, path)
    takes = network_sizes(model) if isinstance(model, LiteModel) else model.sizes
    has = data_sizes(dataset)
    if dataset.grey:
        has = replace(has, num_channel=takes.num_channel)
    if takes.vocabulary is not None and takes.vocabulary > (has.vocabulary or takes.vocabulary):
        has = replace(has, vocabulary=takes.vocabulary)  # of more tokens than these samples have
    if any(getattr(takes, name) not in (None, value) for name, value in vars(has).items()):
        found = has.words() if dataset.form.kind != "numbers" else dataset.form.words()
        given = {name: value for name, value in vars(has).items() if value is not None}
        sizes = " ".join(f"--{name} {' '.join(map(str, np.atleast_1d(value)))}" for name, value in given.items())
        raise OptionError(
            f"{path} is for {takes.words()}, but the data set {dataset.name} has {found}",
            hint="leave the model file out, and the network --model is exported for the data; or make a file that fits:"
            f" mindfl export {sizes}",
        )


def data_sizes(dataset: Dataset | type[Dataset]) -> NetworkSizes:
    """Return what a network for a data set is made for."""
    form = dataset.form
    text = {"length": form.shape[-1], "vocabulary": form.vocabulary} if form.kind == "tokens" else {}
    return NetworkSizes(num_class=outputs(dataset), num_channel=dataset.channels, image_size=dataset.image_size, **text)


def check_kind(spec: ModelSpec, dataset: Dataset | type[Dataset]) -> None:
    """Raise :class:`OptionError` where the registered network ``spec`` takes other samples than the data set has."""
    takes = "pictures" if spec.vocabulary is None else "tokens"
    if spec.own is None and dataset.form.kind != takes:
        fitting = [
            each.name for each in MODELS.values() if (each.vocabulary is None) == (dataset.form.kind == "pictures")
        ]
        others = f"such as --model {fitting[-1]}, or " if dataset.form.kind != "numbers" else ""
        raise OptionError(
            f"--model {spec.name} takes {takes}, but the samples of the data set are {dataset.form.words()}",
            hint=f"{others}a network of your own: --model FILE.py:CLASS",
        )


#: what a network for labels of each token needs
LABELS_HINT = "a network of your own states their shape: labels = (length,) (docs/extending.md)"
#: kind of labels -> the labels in words
_LABELS: dict[LabelKind, str] = {
    "classes": "one class for each sample",
    "onehot": "one class for each sample",
    "tokens": "a class for each token",
    "targets": "numbers to predict",
}


def _kind(dataset: Dataset | type[Dataset]) -> LabelKind:
    if dataset.form.regression:
        return "targets"
    return "tokens" if dataset.form.label_shape else "classes"


def _check_labels(kind: LabelKind | None, dataset: Dataset, path: Path) -> None:
    if kind is not None and _LABELS[kind] != _LABELS[_kind(dataset)]:
        raise OptionError(
            f"the labels of {path} are {_LABELS[kind]}, those of the data set {dataset.name} are"
            f" {_LABELS[_kind(dataset)]}",
            hint=LABELS_HINT if _kind(dataset) == "tokens" else "give a model file with a loss that fits the data",
        )


def check_loss(loss: LossName, dataset: Dataset | type[Dataset], spec: ModelSpec) -> None:
    """Raise :class:`OptionError` where the network ``spec`` with this loss cannot learn the labels of the data set."""
    kind = _kind(dataset)
    if kind == "tokens" and (spec.own is None or loss == "onehot"):
        what = f"--model {spec.name}" if spec.own is None else f"--loss {loss}"
        raise OptionError(
            f"{what} takes one class for each sample, but the labels of the data set are {_LABELS[kind]}",
            hint=LABELS_HINT if spec.own is None else "--loss sparse is for classes",
        )
    if (kind == "targets") != (loss in ("mse", "bce")):
        raise OptionError(
            f"--loss {loss} does not fit: the labels of the data set are {_LABELS[kind]}",
            hint="--loss mse is for numbers to predict" if kind == "targets" else "--loss sparse is for classes",
        )


def outputs(dataset: Dataset | type[Dataset]) -> int:
    """Return the number of outputs that a network for a data set has: of classes, or numbers that it predicts."""
    return dataset.form.label_shape[-1] if dataset.form.regression else dataset.classes


def _opened(data: DataSource, option: str) -> Dataset:
    """Return the data set itself, in the folder, or by the name ``data``."""
    if isinstance(data, os.PathLike):
        return open_dataset(data)
    found: Any = make_object(data, {}, "mindfl.datasets", option) if isinstance(data, str) else data
    found = _called(found, option, data) if callable(found) else found
    if not isinstance(found, Dataset):
        raise OptionError(
            f"{option} {data} is {type(found).__name__}, no data set", hint="Dataset.from_arrays makes one"
        )
    return found


def _called(make: Callable[[], Any], option: str, data: DataSource) -> Any:
    try:
        return make()
    except MindflError:
        raise
    except Exception as error:
        raise DataError(f"{option} {data} failed: {raised(error)}") from error


class PairedDataset(Dataset):
    """The users of ``train``, each with a test part of ``test``: that of the user of the same name; where no name is in
    both, of the user at the same position; where ``test`` has one user only, of that one.

    Opening a user without such a part raises :class:`DataError`. The users of ``test`` need no train part.
    """

    def __init__(self, train: Dataset, test: Dataset) -> None:
        self.train = train
        self.test = test
        for name in ("image_size", "channels"):
            own, other = getattr(train, name), getattr(test, name)
            if own != other:
                raise DataError(f"{train.name} has {name} {own}, but its test data set {test.name} has {other}")
        forms = [replace(each.form, vocabulary=None) for each in (train, test)]
        if forms[0] != forms[1] or (test.form.vocabulary or 0) > (train.form.vocabulary or 0):
            raise DataError(
                f"{train.name} has {train.form.words()}, but its test data set {test.name} has {test.form.words()}"
            )
        if test.classes > train.classes:
            raise DataError(
                f"{train.name} has {train.classes} classes, but its test data set {test.name} {test.classes}"
            )
        self._set_form(train.form)
        self.grey = train.grey and test.grey
        self.classes, self.class_names = train.classes, train.class_names
        self.central_test = test.central_test or train.central_test
        self._by_name = not set(train.users).isdisjoint(test.users)
        self._set_users(list(train.users))

    @property
    def name(self) -> str:
        """That of the training data."""
        return self.train.name

    @property
    def title(self) -> str:
        """That of the training data."""
        return self.train.title

    @property
    def source(self) -> str:
        """Where the training samples come from."""
        return self.train.source

    def partner(self, name: str) -> str | int:
        """Return name or position of the user in the test data set whose test part ``name`` gets."""
        if len(self.test) == 1:
            return 0
        return name if self._by_name else self._positions[name]

    def _open(self, name: str) -> UserData:
        user = self.train.user(name)
        return UserData(name, user.train, self.test.test_part(self.partner(name)))


_CHUNK = 1 << 20


def synthetic_data(
    folder: Path, users: int, seed: int, form: DataForm, *, warn: Callable[[str], None], progress: bool
) -> None:
    """Let the synthetic data of ``users`` writers be in ``folder``.

    They are drawn where they are missing. Where their content is not that of the checksum beside ``folder``, they are
    drawn again; if that gives other data, what was there is kept under another name, which ``warn`` is told. Raises
    :class:`StorageError`.
    """

    def draw() -> str:
        make_synthetic(folder, users=users, seed=seed, format=form, progress=progress)
        drawn = _checksum(folder)
        write_atomic(_note(folder), json.dumps({"sha256": drawn}) + "\n")
        return drawn

    if not recovered(folder):
        draw()
        return
    found = _checksum(folder)
    if found == _noted(folder):
        return
    aside = _put_aside(folder)
    if draw() == found:  # mindfl 0.1.0 left no checksum
        shutil.rmtree(aside, ignore_errors=True)
    else:
        warn(f"the synthetic data in {folder} are not as they were drawn: drawn again, and what was there is {aside}")


def _note(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _noted(folder: Path) -> str | None:
    try:
        noted = json.loads(_note(folder).read_text("utf-8"))["sha256"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(noted)


def _put_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.changed{number}")).exists():
        number += 1
    try:
        return folder.rename(aside)
    except OSError as error:
        raise StorageError.from_os_error(error, "rename", folder) from None


def _checksum(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of the files in ``folder``, hidden ones left out."""
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                digest.update(os.fsencode(name) + b"\0%d\0" % path.stat().st_size)
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", error.filename or folder) from None
    return digest.hexdigest()
