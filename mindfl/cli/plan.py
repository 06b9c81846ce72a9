"""``mindfl plan``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json
from mindfl.options.command_options import PlanOptions

if TYPE_CHECKING:
    from mindfl.algorithms.device_plan import DevicePlan


@click.command("plan", short_help="Show what a device with a fixed training graph does for an algorithm.")
@declared_options(PlanOptions)
@json_option
def plan_command(algorithm: str, as_json: bool, **options: Any) -> None:
    """Print what a device has to do for an algorithm before and after each training step, or why it cannot. Its
    training graph is fixed and contains the optimizer, as with MindSpore Lite's Java and C interfaces."""
    from mindfl.algorithms.device_plan import device_plan

    plan = device_plan(algorithm, **options)
    if as_json:
        echo_json(asdict(plan))
    else:
        click.echo("\n".join(_lines(plan)))


def _lines(plan: DevicePlan) -> Iterator[str]:
    yield f"{plan.algorithm} on a stock device with {plan.optimizer}"
    if not plan.possible:
        yield f"not possible: {plan.reason}"
        return
    if not plan.changed:
        yield "nothing: an unchanged device works, the algorithm lives on the server alone"
        return
    groups = (
        ("own weights", plan.personal),
        ("before training", plan.before_training),
        ("before each step", plan.before_step),
        ("after each step", plan.after_step),
        ("after training", plan.after_training),
    )
    if not any(lines for _, lines in groups):
        yield "nothing for the client of this plan, which has no name; the algorithm may treat others differently"
    for title, lines in groups:
        for line in lines:
            yield f"{title:17} {line}"
            title = ""
    for name, meaning in plan.names.items():
        yield f"{'with ' + name:17} {meaning}"
    if plan.limits:
        yield f"{'limit':17} {plan.limits}"
