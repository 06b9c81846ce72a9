"""LEAF's FEMNIST JSON -> a data set.

LEAF (TalwalkarLab/leaf) writes shards ``{"users": [...], "num_samples": [...], "user_data": {user: {"x": [[784
floats]], "y": [labels]}}}``, a user's train part in ``train/`` and its test part in ``test/``, or both together in
``all_data/``. Paper is 1.0, ink towards 0.0; nothing is inverted.

Shards are read user by user, and each part is written to a spill file as grey bytes: memory holds one user at a time.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.leafjson import open_shard, read_shard
from mindfl.data.pictures import enlarge
from mindfl.data.pixels import IMAGE_SIZE, GreyFile
from mindfl.data.samples import CLASSES, NO_SAMPLES, PARTS, Samples, check_name, natural_key
from mindfl.data.writer import DatasetWriter, Report, progress_bar, write_dataset
from mindfl.errors import DataError
from mindfl.files import PathLike, local_path
from mindfl.notices import warn
from mindfl.options import declared_arguments
from mindfl.options.data_options import LeafOptions
from mindfl.options.job_options import DataForm
from mindfl.spelling import counted

_SIDE = 28
_SHARD = re.compile(r"[^.].*\.json(\.gz)?", re.DOTALL)
_KEYS = ("users", "num_samples", "user_data")


@declared_arguments(LeafOptions)
def convert_leaf(
    input: PathLike,
    output: PathLike,
    *,
    format: DataForm = "bin",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
) -> Report:
    """Convert LEAF's JSON files of FEMNIST to a data set.

    Images become 8-bit and are resized bilinearly to 32 x 32, as in the tutorial.

    Args:
        input: folder of ``.json`` or ``.json.gz`` shards: ``train/`` and ``test/``, ``train/`` alone (users without
            test data), or ``all_data/`` or the shards themselves, which are split 9:1 for each writer.
        output: the new folder.
        format: ``"bin"`` (the tutorial's files of each user) or ``"compact"`` (one file of 8-bit images).
        seed: of the split; a writer's split depends on it and on the writer's name alone.
        batch_size: samples per file of the form ``bin``.
        progress: show a progress bar.

    Returns:
        The report. Broken users are left out and named in ``problems``.

    Raises:
        DataError: no user is usable.
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> convert_leaf("leaf", "femnist", progress=False).users
        1
    """
    shards = _find_shards(local_path(input))
    total = sum(path.stat().st_size for paths in shards.values() for path in paths if path.is_file())
    with (
        write_dataset(output, format=format, source="leaf", batch_size=batch_size) as writing,
        Spill(writing.folder) as spill,
    ):
        collected = _Collected(spill)
        with progress_bar("reading LEAF shards", total, "B", shown=progress) as bar:
            for part, paths in shards.items():
                for path in paths:
                    collected.read(path, part, bar.update)
        _write_users(collected, writing.writer, seed)
    return writing.report


def is_split(input: PathLike) -> bool:
    """Return whether the LEAF shards in ``input`` are already split into train and test parts."""
    return bool(_shards_in(local_path(input) / "train"))


def _find_shards(folder: Path) -> dict[str, list[Path]]:
    """Return part ("train" and "test", or "all") -> its shards in natural order."""
    parts = {part: shards for part in PARTS if (shards := _shards_in(folder / part))}
    if "train" in parts:
        return parts
    if parts:
        raise DataError(f"{folder} has LEAF shards in test/ but none in train/")
    shards = _shards_in(folder / "all_data") or _shards_in(folder)
    if not shards:
        raise DataError(
            f"no LEAF shards (.json or .json.gz) in {folder}",
            hint="name the folder that holds train/ and test/, or all_data/; in LEAF it is data/femnist/data",
        )
    return {"all": shards}


def _shards_in(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir()) if folder.is_dir() else []
        found = [path for path in entries if _SHARD.fullmatch(path.name)]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None
    return sorted(found, key=lambda path: natural_key(path.name))


class Spill:
    """A temporary file of samples inside ``folder``; removed at the end of the ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".spill"
        self._file = self._path.open("wb")
        self._labels: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = []
        self._starts = [0]

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._file.close()
        finally:
            self._path.unlink(missing_ok=True)

    def append(self, samples: Samples) -> int:
        """Write ``samples`` and return their number for :meth:`read`."""
        self._file.write(samples.grey.tobytes())
        self._labels.append(samples.labels.astype(np.uint8))
        self._starts.append(self._starts[-1] + len(samples.labels))
        return len(self._labels) - 1

    def read(self, number: int) -> Samples:
        """Return the samples with this number."""
        self._file.flush()
        labels = self._labels[number]
        grey = GreyFile(self._path, "(spilled)").raw(self._starts[number], len(labels))
        return Samples(grey, labels)


@dataclass
class _Collected:
    """Content of the shards: part -> user -> number of its samples in the spill, and errors of broken users."""

    spill: Spill
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    origin: dict[tuple[str, str], Path] = field(default_factory=dict)
    broken: dict[str, DataError] = field(default_factory=dict)
    problems: list[DataError] = field(default_factory=list)

    def read(self, path: Path, part: str, advance: Callable[[int], object]) -> None:
        """Read one shard; errors of users and of the file are recorded, not raised."""
        rest: dict[str, Any] = {}
        counts: dict[str, int] = {}
        try:
            with open_shard(path, advance) as text:
                for key, user, value in read_shard(text, path):
                    if user is None:
                        rest[key] = value
                    else:
                        counts[user] = self._add(path, part, user, value)
            self._compare(path, rest, counts)
        except DataError as error:
            self.problems.append(error)

    def _add(self, path: Path, part: str, user: str, value: object) -> int:
        key = (part, user)
        try:
            check_name(user)
            if key in self.origin:
                raise DataError(f"user {user} appears twice ({self.origin[key]} and {path})")
            self.origin[key] = path
            samples = _decode(value, f"user {user} in {path}", may_be_empty=part == "test")
        except DataError as error:
            self.broken.setdefault(user, error)
            return -1
        self.parts.setdefault(part, {})[user] = self.spill.append(samples)
        return len(samples.labels)

    def _compare(self, path: Path, rest: dict[str, Any], counts: dict[str, int]) -> None:
        missing = " and no ".join(repr(key) for key in _KEYS if key not in rest)
        if missing and not counts:
            raise DataError(f"{path} is not a LEAF shard: it has no {missing}")
        users, sizes = rest.get("users"), rest.get("num_samples")
        if not (isinstance(users, list) and isinstance(sizes, list) and len(users) == len(sizes)):
            fault = f"has no {missing}" if missing else "does not have one entry of num_samples for each user"
            warn(f"{path} {fault}: its users are taken, and their numbers of samples are not compared")
            return
        listed = list(map(str, users))
        faults = {user: f"user {user} has data in {path} but is not listed in its users" for user in counts}
        for user, size in zip(listed, sizes, strict=True):
            faults[user] = self._fault(path, user, size, counts.get(user), listed.count(user))
        for user, fault in faults.items():
            if fault:
                self.broken.setdefault(user, DataError(fault))

    @staticmethod
    def _fault(path: Path, user: str, size: object, stored: int | None, times: int) -> str:
        """Return the error in the entry of ``user``, who has ``stored`` samples (-1: broken); empty without error."""
        if stored is None:
            return f"user {user!r} is listed in {path} but has no data there"
        if times > 1:
            return f"user {user} is listed {times} times in the users of {path}"
        number = _whole(size)
        if number is None:
            return f"user {user} in {path} has num_samples {size!r}, which is not a whole number"
        return f"user {user} in {path} has {counted(stored, 'sample')} where num_samples says {number}" * (
            number != stored >= 0
        )

    def names(self) -> list[str]:
        """Return the names of all users, broken ones too, in natural order."""
        met = {user for users in self.parts.values() for user in users} | set(self.broken)
        return sorted(met, key=natural_key)


def _write_users(collected: _Collected, writer: DatasetWriter, seed: int) -> None:
    for problem in collected.problems:
        writer.skip(problem)
    for user in collected.names():
        try:
            if user in collected.broken:
                raise collected.broken[user]
            writer.add(user, *_train_and_test(collected, user, seed))
        except DataError as error:
            writer.skip(error)


def _train_and_test(collected: _Collected, user: str, seed: int) -> tuple[Samples, Samples]:
    parts = {part: collected.spill.read(users[user]) for part, users in collected.parts.items() if user in users}
    if "all" in parts:
        return parts["all"].split(np.random.default_rng([seed, zlib.crc32(user.encode("utf-8", "replace"))]))
    if "train" not in parts:
        hint = "was LEAF run with '-t user'? Use '-t sample', or convert all_data"
        raise DataError(f"user {user} has no train samples", hint=hint)
    return parts["train"], parts.get("test", NO_SAMPLES)


def _decode(value: object, owner: str, *, may_be_empty: bool) -> Samples:
    """Turn one user's {"x": ..., "y": ...} into samples, or raise :class:`DataError`."""
    if isinstance(value, ValueError):
        raise DataError(f"{owner} is not valid JSON: {value}")
    if not (isinstance(value, dict) and "x" in value and "y" in value):
        raise DataError(f"{owner} lacks 'x' or 'y'")
    images = _numbers(value["x"], 2, f"{owner}: x")
    labels = _numbers(value["y"], 1, f"{owner}: y")
    if len(images) != len(labels):
        raise DataError(f"{owner} has {counted(len(images), 'image')} but {counted(len(labels), 'label')}")
    if not len(labels):
        if may_be_empty:
            return NO_SAMPLES
        raise DataError(f"{owner} has no samples")
    if images.shape[1] != _SIDE * _SIDE:
        raise DataError(f"{owner} has images of {images.shape[1]} values, not {_SIDE}x{_SIDE}")
    if not (images.min() >= 0 and images.max() <= 1):
        raise DataError(f"{owner} has pixels outside 0..1 (or NaN)")
    if not (labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < CLASSES):
        raise DataError(f"{owner} has a label that is not an integer in 0..{CLASSES - 1}")
    grey = np.rint(images * 255).astype(np.uint8).reshape(-1, _SIDE, _SIDE)
    return Samples(enlarge(grey, IMAGE_SIZE), labels)


def _whole(size: object) -> int | None:
    """Return a number of samples, which some programs store as text; None if it is not a number."""
    if isinstance(size, bool):
        return None
    if isinstance(size, str):
        return int(size) if re.fullmatch(r"[0-9]{1,18}", size.strip()) else None
    return int(size) if isinstance(size, int | float) and size == size // 1 else None


def _numbers(value: object, dimensions: int, owner: str) -> NDArray[Any]:
    try:
        numbers = np.array(value)
    except ValueError:  # rows of different lengths
        numbers = np.array(None)
    if numbers.ndim != dimensions and numbers.size:
        raise DataError(f"{owner} is not {'a list' if dimensions == 1 else 'lists'} of numbers of equal length")
    if numbers.size and numbers.dtype.kind not in "iuf":
        raise DataError(f"{owner} holds something that is not a number")
    return numbers
