"""``mindfl experiment privacy50``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json, interruptible
from mindfl.options.commands import Privacy50Options

if TYPE_CHECKING:
    from mindfl.sim.callbacks import Progress
    from mindfl.sim.history import IterationRow
    from mindfl.sim.study import Mode, ModeResult, Study


class StudyProgress:
    """Shows one bar for all modes; where standard error is no terminal, a line per mode."""

    def __init__(self, iterations: int, *, quiet: bool) -> None:
        self._iterations = iterations
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._text = ""
        self._avg = ""
        self._place = 0.0
        self._modes = 1
        self._warned: set[str] = set()

    def stage(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text)
        elif not self._quiet:
            click.echo(f"mindfl: {text}", err=True)

    def warning(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            click.echo(f"mindfl: warning: {text}", err=True)

    def mode(self, mode: Mode, number: int, modes: int, *, kept: bool) -> None:
        self._text, self._avg, self._modes = f"{mode.name} ({number}/{modes})", "", modes
        self._place = number - 1.0
        if not self._quiet and not self._terminal:
            self.stage(f"{self._text}{', done already' if kept else ''}")
        self._show(self._text, self._place)
        if kept and self._bar is not None:
            self._bar.initial += 1  # it took no time, and tells nothing of the others'
            self._bar.update()

    def progress(self, progress: Progress) -> None:
        done = progress.iteration - 1 + progress.clients_done / progress.clients
        text = f"{self._text}, iteration {progress.iteration}/{progress.iterations}{self._avg}"
        self._show(text, self._place + done / progress.iterations)

    def row(self, row: IterationRow) -> None:
        self._avg = f", AVG {row.avg:.3f}" if row.evaluated else self._avg

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, text: str, place: float) -> None:
        if self._quiet or not self._terminal:
            return
        if self._bar is None:
            from tqdm import tqdm

            form = "{desc} |{bar}| {remaining} left"
            bar = {"bar_format": form, "dynamic_ncols": True, "mininterval": 0.2, "smoothing": 0}
            self._bar = tqdm(total=self._modes, desc=text, **bar)
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(place - self._bar.n)


@click.command("privacy50", short_help="The same job once per mode of privacy and compression.")
@declared_options(Privacy50Options)
@json_option
def privacy50_command(modes: str | None, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Train the same job once per mode of privacy and compression (plain, QUANT, DIFF_SPARSE_QUANT, SIGNDS, DP_ENCRYPT,
    secure aggregation), and set accuracy, bytes and times side by side.

    Writes privacy.png, privacy.csv and privacy.md, and for each mode a folder with all that `mindfl simulate` writes.
    Interrupted, it keeps the modes that ended; the same command goes on with the others."""
    from mindfl.sim.study import FILES, run_study, summary

    bar = StudyProgress(settings["iterations"], quiet=quiet)
    keys = None if modes is None else [key.strip() for key in modes.split(",") if key.strip()]
    try:
        with interruptible("the modes that ended are kept; the same command goes on with the others"):
            study = run_study(keys, reporter=bar, **settings)
    finally:
        bar.close()
    if as_json:
        echo_json(_description(study, settings["work_dir"]))
    else:
        click.echo(summary(study))
        click.echo(f"written to {click.format_filename(settings['work_dir'])}: {', '.join(FILES)}")


def _description(study: Study, folder: str) -> dict[str, Any]:
    return {
        "setting": study.setting,
        "data": study.data,
        "modes": [_mode(one) for one in study.results],
        "work_dir": folder,
    }


def _mode(one: ModeResult) -> dict[str, Any]:
    # JSON has no NaN.
    return {name: None if value != value else value for name, value in asdict(one).items()}
