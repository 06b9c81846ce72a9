"""Reads tables of images: CSV files with a header, a row per sample, and a column per pixel."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.label_numbers import label_numbers
from mindfl.errors import DataError
from mindfl.files import open_file
from mindfl.spelling import did_you_mean


class CsvTable(NamedTuple):
    """Pixels (n, columns), labels (n,), names of classes if the labels are names, and users ("" without a column)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    owners: list[str]


def read_table(path: Path, label: str, user: str | None) -> CsvTable:
    """Return the rows of a table. Raises :class:`DataError` naming file and line."""
    pixels: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    owners: list[str] = []
    lines: list[int] = []
    for line, row in _rows(path, [label, *([] if user is None else [user])]):
        owners.append(row.pop(user) if user is not None else "")
        labels.append(row.pop(label).strip())
        lines.append(line)
        try:
            values = [int(value) for value in row.values()]
        except ValueError:
            column = next(name for name, value in row.items() if not _is_whole(value))
            raise DataError(
                f"{path}, line {line}: {row[column]!r} in the column {column} is no pixel",
                hint="pixels are whole numbers from 0 to 255; --user and --label name the columns that are none",
            ) from None
        if min(values) < 0 or max(values) > 255:
            raise DataError(f"{path}, line {line}: a pixel is outside 0..255")
        pixels.append(np.array(values, np.uint8))
    if not labels:
        raise DataError(f"{path} has a header and no rows")
    numbers, names = label_numbers(labels, lambda position: f"{path}, line {lines[position]}")
    return CsvTable(np.stack(pixels), numbers, names, owners)


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        file = open_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with file as binary:
        reader = csv.reader(line.decode("utf-8-sig", errors="replace") for line in binary)
        try:
            columns = next(reader, [])
            _check_columns(path, columns, needed)
            for row in reader:
                if len(row) != len(columns):
                    raise DataError(f"{path}, line {reader.line_num}: {len(row)} values for {len(columns)} columns")
                yield reader.line_num, dict(zip(columns, row, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _check_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    if len({*columns}) != len(columns):
        raise DataError(f"{path} has two columns of one name")
    for name in needed:
        if name not in columns:
            raise DataError(f"{path} has no column {name!r}", hint=did_you_mean(name, columns or ["(no columns)"]))
    if len(columns) == len(needed):
        raise DataError(f"{path} has no pixel columns")
