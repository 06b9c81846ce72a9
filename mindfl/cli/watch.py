"""``mindfl watch``."""

from __future__ import annotations

import signal

import click

from mindfl.cli.declared import declared_options
from mindfl.errors import InterruptedRunError
from mindfl.files import local_path
from mindfl.options.command_options import WatchOptions
from mindfl.spelling import check_path


@click.command("watch", short_help="Show a run in the browser as it grows, or as it ended.")
@click.argument("folder", type=click.Path())
@declared_options(WatchOptions)
def watch_command(folder: str, live_port: int) -> None:
    """Show the run in FOLDER, a --work_dir, in the browser: curves, clients by rounds, logs; of a sweep its runs, with
    a page each. Prints one line, the page's address, and serves it until Ctrl-C or SIGTERM.

    The run may be under way, in any process, or have ended. Nothing is written, and the page can be reached from this
    machine only."""
    from mindfl.live.watching import watch

    check_path(folder, "FOLDER")
    number = watch(local_path(folder), live_port, ready=click.echo)
    if number is signal.SIGINT:
        raise InterruptedRunError("interrupted")
