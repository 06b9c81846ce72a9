"""The outcome of a training job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import NotAggregatedError, OptionError
from mindfl.files import PathLike
from mindfl.models import Model
from mindfl.sim.card import result_card
from mindfl.sim.confusion import Confusion
from mindfl.sim.history import History, accuracy_words, average_words, measured_clients, measured_iterations
from mindfl.sim.network_model import JobModel, NetworkModel
from mindfl.sim.plot import Style, plot_history
from mindfl.spelling import checked_arguments, counted

if TYPE_CHECKING:
    from pandas import DataFrame


def aggregated_words(history: History) -> str:
    """Return in words how many iterations aggregated something."""
    done, aggregated = len(history), history.aggregated
    if aggregated:
        return f"{aggregated} of {counted(done, 'iteration')} were aggregated; the others failed at the server"
    return f"none of {counted(done, 'iteration')} was aggregated: the model is the one that training began with"


def weight_hash(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Return a hash that is equal where all weights are bitwise equal.

    Args:
        weights: float32 arrays of any shape by name.

    Returns:
        64 hexadecimal digits: the SHA-256 over names and little-endian values, names in ascending byte order.

    Raises:
        TypeError: a value cannot be read as float32 numbers.

    Example:
        >>> weight_hash({"bias": np.zeros(2, np.float32)})[:8]
        '5aa95dd6'
    """
    digest = hashlib.sha256()
    for name in sorted(weights, key=str.encode):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(weights[name], "<f4").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Result:
    """History and final weights of a job.

    Args:
        title: names the job and its data.
        iterations: rounds that were asked for; ``history`` is shorter where the run was interrupted or stopped.
        history: one row per round.
        weights: the final weights that clients exchange: flat float32 by name, filters of convolutions in the order
            [out, height, width, in], or in MindSpore's where the network is not converted.
            :meth:`mindspore_weights` and :meth:`save_checkpoint` give MindSpore's order.
        privacy: privacy cost of the rounds, in words; empty if it is not counted.
        untested: number of clients without test data.
        model: the ``.ms`` that the job started from; a :class:`~mindfl.sim.network_model.NetworkModel` where MindSpore
            trained a network that is not converted.
        network: its network, as ``model`` of the job names it.
        stopped: name of the callback that ended the run; empty if none did.
        confusion: confusion matrix of the last evaluation; None where the predictions are not known (Java clients), no
            client has test data, or there are more than 1,000 classes.
        best_confusion: that of the best evaluation: of the highest AVG, or the lowest perplexity or loss.
        about: what :attr:`card` says of the job and its data.
        settings: every option of the run by name, as in its ``config.json``; paths are texts.
        ended: False where :meth:`load` found a run that has not ended: it still runs, or was killed.

    Example:
        >>> result.hash == weight_hash(result.weights)
        True
        >>> result.history[-1].iteration
        1
    """

    title: str
    iterations: int
    history: History
    weights: Mapping[str, NDArray[np.float32]] = field(repr=False)
    privacy: str = ""
    untested: int = 0
    model: JobModel | None = field(default=None, repr=False)
    network: Model = "lenet"
    stopped: str = ""
    confusion: Confusion | None = field(default=None, repr=False)
    best_confusion: Confusion | None = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ended: bool = True

    def __getstate__(self) -> dict[str, Any]:
        """Read-only views, as the weights of a training are, cannot be pickled: dictionaries stand for them."""
        return {
            name: dict(value) if isinstance(value, MappingProxyType) else value for name, value in vars(self).items()
        }

    @classmethod
    def load(cls, folder: PathLike) -> Result:
        """Return the result of the run in a work folder: as ``run()`` returned it, once the run has ended.

        The weights, the model and the confusion matrices are read when they are first used, and weights that are not
        those of the run's hash are refused. Of a run that has not ended there is the history so far, and the latest
        model; ``ended`` is False.

        Args:
            folder: the ``work_dir`` of the run, which may have been moved.

        Raises:
            OptionError: the folder holds no run.
            DataError: a file in it is damaged.
            StorageError: a file cannot be read.

        Example:
            >>> again = Result.load("run")
            >>> again.hash == result.hash, again.history[-1] == result.history[-1], again.settings["iterations"]
            (True, True, 1)
        """
        from mindfl.sim.stored_result import load_result

        return load_result(folder)

    @property
    def card(self) -> dict[str, Any]:
        """The result card, as in ``result.json``: network, algorithm with its settings, data with their fingerprint,
        who was evaluated, the last and the best evaluation, rounds, seconds, and the hash of the weights.

        Example:
            >>> card = result.card
            >>> card["algorithm"]["name"], card["last"]["measured"], card["data"]["users"]
            ('FedAvg', 'all', 2)
        """
        return result_card(self)

    @property
    def per_class(self) -> Mapping[str, float]:
        """Accuracy of each class by name in the last evaluation; empty where the predictions are not known.

        Example:
            >>> len(result.per_class)
            62
        """
        return {} if self.confusion is None else self.confusion.per_class

    @property
    def hash(self) -> str:
        """Hash of the final weights; see :func:`weight_hash`."""
        return weight_hash(self.weights)

    def mindspore_weights(self) -> dict[str, NDArray[np.float32]]:
        """Return all final weights of the network (float32 by name) in MindSpore's order and shapes, such as
        [out, in, height, width] of a convolution. Those that clients do not exchange are the starting model's.

        Example:
            >>> result.mindspore_weights()["conv1.weight"].shape
            (6, 3, 5, 5)
        """
        if self.model is None:
            raise OptionError("the result has no model, which tells the order of its weights")
        return self.model.to_mindspore(self.weights)

    @checked_arguments
    def save_checkpoint(self, path: PathLike, format: str | None = None) -> Path:
        """Write the final weights for MindSpore, in its order; return the path of the file.

        Args:
            path: target; the suffix of the format is appended if missing, folders are created, an existing file is
                replaced.
            format: ``"ckpt"``, ``"npz"`` or ``"safetensors"``: the weights; ``"mindir"`` or ``"onnx"``: the network
                with them, for inference. None: the format of the suffix of ``path``, or
                ``"ckpt"`` if it has none.

        Raises:
            OptionError: ``format`` is unknown or contradicts the suffix, or the network is not ``network``.
            ExportError: MindSpore failed, for ``mindir`` and ``onnx``.
            StorageError: the file cannot be written.

        Example:
            >>> _ = result.save_checkpoint("lenet.ckpt")
            >>> import mindspore
            >>> _ = mindspore.load_param_into_net(LeNet5(), mindspore.load_checkpoint("lenet.ckpt"))
        """
        from mindfl.export.trained import save_weights
        from mindfl.export.weight_files import target_format

        target, form = target_format(path, format if format is not None or Path(path).suffix else "ckpt")
        weights = self.mindspore_weights()
        known: dict[str, Any] = {"graph": self.model}
        if isinstance(self.model, NetworkModel):
            known = {"sizes": self.model.sizes}
        return save_weights(target, form, weights, source="the result", model=self.network, **known).path

    def to_pandas(self, *, clients: bool = False) -> DataFrame:
        """Return the history as a pandas DataFrame; see :meth:`History.to_pandas`.

        Example:
            >>> result.to_pandas()["iteration"].tolist()
            [1]
        """
        return self.history.to_pandas(clients=clients)

    def plot(self, path: PathLike | None = None, *, ax: Any = None, style: Style = None) -> None:
        """Draw AVG, TOP5 and LOW5 over the iterations.

        Args:
            path: file to write: .png, .pdf, .svg, .eps or .jpg. None: draw into ``ax`` only.
            ax: axes of matplotlib to draw into.
            style: style sheet of matplotlib, or its settings (rcParams) by name.

        Raises:
            OptionError: another suffix, no such style, or neither ``path`` nor ``ax`` is given.
            StorageError: the file cannot be written.

        Example:
            >>> result.plot("accuracy.svg", style={"font.size": 8})
        """
        plot_history(self.history, path, title=self.title, untested=self.untested, ax=ax, style=style)

    @property
    def complete(self) -> bool:
        """Whether the run did all that it was to do, or a callback ended it; False where it was interrupted or failed.

        Example:
            >>> result.complete
            True
        """
        return self.ended and (bool(self.stopped) or len(self.history) >= self.iterations)

    def _repr_html_(self) -> str:
        from mindfl.sim.notebook import result_html

        return result_html(self)

    def check(self, hint: str = "") -> None:
        """Raise :class:`NotAggregatedError`, with ``hint``, where no iteration aggregated anything."""
        if len(self.history) and not self.history.aggregated:
            raise NotAggregatedError(aggregated_words(self.history), hint=hint)

    def summary(self) -> str:
        """Return a few lines: what ran, final accuracies, speed, and the hash of the weights."""
        done = len(self.history)
        lines = [self.title]
        if not self.ended:
            lines.append(f"not ended: {done} of {counted(self.iterations, 'iteration')} so far")
        elif done < self.iterations:
            how = f"ended by {self.stopped}" if self.stopped else "interrupted"
            lines.append(f"{how} after {done} of {counted(self.iterations, 'iteration')}")
        if self.history.aggregated < done:
            lines.append(aggregated_words(self.history))
        if done:
            seconds = sum(self.history.column("seconds"))
            steps = sum(self.history.column("steps"))
            lines += [
                f"{counted(done, 'iteration')} of {self._cohorts()}, {steps:,} steps in "
                f"{seconds:.1f} s"
                f" ({steps / seconds if seconds else 0:,.0f} steps/s)",
                *self._accuracies(),
            ]
        lines += filter(None, [self.privacy])
        lines += [f"weights sha256 {self.hash}"] * self.ended
        return "\n".join(lines)

    def _cohorts(self) -> str:
        """Return in words how many clients took part in an iteration."""
        least, most = min(self.history.column("clients")), max(self.history.column("clients"))
        return counted(int(most), "client") if least == most else f"{least} to {most} clients"

    def _accuracies(self) -> list[str]:
        """Return the accuracies of the latest model that was evaluated, and whose they are."""
        loss = f"loss {self.history[-1].loss:.4f}"
        whom, when = measured_clients(self.history, untested=self.untested), measured_iterations(self.history)
        rows = self.history.evaluated
        if not rows:
            return [f"{loss}; accuracy of {whom}"]
        title = self.history.metric.title
        first, last = rows[0], rows[-1]
        begun = "the first iteration" if first is self.history[0] else f"iteration {first.iteration}"
        ended = "" if last is self.history[-1] else f"after iteration {last.iteration}: "
        return [
            f"{ended}{accuracy_words(last, 4)}  {loss}  (after {begun}: {average_words(first, 4)})",
            f"{title} of {whom}, after {when}",
        ]
