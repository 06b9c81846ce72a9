"""The command line. Each command has its own module, which is imported when the command runs."""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from mindfl._version import __version__
from mindfl.cli.interrupts import Interrupts, is_interrupted
from mindfl.errors import InterruptedRunError, MindflError, MindflWarning, OptionError, StorageError

#: command -> (module, one-line help); the module holds a click command named ``<command>_command``.
COMMANDS = {
    "algorithms": ("mindfl.cli.algorithms", "List the federated algorithms, or describe one."),
    "bench": ("mindfl.cli.bench", "Measure how fast this machine trains."),
    "client": ("mindfl.cli.client", "Be one device of a federated job: train, infer, or fetch the model."),
    "compare": ("mindfl.cli.compare", "Compare runs in a table: mean and deviation over seeds, paired differences."),
    "convert": ("mindfl.cli.convert", "Convert an exported MINDIR into an on-device training model (.ms)."),
    "data": ("mindfl.cli.data", "Make, convert, partition and inspect data sets."),
    "doctor": ("mindfl.cli.doctor", "Check this machine for everything that mindfl can use."),
    "experiment": ("mindfl.cli.experiment", "Run an experiment: the tutorial's, niid_bench, or privacy modes."),
    "export": ("mindfl.cli.export", "Train a few steps and export the training graph as MINDIR."),
    "export-run": ("mindfl.cli.export_run", "Export runs to MLflow."),
    "finish": ("mindfl.cli.finish", "End the processes that mindfl started for a work folder."),
    "inspect": ("mindfl.cli.inspect", "Show the content of a .ms or .mindir file, and unsupported operators."),
    "plan": ("mindfl.cli.plan", "Show what a device with a fixed training graph does for an algorithm."),
    "run": ("mindfl.cli.run", "Run an experiment file: what simulate takes, as TOML or YAML."),
    "plot": ("mindfl.cli.plot", "Draw runs: curves with bands over seeds or clients, or each client's accuracy."),
    "server": ("mindfl.cli.server", "Serve a federated job to devices over HTTP or HTTPS."),
    "simulate": ("mindfl.cli.simulate", "Run the whole job: export, convert, data, federated training, report."),
    "sweep": ("mindfl.cli.sweep", "Run all combinations of an experiment file's [sweep], side by side."),
    "watch": ("mindfl.cli.watch", "Show a run in the browser as it grows, or as it ended."),
}


#: parts of messages of the loader and of LLVM if memory is exhausted
_NO_MEMORY = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory", "Unable to allocate")
#: exception of click for a command without its subcommand; before 8.2 click printed the help itself
_BARE: type[Exception] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _ReaderGoneError(Exception):
    """The reader of standard output has closed it."""


@contextmanager
def _reader_told_apart() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as gone:
        raise _ReaderGoneError from gone


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(COMMANDS[name][0]), f"{name.replace('-', '_')}_command"
        )
        return command

    # If standard output is closed, click would end the program with 1.

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _reader_told_apart():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_told_apart():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mindfl")
def root() -> None:
    """Cross-device federated learning with MindSpore: FedAvg, FedProx, SCAFFOLD and other algorithms over the non-IID
    data of many simulated or real devices. Export a training graph, convert it, simulate or serve a job."""


def main(arguments: list[str] | None = None, command: click.Command = root) -> None:
    """Run the command line, or another ``command``, and leave with a documented exit code (docs/errors.md).

    Never shows a traceback for an error that mindfl understands. SIGTERM and SIGHUP end a command as Ctrl-C does.
    """
    interrupts = Interrupts()
    code: object = None
    try:
        _prepare_streams()
        with _warnings_as_lines():
            _run(command, arguments, interrupts)
        code = 0
    except KeyboardInterrupt:  # while the result was reported
        sys.exit(code := InterruptedRunError.exit_code)
    except SystemExit as leaving:
        code = leaving.code
        raise
    finally:
        interrupts.settle()
        _give_up(sys.stderr)
        if arguments is None and isinstance(code, int):
            with suppress(OSError):
                sys.stdout.flush()
            interrupts.leave(code)
        else:
            interrupts.restore()


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print all of mindfl's warnings as lines, whatever filters Python was given."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", MindflWarning)
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *place: Any, **others: Any) -> None:
            if issubclass(category, MindflWarning):
                with suppress(OSError):
                    click.echo(f"mindfl: warning: {message}", err=True)
            else:
                show(message, category, *place, **others)

        warnings.showwarning = shown
        yield


def _run(command: click.Command, arguments: list[str] | None, interrupts: Interrupts) -> None:
    try:
        command.main(arguments, prog_name="mindfl", standalone_mode=False)
        interrupts.settle()
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.UsageError as error:
        _refuse(error)
    except MindflError as error:
        _fail(error)
    except (_ReaderGoneError, BrokenPipeError):
        _give_up(sys.stdout)
        sys.exit(141)
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, click.Abort) or is_interrupted(error):
            interrupts.settle()
            _fail(InterruptedRunError("interrupted"))
        if (explained := _explained(error)) is None:
            raise
        _give_up(sys.stdout)
        _fail(explained)


def _explained(error: BaseException) -> MindflError | None:
    """Return what to say where a file cannot be used, or memory or threads ran out; None for any other error."""
    if isinstance(error, OSError):
        return StorageError.from_os_error(error, "use", error.filename or "a file")
    if not isinstance(error, MemoryError | RuntimeError | ImportError):
        return None
    text = str(error)
    if "can't start new thread" in text:
        return MindflError("no further thread can be started", hint="fewer --workers, or a higher limit (ulimit -u)")
    if isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY):
        return MindflError("not enough memory", hint="fewer --workers, or a higher limit (ulimit -v)")
    return None


def _prepare_streams() -> None:
    """Open the null device for closed standard streams, and let standard output escape characters that it cannot show.

    Otherwise the number of a closed stream would be given to the next file, and libraries would write into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # as numbered: each gets the lowest free one
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _give_up(stream: TextIO) -> None:
    """Discard output that ``stream`` cannot write; otherwise Python would try again at exit and end with 120."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse(error: click.UsageError) -> None:
    """Report click's error as one line; a command without its subcommand shows its help."""
    if isinstance(error, _BARE):
        error.show()
        sys.exit(error.exit_code)
    hint = f"see {error.ctx.command_path} --help" if error.ctx else ""
    _fail(OptionError(error.format_message().rstrip("."), hint=hint))


def _fail(error: MindflError) -> None:
    with suppress(OSError):  # without standard error only the exit code remains
        click.echo(f"mindfl: error: {error.line()}", err=True)
    sys.exit(error.exit_code)
