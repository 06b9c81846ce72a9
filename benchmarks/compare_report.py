"""What the runs of a comparison amount to: table, JSON and plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from lenet_work import flop_per_step
from work import Work

#: the contender that ratios are taken against, and the measurement that gives the roof
REFERENCE = "flower"
ROOF = "sgemm"
#: contenders whose share of the roof is given: those that compute equal channels once
OWN = ("mindfl", "mindfl-1")

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
Titles = Mapping[str, tuple[str, int]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest value."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def summarise(work: Work, titles: Titles, runs: Runs) -> dict[str, dict[str, Any]]:
    """Return each contender's figures over all counted iterations of all repetitions."""
    roof = median(run["gflops"] for run in runs[ROOF]) if runs.get(ROOF) else None
    flop = _flop(work)
    summary: dict[str, dict[str, Any]] = {}
    for name, repeated in runs.items():
        title, processors = titles[name]
        if name == ROOF:
            summary[name] = {"title": title, "gflops": spread([run["gflops"] for run in repeated])}
            continue
        seconds = [value for run in repeated for value in np.diff(run["ends"]).tolist()]
        rates = [work.steps / value for value in seconds]
        summary[name] = {
            "title": title,
            "processors": processors,
            "steps_per_s": spread(rates),
            "seconds": spread(seconds),
            "first_seconds": spread([run["ends"][0] - run["launched"] for run in repeated]),
            "first_loss": median(run["losses"][0] for run in repeated),
            "accuracy": median(run["accuracies"][-1] for run in repeated),
        }
        spent = [value for run in repeated for value in np.diff(run["processor"]).tolist()]
        summary[name]["processor_seconds"] = spread(spent)
        if roof is not None and flop is not None and name in OWN:
            summary[name]["share_of_roof"] = median(rates) * flop / 1e9 / (roof * processors)
    _add_ratios(summary, work, runs)
    return summary


def _flop(work: Work) -> int | None:
    """Return the arithmetic of a step, which is known for LeNet."""
    return flop_per_step(work.settings.batch_size, channels=1) if work.settings.network == "lenet" else None


def _add_ratios(summary: dict[str, dict[str, Any]], work: Work, runs: Runs) -> None:
    """Add how many times as fast as the reference each one is: of the medians, and repetition by repetition."""
    if REFERENCE not in summary:
        return
    for name, figures in summary.items():
        if name == ROOF:
            continue
        pairs = zip(runs[REFERENCE], runs[name], strict=True)
        figures["times_reference"] = {
            "median": figures["steps_per_s"]["median"] / summary[REFERENCE]["steps_per_s"]["median"],
            "by_repetition": [_median_seconds(theirs) / _median_seconds(own) for theirs, own in pairs],
            "processor": summary[REFERENCE]["processor_seconds"]["median"] / figures["processor_seconds"]["median"],
        }


def _median_seconds(run: Mapping[str, Any]) -> float:
    return float(np.median(np.diff(run["ends"])))


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table, the fastest first."""
    lines = [
        "| system | steps/s: median (min to max) | s an iteration | first, s | x Flower | processor s | x Flower |"
        " loss | AVG | % of sgemm |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    contenders = [figures for name, figures in summary.items() if name != ROOF]
    for figures in sorted(contenders, key=lambda figures: -float(figures["steps_per_s"]["median"])):
        ratio = figures.get("times_reference")
        share = figures.get("share_of_roof")
        cells = [
            figures["title"],
            _cell(figures["steps_per_s"], ".1f"),
            _cell(figures["seconds"], ".2f"),
            f"{figures['first_seconds']['median']:.1f}",
            f"{ratio['median']:.2f}" if ratio else "",
            _cell(figures["processor_seconds"], ".2f"),
            f"{ratio['processor']:.2f}" if ratio else "",
            f"{figures['first_loss']:.4f}",
            f"{figures['accuracy']:.3f}",
            f"{100 * share:.0f}" if share is not None else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if ROOF in summary:
        lines += ["", f"{summary[ROOF]['title']}: {_cell(summary[ROOF]['gflops'], '.1f')} GFLOP/s"]
    return "\n".join(lines)


def _cell(values: Mapping[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['min']:{form}} to {values['max']:{form}})"


def draw(summary: Mapping[str, Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw steps/s as bars, from the least to the greatest counted iteration as whiskers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = [figures for name, figures in summary.items() if name != ROOF]
    bars.sort(key=lambda figures: float(figures["steps_per_s"]["median"]))
    rates = [figures["steps_per_s"] for figures in bars]
    medians = [rate["median"] for rate in rates]
    whiskers = [[rate["median"] - rate["min"] for rate in rates], [rate["max"] - rate["median"] for rate in rates]]
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ["tab:blue" if "mindfl," in figures["title"] else "tab:gray" for figures in bars]
    drawn = axes.barh([figures["title"] for figures in bars], medians, xerr=whiskers, color=colours, capsize=3)
    axes.bar_label(drawn, fmt="%.0f", padding=6)
    axes.set(title=title, xlabel="training steps a second (median, least to greatest)")
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def write_report(folder: Path, work: Work, titles: Titles, runs: Runs, facts: Mapping[str, Any]) -> str:
    """Write table.md, results.json and steps_per_second.png into ``folder``; return the table."""
    summary = summarise(work, titles, runs)
    settings = work.settings
    what = f"{len(work.clients)} clients, {settings.epochs} local epochs, {work.steps:,} steps an iteration"
    what = f"{settings.network}, batches of {settings.batch_size}: {what}"
    text = f"{what}\n\n{table(summary)}"
    content = {
        **facts,
        "work": {
            "clients": len(work.clients),
            "steps": work.steps,
            "flop_per_step": _flop(work),
            **vars(settings),
        },
        "summary": summary,
        "runs": runs,
    }
    (folder / "table.md").write_text(text + "\n")
    (folder / "results.json").write_text(json.dumps(content, indent=1, default=str) + "\n")
    if set(summary) - {ROOF}:
        draw(summary, folder / "steps_per_second.png", what)
    return text
