"""``mindfl doctor``."""

from __future__ import annotations

from dataclasses import asdict

import click

from mindfl.cli.options import echo_json, json_option


@click.command("doctor", short_help="Say what this machine has, and what each missing thing would enable.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Look for everything mindfl can use. Changes nothing, downloads nothing, and always ends with exit code 0: what is
    missing may not be needed."""
    from mindfl.doctor import examine

    findings = examine()
    if as_json:
        echo_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        mark = click.style("ok ", fg="green") if finding.present else click.style("-- ", fg="yellow")
        missing = "" if finding.present or not finding.enables else f"; would enable: {finding.enables}"
        click.echo(f"{mark} {finding.name:<17} {finding.found}{missing}")
