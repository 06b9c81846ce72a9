"""Which classes a model takes for which: accuracy per class and the confusion matrix of an evaluation."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import DataError
from mindfl.files import PathLike, read_file, write_atomic
from mindfl.sim.evaluation import CLASS_BITS, Cells, ClientAccuracies, Evaluated
from mindfl.sim.history import History, IterationRow
from mindfl.sim.plot import draw_figure, wrapped
from mindfl.sim.run_state import RunState
from mindfl.sim.tables import csv_text

#: with more classes there is no matrix: it has a number for each pair
MOST_CLASSES = 1000
#: up to this number of classes the picture shows the numbers
_NUMBERED = 15


@dataclass(frozen=True, eq=False)
class Confusion:
    """The confusion matrix of one evaluation, over all test samples of the evaluated clients or the central test set.

    Args:
        iteration: round of the model.
        matrix: int64 [classes, classes]: how many test samples of the class of a row were predicted as the class of a
            column. Clients with weights of their own predict with these.
        class_names: name of each class.

    Example:
        >>> confusion = result.confusion
        >>> int(confusion.matrix.sum()) == result.history[-1].test_samples
        True
        >>> confusion.save("confusion.csv")
    """

    iteration: int
    matrix: NDArray[np.int64]
    class_names: tuple[str, ...]

    @property
    def per_class(self) -> Mapping[str, float]:
        """Accuracy of each class by name: the share of its test samples that was predicted as it; NaN without any."""
        return _per_class(self.matrix, self.class_names)

    def save(self, path: PathLike) -> None:
        """Write the matrix as CSV: a row per class, a column per predicted class, named in the first row and column.

        Raises :class:`StorageError` if the file cannot be written.
        """
        rows: list[list[object]] = [["class", *self.class_names]]
        rows += [[name, *counts] for name, counts in zip(self.class_names, self.matrix.tolist(), strict=True)]
        write_atomic(path, csv_text(rows))

    @classmethod
    def load(cls, path: PathLike, iteration: int) -> Confusion:
        """Read what :meth:`save` wrote of the model after ``iteration``.

        Raises :class:`DataError` for other content, :class:`StorageError` if the file cannot be read.
        """
        try:
            (_, *names), *rows = csv.reader(io.StringIO(read_file(path).decode()))
            if names == [name for name, *_ in rows]:
                matrix = np.array([counts for _, *counts in rows], np.int64)
                if matrix.shape == (len(names), len(names)):
                    return cls(iteration, matrix, tuple(names))
        except (ValueError, csv.Error):
            pass
        raise DataError(f"{path} is no confusion matrix")

    def plot(self, path: PathLike, *, title: str = "") -> None:
        """Draw the matrix, each row as shares of its class, with the names of the classes.

        Args:
            path: of the file; its suffix names the format: .png, .pdf, .svg, .eps or .jpg.
            title: first lines above the figure.

        Raises:
            OptionError: there is no format of that suffix.
            StorageError: the file cannot be written.
        """
        side = min(16.0, max(5.0, 0.2 * len(self.class_names) + 2))

        def draw(figure: Any) -> None:
            axes = figure.add_subplot()
            shares = self.matrix / np.maximum(self.matrix.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            places = range(len(self.class_names))
            axes.set_xticks(places, self.class_names, parse_math=False, rotation="vertical" if self._long else 0)
            axes.set_yticks(places, self.class_names, parse_math=False)
            axes.set(xlabel="predicted class", ylabel="class")
            if len(self.class_names) <= _NUMBERED:
                for (row, column), count in np.ndenumerate(self.matrix):
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize="small")
            above = f"{title}\n" * bool(title) + f"{self.matrix.sum():,} test samples after iteration {self.iteration}"
            axes.set_title(wrapped(above, round(11 * side)), parse_math=False, fontsize="medium")
            figure.colorbar(image, label="share of the class", shrink=0.8)

        draw_figure(path, draw, size=(side + 1, side), dpi=120)

    @property
    def _long(self) -> bool:
        return max(map(len, self.class_names)) > 2


def count_cells(cells: Cells, classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix of these samples, [classes, classes], larger where the network has more classes."""
    labels, predicted = cells >> CLASS_BITS, cells & ((1 << CLASS_BITS) - 1)
    size = max(classes, int(predicted.max(initial=0)) + 1)
    return np.bincount(labels * size + predicted, minlength=size**2).reshape(size, size)


def _per_class(matrix: NDArray[np.int64], names: Sequence[str]) -> ClientAccuracies:
    pairs = zip(np.diagonal(matrix).tolist(), matrix.sum(axis=1).tolist(), strict=True)
    return ClientAccuracies(tuple(names), [right / samples if samples else math.nan for right, samples in pairs])


#: names in the arrays and values of a state
_STATE = "confusion"


class Confusions:
    """Keeps the confusion matrices of the last evaluation and of the best one by its metric, as :attr:`History.best`.

    Args:
        class_names: name of each class.
        every: whether :meth:`note` returns the accuracy per class.
    """

    def __init__(self, class_names: Sequence[str], *, every: bool = False) -> None:
        self._names = tuple(class_names)
        self._every = every
        self._best_avg = math.nan
        self.last: Confusion | None = None
        self.best: Confusion | None = None

    def note(self, iteration: int, evaluated: Evaluated) -> Mapping[str, float]:
        """Take an evaluation into account; return its accuracy per class where this is asked for, else nothing."""
        if evaluated.cells is None or not len(evaluated.cells) or len(self._names) > MOST_CLASSES:
            return {}
        matrix = count_cells(evaluated.cells, len(self._names))
        self.last = self._confusion(iteration, matrix)
        if evaluated.metric.better(avg := evaluated.summary.avg, self._best_avg):
            self._best_avg, self.best = avg, self.last
        return self.last.per_class if self._every else {}

    @property
    def values(self) -> dict[str, Any]:
        """What :meth:`restore` needs beside the arrays."""
        kept = {name: each.iteration for name, each in self._kept.items()}
        return {_STATE: kept} if kept else {}

    @property
    def arrays(self) -> dict[str, NDArray[np.int32]]:
        """The matrices by name, as a state keeps them."""
        return {f"{_STATE}/{name}": each.matrix.astype(np.int32) for name, each in self._kept.items()}

    def restore(self, state: RunState, rows: Iterable[IterationRow]) -> None:
        """Go on from a state and the rows until then; states of earlier versions of mindfl have no matrices."""
        for name, iteration in state.values.get(_STATE, {}).items():
            matrix = np.asarray(state.arrays[f"{_STATE}/{name}"], np.int64)
            setattr(self, name, self._confusion(iteration, matrix))
        best = History(rows).best
        self._best_avg = math.nan if best is None else best.avg

    @property
    def _kept(self) -> dict[str, Confusion]:
        pairs = {"last": self.last, "best": self.best}
        return {name: each for name, each in pairs.items() if each is not None}

    def _confusion(self, iteration: int, matrix: NDArray[np.int64]) -> Confusion:
        further = map(str, range(len(self._names), len(matrix)))
        return Confusion(iteration, matrix, (*self._names, *further))
