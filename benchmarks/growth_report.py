"""What the runs of growth.py amount to: line, overhead, memory; table, JSON and plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

#: share of the iterations, from the first on, that are left out of the memory slope: buffers are still being made, and
#: the first drawing of the figure takes megabytes once
WARM_UP = 0.5

Run = Mapping[str, Any]


class Line(NamedTuple):
    """``y = intercept + slope * x``, and by how much a point is off at most, as a share of the line's value there."""

    intercept: float
    slope: float
    deviation: float


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """Return the line with the least squares of relative deviations, so that small sizes count too."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    terms = np.stack([np.ones_like(xs), xs], axis=1)
    (intercept, slope), *_ = np.linalg.lstsq(terms / ys[:, None], np.ones_like(ys), rcond=None)
    deviation = np.abs(ys / (intercept + slope * xs) - 1).max()
    return Line(float(intercept), float(slope), float(deviation))


def bytes_per_iteration(resident: Sequence[int]) -> float:
    """Return the slope of a straight line through memory over the iterations, warm-up left out."""
    kept = np.asarray(resident[int(WARM_UP * len(resident)) :], float)
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0])


def seconds(run: Run) -> float:
    """Return the median seconds of a counted iteration."""
    return float(np.median(np.diff(run["ends"])))


def overhead_ms(run: Run) -> float:
    """Return worker milliseconds per client and iteration outside training and evaluation, waiting included."""
    spent = np.diff(run["ends"]) * run["workers"] - np.diff(run["kernel_seconds"])
    return 1000 * float(median(spent.tolist())) / int(run["clients"])


def summarise(sizes: Sequence[Run], overhead: Run, memory: Run) -> dict[str, Any]:
    """Return all figures."""
    times = [seconds(run) for run in sizes]
    by_clients = fit([run["clients"] for run in sizes], times)
    by_steps = fit([run["steps"] for run in sizes], times)
    return {
        "sizes": [
            {
                "clients": run["clients"],
                "steps": run["steps"],
                "seconds": time,
                "steps_per_s": run["steps"] / time,
                "overhead_ms": overhead_ms(run),
                "peak_mib": run["peak_bytes"] / 2**20,
                "peak_anonymous_mib": run["peak_anonymous_bytes"] / 2**20,
            }
            for run, time in zip(sizes, times, strict=True)
        ],
        "line_by_clients": by_clients._asdict(),
        "line_by_steps": by_steps._asdict(),
        "overhead_ms": overhead_ms(overhead),
        "overhead_clients": overhead["clients"],
        "memory_clients": memory["clients"],
        "memory_iterations": len(memory["ends"]),
        "memory_bytes_per_iteration": bytes_per_iteration(memory["anonymous_bytes"]),
    }


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| clients | steps | s an iteration | steps/s | overhead, ms a client | peak RSS, MiB | without files |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in figures["sizes"]:
        cells = [
            f"{size['clients']:,}",
            f"{size['steps']:,}",
            f"{size['seconds']:.2f}",
            f"{size['steps_per_s']:.0f}",
            f"{size['overhead_ms']:.2f}",
            f"{size['peak_mib']:.0f}",
            f"{size['peak_anonymous_mib']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    by_clients, by_steps = figures["line_by_clients"], figures["line_by_steps"]
    lines += [
        "",
        f"- line over clients: {by_clients['intercept']:.2f} s + {1000 * by_clients['slope']:.2f} ms a client, "
        f"off by at most {100 * by_clients['deviation']:.1f} %",
        f"- line over steps: {by_steps['intercept']:.2f} s + {1000 * by_steps['slope']:.3f} ms a step, "
        f"off by at most {100 * by_steps['deviation']:.1f} %",
        f"- outside training and evaluation, 1 worker, {figures['overhead_clients']} clients: "
        f"{figures['overhead_ms']:.2f} ms a client",
        f"- memory of {figures['memory_clients']} clients over {figures['memory_iterations']:,} iterations: "
        f"{figures['memory_bytes_per_iteration']:+.0f} bytes an iteration",
    ]
    return "\n".join(lines)


def draw(figures: Mapping[str, Any], memory: Run, path: Path) -> None:
    """Draw seconds over clients with the line, and memory over iterations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    line = figures["line_by_clients"]
    clients = np.array([size["clients"] for size in figures["sizes"]])
    x = np.geomspace(clients.min(), clients.max(), 100)
    left.loglog(x, line["intercept"] + line["slope"] * x, color="tab:gray", label="straight line")
    left.loglog(clients, [size["seconds"] for size in figures["sizes"]], "o", color="tab:blue", label="measured")
    left.set(xlabel="clients", ylabel="seconds an iteration", title="time")
    left.legend()
    resident = np.array(memory["anonymous_bytes"]) / 2**20
    right.plot(np.arange(1, len(resident) + 1), resident, color="tab:blue")
    right.set(xlabel="iteration", ylabel="MiB, mapped files left out", title=f"memory, {memory['clients']} clients")
    right.set_ylim(0, 1.2 * resident.max())
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def write_report(folder: Path, sizes: Sequence[Run], overhead: Run, memory: Run, facts: Mapping[str, Any]) -> str:
    """Write table.md, results.json and growth.png into ``folder``; return the table."""
    figures = summarise(sizes, overhead, memory)
    text = table(figures)
    content = {**facts, "summary": figures, "runs": {"sizes": sizes, "overhead": overhead, "memory": memory}}
    (folder / "table.md").write_text(text + "\n")
    (folder / "results.json").write_text(json.dumps(content, indent=1, default=str) + "\n")
    draw(figures, memory, folder / "growth.png")
    return text
