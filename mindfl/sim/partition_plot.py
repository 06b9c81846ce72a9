"""The picture of who has what: each client's training samples by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindfl.data import Dataset
from mindfl.files import PathLike
from mindfl.sim.plot import draw_figure
from mindfl.spelling import counted

#: with more classes a legend has no room
_LEGEND = 20


def save_partition(dataset: Dataset, path: PathLike, *, dpi: int = 120) -> None:
    """Draw a bar per client of a data set, with the numbers of its training samples of each class.

    Args:
        dataset: the data set.
        path: the picture; its suffix is the format.
        dpi: dots per inch.

    Raises:
        OptionError: the suffix is no picture format.
        StorageError: the picture cannot be written.
    """
    counts = np.array(
        [np.bincount(user.train.labels[: user.train.size], minlength=dataset.classes) for user in dataset]
    )

    def draw(figure: Any) -> None:
        from matplotlib import colormaps

        axes = figure.add_subplot()
        colours = colormaps["viridis"](np.linspace(0, 1, dataset.classes))
        left = np.zeros(len(counts), np.int64)
        for label, colour in enumerate(colours):
            axes.bar(
                np.arange(len(counts)), counts[:, label], 0.9, left, color=colour, label=dataset.class_names[label]
            )
            left += counts[:, label]
        axes.set_ylim(0, 1.05 * left.max())
        axes.set_xlabel("client")
        axes.set_ylabel("training samples")
        axes.set_title(f"{dataset.title}: {counted(len(counts), 'client')}, {dataset.classes} classes")
        if dataset.classes <= _LEGEND:
            axes.legend(title="class", loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")

    draw_figure(path, draw, size=(max(6.4, min(24.0, 0.25 * len(counts))), 4.8), dpi=dpi)
