"""``mindfl finish``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json, name_unused
from mindfl.errors import SimulationError
from mindfl.notices import Rule
from mindfl.options.command_options import FinishOptions

if TYPE_CHECKING:
    from mindfl.real.process_table import Ending, ProcessRecord

_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("grace_seconds",), lambda options: bool(options["dry_run"]), "--dry_run", "nothing is ended"),
)


@click.command("finish", short_help="End the processes that mindfl started for a work folder.")
@declared_options(FinishOptions)
@json_option
def finish_command(
    work_dirs: Sequence[str], kill_tag: str | None, dry_run: bool, grace_seconds: float, as_json: bool
) -> None:
    """End exactly the processes that mindfl started for a work folder, and their children: servers, Redis, Java
    clients; also after mindfl itself was killed. Each is listed before it gets SIGTERM, and SIGKILL where that does not
    help.

    Never this process, its parents, or another program that was given the process id since."""
    from mindfl.real.process_registry import ProcessRegistry
    from mindfl.real.process_table import end_processes, tagged_processes

    name_unused(_RULES, {"dry_run": dry_run, "grace_seconds": grace_seconds})
    registries = [ProcessRegistry(folder) for folder in dict.fromkeys(work_dirs)]
    listed: list[ProcessRecord] = []
    endings: list[Ending] = []

    def tell(records: Sequence[ProcessRecord]) -> None:
        for record in records:
            click.echo(f"{record.pid:>8}  {record.role}: {record.command or 'no command line'}", err=as_json)
        listed.extend(records)

    for registry in registries:
        if dry_run:
            tell(registry.running())
        else:
            endings += registry.end(grace_seconds=grace_seconds, report=tell)
    if kill_tag is not None:
        known = {record.pid for record in listed}
        tagged = [record for record in tagged_processes(kill_tag) if record.pid not in known]
        tell(tagged)
        endings += [] if dry_run else end_processes(tagged, grace_seconds=grace_seconds)
    _conclude(listed, endings, dry_run=dry_run, as_json=as_json)


def _conclude(listed: Sequence[ProcessRecord], endings: Sequence[Ending], *, dry_run: bool, as_json: bool) -> None:
    left = [ending for ending in endings if ending.outcome == "left"]
    if as_json:
        echo_json({"dry_run": dry_run, "processes": _described(listed, endings)})
    elif dry_run or not listed:
        click.echo(f"{_count(len(listed))} of mindfl {'run' if len(listed) > 1 else 'runs'}")
    else:
        killed = sum(ending.outcome == "killed" for ending in endings)
        click.echo(f"{_count(len(listed) - len(left))} ended" + (f", {killed} of them killed" if killed else ""))
    if left:
        names = "; ".join(f"{each.record.role} ({each.record.pid}): {each.reason}" for each in left)
        raise SimulationError(f"{_count(len(left))} could not be ended: {names}")


def _described(listed: Sequence[ProcessRecord], endings: Sequence[Ending]) -> list[dict[str, object]]:
    outcomes = {ending.record.pid: ending.outcome for ending in endings}
    return [
        {
            "pid": record.pid,
            "role": record.role,
            "command": record.command,
            "log": record.log and click.format_filename(record.log),
            "outcome": outcomes.get(record.pid),
        }
        for record in listed
    ]


def _count(number: int) -> str:
    return f"{number or 'no'} process{'es' * (number > 1)}"
