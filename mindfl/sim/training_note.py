"""The note beside a trained model: which training left it, and which clients' files that training wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mindfl.files import file_digest, remove_file, write_atomic


class TrainingNote:
    """``<name>_trained.json`` in the folder ``models``, as it was read; empty where no training left one.

    Files are noted by their path relative to the folder, so that it may be moved.
    """

    def __init__(self, models: Path, name: str) -> None:
        self._models = models
        self._path = models / f"{name}_trained.json"
        self._trained = models / f"{name}_trained.ms"
        self._values = self._read()

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def clients(self) -> int | None:
        """Number of clients of the training; None where it is not known."""
        number = self._values.get("client_num")
        return number if isinstance(number, int) else None

    def write(self, values: Mapping[str, Any], files: Iterable[Path] = (), *, durable: bool = True) -> None:
        """Replace the note: further ``values`` of the training, and the ``files`` that it wrote, as they are now."""
        self._values = {**values, "files": {self._key(path): file_digest(path) for path in files}}
        write_atomic(self._path, json.dumps(self._values, indent=2) + "\n", durable=durable)

    def add(self, files: Iterable[Path]) -> None:
        """Note that ``files`` hold a model that was fetched after the training; nothing where there was none."""
        if self:
            found = {self._key(path): file_digest(path) for path in files}
            self._values["files"] = {**self._files, **found}
            write_atomic(self._path, json.dumps(self._values, indent=2) + "\n")

    def remove(self) -> None:
        """Remove the note."""
        remove_file(self._path)
        self._values = {}

    def lists(self, path: Path) -> bool:
        """Say whether the training wrote ``path``, which may have changed since."""
        if "files" in self._values:
            return self._key(path) in self._files
        # A note of the first release, whose training left the same content in every client's file.
        return bool(self) and self._trained.exists() and file_digest(path) == file_digest(self._trained)

    def matches(self, path: Path) -> bool:
        """Say whether ``path`` is as the training left it."""
        return self.lists(path) and self._files.get(self._key(path), file_digest(path)) == file_digest(path)

    @property
    def _files(self) -> dict[str, str]:
        files = self._values.get("files")
        return files if isinstance(files, dict) else {}

    def _key(self, path: Path) -> str:
        return os.path.relpath(path.absolute(), self._models.absolute())

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}
