"""The model files of a job: those its clients start with, and those that a training left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.models import NetworkSizes
from mindfl.sim.artefacts import Artefacts, check_model
from mindfl.sim.callbacks import Reporter
from mindfl.sim.config import JobConfig
from mindfl.sim.network_model import JobModel, load_model
from mindfl.sim.result_files import ResultFiles
from mindfl.spelling import counted


class JobModels:
    """Reads and writes the model files of a job, and warns where they are not those that the user may expect."""

    def __init__(self, config: JobConfig, artefacts: Artefacts, files: ResultFiles, report: Reporter) -> None:
        self._config = config
        self._artefacts = artefacts
        self._files = files
        self._report = report

    def starting(self) -> JobModel:
        """Return the model that training begins with; it is exported and converted first if need be."""
        self._report.stage("preparing the model")
        model = self._artefacts.starting_model()
        check_model(model, self._config)
        return model

    def latest(self) -> JobModel:
        """Return the trained model, else that of the first client, else the starting model."""
        with suppress(StorageError):
            return self._load(self._files.trained)
        return self.starting() if (path := self._files.client_file(0)) is None else self._load(path)

    def of_client(self, index: int) -> JobModel:
        """Return the model of one client; the latest one if it has no file."""
        path = self._files.client_file(index)
        return self.latest() if path is None else self._load(path)

    def _load(self, path: Path) -> JobModel:
        return load_model(path, NetworkSizes() if self._config.converts else self._artefacts.sizes)

    def write(self, model: JobModel, clients: int) -> list[Path]:
        """Write ``model`` to the files of so many clients; return their paths."""
        second = self._config.origin_infer_model_path
        content = model.content if second is None else self._load(second).content
        self._files.write_second_models(content, clients)
        return self._files.write_client_models(model.content, clients)

    def remove_old(self, clients: int) -> None:
        """Remove the files of an earlier run; its models are moved into a folder of their own unless ``overwrite``."""
        if not self._config.overwrite and (aside := self._files.set_aside()):
            self._report.warning(f"an earlier run left its models in {self._config.models}: they are in {aside} now")
        stale = self._files.remove_old(clients)
        if stale:
            text = f"{stale[0]}" if len(stale) == 1 else f"{stale[0]} to {stale[-1].name}"
            self._report.warning(f"an earlier run had more clients: {text} are still its models")

    def check_trained(self, clients: int) -> None:
        """Warn where the model files are not those that a training with so many clients left."""
        trained, asked = self._files.trained_clients(), self._config.client_num
        if trained is None:
            self._report.warning(
                f"no training left the models in {self._config.models}: they are used as they are, perhaps untrained"
            )
        elif trained != clients:
            self._report.warning(
                f"--client_num is {asked}, but {counted(trained, 'client was', 'clients were')} trained: use "
                f"the same number"
            )
        for text in self._files.doubtful(clients):
            self._report.warning(text)
