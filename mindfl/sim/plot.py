"""The accuracy figure: AVG, TOP5 and LOW5 over the iterations, as the tutorial draws it."""

from __future__ import annotations

import gc
import importlib
import warnings

from mindfl.files import PathLike, atomic_path
from mindfl.models import interrupt_held_back
from mindfl.sim.history import History

_CURVES = (("top5", "TOP5", "tab:green"), ("avg", "AVG", "tab:blue"), ("low5", "LOW5", "tab:red"))


def plot_history(history: History, path: PathLike, *, title: str) -> None:
    """Draw ``history`` as a PNG. Raises :class:`StorageError` where it cannot be written."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    iterations = history.column("iteration")
    marker = "o" if len(iterations) <= 30 else ""
    for name, label, colour in _CURVES:
        values = history.column(name)
        last = f"  {values[-1]:.3f}" if values else ""
        axes.plot(iterations, values, label=label + last, color=colour, marker=marker, markersize=3)
    axes.set(xlabel="iteration", ylabel="accuracy on the clients' test data", ylim=(0, 1))
    axes.set_title(title, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.5 if len(iterations) == 1 else 0.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script the font lacks
        figure.savefig(temporary, format="png", dpi=120)
    # Figure and canvas refer to each other: without this their megabytes would pile up during a long run.
    del figure, axes
    gc.collect()


def load_matplotlib() -> None:
    """Import it whole: interrupted halfway it cannot be imported again, and the interrupted run must still be drawn."""
    with interrupt_held_back():
        for name in ("backends.backend_agg", "figure", "ticker"):
            importlib.import_module(f"matplotlib.{name}")
