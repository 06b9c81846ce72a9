"""``mindfl data``: make, convert and inspect writer-partitioned data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mindfl.cli.options import echo_json, json_option, name_unused, option
from mindfl.errors import DataError
from mindfl.notices import Rule
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.data.summary import Summary
    from mindfl.data.writer import Report

Command = TypeVar("Command", bound=Callable[..., Any])

input_option = option("--input", required=True, type=click.Path(), metavar="DIR", help="Folder to read.")
output_option = option(
    "--output", required=True, type=click.Path(), metavar="DIR", help="Folder to fill; missing or empty."
)
seed_option = option("--seed", default=0, type=click.IntRange(min=0), help="Seed of every random choice.")


def form_options(*, default: str | None) -> Callable[[Command], Command]:
    """Options that say how the data set is stored."""

    def add(command: Command) -> Command:
        command = option("--batch_size", default=32, type=click.IntRange(1, 4096), help="Batch size of bins.")(command)
        kinds = click.Choice(["compact", "bin"])
        text = "compact: grey bytes in three files; bin: the tutorial's folders of float32 .bin files (12x larger)."
        return option("--format", default=default, required=default is None, type=kinds, help=text)(command)

    return add


@click.group("data")
def data_command() -> None:
    """Make, convert and inspect writer-partitioned data sets."""


@data_command.command()
@input_option
@output_option
@form_options(default="bin")
@seed_option
@json_option
def leaf(input: str, output: str, format: str, batch_size: int, seed: int, as_json: bool) -> None:
    """Convert LEAF's FEMNIST JSON: a folder with train/ and test/, or all_data/ (split 9:1 per writer)."""
    from mindfl.data import convert_leaf
    from mindfl.data.leaf import is_split

    report = convert_leaf(input, output, format=format, seed=seed, batch_size=batch_size)
    _tell(report, as_json, is_split=is_split(input))


@data_command.command()
@input_option
@output_option
@form_options(default="bin")
@json_option
def images(input: str, output: str, format: str, batch_size: int, as_json: bool) -> None:
    """Convert image folders: <user>/<train|test>/<label>/*.png (or JPEG, BMP, GIF, WebP, TIFF, PNM), labels 0..61 or a
    letter."""
    from mindfl.data import convert_images

    _tell(convert_images(input, output, format=format, batch_size=batch_size), as_json)


@data_command.command()
@output_option
@option("--users", default=50, type=click.IntRange(1, 3500), help="Number of imaginary writers.")
@form_options(default="compact")
@seed_option
@json_option
def synthetic(output: str, users: int, format: str, batch_size: int, seed: int, as_json: bool) -> None:
    """Draw a set of imaginary writers (62 classes, shaped like FEMNIST, but not FEMNIST)."""
    from mindfl.data import make_synthetic

    _tell(make_synthetic(output, users=users, seed=seed, format=format, batch_size=batch_size), as_json)


@data_command.command()
@input_option
@output_option
@form_options(default=None)
@json_option
def convert(input: str, output: str, format: str, batch_size: int, as_json: bool) -> None:
    """Change the form of a data set; the training values stay bitwise the same."""
    from mindfl.data import convert_dataset

    _tell(convert_dataset(input, output, format=format, batch_size=batch_size), as_json)


@data_command.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@option("--sheet", type=click.Path(), metavar="PNG", help="Contact sheet.  [default: ./NAME-sheet.png]")
@json_option
def inspect(folder: str, sheet: str | None, as_json: bool) -> None:
    """Print users, counts and classes of the data set in DIR, check every user, and write a contact sheet."""
    from mindfl.data import inspect_dataset
    from mindfl.files import local_path

    picture = sheet if sheet is not None else f"{local_path(folder).resolve().name or 'data'}-sheet.png"
    summary = inspect_dataset(folder, sheet=picture, progress=True)
    if as_json:
        echo_json({**asdict(summary), "sheet": picture})
    else:
        _print_summary(summary, picture)
    for problem in summary.problems:
        click.echo(f"mindfl: warning: left out: {problem}", err=True)
    if summary.problems:
        raise DataError(
            f"{len(summary.problems)} of {counted(summary.users + len(summary.problems), 'user')} are broken"
        )


#: options of a form of data sets that another form leaves without effect
_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("batch_size",), lambda options: options["format"] == "compact", "--format compact", "it has no batches"),
    Rule(("seed",), lambda options: options["is_split"], "train/ and test/", "LEAF has split the samples already"),
)


def _tell(report: Report, as_json: bool, *, is_split: bool = False) -> None:
    name_unused(_RULES, {**click.get_current_context().params, "is_split": is_split})
    if as_json:
        echo_json(asdict(report))
    else:
        click.echo(
            f"{report.output}: {counted(report.users, 'user')}{_untested(report.untested)}, "
            f"{report.train_samples} train and "
            f"{counted(report.test_samples, 'test sample')}, source {report.source}, format {report.format}"
        )
    if report.problems:
        raise DataError(f"{counted(len(report.problems), 'problem')}: what they name was left out, the rest is written")


def _untested(users: int) -> str:
    return f" ({users} without test samples)" if users else ""


def _print_summary(summary: Summary, picture: str) -> None:
    sizes = summary.samples_per_user
    click.echo(f"data set          {summary.root}")
    click.echo(f"form, source      {summary.kind}, {summary.source}")
    click.echo(f"users             {summary.users}{_untested(summary.untested)}")
    click.echo(f"samples           {summary.train_samples} train, {summary.test_samples} test")
    click.echo(f"samples per user  min {sizes['min']}, median {sizes['median']:g}, max {sizes['max']}")
    click.echo("samples per class")
    most = max(summary.classes.values())
    for letter, count in summary.classes.items():
        click.echo(f"  {letter} {count:7} {'#' * round(40 * count / most)}".rstrip())
    click.echo(f"contact sheet     {picture}")
