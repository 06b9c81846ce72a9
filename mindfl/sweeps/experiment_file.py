"""Reads an experiment file, TOML or YAML, or a dictionary like one: every value with the line it stands in."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mindfl.errors import OptionError
from mindfl.files import read_file
from mindfl.options.declaration import shown
from mindfl.server.settings.document import Problems, compose, members

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: the table whose lists are tried in all combinations
SWEEP = "sweep"
#: how a table of cases looks
_CASES = "a case is a name and its options, such as small = { client_num = 10, epochs = 1 }"
#: depth of options in the cases of a list of tables: ``("sweep", 0, "mode", "plain", "dp_eps")``
_DEEPEST = 5
_SIZE_LIMIT = 64 * 1024
_LENGTH_LIMIT = 10_000
#: numbers that YAML 1.1 takes for texts, as it wants a point and a sign
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
#: numbers that YAML 1.1 takes for octal ones, or for minutes and seconds
_ODD_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
_WHERE = re.compile(r"(?P<text>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)

#: keys from the top of a file to a value: ``("sweep", 0, "seed")`` is in the first of several tables ``[[sweep]]``
Keys = tuple[str | int, ...]
Lines = Mapping[Keys, int]


@dataclass(frozen=True, slots=True)
class PlacedValue:
    """A value, and its place: ``exp.toml:3``; in a dictionary of Python the key."""

    value: Any
    place: str


@dataclass(frozen=True, slots=True)
class YamlTruth:
    """A word such as ``no``, which YAML 1.1 takes for a truth value where it stands without quotes."""

    word: str
    truth: bool


#: options that are set together, by key, and the cases of a table ``[sweep.NAME]`` by their names
PlacedValues = dict[str, PlacedValue]
PlacedCases = dict[str, PlacedValues]


@dataclass(frozen=True)
class Document:
    """The values outside of ``[sweep]`` by key, and for each table ``[sweep]`` those in it: lists, or named cases."""

    settings: PlacedValues
    grids: tuple[dict[str, PlacedValue | PlacedCases], ...]


def read_document(path: Path, problems: Problems) -> Document:
    """Read the file ``path``: YAML if its name ends with .yaml or .yml, else TOML. Values are not checked.

    Raises :class:`StorageError` if it cannot be read, and :class:`OptionError` if it is no text of that kind.
    """
    content = read_file(path)
    if len(content) > _SIZE_LIMIT:
        raise OptionError(f"{path} is longer than {_SIZE_LIMIT // 1024} KiB: it is no experiment file")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OptionError(f"{path}:{line}: not UTF-8 text", hint="save the file as UTF-8") from None
    values, lines = _yaml(text, path, problems) if path.suffix.lower() in (".yaml", ".yml") else _toml(text, path)

    def place(keys: Keys) -> str:
        while keys and keys not in lines:
            keys = keys[:-1]
        return f"{path}:{lines[keys]}" if keys else str(path)

    return document_of(values, place, problems)


def toml_values(text: str) -> dict[str, Any]:
    """Return what the TOML ``text`` says. Raises ``ValueError`` if it is none."""
    return tomllib.loads(text)


def document_of(values: Mapping[Any, Any], place: Callable[[Keys], str], problems: Problems) -> Document:
    """Return the document of ``values``; ``place`` says where those of some keys stand."""
    settings = {
        str(key): PlacedValue(value, place((str(key),)))
        for key, value in values.items()
        if key != SWEEP and _is_value(str(key), value, place((str(key),)), problems)
    }
    tables = values.get(SWEEP, [])
    if isinstance(tables, Mapping):
        return Document(settings, (_grid(tables, (SWEEP,), place, problems),))
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        problems.add(place((SWEEP,)), f"{SWEEP} must be a table of options and lists, got {shown(tables)}")
        return Document(settings, ())
    if SWEEP in values and not tables:
        problems.add(place((SWEEP,)), f"{SWEEP} has no tables: leave it out, or name options and their values")
    return Document(
        settings, tuple(_grid(table, (SWEEP, number), place, problems) for number, table in enumerate(tables))
    )


def _grid(
    table: Mapping[Any, Any], keys: Keys, place: Callable[[Keys], str], problems: Problems
) -> dict[str, PlacedValue | PlacedCases]:
    if not table:
        problems.add(place(keys), f"[{SWEEP}] has no lists: name options and their values")
    found: dict[str, PlacedValue | PlacedCases] = {}
    for key, value in table.items():
        below = (*keys, str(key))
        if isinstance(value, Mapping):
            found[str(key)] = _cases(value, below, place, problems)
        else:
            found[str(key)] = PlacedValue(value, place(below))
    return found


def _cases(table: Mapping[Any, Any], keys: Keys, place: Callable[[Keys], str], problems: Problems) -> PlacedCases:
    name, found = keys[-1], PlacedCases()
    if not table:
        problems.add(place(keys), f"{name} has no cases: {_CASES}")
    for key, options in table.items():
        below = (*keys, str(key))
        if isinstance(options, Mapping):
            found[str(key)] = {
                str(option): PlacedValue(value, place((*below, str(option)))) for option, value in options.items()
            }
        else:
            problems.add(place(below), f"{key} of {name} is {shown(options)}: {_CASES}")
    return found


def _is_value(key: str, value: object, place: str, problems: Problems) -> bool:
    if isinstance(value, Mapping):
        problems.add(place, f"{key} is a table: the only one is [{SWEEP}]")
    return not isinstance(value, Mapping)


def _toml(text: str, path: Path) -> tuple[dict[str, Any], Lines]:
    try:
        return toml_values(text), dict(_toml_lines(text))
    except RecursionError:
        raise OptionError(f"{path}: not valid TOML: it nests too deeply") from None
    except ValueError as error:
        found = _WHERE.fullmatch(str(error))
        line = 0 if found is None else int(found["line"] or len(text.rstrip().split("\n")))
        place, words = (f"{path}:{line}", found["text"]) if found else (str(path), str(error))
        raise OptionError(f"{place}: not valid TOML: {words}", hint="texts stand in quotes") from None


def _toml_lines(text: str) -> Iterator[tuple[Keys, int]]:
    """Yield the keys of each value of the valid TOML ``text``, and of each table, with the line that it begins in.

    The library does not tell lines. A statement ends with the first line with which it can be read alone.
    """
    table: Keys = ()
    tables: dict[Keys, int] = {}
    named: set[Keys] = set()
    lines = text.split("\n")
    begin = 0
    for number in range(len(lines)):
        try:
            statement = tomllib.loads("\n".join(lines[begin : number + 1]))
        except ValueError:
            continue
        for keys in _leaves(statement) if statement else ():
            if lines[begin].lstrip().startswith("["):
                if keys[:1] in tables and 0 not in keys:  # [sweep.mode] below [[sweep]]
                    keys = (keys[0], tables[keys[:1]], *keys[1:])
                elif 0 in keys:  # [[sweep]]
                    name = keys[: keys.index(0)]
                    tables[name] = tables.get(name, -1) + 1
                    yield name, begin + 1
                    keys = (*name, tables[name], *keys[len(name) + 1 :])
                table = keys
                yield keys, begin + 1
            else:
                for depth in range(1, len(keys) + 1):  # a.b = 1 is a value of the table a, too
                    path = (*table, *keys[:depth])
                    if path not in named:
                        named.add(path)
                        yield path, begin + 1
        begin = number + 1


def _leaves(value: Any) -> Iterator[Keys]:
    """Yield the keys of all values in nested tables; those of a table that is empty, too."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        yield ()
        return
    for key, inner in value.items():
        yield from ((key, *keys) for keys in _leaves(inner))


def _yaml(text: str, path: Path, problems: Problems) -> tuple[dict[str, Any], Lines]:
    root = compose(text, str(path))
    if root is None:
        return {}, {}
    if not isinstance(root, yaml.MappingNode):
        raise OptionError(f"{path} holds no options: it must be a YAML mapping, option: value on each line")
    lines: dict[Keys, int] = {}
    return _yaml_mapping(root, (), lines, str(path), problems), lines


def _yaml_mapping(
    node: yaml.MappingNode, above: Keys, lines: dict[Keys, int], path: str, problems: Problems
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value, line in members(node, path, problems):
        keys = (*above, name)
        lines[keys] = line
        is_tables = keys == (SWEEP,) and isinstance(value, yaml.SequenceNode)
        if isinstance(value, yaml.MappingNode) and len(above) < _DEEPEST - 1:
            values[name] = _yaml_mapping(value, keys, lines, path, problems)
        elif is_tables and all(isinstance(each, yaml.MappingNode) for each in value.value):
            values[name] = []
            for number, each in enumerate(value.value):
                table: Keys = (*keys, number)
                lines[table] = each.start_mark.line + 1
                values[name].append(_yaml_mapping(each, table, lines, path, problems))
        else:
            with suppress(_UnreadableError):  # noted as a problem
                values[name] = _yaml_value(value, f"{path}:{line}", problems)
    return values


class _UnreadableError(Exception):
    """A value of YAML cannot be used, whatever the option is."""


def _yaml_value(node: yaml.Node, place: str, problems: Problems, depth: int = 0) -> Any:
    """Return the value. Raises :class:`_UnreadableError` where a problem is noted."""
    if isinstance(node, yaml.SequenceNode) and depth < 2 and len(node.value) <= _LENGTH_LIMIT:
        return [_yaml_value(each, place, problems, depth + 1) for each in node.value]
    if not isinstance(node, yaml.ScalarNode):
        problems.add(place, "a value must be a number, a text, true or false, or a list of these")
        raise _UnreadableError
    if node.style is None and _ODD_NUMBER.fullmatch(node.value):
        problems.add(
            place, f"{node.value} is another number in YAML: write it without leading 0 and colons, or in quotes"
        )
        raise _UnreadableError
    if node.style is None and _EXPONENT.fullmatch(node.value):
        return float(node.value)
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.constructor.ConstructorError, ValueError, OverflowError):
        problems.add(place, f"a value that cannot be read: {shown(node.value)}")
        raise _UnreadableError from None
    is_word = isinstance(value, bool) and node.value.lower() not in ("true", "false")
    return YamlTruth(node.value, value) if is_word else value
