"""The files a job starts from: exported MINDIR, converted model, data set. Made once, and anew when settings change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindfl.data import Dataset, make_synthetic, open_dataset
from mindfl.data.folder import recovered
from mindfl.errors import OptionError, SimulationError, StorageError
from mindfl.files import make_dir, read_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.locks import acquire, holder
from mindfl.sim.chosen import chosen_weights
from mindfl.sim.config import JobConfig
from mindfl.sim.model_options import check_settings
from mindfl.sim.pairing import PairedDataset


class Artefacts:
    """Knows which file was made with which settings, through a JSON file beside each.

    A file whose settings or content changed since is not trusted but made again.
    """

    def __init__(self, config: JobConfig) -> None:
        self._config = config

    @property
    def mindir(self) -> Path:
        """The exported training graph."""
        return self._config.models / f"{self._config.train_ms_name}.mindir"

    @property
    def model(self) -> Path:
        """The converted model that every client starts from."""
        return self._config.models / f"{self._config.train_ms_name}.ms"

    def export(self) -> Path:
        """Export the training graph unless the file is there already."""
        config = self._config
        settings = {**asdict(config.network), "learning_rate": config.rate, "seed": config.seed}
        if not _made_with(self.mindir, settings):
            from mindfl.export import export_mindir

            export_mindir(self.mindir, device_target=config.device_target, **settings)
            _remember(self.mindir, settings)
        return self.mindir

    def convert(self) -> Path:
        """Convert the MINDIR unless the model is there already."""
        settings = {"mindir": _digest(self.export())}
        if not _made_with(self.model, settings):
            from mindfl.convert import convert_model

            convert_model(self.mindir, self.model, converter=self._config.converter)
            _remember(self.model, settings)
        return self.model

    def starting_model(self) -> LiteModel:
        """Return the model to start from: ``origin_train_model_path``, the user's own in ``train_model_path``, else one
        that is exported and converted."""
        config = self._config
        if config.origin_train_model_path is not None:
            return LiteModel.load(config.origin_train_model_path)
        if config.train_model_path is not None and not _note(self.model).exists():
            first = config.client_model(0)
            if not self.model.exists() and first.exists():
                # Training overwrites the clients' files: without this copy the next run would start from its result.
                write_atomic(self.model, LiteModel.load(first).content)
            if self.model.exists():
                return LiteModel.load(self.model)
        return LiteModel.load(self.convert())

    def dataset(self, *, inference: bool = False, progress: bool = True) -> Dataset:
        """Open the data set, or draw a synthetic one where none was given; with the test parts for evaluation, or for
        ``inference``."""
        config = self._config
        train = self._train_dataset(progress=progress)
        tests = (config.infer_dataset or config.test_dataset) if inference else config.test_dataset
        return train if tests is None else PairedDataset(train, open_dataset(tests))

    def _train_dataset(self, *, progress: bool) -> Dataset:
        config = self._config
        if config.train_dataset is not None:
            return open_dataset(config.train_dataset)
        form = "bin" if config.clients == "java" else config.data_format
        folder = config.work_dir / "data" / f"synthetic_{config.client_num}_seed{config.seed}_{form}"
        if not recovered(folder):
            make_synthetic(folder, users=config.client_num, seed=config.seed, format=form, progress=progress)
        return open_dataset(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working in ``folder``. Raises :class:`SimulationError` where one does already."""
    path = make_dir(folder) / ".lock"
    lock = acquire(path)
    if lock is None:
        raise SimulationError(
            f"another run is working in {folder}: {holder(path)}", hint="wait for it, or choose another --work_dir"
        )
    with lock:
        yield


def check_model(model: LiteModel, config: JobConfig) -> None:
    """Raise :class:`OptionError` or :class:`ModelFormatError` where the model file does not fit the job's options."""
    path = config.origin_train_model_path or config.models / f"{config.train_ms_name}.ms"
    check_settings(model, config, path)
    inputs = [model.tensors[index].dims for index in model.inputs]
    shapes = ";".join(",".join(map(str, dims)) for dims in inputs)
    if config.input_shape not in (None, shapes):
        raise OptionError(
            f"--input_shape is {config.input_shape}, but the model file takes {shapes}",
            hint="leave it out, or correct it",
        )
    chosen_weights(model.weights, config.train_weights or (), "the model file")


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _remember(path: Path, settings: Mapping[str, Any]) -> None:
    write_atomic(_note(path), json.dumps({"settings": settings, "sha256": _digest(path)}, indent=2) + "\n")


def _made_with(path: Path, settings: Mapping[str, Any]) -> bool:
    try:
        note = json.loads(_note(path).read_text())
        return bool(note == {"settings": settings, "sha256": _digest(path)})
    except (OSError, ValueError, StorageError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()
