"""What notebooks show of jobs, results and histories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mindfl.files import scratch_folder
from mindfl.markup import lines_of, picture, section, table
from mindfl.sim.history import History
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig
    from mindfl.sim.result import Result


def history_html(history: History) -> str:
    """Return a table of the rounds."""
    central = any(row.measured == "central" for row in history)
    title = history.metric.title
    named = [("avg", title)] if central else [("avg", "AVG"), ("top5", "TOP5"), ("low5", "LOW5")]
    columns = {"iteration": "iteration", **dict(named), "loss": "loss", "clients": "clients", "seconds": "seconds"}
    data = "central test set" if central else "clients' test data"
    rounds = table(list(columns.values()), history[:], lambda row: [getattr(row, name) for name in columns])
    return section(f"History of {counted(len(history), 'iteration')}", rounds, note=f"{title} on the {data}")


def result_html(result: Result) -> str:
    """Return the summary, the figure and the history."""
    _, _, rest = result.summary().partition("\n")
    parts = [lines_of(rest)]
    if len(result.history):
        with scratch_folder("mindfl-figure") as folder:
            path = Path(folder, "accuracy.png")
            result.plot(path)
            parts += [picture(path.read_bytes(), "accuracy over the iterations")]
        parts += [history_html(result.history)]
    return section(result.title, *parts)


def job_html(name: str, config: JobConfig, result: Result | None) -> str:
    """Return the settings of a job that differ from their defaults, and its latest result."""
    from mindfl.sim.run_record import default_settings, recorded_settings

    defaults = default_settings()
    changed = [
        (option, value)
        for option, value in recorded_settings(config).items()
        if value != defaults[option] or option == "work_dir"
    ]
    settings = table(["setting", "value"], changed, lambda item: (item[0], str(item[1])), whole=True)
    return section(name, settings, "" if result is None else result_html(result), note="not trained" * (result is None))
