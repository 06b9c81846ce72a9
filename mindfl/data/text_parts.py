"""Labelled texts of one device, or of one test set, with a vocabulary that is given."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mindfl.data.array_samples import ArraySamples
from mindfl.data.arrays import ArrayDataset
from mindfl.data.labelled_lines import IDS_FILE, VOCABULARY_FILE, find_texts, known_lines, read_lines
from mindfl.data.samples import Dataset, SampleForm, Split, StoredDataset
from mindfl.data.stored_arrays import INDEX
from mindfl.data.text_dataset import READING_FILE, Cutting, TextReading
from mindfl.data.tokenizer import read_vocabulary
from mindfl.data.without_users import Part
from mindfl.errors import DataError
from mindfl.notices import warn

#: the classes of MindSpore Federated's ALBERT demo
DEMO_LABELS = ("good", "leimu", "xiaoku", "xin")


def is_texts(path: Path) -> bool:
    """Return whether ``path`` is a text file, or a folder of labelled texts and no data set."""
    if path.is_file():
        return path.suffix == ".txt"
    return not (path / INDEX).exists() and any(any(folder.glob("*.txt")) for folder in (path, path / "client"))


def device_texts(path: Path, vocabulary: Mapping[str, int], part: str) -> Split:
    """Return a device's train or test part: the texts in a file, with the labels of the demo.

    Lines that cannot be used are named in a warning. Raises :class:`DataError` if there is no other.
    """
    rng = np.random.default_rng(zlib.crc32(path.stem.encode(errors="replace"))) if part == "train" else None
    samples, labels = _read(path, vocabulary, DEMO_LABELS, TextReading(), rng)
    form = SampleForm("tokens", samples.shape[1:], max(vocabulary.values()) + 1)
    return Split(labels, len(labels), ArraySamples(samples, path.stem, form))


def evaluation_texts(path: Path, train: Dataset) -> Dataset:
    """Return the texts in a file or folder as a test data set for ``train``: its vocabulary, labels and length.

    Raises :class:`DataError` if ``train`` is no data set of texts, or there are no usable texts.
    """
    if not isinstance(train, StoredDataset) or not (train.root / VOCABULARY_FILE).is_file():
        raise DataError(f"{path} holds texts, but {train.name} has no vocabulary", hint="make it with mindfl data text")
    vocabulary = read_vocabulary(train.root / VOCABULARY_FILE, train.root / IDS_FILE)
    files = {path.stem: path} if path.is_file() else find_texts(path).users
    noted = train.root / READING_FILE
    lower = noted.is_file() and json.loads(noted.read_text("utf-8"))["lower_case"] is True
    reading = TextReading(length=train.form.shape[-1], lower_case=lower)
    parts = {}
    for user, file in files.items():
        part = _read(file, vocabulary, train.class_names, reading, None)
        parts[user] = (*part, *part)
    return ArrayDataset(parts, class_names=train.class_names, vocabulary=train.form.vocabulary, name=str(path))


def _read(
    path: Path,
    vocabulary: Mapping[str, int],
    labels: Sequence[str],
    reading: TextReading,
    rng: np.random.Generator | None,
) -> Part:
    problems: list[DataError] = []
    classes = {label: number for number, label in enumerate(labels)}
    lines = list(known_lines(read_lines(path, problems), classes, problems))
    for problem in problems:
        warn(f"left out: {problem}")
    if not lines:
        raise DataError(f"{path} has no usable lines <<<label>>>text", hint=f"labels are {', '.join(labels)}")
    return Cutting(reading, dict(vocabulary), classes).part(lines, rng)
