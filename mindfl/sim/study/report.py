"""A study's table, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mindfl.files import write_atomic
from mindfl.sim.study.costs import ITERATIONS
from mindfl.sim.study.figure import plot_study
from mindfl.sim.study.results import WINDOW, ModeResult, Study, number
from mindfl.sim.tables import csv_text

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
    "weights": lambda one: f"`{one.weights_sha256[:12]}`",
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
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" + "|--:" * (len(_COLUMNS) - 2) + "|---|"]
    return lines + ["| " + " | ".join(cell(one) for cell in _COLUMNS.values()) + " |" for one in study.results]


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
    return "\n".join(["# Privacy and compression", "", *(f"- {fact}" for fact in facts), "", *table(study)]) + "\n"


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
