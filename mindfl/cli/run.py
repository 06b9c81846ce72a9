"""``mindfl run``."""

from __future__ import annotations

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.simulate import simulate_command
from mindfl.errors import OptionError
from mindfl.options.command_options import RunOptions


@click.command("run", short_help="Run an experiment file: what simulate takes, as TOML or YAML.")
@click.argument("experiment", type=click.Path(), required=False)
@declared_options(RunOptions)
@json_option
@click.pass_context
def run_command(
    context: click.Context,
    experiment: str | None,
    run: str | None,
    work_dir: str | None,
    resume: bool,
    overwrite: bool,
    workers: int | None,
    template: bool,
    quiet: bool,
    live: bool,
    live_port: int,
    as_json: bool,
) -> None:
    """Run the experiment file EXPERIMENT, TOML or YAML: exactly `mindfl simulate` with the options in it.

    A key is an option's name, with underscores or dashes; --template prints a file with all of them. Relative paths in
    the file are relative to its folder. Of a file with a table [sweep], --run names one run, to repeat it alone."""
    if template:
        from mindfl.sweeps.template import template_text

        click.echo(template_text(), nl=False)
        return
    if experiment is None:
        raise OptionError("name an experiment file", hint="mindfl run --template > exp.toml makes one")
    from mindfl.sweeps.children import arguments_of
    from mindfl.sweeps.experiment import read_experiment
    from mindfl.sweeps.sweep import checked

    planned = read_experiment(experiment).run(run)
    given = {"work_dir": work_dir, "workers": workers, "resume": resume, "overwrite": overwrite}
    settings = {**planned.settings, **{name: value for name, value in given.items() if value not in (None, False)}}
    checked(planned)
    switches = ["--quiet"] * quiet + ["--json"] * as_json + ["--live"] * live
    switches += [f"--live_port={live_port}"] * bool(live_port)
    with simulate_command.make_context("run", [*arguments_of(settings), *switches], parent=context) as inner:
        simulate_command.invoke(inner)
