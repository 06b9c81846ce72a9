"""Reads tables of images: CSV files with a header, a row per sample, and a column per pixel."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import DataError
from mindfl.files import open_file
from mindfl.spelling import did_you_mean


def read_table(path: Path, label: str, user: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Return the pixels (n, columns), labels (n,) and users of a table; users are empty texts without a column of them.

    Raises :class:`DataError` naming file and line.
    """
    pixels: list[list[int]] = []
    labels: list[int] = []
    owners: list[str] = []
    for line, row in _rows(path, [label, *([] if user is None else [user])]):
        owners.append(row.pop(user) if user is not None else "")
        try:
            labels.append(int(row.pop(label)))
            pixels.append([int(value) for value in row.values()])
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}", hint="pixels are whole numbers from 0 to 255") from None
        if labels[-1] < 0 or min(pixels[-1]) < 0 or max(pixels[-1]) > 255:
            raise DataError(f"{path}, line {line}: a label below 0 or a pixel outside 0..255")
    if not labels:
        raise DataError(f"{path} has a header and no rows")
    return np.array(pixels, np.uint8), np.array(labels), owners


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        file = open_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with file as binary:
        reader = csv.reader(line.decode("utf-8-sig", errors="replace") for line in binary)
        columns = next(reader, [])
        if len({*columns}) != len(columns):
            raise DataError(f"{path} has two columns of one name")
        for name in needed:
            if name not in columns:
                raise DataError(f"{path} has no column {name!r}", hint=did_you_mean(name, columns or ["(no columns)"]))
        if len(columns) == len(needed):
            raise DataError(f"{path} has no pixel columns")
        for row in reader:
            if len(row) != len(columns):
                raise DataError(f"{path}, line {reader.line_num}: {len(row)} values for {len(columns)} columns")
            yield reader.line_num, dict(zip(columns, row, strict=True))
