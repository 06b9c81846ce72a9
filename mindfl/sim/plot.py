"""The accuracy figure, AVG, TOP5 and LOW5 over the iterations as the tutorial draws it; and files of figures."""

from __future__ import annotations

import gc
import importlib
import warnings
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from mindfl.errors import OptionError
from mindfl.files import PathLike, atomic_path
from mindfl.sim.evaluation import measured_clients, measured_iterations
from mindfl.sim.history import History
from mindfl.spelling import counted, did_you_mean
from mindfl.system import ProcessLock, interrupt_held_back

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mindfl.sim.experiment import Published


#: suffix -> format, and what keeps the time of drawing out of the file
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("png", {}),
    ".pdf": ("pdf", {"metadata": {"CreationDate": None}}),
    ".svg": ("svg", {"metadata": {"Date": None}}),
    ".eps": ("eps", {}),
    ".jpg": ("jpg", {}),
    ".jpeg": ("jpg", {}),
}


def check_picture(path: PathLike) -> str:
    """Return the suffix of a picture's ``path``; raise :class:`OptionError` where there is no such format."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        what = f"the suffix {suffix} of {path} is no picture format" if suffix else f"{str(path)!r} has no suffix"
        raise OptionError(what, hint=did_you_mean(suffix, _FORMATS))
    return suffix


def save_figure(figure: Figure, path: PathLike, *, dpi: int) -> None:
    """Write ``figure`` in the format of the suffix of ``path``. Raises :class:`StorageError` where that fails."""
    form, options = _FORMATS[check_picture(path)]
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script the font lacks
        figure.savefig(temporary, format=form, dpi=dpi, **options)


#: matplotlib shares fonts, and warnings their filters, between threads
drawing = ProcessLock()
_CURVES = (("top5", "TOP5", "tab:green"), ("avg", "AVG", "tab:blue"), ("low5", "LOW5", "tab:red"))
#: characters of a title that fit above the figure
_TITLE_WIDTH = 90


@drawing
def plot_history(
    history: History, path: PathLike, *, title: str, published: Published | None = None, untested: int = 0
) -> None:
    """Draw ``history``, beside a published curve where there is one; ``untested`` clients have no test data.

    The suffix of ``path`` names the format. Iterations that were not evaluated have no point on the curves. What was
    measured stands above them. Raises :class:`OptionError` for a suffix without format, :class:`StorageError` where it
    cannot be written.
    """
    check_picture(path)
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5 if published is None else 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = history.evaluated
    iterations = [row.iteration for row in rows]
    marker = "o" if len(rows) <= 30 else ""
    for name, label, colour in _CURVES:
        values = [getattr(row, name) for row in rows]
        last = f"  {values[-1]:.3f}" if values else ""
        axes.plot(iterations, values, label=label + last, color=colour, marker=marker, markersize=3)
    whom, when = measured_clients(history, untested=untested), measured_iterations(history)
    axes.set(xlabel="iteration", ylabel="accuracy on the clients' test data", ylim=(0, 1.01))
    if len(history):
        title = f"{title}\naccuracy of {whom}" + f", after {when}" * bool(rows)
        if history.aggregated < len(history):
            title += f"\n{history.aggregated} of {counted(len(history), 'iteration')} were aggregated"
        axes.set_xlim(*_limits(history))
    axes.set_title("\n".join(fill(line, _TITLE_WIDTH) for line in title.split("\n")), parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    if published is not None and len(history):
        _draw_published(axes, published, len(history))
        figure.legend(loc="outside lower center", ncols=2)
    else:
        axes.legend(loc="best")
    save_figure(figure, path, dpi=120)
    # Figure and canvas refer to each other: without this their megabytes would pile up during a long run.
    del figure, axes
    gc.collect()


def _limits(history: History) -> tuple[float, float]:
    """Return where the axis of iterations begins and ends."""
    first, last = history[0].iteration, history[-1].iteration
    margin = 0.02 * (last - first) or 0.5
    return first - margin, last + margin


def _draw_published(axes: Any, published: Published, iterations: int) -> None:
    """Draw what of the published curve lies within the run's iterations."""
    points = [(iteration, value) for iteration, value in published.avg_at.items() if iteration <= iterations]
    if points:
        style = {"linestyle": "none", "markersize": 9, "markeredgecolor": "black", "zorder": 3}
        axes.plot(*zip(*points, strict=True), marker="D", color="tab:blue", label="published AVG", **style)
    if iterations >= published.iterations:
        last = published.last_iterations
        for name, label, colour in _CURVES:
            value = getattr(published.last, name)
            label = f"published {label}, mean of {last[0]} to {last[-1]}  {value:.3f}"
            axes.hlines(value, last[0], last[-1], color=colour, linewidth=5, alpha=0.5, label=label)
    end = min(published.plateau, iterations)
    label = f"published: at chance until {published.plateau}"
    axes.axvspan(1, end, color="grey", alpha=0.15, linewidth=0, label=label)


def load_matplotlib() -> None:
    """Import it whole: interrupted halfway it cannot be imported again, and the interrupted run must still be drawn."""
    with interrupt_held_back():
        for name in ("backends.backend_agg", "figure", "ticker"):
            importlib.import_module(f"matplotlib.{name}")
