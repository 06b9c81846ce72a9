"""Files of figures, and the accuracy figure: AVG, TOP5 and LOW5 over the iterations, as the tutorial draws it."""

from __future__ import annotations

import gc
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

from mindfl.errors import OptionError
from mindfl.files import PathLike, atomic_path, local_path
from mindfl.options.declaration import shown
from mindfl.sim.fonts import fit_fonts
from mindfl.sim.history import History, measured_clients, measured_iterations
from mindfl.sim.metrics import ACCURACY
from mindfl.spelling import counted, did_you_mean
from mindfl.system import ProcessLock, interrupt_held_back

#: style sheet of matplotlib, or its settings (rcParams) by name
Style: TypeAlias = "str | dict[str, Any] | None"
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
    """Return the suffix of a picture's ``path``; raise :class:`OptionError` if there is no such format."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        what = f"the suffix {suffix} of {path} is no picture format" if suffix else f"{str(path)!r} has no suffix"
        raise OptionError(what, hint=did_you_mean(suffix, _FORMATS))
    return suffix


def save_figure(figure: Any, path: PathLike, *, dpi: int) -> None:
    """Write ``figure`` in the format of the suffix of ``path``. Raises :class:`StorageError` if that fails."""
    form, options = _FORMATS[check_picture(path)]
    import matplotlib

    fit_fonts(figure)
    # TrueType, as journals ask for, and the same SVG each time
    fonts: Any = {"pdf.fonttype": 42, "svg.hashsalt": "mindfl"}
    with atomic_path(path) as temporary, warnings.catch_warnings(), matplotlib.rc_context(fonts):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script the font lacks
        figure.savefig(temporary, format=form, dpi=dpi, **options)


#: matplotlib shares fonts, and warnings their filters, between threads
_drawing = ProcessLock()


@_drawing
def draw_figure(path: PathLike, draw: Callable[[Any], None], *, size: tuple[float, float], dpi: int) -> None:
    """Write a figure in the format of the suffix of ``path``.

    Args:
        path: of the file.
        draw: is given the empty figure.
        size: width and height, in inches.
        dpi: dots per inch.

    Raises:
        OptionError: there is no format of that suffix.
        StorageError: the file cannot be written.
    """
    check_picture(path)
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    save_figure(figure, path, dpi=dpi)
    # Figure and canvas refer to each other: without this their megabytes would pile up during a long run.
    del figure
    gc.collect()


def wrapped(title: str, width: int) -> str:
    """Return ``title`` in lines of at most ``width`` characters."""
    return "\n".join(fill(line, width) for line in title.split("\n"))


#: colours that colour-blind readers can tell apart too (Okabe and Ito), without yellow, which is too light for lines
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (3, 1.5)))
#: markers on a curve, at most
_MARKED = 12


def curve_style(place: int, points: int) -> dict[str, Any]:
    """Return colour, dashes and markers of the curve number ``place``, which has so many points, for ``Axes.plot``.

    Curves are told apart in grey too: no two of the first 35 have the same dashes and the same colour.
    """
    step = max(1, -(-points // _MARKED))
    return {
        "color": PALETTE[place % len(PALETTE)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 4,
        "markevery": (place * step // 4 % step, step),
        "linewidth": 1.5,
    }


#: column of a history -> its name in figures, and the number of its style
CURVES = (("top5", "TOP5", 2), ("avg", "AVG", 0), ("low5", "LOW5", 1))
#: characters of a title that fit above the figure
_TITLE_WIDTH = 90


@contextmanager
def styled(style: Style) -> Iterator[None]:
    """Draw in a style of matplotlib in the block. Raises :class:`OptionError` if there is no such style."""
    load_matplotlib()
    if style is None:
        yield
        return
    import matplotlib.style

    with ExitStack() as held:
        try:
            held.enter_context(matplotlib.style.context(style))
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise OptionError(
                f"style {style!r} is none of matplotlib's: {error}",
                hint="a name of matplotlib.style.available, a file, or settings (rcParams) by name",
            ) from None
        yield


def check_target(path: PathLike | None, ax: Any) -> None:
    """Raise :class:`OptionError` unless a figure has a file to be written to, or axes to be drawn into."""
    if (path is None) == (ax is None):
        raise OptionError("a figure needs a file to write, or the axes to draw into: path or ax")
    if path is not None:
        check_picture(local_path(path))
    elif not hasattr(ax, "plot"):
        raise OptionError(f"ax must be axes of matplotlib, got {shown(ax)}", hint="such as those of plt.subplots()")


def plot_history(
    history: History,
    path: PathLike | None,
    *,
    title: str,
    beside: Callable[[Any, int], None] | None = None,
    untested: int = 0,
    ax: Any = None,
    style: Style = None,
) -> None:
    """Draw AVG, TOP5 and LOW5 over the iterations.

    Iterations that were not evaluated have no point on the curves. The title says which clients were measured.

    Args:
        history: the iterations.
        path: of the file; its suffix names the format. None: draw into ``ax`` only.
        title: first lines above the figure.
        beside: draws what the history is compared with: it is given the axes and the number of iterations.
        untested: number of clients without test data.
        ax: axes of matplotlib to draw into.
        style: style sheet of matplotlib, or its settings (rcParams) by name.

    Raises:
        OptionError: there is no format of that suffix, no such style, or neither ``path`` nor ``ax`` is given.
        StorageError: the file cannot be written.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        _draw_history(axes, history, title, untested)
        if beside is not None and len(history):
            beside(axes, len(history))
            figure.legend(loc="outside lower center", ncols=2)
        else:
            axes.legend(loc="best")

    check_target(path, ax)
    with styled(style):
        if path is not None:
            draw_figure(path, draw, size=(8, 5 if beside is None else 6), dpi=120)
        else:
            _draw_history(ax, history, title, untested)
            ax.legend(loc="best")
            fit_fonts(ax)


def _draw_history(axes: Any, history: History, title: str, untested: int) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = history.evaluated
    iterations = [row.iteration for row in rows]
    central = bool(rows) and rows[-1].measured == "central"
    metric = history.metric
    for name, label, place in [("avg", metric.title, 0)] if central else CURVES:
        values = [getattr(row, name) for row in rows]
        last = f"  {values[-1]:.3f}" if values else ""
        axes.plot(iterations, values, label=label + last, **curve_style(place, len(rows)))
    whom, when = measured_clients(history, untested=untested), measured_iterations(history)
    data = "central test set" if central else "clients' test data"
    axes.set(xlabel="iteration", ylabel=f"{metric.title} on the {data}")
    if metric == ACCURACY:
        axes.set(ylim=(0, 1.01))
    if len(history):
        title = f"{title}\n{metric.title} of {whom}" + f", after {when}" * bool(rows)
        if history.aggregated < len(history):
            title += f"\n{history.aggregated} of {counted(len(history), 'iteration')} were aggregated"
        axes.set_xlim(*_limits(history))
    axes.set_title(wrapped(title, _TITLE_WIDTH), parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def _limits(history: History) -> tuple[float, float]:
    """Return where the axis of iterations begins and ends."""
    first, last = history[0].iteration, history[-1].iteration
    margin = 0.02 * (last - first) or 0.5
    return first - margin, last + margin


def load_matplotlib() -> None:
    """Import it whole: interrupted halfway it cannot be imported again, and the interrupted run must still be drawn."""
    with interrupt_held_back():
        for name in ("backends.backend_agg", "figure", "ticker"):
            importlib.import_module(f"matplotlib.{name}")
