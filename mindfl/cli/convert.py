"""``mindfl convert``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.options import echo_json, is_given, json_option, name_unused, operator_option, option
from mindfl.errors import ConvertError, MindflError, OptionError
from mindfl.notices import Rule

if TYPE_CHECKING:
    from mindfl.convert import ConvertResult

SUCCESS = "CONVERTER RESULT SUCCESS:0"
FAILURE = "CONVERT RESULT FAILED:"
#: options of a conversion, without effect where there is none
_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(
        ("outputFile", "fmk", "trainModel", "converter", "operator"),
        lambda options: True,
        "--fetch alone",
        "no --modelFile is given, so nothing is converted",
    ),
)


@click.command("convert", short_help="Convert an exported MINDIR into an on-device training model (.ms).")
@option("--modelFile", "--input", "model_file", help="MINDIR to convert.")
@option("--outputFile", "--output", "output_file", help="File to write; .ms is appended, folders are created.")
@option("--fmk", default="MINDIR", help="Format of the model; only MINDIR.")
@option("--trainModel", "train", type=bool, default=True, help="Make a training model.")
@option("--converter", help="converter_lite, its folder, or the unpacked MindSpore Lite tarball.")
@operator_option
@option("--fetch", is_flag=True, help="Download the converter library into the cache; needs no model.")
@option("--verbose", is_flag=True, help="Show the converter's log.")
@json_option
@click.pass_context
def convert_command(
    context: click.Context,
    /,
    model_file: str | None,
    output_file: str | None,
    fmk: str,
    train: bool,
    converter: str | None,
    operator: str | None,
    fetch: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Convert a MINDIR into an on-device training model with a real MindSpore Lite converter, and verify the result.

    Converters, in this order: --converter; converter_lite on PATH; the library of the mindspore-lite==2.0.0 wheel,
    which is downloaded once into MINDFL_CACHE (169 MB; MINDFL_OFFLINE=1 forbids it; MINDFL_CONVERTER_LIB names an
    unpacked mindspore_lite/lib instead)."""
    try:
        if fetch:
            _fetch(as_json)
        if fetch and model_file is None:
            name_unused(_RULES, *_as_typed(context))
            return
        result = _convert(model_file, output_file, fmk, train, converter, operator)
    except MindflError as error:
        if verbose and isinstance(error, ConvertError):
            click.echo(error.log, err=True, nl=False)
        click.echo(f"{FAILURE} {error.line()}")
        sys.exit(error.exit_code)
    if verbose:
        click.echo(result.log, err=True, nl=False)
    if as_json:
        echo_json(_description(result))
    else:
        click.echo(SUCCESS)


def _as_typed(context: click.Context) -> tuple[dict[str, Any], Callable[[str], bool]]:
    """Return the options by the names that the user types, and whether each was given."""
    names = {parameter.opts[0].lstrip("-"): str(parameter.name) for parameter in context.command.params}
    values = {typed: context.params[name] for typed, name in names.items()}
    return values, lambda typed: is_given(context, names[typed])


def _fetch(as_json: bool) -> None:
    from mindfl.convert import fetch_library

    folder = fetch_library()
    if as_json:
        echo_json({"library": str(folder)})
    else:
        click.echo(f"converter library: {folder}")


def _convert(
    model_file: str | None, output_file: str | None, fmk: str, train: bool, converter: str | None, operator: str | None
) -> ConvertResult:
    from mindfl.convert import convert_model
    from mindfl.lite import use_operators

    if fmk.upper() != "MINDIR":
        raise OptionError(f"--fmk={fmk} is not supported", hint="use --fmk=MINDIR")
    if not model_file or not output_file:
        raise OptionError("--modelFile and --outputFile are needed", hint="see mindfl convert --help")
    use_operators(operator)
    return convert_model(model_file, output_file, converter=converter, train=train)


def _description(result: ConvertResult) -> dict[str, object]:
    model = result.model
    return {
        "path": str(result.path),
        "backend": result.backend,
        "rewritten": result.rewritten,
        "version": model.version,
        "inputs": {model.tensors[index].name: model.tensors[index].dims for index in model.inputs},
        "outputs": {model.tensors[index].name: model.tensors[index].dims for index in model.outputs},
        "parameters": {name: tensor.dims for name, tensor in model.parameters.items()},
    }
