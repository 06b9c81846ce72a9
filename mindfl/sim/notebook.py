"""What notebooks show of jobs, results and histories, and of a training while it runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindfl.files import scratch_folder
from mindfl.markup import lines_of, picture, section, table
from mindfl.sim.callbacks import Progress, PythonReporter
from mindfl.sim.history import History, IterationRow, average_words
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


def in_notebook() -> bool:
    """Return whether this program is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    return found is not None and hasattr(found, "kernel")


class NotebookProgress(PythonReporter):
    """Draws a progress bar for a training in a notebook: a widget where the package ipywidgets is installed."""

    def __init__(self) -> None:
        self._bar: Any = None

    def stage(self, text: str) -> None:
        """Log the stage, which ends the bar of an earlier training."""
        self._close()
        super().stage(text)

    def progress(self, progress: Progress) -> None:
        """Advance the bar by a client."""
        if self._bar is None:
            done = (progress.iteration - 1) * progress.clients
            self._bar = _bar_class()(total=progress.iterations * progress.clients, initial=done, unit="client")
        self._bar.set_description_str(f"iteration {progress.iteration}/{progress.iterations}", refresh=False)
        self._bar.update()
        self._iterations = progress.iterations

    def row(self, row: IterationRow) -> None:
        """Show loss and accuracy, and log them."""
        super().row(row)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {row.loss:.3f}, {average_words(row, 3)}")
            if row.iteration >= self._iterations:
                self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar_class() -> Any:
    # tqdm.auto warns where ipywidgets is missing, and then has the plain bar.
    if importlib.util.find_spec("ipywidgets") is None:
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm
