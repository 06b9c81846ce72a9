"""Model files under the name that those of every network had before they were named by the network."""

from __future__ import annotations

from pathlib import Path

from mindfl.errors import OptionError
from mindfl.files import file_digest
from mindfl.models import model_spec
from mindfl.sim.config import JobConfig, Network
from mindfl.sim.model_options import own_model, read_note, recorded_hash
from mindfl.sim.network_model import CHECKPOINT
from mindfl.sim.result_files import TrainingNote
from mindfl.sim.run_record import setting_text


def refuse_earlier_name(config: JobConfig) -> None:
    """Raise :class:`OptionError` where the job would pass over model files called ``lenet_train``.

    These are files of the user's own, and what a training of the job's network left; not the files that mindfl made
    for a training to start from, which it makes again.
    """
    if config.train_ms_name is not None or config.origin_train_model_path is not None:
        return
    earlier = config.derived(train_ms_name=model_spec(Network.model).file_name)
    if config.model_name == earlier.model_name or _own_files(config):
        return
    files = _own_files(earlier) + ([] if config.overwrite else _trained_files(earlier))
    if files:
        raise OptionError(
            f"{files[0]} has the name that earlier versions gave the model files of every network: those of "
            f"{config.network_name} are now called {config.model_name}",
            hint=f"--train_ms_name {earlier.model_name} uses them; or rename them, or choose another folder",
        )


def _own_files(config: JobConfig) -> list[Path]:
    """Return the files of the user's own that the job would start from."""
    first = own_model(config)
    made = (config.models / f"{config.model_name}{suffix}" for suffix in (".mindir", CHECKPOINT))
    own = [path for path in made if path.exists() and recorded_hash(path) != file_digest(path)]
    return own if first is None else [first, *own]


def _trained_files(config: JobConfig) -> list[Path]:
    """Return the model that a training of the job's network left."""
    if not TrainingNote(config.models, config.model_name):
        return []
    files = (config.models / f"{config.model_name}{suffix}" for suffix in (".mindir", CHECKPOINT))
    network = setting_text("model", config.network.model)
    noted = (read_note(path).get("settings") for path in files)
    made_for_it = any(isinstance(settings, dict) and settings.get("model") == network for settings in noted)
    return [config.models / f"{config.model_name}_trained{config.model_suffix}"] if made_for_it else []
