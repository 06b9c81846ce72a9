"""The tutorial's layout: a folder per user with ``<user>_bn_<batches>_<train|test>_<data|label>.bin``.

Images are little-endian float32 NHWC, 32x32x3, in 0..1; labels little-endian int32 (MindSpore Federated 0.1.0, LeNet
demo). Only whole batches are stored: here the last one is filled by repeating the user's samples from the first, and
``manifest.json`` in each user folder holds the true counts. Folders without a manifest (the tutorial's own
``3500_clients_bin``) are read with every stored sample as a true one. The tutorial's own script drops incomplete
batches: for most users it writes test bins of 0 batches and 0 bytes. These users have no test data.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.folder import read_json
from mindfl.data.pixels import FloatFile, grey_to_float
from mindfl.data.samples import PARTS, Samples, Split, StoredDataset, UserData, check_labels, no_samples
from mindfl.errors import DataError
from mindfl.files import open_file
from mindfl.spelling import counted

MANIFEST = "manifest.json"
_FORMAT = "mindfl-bin"
_VERSION = 1
_LABEL = np.dtype("<i4")
_NAME = re.compile(r".+_bn_(?P<batches>[0-9]{1,9})_(?P<part>train|test)_(?P<what>data|label)\.bin", re.DOTALL)


class BinSink:
    """Writes users as bins of whole batches."""

    def __init__(self, folder: Path, source: str, batch_size: int) -> None:
        self._folder = folder
        self._source = source
        self._batch_size = batch_size

    def add(self, name: str, train: Samples, test: Samples) -> None:
        """Write one user's folder."""
        folder = self._folder / name
        folder.mkdir()
        manifest: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, "source": self._source, "user": name}
        manifest["batch_size"] = self._batch_size
        for part, samples in zip(PARTS, (train, test), strict=True):
            size = len(samples.labels)
            batches = -(-size // self._batch_size)
            filled = samples.take(np.arange(batches * self._batch_size) % size)
            stem = f"{name}_bn_{batches}_{part}"
            (folder / f"{stem}_data.bin").write_bytes(grey_to_float(filled.grey).astype("<f4", copy=False).tobytes())
            (folder / f"{stem}_label.bin").write_bytes(filled.labels.astype(_LABEL).tobytes())
            manifest[part] = {"samples": size, "batches": batches}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def close(self, *, complete: bool) -> None:
        """Do nothing: no file stays open between users."""


class BinDataset(StoredDataset):
    """Reads the tutorial's layout; a user's folder is opened and checked when the user is requested."""

    kind = "bin"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._set_users([entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")])

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return whether any folder in ``root`` contains a bin."""
        return any(True for _ in root.glob("[!.]*/*_bn_*.bin"))

    @cached_property
    def source(self) -> str:
        """Source in the first readable manifest; "unknown" without one."""
        for name in self.users:
            try:
                manifest = _read_manifest(self.root / name, name)
            except DataError:
                continue
            return str(manifest.get("source", "unknown"))
        return "unknown"

    def _open(self, name: str) -> UserData:
        folder = self.root / name
        manifest = _read_manifest(folder, name)
        train, test = (_open_part(folder, name, part, manifest) for part in PARTS)
        return UserData(name, train, test)

    def _open_test(self, name: str) -> Split:
        folder = self.root / name
        return _open_part(folder, name, "test", _read_manifest(folder, name))


def _read_manifest(folder: Path, user: str) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        return {}
    manifest = read_json(path, f"user {user}")
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise DataError(f"user {user}: {path} is not a mindfl manifest", hint="delete it to use all stored samples")
    if manifest.get("version") != _VERSION:
        raise DataError(f"user {user}: {path} has version {manifest.get('version')!r}, this mindfl reads {_VERSION}")
    return manifest


def _open_part(folder: Path, user: str, part: str, manifest: dict[str, Any]) -> Split:
    if part == "test" and _has_only_train_bins(folder, user):
        return no_samples(FloatFile(folder, user))
    images, batches = _find(folder, user, part, "data")
    labels_path, label_batches = _find(folder, user, part, "label")
    size, rest = divmod(_file_size(images, user), FloatFile.image_bytes())
    labels = _read_labels(labels_path, user)
    if rest:
        raise DataError(f"user {user}: {images} is not whole images of {FloatFile.image_bytes()} bytes (truncated?)")
    if len(labels) != size:
        raise DataError(
            f"user {user}: {images.name} has {counted(size, 'image')} but {labels_path.name} has "
            f"{counted(len(labels), 'label')}"
        )
    if batches != label_batches or bool(batches) != bool(size) or (batches and size % batches):
        raise DataError(
            f"user {user}: {counted(size, f'{part} sample')} do not make the "
            f"{counted(batches, 'batch', 'batches')} of {images.name}"
        )
    true_size = _true_size(folder, user, part, manifest, size) if manifest else size
    if not true_size and part != "test":
        raise DataError(f"user {user} has no {part} samples in {folder}")
    return Split(check_labels(labels, user, labels_path), true_size, FloatFile(images, user))


def _true_size(folder: Path, user: str, part: str, manifest: dict[str, Any], stored: int) -> int:
    entry = manifest.get(part)
    size = entry.get("samples") if isinstance(entry, dict) else None
    batch_size = manifest.get("batch_size")
    if not (type(size) is int and type(batch_size) is int and batch_size > 0):
        raise DataError(f"user {user}: {folder / MANIFEST} does not say how many {part} samples there are")
    if size < 0 or -(-size // batch_size) * batch_size != stored:
        raise DataError(
            f"user {user}: {folder / MANIFEST} says {counted(size, f'{part} sample')}, but {stored} are stored"
        )
    return size


def _has_only_train_bins(folder: Path, user: str) -> bool:
    """Return whether there is neither a test bin nor a file whose name may be a misspelled one."""
    known = [match["part"] for _, match in _bins(folder, user)]
    return "test" not in known and len(known) == sum(1 for _ in folder.glob("*.bin"))


def _bins(folder: Path, user: str) -> list[tuple[Path, re.Match[str]]]:
    try:
        return [(path, match) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    except OSError as error:
        raise DataError(f"user {user}: cannot list {folder}: {error.strerror}") from None


def _find(folder: Path, user: str, part: str, what: str) -> tuple[Path, int]:
    found = [
        (path, int(match["batches"]))
        for path, match in _bins(folder, user)
        if (match["part"], match["what"]) == (part, what)
    ]
    if len(found) != 1:
        names = f"{user}_bn_<batches>_{part}_{what}.bin"
        raise DataError(f"user {user}: {folder} has {len(found) or 'no'} files {names} where one is needed")
    return found[0]


def _file_size(path: Path, user: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"user {user}: cannot read {path}: {error.strerror}") from None


def _read_labels(path: Path, user: str) -> NDArray[np.integer[Any]]:
    try:
        with open_file(path) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"user {user}: cannot read {path}: {error.strerror}") from None
    if len(content) % _LABEL.itemsize:
        raise DataError(f"user {user}: {path} is not whole int32 labels (truncated?)")
    return np.frombuffer(content, _LABEL)
