"""A default or a range that is said in several places is the same in all of them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from mindfl import convert_images, convert_leaf, convert_model, export_mindir, export_trained, make_synthetic
from mindfl.cli import root
from mindfl.cli import server as cli_server
from mindfl.client import HttpSettings, TlsSettings
from mindfl.client.flow import ClientConfig
from mindfl.data import writer
from mindfl.export import optimizers
from mindfl.export.weight_files import ARRAY_FORMATS, NETWORK_FORMATS
from mindfl.options import options_of
from mindfl.options.client_options import ClientOptions
from mindfl.options.command_options import WeightFormat
from mindfl.options.job_options import DataForm, JobOptions, OptimizerName
from mindfl.options.mode_options import ModeOptions
from mindfl.options.server_options import (
    CacheOptions,
    FederatedStartOptions,
    LinkOptions,
    ServerFilesOptions,
    ServerJobOptions,
    SslOptions,
    StartCommandOptions,
    StartOptions,
    TopOptions,
)
from mindfl.server.server_tls import ServerTls
from mindfl.server.settings.reader import declared_settings, yaml_keys
from mindfl.server.start_options import ServerOptions
from mindfl.sim.config import Network
from mindfl.sim.device_job import DeviceSettings

CLASSES = (
    *(JobOptions, ServerJobOptions, Network, ClientConfig, HttpSettings, TlsSettings),
    *(DeviceSettings, ServerOptions, ServerTls, CacheOptions, TopOptions, ServerFilesOptions, SslOptions, LinkOptions),
    *(StartOptions, StartCommandOptions, FederatedStartOptions),
)
FUNCTIONS = (export_mindir, export_trained, convert_model, convert_leaf, convert_images, make_synthetic)
#: names that mean different things, or have another default on purpose, and why
MEANT = {
    "epochs": "an export trains one step, an experiment as long as the tutorial",
    "fl_name": "of a server it is the name of the job, of a client the class of the model script",
    "format": "data of the user's own become the tutorial's files",
    "iterations": "an experiment trains as long as the tutorial",
    "length": "a sample of LEAF's plays has 80 letters, one of MindSpore Federated's texts 8 words",
    "test_share": "LEAF tests with a fifth of a role, other importers with a tenth of a user",
    "users": "a set of synthetic writers is as large as the default job, data without users are divided among fewer",
    "work_dir": "an experiment has a folder of its own",
}


def said() -> Iterator[tuple[str, str, Any]]:
    """Yield each default: name, who says it, value."""
    for cls in CLASSES:
        for item in fields(cls):
            yield item.name, cls.__name__, item.default
    for function in FUNCTIONS:
        for parameter in inspect.signature(function).parameters.values():
            yield parameter.name, function.__name__, parameter.default
    for path, command in commands(root, "mindfl"):
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                yield option.name or "", path, option.default


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, f"{path} {name}")


def is_said(value: Any) -> bool:
    return isinstance(value, str | int | float | Path) and "Sentinel" not in type(value).__name__


def test_a_default_is_the_same_wherever_it_is_said() -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for name, place, value in said():
        if is_said(value) and value is not MISSING:
            found.setdefault(name, {}).setdefault(str(value), []).append(place)
    differing = {name: values for name, values in found.items() if len(values) > 1}
    assert {name: differing[name] for name in differing.keys() - MEANT.keys()} == {}
    assert MEANT.keys() - differing.keys() == set(), "they do not differ any more"


@pytest.mark.parametrize(
    ("names", "declared"),
    [
        (ARRAY_FORMATS.keys() | set(NETWORK_FORMATS), WeightFormat),
        (optimizers._OPTIMIZERS.keys(), OptimizerName),
        (writer._SINKS.keys(), DataForm),
    ],
)
def test_a_table_has_the_declared_choices(names: Collection[str], declared: Any) -> None:
    assert set(names) == set(get_args(declared))


@pytest.mark.parametrize("name", options_of(ModeOptions))
def test_a_job_and_a_server_have_the_same_ranges(name: str) -> None:
    job, server = options_of(JobOptions)[name], options_of(ServerJobOptions)[name]
    if name != "reconstruct_secrets_threshold":  # a job's follows from its clients
        assert job == server


@pytest.mark.parametrize("name", sorted(options_of(ClientOptions).keys() & options_of(JobOptions).keys()))
def test_a_client_and_a_job_have_the_same_ranges(name: str) -> None:
    client, job = options_of(ClientOptions)[name], options_of(JobOptions)[name]
    for each in ("kind", "choices", "least", "above", "most", "below", "unit"):
        assert getattr(client, each) == getattr(job, each)


@pytest.mark.parametrize("name", cli_server._OVERRIDING)
def test_an_option_that_replaces_a_key_names_one_key(name: str) -> None:
    (key,) = yaml_keys({name: 1})
    assert key.rpartition(".")[2] == name
    option = {option.name: option for option in cli_server.start.params}[name]
    assert isinstance(option, click.Option) and not is_said(option.default)


@pytest.mark.parametrize("name", options_of(ServerJobOptions))
def test_the_settings_file_has_the_declared_ranges(name: str) -> None:
    (key,) = yaml_keys({name: 1})
    in_file, declared = declared_settings()[key], options_of(ServerJobOptions)[name]
    for each in ("default", "least", "above", "most", "below", "unit"):
        assert getattr(in_file, each) == getattr(declared, each)
    assert set(in_file.choices) == {*declared.choices, *declared.known}
