"""The picture of who has what: each client's training samples by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data import Dataset
from mindfl.data.samples import class_counts
from mindfl.files import PathLike
from mindfl.sim.plot import draw_figure
from mindfl.spelling import counted

#: with more classes a legend has no room
_LEGEND = 20

#: with more clients their bars touch each other, and are drawn as one area for each class
_BARS = 100


def save_partition(dataset: Dataset, path: PathLike, *, dpi: int = 120) -> None:
    """Draw a bar per client of a data set, with the numbers of its training labels of each class.

    For a regression, which has no classes, it is the number of its training samples.

    Args:
        dataset: the data set.
        path: the picture; its suffix is the format.
        dpi: dots per inch.

    Raises:
        OptionError: the suffix is no picture format.
        StorageError: the picture cannot be written.
    """
    regression = dataset.form.regression
    names = ("samples",) if regression else dataset.class_names
    counts = np.array(
        [[user.train.size] if regression else class_counts(user.train, dataset.classes) for user in dataset]
    )

    def draw(figure: Any) -> None:
        from matplotlib import colormaps
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        colours = colormaps["viridis"](np.linspace(0, 1, len(names)))
        if len(counts) <= _BARS:
            _draw_bars(axes, counts, colours, names)
        else:
            edges, steps = np.arange(len(counts) + 1) - 0.5, np.vstack([counts, counts[-1:]]).T
            axes.stackplot(edges, steps, colors=colours, labels=names, step="post", linewidth=0)
        axes.set_ylim(0, 1.05 * counts.sum(axis=1).max())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("client")
        axes.set_ylabel("training labels" if dataset.form.label_shape and not regression else "training samples")
        classes = "" if regression else f", {dataset.classes} classes"
        axes.set_title(f"{dataset.title}: {counted(len(counts), 'client')}{classes}")
        if not regression and len(names) <= _LEGEND:
            axes.legend(title="class", loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")

    draw_figure(path, draw, size=(max(6.4, min(24.0, 0.25 * len(counts))), 4.8), dpi=dpi)


def _draw_bars(axes: Any, counts: NDArray[np.int64], colours: NDArray[np.float64], names: Sequence[str]) -> None:
    bottom = np.zeros(len(counts), np.int64)
    for label, colour in enumerate(colours):
        axes.bar(np.arange(len(counts)), counts[:, label], 0.9, bottom, color=colour, label=names[label])
        bottom += counts[:, label]
