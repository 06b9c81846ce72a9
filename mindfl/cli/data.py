"""``mindfl data``: make, convert, partition and inspect data sets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json, name_unused
from mindfl.errors import DataError
from mindfl.notices import Rule
from mindfl.options.data_options import (
    CsvOptions,
    IdxOptions,
    ImagesOptions,
    LeafOptions,
    ReformOptions,
    ShakespeareOptions,
    SummaryOptions,
    SyntheticOptions,
    TextOptions,
)
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.data import Dataset
    from mindfl.data.summary import Summary
    from mindfl.data.writer import Report


@click.group("data")
def data_command() -> None:
    """Make, convert, partition and inspect data sets."""


@data_command.command()
@declared_options(LeafOptions)
@json_option
def leaf(as_json: bool, **options: Any) -> None:
    """Convert LEAF's FEMNIST JSON: a folder with train/ and test/, or all_data/ (split 9:1 per writer)."""
    from mindfl.data import convert_leaf
    from mindfl.data.leaf import is_split

    report = convert_leaf(**options)
    name_unused(_LEAF_RULES, {**options, "is_split": is_split(options["input"])})
    _tell(report, as_json)


@data_command.command()
@declared_options(ImagesOptions)
@json_option
def images(as_json: bool, **options: Any) -> None:
    """Convert folders of pictures (PNG, JPEG, BMP, GIF, WebP, TIFF, PNM), named by class.

    With users: <user>/<train|test>/<class>/*.png or <user>/<class>/*.png. Without users, divided among clients by
    --partition: <train|test>/<class>/*.png (ImageFolder) or <class>/*.png.
    """
    from mindfl.data import convert_images
    from mindfl.data.picture_folders import find_layout
    from mindfl.files import local_path

    report = convert_images(**options)
    layout = find_layout(local_path(options["input"]))
    name_unused(_IMAGES_RULES, {**options, "format": report.format, "layout": layout})
    if report.format == "arrays":
        _tell_report(report, options["output"], as_json)
    else:
        _tell(report, as_json)


@data_command.command()
@declared_options(IdxOptions)
@json_option
def idx(as_json: bool, **options: Any) -> None:
    """Convert the IDX files of MNIST, EMNIST or Fashion-MNIST, divided among clients."""
    from mindfl.data import convert_idx

    _tell_arrays(convert_idx(**options), options["output"], as_json)


@data_command.command("csv")
@declared_options(CsvOptions)
@json_option
def csv_table(as_json: bool, **options: Any) -> None:
    """Convert a CSV file with a row per image, divided by a column of users or among clients."""
    from mindfl.data import convert_csv

    name_unused(_CSV_RULES, options)
    _tell_arrays(convert_csv(**options), options["output"], as_json)


@data_command.command()
@declared_options(ShakespeareOptions)
@json_option
def shakespeare(as_json: bool, **options: Any) -> None:
    """Make LEAF's Shakespeare task of plays: the next letter after 80 others, each role a user."""
    from mindfl.data import convert_shakespeare

    _tell_report(convert_shakespeare(**options), options["output"], as_json)


@data_command.command()
@declared_options(TextOptions)
@json_option
def text(as_json: bool, **options: Any) -> None:
    """Convert labelled texts, lines <<<label>>>text in a file for each user, to samples of word pieces."""
    from mindfl.data import convert_text

    _tell_report(convert_text(**options), options["output"], as_json)


@data_command.command()
@declared_options(SyntheticOptions)
@json_option
def synthetic(as_json: bool, **options: Any) -> None:
    """Draw a data set of synthetic writers (62 classes, shaped like FEMNIST, but not FEMNIST)."""
    from mindfl.data import make_synthetic

    _tell(make_synthetic(**options), as_json)


@data_command.command()
@declared_options(ReformOptions)
@json_option
def convert(as_json: bool, **options: Any) -> None:
    """Convert a data set to another form; the training values stay bitwise the same."""
    from mindfl.data import convert_dataset

    _tell(convert_dataset(**options), as_json)


@data_command.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@declared_options(SummaryOptions)
@json_option
def inspect(folder: str, sheet: str | None, as_json: bool) -> None:
    """Print users, counts and classes of the data set in DIR, check every user, and draw a sheet of pictures."""
    from mindfl.data import inspect_dataset, open_dataset
    from mindfl.files import local_path

    picture = sheet
    if sheet is None and open_dataset(folder).form.kind == "pictures":
        picture = f"{local_path(folder).resolve().name or 'data'}-sheet.png"
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


_COMPACT: Rule[dict[str, Any]] = Rule(
    ("batch_size",), lambda options: options["format"] == "compact", "--format compact", "it has no batches"
)
_LEAF_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("seed",), lambda options: options["is_split"], "train/ and test/", "LEAF has split the samples already"),
)
_IMAGES_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("batch_size",), lambda options: options["format"] == "arrays", "the form arrays", "it has no batches"),
    Rule(("grey",), lambda options: options["format"] != "arrays", "this form", "its images are grey"),
    Rule(("partition", "users"), lambda options: options["layout"].users, "folders of users", "these users are taken"),
    Rule(
        ("seed",),
        lambda options: options["layout"].users and options["layout"].parts,
        "folders of train and test",
        "nothing is drawn",
    ),
)
_CSV_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("partition", "users"), lambda options: options["user"] is not None, "--user", "its users are taken"),
)


def _tell_report(report: Report, output: str, as_json: bool) -> None:
    """Tell what was written in the form arrays, and fail where something was left out."""
    from mindfl.data import open_dataset

    _tell_arrays(open_dataset(report.output), output, as_json, problems=report.problems)
    _refuse_problems(report)


def _tell_arrays(dataset: Dataset, output: str, as_json: bool, **more: Any) -> None:
    """Draw who has what, and print the numbers of a data set of arrays."""
    from mindfl.data import fingerprint
    from mindfl.sim.partition_plot import save_partition

    picture = f"{str(output).rstrip('/')}-partition.png"
    save_partition(dataset, picture)
    train, test = (sum(getattr(user, part).size for user in dataset) for part in ("train", "test"))
    mark = fingerprint(dataset)
    if as_json:
        counts = {"users": len(dataset), "train_samples": train, "test_samples": test, "classes": dataset.classes}
        shape = {"image_size": dataset.image_size, "channels": dataset.channels, "class_names": dataset.class_names}
        more["samples"] = dataset.form.words()
        echo_json({"output": str(output), **counts, **shape, "sha256": mark.sha256, "picture": picture, **more})
    else:
        click.echo(
            f"{output}: {counted(len(dataset), 'user')}, {train} train and {counted(test, 'test sample')} of "
            f"{counted(dataset.classes, 'class', 'classes')}; who has what: {picture}"
        )
        click.echo(f"{_noun(dataset)} of {dataset.form.words()}, sha256 {mark.sha256}")


def _tell(report: Report, as_json: bool) -> None:
    name_unused((_COMPACT,), {**click.get_current_context().params, "format": report.format})
    if as_json:
        echo_json(asdict(report))
    else:
        click.echo(
            f"{report.output}: {counted(report.users, 'user')}{_untested(report.untested)}, "
            f"{report.train_samples} train and "
            f"{counted(report.test_samples, 'test sample')}, source {report.source}, format {report.format}"
        )
    _refuse_problems(report)


def _refuse_problems(report: Report) -> None:
    if report.problems:
        raise DataError(
            f"{counted(len(report.problems), 'problem')}: these users or files were left out, the rest is written"
        )


def _noun(dataset: Dataset) -> str:
    return "images" if dataset.form.kind == "pictures" else "samples"


def _untested(users: int) -> str:
    return f" ({users} without test samples)" if users else ""


def _print_summary(summary: Summary, picture: str | None) -> None:
    sizes = summary.samples_per_user
    click.echo(f"data set          {summary.root}")
    click.echo(f"form, source      {summary.kind}, {summary.source}")
    click.echo(f"users             {summary.users}{_untested(summary.untested)}")
    central = f", {summary.central_samples} in a central test set" if summary.central_samples else ""
    click.echo(f"samples           {summary.train_samples} train, {summary.test_samples} test{central}")
    click.echo(f"samples per user  min {sizes['min']}, median {sizes['median']:g}, max {sizes['max']}")
    if summary.classes:
        click.echo("samples per class")
    most, longest = max(summary.classes.values(), default=0), max(map(len, summary.classes), default=0)
    for name, count in summary.classes.items():
        click.echo(f"  {name:{longest}} {count:7} {'#' * round(40 * count / most)}".rstrip())
    click.echo(f"{'each sample' if summary.image_size is None else 'images':17} {summary.samples}")
    click.echo(f"sha256            {summary.sha256}")
    if picture is not None:
        click.echo(f"contact sheet     {picture}")
