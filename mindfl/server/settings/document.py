"""Reading a YAML file without trusting it: bounded in size and work, every value with its line number."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from mindfl.errors import OptionError, StorageError
from mindfl.files import PathLike, open_file
from mindfl.options import Option
from mindfl.options.declaration import shown
from mindfl.server.settings.job_settings import Entry

FILE_LIMIT = 64 * 1024
"""A settings file is about 2 KiB long."""

_DEPTH_LIMIT = 20
_SCALAR_LIMIT = 4096
_NAMED_PROBLEMS = 20
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Misfit:
    """A setting without a usable value: None if it is missing, else one that does not fit its declaration."""

    key: str
    value: object
    declared: Option


class SettingsError(OptionError):
    """Settings that cannot be used. ``misfits``: those that are missing or have no usable value, section by section."""

    def __init__(self, message: str, *, hint: str = "", misfits: tuple[Misfit, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.misfits = misfits


class NoMappingError(OptionError):
    """A file is empty, or holds something else than keys with values."""


class IgnoredSetting:
    """Value of a key that holds a list or nothing: the reference reads such a key as if it were not there."""

    def __repr__(self) -> str:
        return "a list or nothing"


class Section:
    """Value of a key that holds further keys."""

    def __repr__(self) -> str:
        return "a section"


class _ShallowLoader(yaml.SafeLoader):
    """Gives up on nesting that no settings file has; deep nesting takes PyYAML quadratic time."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise yaml.composer.ComposerError(
                problem="it nests too deeply", problem_mark=parent.start_mark if parent else None
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class Problems:
    """Everything wrong with the settings, reported together."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._unnamed = 0
        self._misfits: list[Misfit] = []

    def add(self, place: str, text: str, misfit: Misfit | None = None) -> None:
        """Note one problem, once, and which setting it is about."""
        if misfit is not None:
            self._misfits.append(misfit)
        line = f"{place}: {text}"
        if line in self._lines:
            return
        if not self.full:
            self._lines.append(line)
        else:
            self._unnamed += 1

    @property
    def full(self) -> bool:
        """Whether further problems will only be counted."""
        return len(self._lines) >= _NAMED_PROBLEMS

    def raise_any(self) -> None:
        """Raise :class:`OptionError` listing the problems, if there are any."""
        if self._lines:
            more = [f"and {self._unnamed} more"] if self._unnamed else []
            text = "; ".join(self._lines + more)
            raise SettingsError(text, hint="correct the settings file or the options", misfits=tuple(self._misfits))


def read_entries(path: PathLike, sections: Mapping[str, tuple[str, ...]], problems: Problems) -> dict[str, Entry]:
    """Return the values in the YAML file ``path`` by dotted key, such as ``round.update_model_ratio``.

    ``sections`` names the keys of each section ("" is the top). Unknown and repeated keys are added to ``problems``.
    Raises :class:`StorageError` if the file cannot be read, :class:`OptionError` if it is no YAML mapping.
    """
    root = compose(_read(path), str(path))
    if not isinstance(root, yaml.MappingNode):
        raise NoMappingError(f"{path} holds no settings: it must be a YAML mapping, key: value on each line")
    entries: dict[str, Entry] = {}
    pending = [("", root)]
    while pending:
        section, node = pending.pop()
        for name, value_node, line in members(node, str(path), problems):
            place, key = f"{path}:{line}", f"{section}.{name}" if section else name
            if name not in sections[section]:
                hint = "" if problems.full else _suggestion(section, name, sections)
                problems.add(place, f"unknown key {shown(key)}{hint}")
                continue
            entries[key] = Entry(_value(value_node, key, place, problems), place)
            if isinstance(value_node, yaml.MappingNode) and key in sections:
                pending.append((key, value_node))
    return entries


def _read(path: PathLike) -> str:
    try:
        with open_file(path) as file:
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
    if len(content) > FILE_LIMIT:
        raise OptionError(f"{path} is longer than {FILE_LIMIT // 1024} KiB: it is no settings file")
    if not content.strip():
        raise NoMappingError(f"{path} is empty", hint="docs/server.md shows a settings file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OptionError(f"{path}:{line}: not UTF-8 text", hint="save the file as UTF-8") from None


def compose(text: str, path: str) -> yaml.Node | None:
    """Return the nodes of the YAML ``text`` of the file ``path``; None if it is empty. Raises :class:`OptionError`."""
    try:
        return yaml.compose(text, _ShallowLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        tabs = "'\\t'" in (error.problem or "")
        hint = "YAML indents with spaces, not with tabs" if tabs else ""
        raise OptionError(f"{path}{line}: not valid YAML: {error.problem or error.context}", hint=hint) from None
    except yaml.reader.ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}"
        raise OptionError(f"{path}{line}: a character that YAML does not allow") from None


def members(node: yaml.MappingNode, path: str, problems: Problems) -> Iterator[tuple[str, yaml.Node, int]]:
    """Yield key, value and line of each member of ``node``: its own, then those merged in (``<<: *other``).

    YAML 1.1's merge keys, whatever version of PyYAML reads the file: a section's own keys win over merged ones, and
    of several merged mappings an earlier one wins over a later one.
    """
    found: set[str] = set()
    merged: list[yaml.Node] = []
    for key, value in node.value:
        line, name = key.start_mark.line + 1, str(key.value)
        if key.tag == _MERGE:
            if isinstance(value, yaml.ScalarNode):
                problems.add(f"{path}:{line}", "<< must name a section, or a list of sections")
            merged.append(value)
        elif not isinstance(key, yaml.ScalarNode):
            problems.add(f"{path}:{line}", "a key must be a word")
        elif name in found:
            problems.add(f"{path}:{line}", f"{shown(name)} is given twice")
        else:
            found.add(name)
            yield name, value, line
    for key, value in _merged_members(merged):
        if isinstance(key, yaml.ScalarNode) and key.value not in found:
            found.add(key.value)
            yield key.value, value, key.start_mark.line + 1


def _merged_members(nodes: list[yaml.Node]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield the members of all mappings reached from ``nodes``, visiting each once: aliases may form a bomb."""
    pending, visited = list(reversed(nodes)), set[int]()
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(reversed(node.value))
        elif isinstance(node, yaml.MappingNode):
            yield from ((key, value) for key, value in node.value if key.tag != _MERGE)
            pending.extend(value for key, value in reversed(node.value) if key.tag == _MERGE)


def _value(node: yaml.Node, key: str, place: str, problems: Problems) -> object:
    if isinstance(node, yaml.MappingNode):
        return Section()
    if not isinstance(node, yaml.ScalarNode):
        return IgnoredSetting()
    if len(node.value) > _SCALAR_LIMIT:
        problems.add(place, f"{key} is longer than {_SCALAR_LIMIT} characters")
        return IgnoredSetting()
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.constructor.ConstructorError, ValueError, OverflowError):
        problems.add(place, f"{key} has a value that cannot be read: {shown(node.value)}")
        return IgnoredSetting()
    return value if isinstance(value, (bool, int, float, str)) else IgnoredSetting()


def _suggestion(section: str, name: str, sections: Mapping[str, tuple[str, ...]]) -> str:
    """Return " (did you mean ...?)" where that word is a key of another section, or nearly one of this."""
    near = difflib.get_close_matches(name[:_SCALAR_LIMIT], sections[section], 1)
    homes = [f"{home}.{name}" if home else name for home, names in sections.items() if name in names]
    matches = homes + [f"{section}.{match}" if section else match for match in near]
    return f" (did you mean {matches[0]}?)" if matches else ""
