"""The model files a job starts from: exported MINDIR, converted model. Made once, and anew when settings change."""

from __future__ import annotations

import hashlib
import inspect
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mindfl._version import __version__
from mindfl.data import Dataset
from mindfl.errors import MindirError, ModelFormatError, OptionError, StorageError
from mindfl.extensions import code_digest, module_origin
from mindfl.files import file_digest, make_dir, remove_file, scratch_folder, write_atomic
from mindfl.imports import package_version
from mindfl.lite import LiteModel
from mindfl.models.networks import ModelSpec, NetworkSizes, model_spec
from mindfl.notices import warn
from mindfl.sim.config import JobConfig
from mindfl.sim.job_data import check_kind, check_loss, data_sizes, training_data
from mindfl.sim.model_options import check_input_shape, check_settings, read_note, recorded_hash
from mindfl.sim.network_model import JobModel, NetworkModel, load_model
from mindfl.sim.result_files import TrainingNote
from mindfl.sim.run_record import setting_text
from mindfl.sim.trainers import exchanged_weights


def _nothing(_: str) -> None:
    """Say nothing."""


class Artefacts:
    """Knows which file was made with which settings, through a JSON file beside each.

    A file of mindfl's whose settings changed since is made again. A file that is not as the note beside it says, or has
    none, is the user's own: it is used as it is and never replaced. ``say`` reports that, ``warn`` that such a file has
    replaced one of mindfl's.
    """

    def __init__(
        self, config: JobConfig, say: Callable[[str], None] = _nothing, warn: Callable[[str], None] = warn
    ) -> None:
        self._config = config
        self._say = say
        self._warn = warn
        self._uses_own = config.origin_train_model_path is not None

    @property
    def mindir(self) -> Path:
        """The exported training graph."""
        return self._config.models / f"{self._config.model_name}.mindir"

    @property
    def model(self) -> Path:
        """The converted model that every client starts from."""
        return self._config.models / f"{self._config.model_name}{self._config.model_suffix}"

    def export(self) -> Path:
        """Export the training graph unless the file is there already."""
        config, network = self._config, self._config.network
        sizes = self.sizes
        settings = {item.name: getattr(network, item.name) for item in fields(network)}
        settings |= {"learning_rate": config.rate, "seed": config.seed, "init": self._init}
        noted = {**settings, **self._described}
        if settings["loss"] == "sparse":
            del noted["loss"]  # as in the notes of the first release, which had no other
        if not noted["weight_decay"]:
            del noted["weight_decay"]  # likewise
        if config.init_from is not None:
            settings["init"] = None
            noted["init_from"] = file_digest(config.init_from)

        def build(path: Path) -> dict[str, str]:
            from mindfl.export import export_mindir

            options = {"device_target": config.device_target, "init_from": config.init_from, **vars(sizes)}
            return export_mindir(path, **options, **settings).sources

        self._make(self.mindir, noted, build)
        return self.mindir

    def convert(self) -> Path:
        """Convert the MINDIR unless the model is there already."""
        if not self._is_own(self.model):
            converter = self._config.converter
            settings = {
                "mindir": file_digest(self.export()),
                "mindfl": __version__,
                "converter": None if converter is None else str(converter),
            }

            def build(path: Path) -> dict[str, str]:
                from mindfl.convert import convert_model

                convert_model(self.mindir, path, converter=converter)
                return {}

            self._make(self.model, settings, build)
        return self.model

    def start_network(self) -> Path:
        """Write the initial weights of a network that is not converted, unless the file is there already."""
        config = self._config
        settings = {"init": self._init, "seed": config.seed}
        noted = {**settings, **self._described}
        if config.init_from is not None:
            settings["init"] = None
            noted["init_from"] = file_digest(config.init_from)

        def build(path: Path) -> dict[str, str]:
            from mindfl.export.untrained import untrained_weights

            options: dict[str, Any] = {"init_from": config.init_from, "device_target": config.device_target, **settings}
            weights, sources = untrained_weights(config.network.model, self.sizes, **options)
            NetworkModel(weights, self.sizes).save(path)
            return sources

        self._make(self.model, noted, build)
        return self.model

    def starting_model(self) -> JobModel:
        """Return the model to start from: ``origin_train_model_path``, the user's own in ``train_model_path``, else one
        that is exported and converted, or made by its network alone."""
        config = self._config
        if not config.converts:
            return NetworkModel.load(self.start_network(), self.sizes)
        if config.origin_train_model_path is not None:
            return LiteModel.load(config.origin_train_model_path)
        first = config.client_model(0)
        if config.train_model_path is not None and not self.model.exists() and first.exists():
            # Training overwrites the clients' files: without this copy the next run would start from its result.
            if TrainingNote(config.models, config.model_name).matches(first):
                raise OptionError(
                    f"{self.model} is missing, and {first} is what a training left",
                    hint=f"put the model to start from at {self.model}, or give --origin_train_model_path",
                )
            write_atomic(self.model, LiteModel.load(first).content)
        return LiteModel.load(self.convert())

    def description(self, model: JobModel) -> dict[str, Any]:
        """Return which file the starting ``model`` is, its SHA-256, and whether it is the user's own."""
        path = model_path(self._config).absolute()
        return {"path": str(path), "sha256": hashlib.sha256(model.content).hexdigest(), "own": self._uses_own}

    @cached_property
    def sizes(self) -> NetworkSizes:
        """What the network is made for: the data, as far as they say it without being drawn."""
        data = Dataset if self._config.train_dataset is None else training_data(self._config, self._warn)
        check_kind(self._spec, data)
        check_loss(self._config.network.loss, data, self._spec)
        return self._spec.sizes(data_sizes(data))

    @property
    def _spec(self) -> ModelSpec:
        return model_spec(self._config.network.model)

    @property
    def _init(self) -> str | None:
        return self._config.init or self._spec.default_init

    @property
    def _described(self) -> dict[str, Any]:
        """What the notes say of the network, beside settings."""
        return {"model": setting_text("model", self._config.network.model), **_network(self._spec, self.sizes)}

    def _make(self, path: Path, settings: Mapping[str, Any], build: Callable[[Path], dict[str, str]]) -> None:
        """Let ``build`` write ``path``, unless it is there with these ``settings`` or is the user's own.

        ``build`` returns the SHA-256 of the user's code that it loaded, by file; a change of it counts too.
        """
        note = _note(path)
        if self._is_own(path) or (path.exists() and _is_current(read_note(path), settings)):
            return
        try:
            # In this order a process that is killed never leaves a file without its note, or with another's.
            for old in (path, note):
                remove_file(old)
            with scratch_folder(".mindfl-making", make_dir(path.parent)) as folder:
                made = Path(folder, path.name)
                sources = build(made)
                entries = {"settings": settings, "sha256": file_digest(made), "sources": sources}
                write_atomic(note, json.dumps(entries, indent=2) + "\n")
                made.replace(path)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", path) from None

    def _is_own(self, path: Path) -> bool:
        """Say whether ``path`` is a file that mindfl did not make, and tell the user that it is used."""
        if not path.exists():
            return False
        noted = recorded_hash(path)
        if noted == file_digest(path):
            return False
        if noted is not None and (fault := _fault(path)):
            aside = path.replace(path.with_name(f"{path.name}.damaged"))
            self._warn(f"{path} was damaged ({fault}): it is made again, and what was there is {aside}")
            return False
        if noted is not None:
            self._warn(f"{path} is not the file that mindfl made there: it is used as it is")
        else:
            self._say(f"using your own {path}")
        self._uses_own = True
        return True


def model_path(config: JobConfig) -> Path:
    """Return the file of the model to start from."""
    return config.origin_train_model_path or config.models / f"{config.model_name}{config.model_suffix}"


def check_model(model: JobModel, config: JobConfig) -> None:
    """Raise :class:`OptionError` or :class:`ModelFormatError` where the model file does not fit the job's options."""
    if isinstance(model, NetworkModel):
        return  # the engine compares it with the network
    path = model_path(config)
    check_settings(model, config, path)
    if not model.parameters:
        raise ModelFormatError(
            "the model file trains nothing: it has no optimizer node that mindfl knows",
            hint="mindfl inspect lists its nodes; convert a training graph with --trainModel=true",
        )
    check_input_shape(model, config.input_shape)
    exchanged_weights(model.weights, config.train_weights or (), "the model file")


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _fault(path: Path) -> str | None:
    """Return the error in a damaged file of those that mindfl makes; None if it can be read."""
    try:
        if path.suffix == ".mindir":
            from mindfl.convert.mindir import read_mindir

            read_mindir(path)
        else:
            load_model(path, NetworkSizes())
    except (ModelFormatError, MindirError) as error:
        return str(error)
    return None


def _is_current(note: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return whether a file that was made as ``note`` says would be made the same with ``settings`` now."""
    sources = note.get("sources", {})
    changed = not isinstance(sources, dict) or any(code_digest(path) != found for path, found in sources.items())
    return note.get("settings") == settings and not changed


def _network(spec: ModelSpec, sizes: NetworkSizes) -> dict[str, Any]:
    """Return what an export depends on beside its settings: the network's code, and the packages that export it."""
    height, width = sizes.image_size or (0, 0)
    text = [] if sizes.vocabulary is None and sizes.length is None else [sizes.length, sizes.vocabulary]
    return {
        "mindfl": __version__,
        "mindspore": package_version("mindspore"),
        "shape": [height, width, sizes.num_channel, sizes.num_class, *text],
        "code": _code(spec),
    }


def _code(spec: ModelSpec) -> str | None:
    """Return what stands for the network's code; a value that never comes again where nothing does.

    Of a network that is loaded by name it is where its module is; the note of the export lists the files.
    """
    if spec.own is not None:
        return module_origin(spec.own.target) if spec.by_name else uuid.uuid4().hex
    code = inspect.unwrap(getattr(spec.build, "func", spec.build))
    try:
        return file_digest(inspect.getfile(code))
    except (StorageError, TypeError):
        return uuid.uuid4().hex
