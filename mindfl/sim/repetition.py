"""A run that repeats an earlier one from its ``config.json``, and is compared with it."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from mindfl.errors import OptionError
from mindfl.sim.result import TrainingResult
from mindfl.sim.run_record import DECIDING, FILES, RunRecord

_DATA = ("train_dataset", "test_dataset")
_MODEL = tuple(name for name in FILES if name not in _DATA)


@dataclass(frozen=True)
class Repetition:
    """Repeats the run recorded in ``path`` with other values for the settings ``given``."""

    path: Path
    earlier: RunRecord
    given: Set[str]

    def check(self, now: RunRecord, warn: Callable[[str], None]) -> None:
        """Raise :class:`OptionError` where data or model are not the earlier ones though no others were given."""
        if now.data != self.earlier.data and not self._changed(*_DATA, "client_num", "seed"):
            raise OptionError(
                f"the data are not those of {self.path}",
                hint="restore them, or name others with --train_dataset",
            )
        same_model = now.model["sha256"] == self.earlier.model["sha256"]
        if not same_model and not self._changed(*_MODEL, *DECIDING):
            if self.earlier.model["own"]:
                raise OptionError(
                    f"the model to start from is not that of {self.path}",
                    hint="restore it, or name another with --origin_train_model_path",
                )
            warn(f"the exported model is not that of {self.path}: {self._versions(now)}")

    def compare(self, now: RunRecord, result: TrainingResult) -> str | None:
        """Return a warning where the weights are not those of the earlier run though the settings are."""
        asked = (*DECIDING, *FILES, "iterations")
        if self._changed(*asked) or self.earlier.iterations != len(result.history):
            return None
        if result.hash == self.earlier.weights_sha256:
            return None
        return f"the weights are not those of {self.path} ({self.earlier.weights_sha256}): {self._versions(now)}"

    def _changed(self, *names: str) -> bool:
        return not self.given.isdisjoint(names)

    def _versions(self, now: RunRecord) -> str:
        pairs = {name: (version, now.versions.get(name)) for name, version in self.earlier.versions.items()}
        other = [f"{name} {there} there, {here} here" for name, (there, here) in pairs.items() if there != here]
        return "; ".join(other) or "the versions are the same, so something else differs"
