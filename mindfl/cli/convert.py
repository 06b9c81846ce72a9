"""``mindfl convert``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json, is_given, name_unused
from mindfl.errors import ConvertError, MindflError, OptionError
from mindfl.notices import Rule
from mindfl.options.command_options import ConvertOptions

if TYPE_CHECKING:
    from mindfl.convert import ConvertResult

SUCCESS = "CONVERTER RESULT SUCCESS:0"
FAILURE = "CONVERT RESULT FAILED:"
#: options of a conversion, without effect if nothing is converted
_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(
        ("outputFile", "fmk", "trainModel", "converter", "operator"),
        lambda options: True,
        "--fetch alone",
        "no --modelFile is given, so nothing is converted",
    ),
)


@click.command("convert", short_help="Convert an exported MINDIR into an on-device training model (.ms).")
@declared_options(ConvertOptions)
@json_option
@click.pass_context
def convert_command(context: click.Context, /, fetch: bool, verbose: bool, as_json: bool, **options: Any) -> None:
    """Convert a MINDIR into an on-device training model with a real MindSpore Lite converter, and verify the result.

    Converters, in this order: --converter; converter_lite on PATH; the library of the mindspore-lite==2.0.0 wheel,
    which is downloaded once into MINDFL_CACHE (169 MB; MINDFL_OFFLINE=1 forbids it; MINDFL_CONVERTER_LIB names an
    unpacked mindspore_lite/lib instead)."""
    try:
        if fetch:
            _fetch(as_json)
        if fetch and options["mindir_path"] is None:
            name_unused(_RULES, *_as_typed(context))
            return
        result = _convert(**options)
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
    """Return the options by their names on the command line, and a function that tells whether one was given."""
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
    *, mindir_path: str | None, output_path: str | None, fmk: str, operator: str | None, **options: Any
) -> ConvertResult:
    from mindfl.convert import convert_model
    from mindfl.lite import use_operators

    if fmk.upper() != "MINDIR":
        raise OptionError(f"--fmk={fmk} is not supported", hint="use --fmk=MINDIR")
    if not mindir_path or not output_path:
        raise OptionError("--modelFile and --outputFile are needed", hint="see mindfl convert --help")
    use_operators(operator)
    return convert_model(mindir_path, output_path, **options)


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
