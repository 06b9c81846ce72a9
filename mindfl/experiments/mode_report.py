"""A study's table, as CSV and as Markdown, and its figure: accuracy over the iterations, bytes and times, per mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mindfl.experiments import runner
from mindfl.experiments.mode_costs import ITERATIONS
from mindfl.experiments.mode_results import WINDOW, ModeResult, Study
from mindfl.files import write_atomic
from mindfl.sim.plot import PALETTE, curve_style, draw_figure, wrapped
from mindfl.sim.tables import csv_text, markdown_table, number

FILES = ("privacy.png", "privacy.csv", "privacy.md")

#: column of the Markdown table -> its cells
_COLUMNS: dict[str, Callable[[ModeResult], str]] = {
    "mode": lambda one: one.name,
    "AVG": lambda one: f"{one.avg:.3f}",
    "TOP5": lambda one: f"{one.top5:.3f}",
    "LOW5": lambda one: f"{one.low5:.3f}",
    "loss": lambda one: f"{one.loss:.3f}",
    "epsilon": lambda one: number(one.epsilon, 4),
    "kB up": lambda one: number(one.costs.bytes_up / 1000, 3),
    "kB down": lambda one: number(one.costs.bytes_down / 1000, 3),
    "s": lambda one: number(one.seconds, 2),
    "device ms": lambda one: number(one.costs.device_seconds * 1000, 2),
    "server ms": lambda one: number(one.costs.server_seconds * 1000, 2),
    "weights": lambda one: one.weights_sha256[:12],
}


def write_study(study: Study, folder: Path) -> None:
    """Write :data:`FILES` into ``folder``. Raises :class:`StorageError`."""
    write_atomic(folder / "privacy.csv", table_csv(study))
    write_atomic(folder / "privacy.md", markdown(study))
    plot_study(study, folder / "privacy.png")


def table_csv(study: Study) -> str:
    """Return one line per mode, numbers unrounded; bytes and seconds per iteration, see :class:`Costs`."""
    costs = ("bytes_up", "bytes_down", "device_seconds", "server_seconds")
    own = ("key", "name", "avg", "top5", "low5", "loss", "epsilon", "seconds")
    rows: list[list[object]] = [[*own, *costs, "weights_sha256"]]
    for one in study.results:
        cells = [getattr(one, name) for name in own] + [getattr(one.costs, name) for name in costs]
        rows.append([*cells, one.weights_sha256])
    return csv_text(rows)


def table(study: Study) -> list[str]:
    """Return the lines of the Markdown table."""
    rows = [[cell(one) for cell in _COLUMNS.values()] for one in study.results]
    return markdown_table(list(_COLUMNS), rows, range(1, len(_COLUMNS) - 1))


def markdown(study: Study) -> str:
    """Return the report: what ran, the table, and how its columns were measured."""
    facts = [
        f"data: {study.data}",
        f"setting: {study.setting}",
        f"times: {study.machine}",
        f"AVG, TOP5, LOW5: accuracy on the devices' own test data, mean over the last iterations, {WINDOW} at most; "
        "loss: mean training loss in the last one",
        "epsilon: what all iterations together cost one device, towards a server that sees its uploads",
        "kB: of one device in one iteration, all messages as they are on the wire but for polls that come too early",
        "s: an iteration, all devices on this machine (median)",
        f"device ms: one device in one iteration, without training and evaluation; server ms: the server, for all "
        f"devices. Measured in a job of {ITERATIONS} iterations with one thread (median)",
        "weights: the beginning of their SHA-256; the same again with the same seed",
    ]
    if study.missing:
        facts.append(f"not there yet: {', '.join(study.missing)}; the same command goes on with them")
    return runner.markdown("Privacy and compression", facts, *table(study))


def summary(study: Study) -> str:
    """Return a few lines for the terminal."""
    width = max((len(one.name) for one in study.results), default=0)
    lines = [study.title]
    if study.results:
        lines.append(f"{'':{width}}    AVG   TOP5   LOW5  epsilon   kB up  kB down  s/iteration")
    lines += [
        f"{one.name:{width}}  {one.avg:.3f}  {one.top5:.3f}  {one.low5:.3f}  {number(one.epsilon, 4):>7} "
        f"{number(one.costs.bytes_up / 1000, 3):>7} {number(one.costs.bytes_down / 1000, 3):>8} "
        f"{number(one.seconds, 2):>12}"
        for one in study.results
    ]
    if study.missing:
        lines.append(f"not there yet: {', '.join(study.missing)}")
    return "\n".join(lines)


#: characters of a title that fit above the figure
_TITLE_WIDTH = 120

#: name, colour, marker and value of each dot in a row
_Series = tuple[str, str, str, Callable[[ModeResult], float]]
_BYTES: tuple[_Series, ...] = (
    ("up", PALETTE[1], "^", lambda one: one.costs.bytes_up / 1000),
    ("down", PALETTE[0], "v", lambda one: one.costs.bytes_down / 1000),
)
_TIMES: tuple[_Series, ...] = (
    ("iteration, all devices here", PALETTE[6], "o", lambda one: one.seconds),
    ("one device, without training", PALETTE[1], "^", lambda one: one.costs.device_seconds),
    ("server", PALETTE[0], "s", lambda one: one.costs.server_seconds),
)


def plot_study(study: Study, path: Path) -> None:
    """Draw ``study`` as a PNG. Raises :class:`StorageError` if it cannot be written."""

    def draw(figure: Any) -> None:
        halves = figure.subfigures(2, 1, height_ratios=(5, 4))
        _draw_lines(halves[0].subplots(), study.results)
        left, right = halves[1].subplots(1, 2, sharey=True)
        _draw_dots(left, study.results, _BYTES, "kB of one device in an iteration")
        _draw_dots(right, study.results, _TIMES, "seconds of an iteration")
        left.invert_yaxis()
        figure.suptitle(wrapped(study.title, _TITLE_WIDTH), parse_math=False)

    draw_figure(path, draw, size=(12, 10), dpi=110)


def _draw_lines(axes: Any, results: Sequence[ModeResult]) -> None:
    from matplotlib.ticker import MaxNLocator

    for place, one in enumerate(results):
        style = curve_style(place, len(one.avg_at))
        axes.plot(range(1, len(one.avg_at) + 1), one.avg_at, label=f"{one.name}  {one.avg:.3f}", **style)
    axes.set(xlabel="iteration", ylabel="AVG: mean accuracy on the clients' test data", ylim=(0, 1.01))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.02)
    axes.grid(alpha=0.3)
    if results:
        count = min(WINDOW, max(len(one.avg_at) for one in results))
        title = f"mode, and AVG as mean of its last {count}"
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title=title)


def _draw_dots(axes: Any, results: Sequence[ModeResult], series: Sequence[_Series], label: str) -> None:
    from matplotlib.ticker import FuncFormatter

    rows = range(len(results))
    for name, colour, marker, value in series:
        # Hollow, so that equal values are seen to be two.
        style = {"linestyle": "none", "marker": marker, "color": colour, "markerfacecolor": "none"}
        axes.plot([value(one) for one in results], rows, markersize=7, markeredgewidth=1.6, label=name, **style)
    axes.set_yticks(rows, [one.name for one in results])
    axes.set(xlabel=f"{label}, logarithmic", xscale="log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: number(value, 1)))
    axes.margins(x=0.08)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series), fontsize="small", columnspacing=1)
