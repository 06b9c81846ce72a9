"""Options of the command line from their declarations (:mod:`mindfl.options`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mindfl.options import Option, options_of
from mindfl.options.command_options import ReportOptions
from mindfl.options.server_options import INT32_MAX
from mindfl.spelling import check_path

if TYPE_CHECKING:
    ClickType = click.ParamType[Any]
else:  # older versions of click have no type arguments
    ClickType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])

_CLICK_TYPES: dict[type, ClickType] = {
    bool: click.BOOL,
    float: click.FLOAT,
    int: click.INT,
    object: click.STRING,
    Path: click.Path(),
    str: click.STRING,
}


class DeclaredType(ClickType):
    """Converts, completes and shows an option as click does, and checks it as declared.

    The text ``null``, which means "not given", is passed on. With ``checked=False`` the range is checked later.
    """

    def __init__(self, declared: Option, *, checked: bool = True) -> None:
        self._declared = replace(declared, count=1)  # click converts the values of a pair one by one
        self._checked = checked
        self._click = click.Choice(declared.choices) if declared.choices else _CLICK_TYPES[declared.kind]
        self.name = self._click.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "null":
            return value
        if self._declared.kind is Path or self._declared.name.endswith("_path"):  # a text in a server's file
            check_path(value, param.opts[0] if param else self._declared.name)
            return value
        if not self._checked:
            return value if self._declared.choices else self._click.convert(value, param, ctx)
        converted = value if self._declared.choices else self._click.convert(value, param, ctx)
        return self._named(param).check(converted)

    def _named(self, param: click.Parameter | None) -> Option:
        """Return the declaration, with the name that the command line knows where that is another one."""
        known = [] if param is None else [name.lstrip("-") for name in param.opts if name.startswith("--")]
        if not known or self._declared.name in known:
            return self._declared
        return replace(self._declared, name=f"--{known[0]}")

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._click.get_metavar(param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self._declared.known:
            return click.Choice(self._declared.known).shell_complete(ctx, param, incomplete)
        return self._click.shell_complete(ctx, param, incomplete)


class DeclaredOption(click.Option):
    """An option whose help comes from its declaration; its names are shown without their dashed twins."""

    def __init__(self, names: Iterable[str], *, declared: Option, **attributes: Any) -> None:
        super().__init__(list(names), **attributes)
        self.declared = declared

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        spellings = [*self.opts, *self.secondary_opts]
        twins = {name.replace("_", "-") for name in spellings if "_" in name}
        names = ", ".join(name for name in spellings if name not in twins)
        default = "required" if self.required else f"default: {default_text(self.declared)}"
        details = "; ".join(filter(None, (limits_text(self.declared), default)))
        text = f"{self.declared.help}  [{details}]" if default != "default: " else self.declared.help
        return names if self.is_flag else f"{names} {self.make_metavar(ctx)}", text


def default_text(declared: Option) -> str:
    """Return the default in words; empty if there is none, and for a switch that is off."""
    if declared.shown or any(declared.default is nothing for nothing in (None, False, MISSING, ())):
        return declared.shown
    return str(declared.default)


def limits_text(declared: Option) -> str:
    """Return the unit and the range of a number; empty if it has none."""
    if declared.most is not None and declared.most >= INT32_MAX:  # as much as the number's field holds
        declared = replace(declared, most=None)
    limits = "" if declared.choices else declared.limits
    return ", ".join(filter(None, (declared.unit, limits)))


def declared_options(declarations: type) -> Callable[[Command], Command]:
    """Give a command the options that the dataclass ``declarations`` declares, under all their spellings."""

    def decorate(command: Command) -> Command:
        for declared in reversed(list(options_of(declarations).values())):
            command = _click_option(declared)(command)
        return command

    return decorate


json_option = declared_options(ReportOptions)


def overriding_options(declarations: type) -> Callable[[Command], Command]:
    """Give a command the declared options without defaults: given ones replace values of a settings file."""

    def decorate(command: Command) -> Command:
        for declared in reversed(list(options_of(declarations).values())):
            shown = replace(declared, default=None, shown="the file's")
            command = _click_option(shown, checked=False)(command)
        return command

    return decorate


def _names(declared: Option) -> tuple[str, ...]:
    names = declared.spellings or (f"--{declared.name}",)
    return (*names, *(name.replace("_", "-") for name in names if "_" in name), declared.name)


def _click_option(declared: Option, *, checked: bool = True) -> Callable[[Command], Command]:
    switch = declared.kind is bool and not declared.takes_value
    kind: dict[str, Any] = {"is_flag": True} if switch else {"type": DeclaredType(declared, checked=checked)}
    if declared.bare is not None:
        kind |= {"is_flag": False, "flag_value": declared.bare, "metavar": "[TEXT]"}
    required = declared.default is MISSING
    if not required:  # Click 8.3 and later take a default of None for a value, and would not miss the option
        kind["default"] = declared.default
    return click.option(
        *_names(declared),
        cls=DeclaredOption,
        declared=declared,
        required=required,
        multiple=declared.several,
        nargs=declared.count,
        **kind,
    )


class GroupedCommand(click.Command):
    """A command whose help lists its options in the groups of their declarations."""

    groups: tuple[str, ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, and the other options after them."""
        records: dict[str, list[tuple[str, str]]] = {title: [] for title in (*self.groups, "Other")}
        for parameter in self.get_params(ctx):
            title = parameter.declared.group if isinstance(parameter, DeclaredOption) else "Other"
            if (record := parameter.get_help_record(ctx)) is not None:
                records[title].append(record)
        for title, rows in records.items():
            with formatter.section(title):
                formatter.write_dl(rows)
