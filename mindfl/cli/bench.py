"""``mindfl bench``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json
from mindfl.notices import WARNING
from mindfl.options.command_options import BenchOptions
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.sim.benchmark import BenchResult


@click.command("bench", short_help="Measure how fast this machine trains.")
@declared_options(BenchOptions)
@json_option
def bench_command(quiet: bool, as_json: bool, **options: Any) -> None:
    """Train LeNet federated on synthetic writers, with one worker and with one per processor, and print steps a second.

    Takes less than a minute, once the model is converted and the device runtime compiled. Other work on the machine
    slows it down."""
    from mindfl.sim.benchmark import bench

    def say(text: str) -> None:
        if not quiet or text.startswith(WARNING):
            click.echo(f"mindfl: {text}", err=True)

    result = bench(**options, say=say)
    if as_json:
        echo_json(asdict(result))
    else:
        click.echo(_text(result))


def _text(result: BenchResult) -> str:
    lines = [
        f"{result.processor}, {result.processors} usable processor{'s' if result.processors > 1 else ''}",
        f"LeNet, batches of {result.batch_size}, {counted(result.clients, 'synthetic client')}, "
        f"{counted(result.epochs, 'local epoch')}",
    ]
    lines += [
        f"{speed.workers:>4} worker{'s' if speed.workers > 1 else ' '}  {speed.steps_per_s:>9,.0f} steps/s"
        f"  {speed.ms_per_step:.2f} ms a step and worker  (median of {counted(speed.iterations, 'iteration')})"
        for speed in result.speeds
    ]
    if result.ratio is not None:
        lines.append(f"ratio {result.ratio:.2f}")
    return "\n".join(lines)
