"""docs/options.md and mindfl/options/keywords.py, written from the declarations: ``make options`` renews both."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path

import mindfl
from mindfl.algorithms.device_plan import device_plan
from mindfl.cli.declared import default_text, limits_text
from mindfl.cli.server import start
from mindfl.cli.simulate import SimulateOptions
from mindfl.compare import compare_runs, plot_runs
from mindfl.experiments.niid_bench import run_niid_bench
from mindfl.options import Option, command_options, data_options, mode_options, options_of
from mindfl.options.job_options import GROUPS, JobOptions
from mindfl.options.server_options import (
    CertsOptions,
    FederatedStartOptions,
    InstallOptions,
    RunningOptions,
    SchedulerStartOptions,
    StartCommandOptions,
    StartOptions,
)
from mindfl.real import install
from mindfl.server.certificates import make_certificates
from mindfl.server.cluster import SchedulerOptions
from mindfl.server.running import find_server
from mindfl.server.settings.reader import declared_settings
from mindfl.sim.benchmark import bench
from mindfl.tracking import export_to_mlflow

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "options.md"
KEYWORDS = REPOSITORY / "mindfl" / "options" / "keywords.py"

_HEAD = """# Options of a job

Each is an option of `mindfl simulate` and a keyword of `FederatedJob` with the name in the second column; those without
one belong to the command alone. Underscores and dashes are the same on the command line, and the value `null` counts as
not given. An option that contradicts a model file of your own is refused; one that has no effect with the chosen parts
is named in a warning. `mindfl simulate --help` shows the same texts.

This page is generated from the declarations in `mindfl/options` (`make options`).
"""
_SERVER = """
# Options of a server

These are options of `mindfl server start`; the last four are for `--stack federated` alone.

| option | values | default | meaning |
|---|---|---|---|
"""
_FILE = """
## Keys of the server's YAML file

Those with a mark in the last column are options of `mindfl server start` too, with the last part of the key as their
name; they replace what the file says. [server.md](server.md) shows a file, and says which keys only some jobs need.

| key | values | default | meaning | option |
|---|---|---|---|---|
"""
_COMMANDS_HEAD = """# Options of other commands

The second column is the keyword of the function in parentheses. Each of these commands also takes `--json`, which
prints the result as JSON.
"""
#: (title, function behind the command) -> declarations
COMMANDS: dict[tuple[str, Callable[..., object]], type] = {
    ("`mindfl export` (`export_mindir`)", mindfl.export_mindir): command_options.ExportOptions,
    ("`mindfl export --from` (`export_trained`)", mindfl.export_trained): command_options.TrainedOptions,
    ("`mindfl convert` (`convert_model`)", mindfl.convert_model): command_options.ConvertOptions,
    ("`mindfl inspect` (`inspect_model`)", mindfl.inspect_model): command_options.InspectOptions,
    ("`mindfl compare` (`mindfl.compare.compare_runs`)", compare_runs): command_options.CompareCommandOptions,
    ("`mindfl plot` (`mindfl.compare.plot_runs`)", plot_runs): command_options.PlotCommandOptions,
    ("`mindfl data leaf` (`convert_leaf`)", mindfl.convert_leaf): data_options.LeafOptions,
    ("`mindfl data images` (`convert_images`)", mindfl.convert_images): data_options.ImagesOptions,
    ("`mindfl data idx` (`mindfl.data.convert_idx`)", mindfl.data.convert_idx): data_options.IdxOptions,
    ("`mindfl data csv` (`mindfl.data.convert_csv`)", mindfl.data.convert_csv): data_options.CsvOptions,
    ("`mindfl data shakespeare` (`mindfl.data.convert_shakespeare`)", mindfl.data.convert_shakespeare): (
        data_options.ShakespeareOptions
    ),
    ("`mindfl data text` (`mindfl.data.convert_text`)", mindfl.data.convert_text): data_options.TextOptions,
    ("`mindfl data synthetic` (`make_synthetic`)", mindfl.make_synthetic): data_options.SyntheticOptions,
    ("`mindfl data convert` (`convert_dataset`)", mindfl.convert_dataset): data_options.ReformOptions,
    ("`mindfl data inspect` (`inspect_dataset`)", mindfl.inspect_dataset): data_options.SummaryOptions,
    ("`mindfl plan` (`mindfl.algorithms.device_plan.device_plan`)", device_plan): command_options.PlanOptions,
    ("`mindfl bench` (`mindfl.sim.benchmark.bench`)", bench): command_options.BenchOptions,
    ("`mindfl export-run` (`mindfl.tracking.export_to_mlflow`)", export_to_mlflow): command_options.ExportRunOptions,
    ("`mindfl sweep` (`run_sweep`)", mindfl.run_sweep): command_options.SweepOptions,
    ("`mindfl experiment niid_bench` (`run_niid_bench`)", run_niid_bench): command_options.NiidBenchOptions,
}
#: the same of ``mindfl server``, without ``--json``
SERVER_COMMANDS: dict[tuple[str, Callable[..., object]], type] = {
    ("`mindfl server scheduler` (`run_scheduler`)", SchedulerOptions): SchedulerStartOptions,
    ("`mindfl server stop` and `status`", find_server): RunningOptions,
    ("`mindfl server certs` (`make_certificates`)", make_certificates): CertsOptions,
    ("`mindfl server install` (`mindfl.real.install`)", install): InstallOptions,
}
_KINDS = {int: "whole number", float: "number", str: "text", bool: "yes or no", Path: "path"}


def page() -> str:
    """Return docs/options.md."""
    options = options_of(SimulateOptions)
    parts = [_HEAD]
    for group in GROUPS:
        parts.append(_table(group, [each for each in options.values() if each.group == group], options_of(JobOptions)))
    parts.append(_COMMANDS_HEAD)
    parts += _tables(COMMANDS)
    parts.append(_table("`mindfl run`", options_of(command_options.RunOptions).values(), ()))
    parts.append(_table("`mindfl finish`", options_of(command_options.FinishOptions).values(), ()))
    parts.append(_table("`mindfl watch FOLDER`", options_of(command_options.WatchOptions).values(), ()))
    starts = (StartOptions, StartCommandOptions, FederatedStartOptions)
    start_options = [each for declarations in starts for each in options_of(declarations).values()]
    start_rows = "".join(_line((_names(each), _values(each), _default(each), each.help)) for each in start_options)
    keys = "".join(_key_row(key, declared) for key, declared in declared_settings().items())
    return "\n".join((*parts, "".join((_SERVER[1:], start_rows, _FILE, keys)), *_tables(SERVER_COMMANDS)))


def _tables(commands: Mapping[tuple[str, Callable[..., object]], type]) -> Iterator[str]:
    for (title, function), declarations in commands.items():
        yield _table(title, options_of(declarations).values(), inspect.signature(function).parameters)


def _key_row(key: str, declared: Option) -> str:
    in_file = dataclasses.replace(declared, default=declared.file_value)
    names = {option.name for option in start.params}
    overrides = "x" if declared.name in names and not key.startswith(("distributed_cache", "checkpoint_dir")) else ""
    cells = (f"`{key}`", _values(declared), _default(in_file), declared.help, overrides)
    return _line(cells)


def _table(title: str, options: Iterable[Option], keywords: Container[str]) -> str:
    rows = "".join(_row(each, keywords) for each in options)
    return f"## {title}\n\n| option | keyword | values | default | meaning |\n|---|---|---|---|---|\n{rows}"


def _row(declared: Option, keywords: Container[str]) -> str:
    keyword = f"`{declared.name}`" if declared.name in keywords else ""
    return _line((_names(declared), keyword, _values(declared), _default(declared), declared.help))


def _names(declared: Option) -> str:
    return ", ".join(f"`{name}`" for name in "/".join(declared.spellings or (f"--{declared.name}",)).split("/"))


def _values(declared: Option) -> str:
    values = ", ".join(f"`{choice}`" for choice in declared.choices or declared.known)
    values = f"{values}, or your own" if declared.known else values or _KINDS.get(declared.kind, "")
    values = f"{declared.count} numbers" if declared.count > 1 else values
    return ", ".join(filter(None, (values, limits_text(declared))))


def _default(declared: Option) -> str:
    if isinstance(declared.default, bool):
        return "yes" if declared.default else "no"
    text = "required" if declared.default is MISSING else default_text(declared)
    literal = declared.default not in (None, MISSING) and not declared.shown and text
    return f"`{text}`" if literal else text


def _line(cells: tuple[str, ...]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells).replace("<", "&lt;") + "|\n"


def keywords() -> str:
    """Return mindfl/options/keywords.py."""
    types = {item.name: str(item.type) for item in dataclasses.fields(JobOptions)}
    names = sorted(
        {word for text in types.values() for word in text.split(" | ") if word[0].isupper()} - {"None", "Path"}
    )
    homes: dict[str, list[str]] = {}
    for name in names:
        homes.setdefault(_home(name), []).append(name)
    return "".join(_keyword_lines(homes, types))


#: annotation -> its module, where that is not one of the declarations
_ELSEWHERE = {"Algorithm": "mindfl.algorithms", "UploadMode": "mindfl.modes"}


def _home(name: str) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    return "mindfl.options.mode_options" if hasattr(mode_options, name) else "mindfl.options.job_options"


def _keyword_lines(homes: dict[str, list[str]], types: dict[str, str]) -> Iterator[str]:
    yield '"""A job\'s keywords for editors and type checkers, written from the declarations by `make options`."""\n'
    yield "\nfrom __future__ import annotations\n\nfrom typing import TypedDict\n\n"
    for home, names in sorted({"mindfl.files": ["PathLike"], **homes}.items()):
        line = f"from {home} import {', '.join(names)}\n"
        lines = "".join(f"    {name},\n" for name in names)
        yield line if len(line) <= 121 else f"from {home} import (\n{lines})\n"
    yield "\n\nclass JobKeywords(TypedDict, total=False):\n"
    yield '    """The keywords of :class:`mindfl.FederatedJob`; docs/options.md says what each means."""\n\n'
    for name, text in types.items():
        yield f"    {name}: {text.replace('Path', 'PathLike')}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    KEYWORDS.write_text(keywords())
