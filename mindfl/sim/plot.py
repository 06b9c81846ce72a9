"""The accuracy figure: AVG, TOP5 and LOW5 over the iterations, as the tutorial draws it."""

from __future__ import annotations

from mindfl.files import PathLike, atomic_path
from mindfl.sim.history import History

_CURVES = (("top5", "TOP5", "tab:green"), ("avg", "AVG", "tab:blue"), ("low5", "LOW5", "tab:red"))


def plot_history(history: History, path: PathLike, *, title: str) -> None:
    """Draw ``history`` as a PNG. Raises :class:`StorageError` where it cannot be written."""
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
    axes.set(title=title, xlabel="iteration", ylabel="accuracy on the clients' test data", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
