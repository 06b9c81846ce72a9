"""mindfl's commands and their options, found by the words of a command line."""

from __future__ import annotations

import click

from mindfl.cli import root


def options(command: click.Command) -> dict[str, click.Parameter]:
    return {name: each for each in command.params for name in (*each.opts, *each.secondary_opts)}


def subcommands(command: click.Command) -> dict[str, click.Command]:
    """Return the commands of a group by name; of another command none."""
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: each for name, each in found.items() if each is not None}


def command_of(words: list[str]) -> click.Command:
    """Return the command that these words begin with."""
    command: click.Command = root
    for word in words:
        inner = subcommands(command)
        if not inner:
            break
        assert word in inner, f"no command {word!r}"
        command = inner[word]
    return command


def all_options(command: click.Command) -> set[str]:
    """Return the options of a command and of those in it."""
    return set(options(command)).union(*map(all_options, subcommands(command).values()))
