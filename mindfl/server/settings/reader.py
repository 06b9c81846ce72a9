"""From the YAML file and the options to checked settings; every problem is reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import cache
from typing import Any, get_type_hints

from mindfl.errors import OptionError
from mindfl.files import PathLike
from mindfl.modes import MODES
from mindfl.options.declaration import shown
from mindfl.protocol import CompressType
from mindfl.server.settings.document import Ignored, Problems, Section, read_entries
from mindfl.server.settings.rule import Misfit
from mindfl.server.settings.sections import NOT_EVAL, Entry, JobSettings, Origin

#: section that counts only in some settings -> the key that decides, and for its values the keys then required
_CONDITIONAL: dict[str, tuple[str, dict[object, tuple[str, ...]]]] = {
    **{
        f"encrypt.{section}": (
            "encrypt.encrypt_type",
            {name: mode.required for name, mode in MODES.items() if mode.section == section},
        )
        for section in dict.fromkeys(mode.section for mode in MODES.values() if mode.section)
    },
    "ssl": ("enable_ssl", {True: ("server_cert_path", "client_cert_path", "ca_cert_path", "cipher_list")}),
}
#: key of files for later versions of the reference -> its name in 0.1.0
_RENAMED = {"encrypt.encrypt_train_type": "encrypt.encrypt_type"}
#: key of the reference's files -> why it has no effect here
_WITHOUT_EFFECT = {
    "aggregation.iid_rate": "FedAvg does not use it",
    "aggregation.total_client_num": "FedAvg does not use it",
    "distributed_cache.enable_ssl": "the file's own enable_ssl decides",
    "distributed_cache.server_name": "the certificate must name the host in distributed_cache.address",
    "encrypt.privacy_eval_type": "evaluation data is neither protected nor used",
    "encrypt.laplace_eval.laplace_eval_eps": "evaluation data is neither protected nor used",
}


def read_settings(path: PathLike, overrides: Mapping[str, object] | None = None) -> JobSettings:
    """Read a MindSpore Federated 0.1.0 server's YAML file, unchanged; see :func:`with_overrides` for ``overrides``.

    A key required by the reference may be missing in the file if an override gives it. Raises :class:`StorageError` if
    the file cannot be read, and one :class:`OptionError` that names every problem as ``file:line: key``.
    """
    problems = Problems()
    entries = _renamed(read_entries(path, _file_sections(), problems), problems)
    return _build(str(path), entries | _option_entries(overrides or {}, "--{name}"), problems)


def with_overrides(settings: JobSettings, overrides: Mapping[str, object], *, place: str = "--{name}") -> JobSettings:
    """Return ``settings`` with other values, checked as those of the file are; None stands for "not given".

    Keys are dotted (``round.update_model_ratio``) or the last part alone, as options of the command line are.
    ``place`` is what errors name as the source of a value. Raises :class:`OptionError`.
    """
    entries = {**settings.origin.entries, **_option_entries(overrides, place)}
    return _build(settings.origin.path, entries, Problems())


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    """Return the keys of every section by its dotted name; "" is the top of the file."""

    def walk(section: str, cls: type) -> None:
        names = [item.name for item in fields(cls) if item.name != "origin"]
        found[section] = tuple(names)
        for name in names:
            if is_dataclass(kind := _kinds(cls)[name]):
                walk(f"{section}.{name}" if section else name, kind)

    found: dict[str, tuple[str, ...]] = {}
    walk("", JobSettings)
    return found


@cache
def _file_sections() -> dict[str, tuple[str, ...]]:
    """Return the keys of every section of a file: those of :func:`_sections`, and those that only files have."""
    found = dict(_sections())
    for key in (*_RENAMED, *_WITHOUT_EFFECT):
        section, _, name = key.rpartition(".")
        if name in found.get(section, ()):
            continue
        home, _, last = section.rpartition(".")
        if section not in found:
            found[home] = (*found[home], last)
        found[section] = (*found.get(section, ()), name)
    return found


def _renamed(entries: Mapping[str, Entry], problems: Problems) -> dict[str, Entry]:
    """Return ``entries`` under the names of 0.1.0; a setting that is given under both must have one value."""
    found = {key: entry for key, entry in entries.items() if key not in _RENAMED}
    for other, key in _RENAMED.items():
        if other not in entries:
            continue
        entry = found.setdefault(key, entries[other])
        if entry.value != entries[other].value:
            problems.add(entries[other].place, f"{other} {entries[other].value} contradicts {key} {entry.value}")
    return found


@cache
def _kinds(cls: type) -> dict[str, type]:
    return get_type_hints(cls)


def yaml_keys(values: Mapping[str, object]) -> dict[str, object]:
    """Return ``values`` by dotted key of the file, from the last part of the key or the whole.

    Raises :class:`OptionError` for one that is no setting.
    """
    dotted = {
        f"{section}.{name}" if section else name
        for section, names in _sections().items()
        for name in names
        if (f"{section}.{name}" if section else name) not in _sections()
    }
    by_name = {key.rpartition(".")[2]: key for key in dotted}
    for name in values:
        if name not in dotted and name not in by_name:
            raise OptionError(f"there is no setting {name}")
    return {by_name.get(name, name): value for name, value in values.items()}


def _option_entries(overrides: Mapping[str, object], place: str) -> dict[str, Entry]:
    keys = yaml_keys(overrides)
    return {
        key: Entry(value, place.format(name=name))
        for (key, value), name in zip(keys.items(), overrides, strict=True)
        if value is not None
    }


def _build(path: str, entries: Mapping[str, Entry], problems: Problems) -> JobSettings:
    origin = Origin(path, entries)
    values = _values(JobSettings, "", origin, problems)
    problems.raise_any()
    return _reconciled(JobSettings(**values, origin=origin))


def _values(cls: type, section: str, origin: Origin, problems: Problems) -> dict[str, Any]:
    """Return the checked fields of ``cls``; one with a problem is left out, and the problem noted."""
    entry = origin.entries.get(section)
    if entry is not None and not isinstance(entry.value, (Section, Ignored)):
        problems.add(entry.place, f"{section} must be a section with keys of its own, not {shown(entry.value)}")
    decider, deciding = _CONDITIONAL.get(section, ("", {}))
    needed = next((keys for value, keys in deciding.items() if _is_given(decider, value, origin)), None)
    read = not decider or needed is not None
    values = {}
    for item in fields(cls):
        kind, key = _kinds(cls)[item.name], f"{section}.{item.name}" if section else item.name
        if "rule" in item.metadata:
            required = item.default is MISSING or (item.name in (needed or ()))
            value = _value(item, kind, key, origin if read else Origin(origin.path, {}), required, problems)
            values.update({item.name: value} if value is not MISSING else {})
        elif kind is not Origin:
            inner = _values(kind, key, origin, problems)
            values.update({item.name: kind(**inner)} if _complete(kind, inner) else {})
    return values


def _is_given(key: str, value: object, origin: Origin) -> bool:
    return key in origin.entries and origin.entries[key].value == value


def _complete(cls: type, values: Mapping[str, Any]) -> bool:
    return all(item.name in values or item.default is not MISSING for item in fields(cls))


def _value(item: Field[Any], kind: type, key: str, origin: Origin, required: bool, problems: Problems) -> Any:
    entry = origin.entries.get(key)
    # As in the reference, an empty text counts as not given.
    if entry is None or entry.value == "" or isinstance(entry.value, Ignored):
        if required:
            found = "" if entry is None else f" (its value is {shown(entry.value)})"
            problems.add(origin.place(key), f"{key} is missing{found}", Misfit(key, None, kind, item.metadata["rule"]))
        return item.default
    rule = item.metadata["rule"]
    fault = rule.fault(entry.value, kind)
    if fault:
        problems.add(entry.place, f"{key} {fault}", Misfit(key, entry.value, kind, rule))
        return item.default
    return kind(entry.value)


def _reconciled(settings: JobSettings) -> JobSettings:
    """Overrule what contradicts itself, as the reference does, with a warning; one also for options without effect."""
    warnings = _useless_options(settings.origin) + _useless_keys(settings.origin)
    if settings.unsupervised.eval_type != NOT_EVAL:
        place = settings.origin.place("unsupervised.eval_type")
        warnings.append(f"{place}: {settings.unsupervised.eval_type} is not computed: unsupervisedEval stays 0.0")
    encrypt_type, compression = settings.encrypt.encrypt_type, settings.compression
    if MODES[encrypt_type].uncompressed and CompressType[compression.upload_compress_type]:
        place = settings.origin.place("compression.upload_compress_type")
        warnings.append(f"{place}: uploads are not compressed, since encrypt_type is {encrypt_type}")
        compression = replace(compression, upload_compress_type=CompressType.NO_COMPRESS.name)
    summary = settings.summary
    if not _is_time_level(summary.participation_time_level):
        place = settings.origin.place("summary.participation_time_level")
        warnings.append(f"{place}: participation_time_level is not two ascending numbers of minutes: 5,15 is used")
        summary = replace(summary, participation_time_level="5,15")
    origin = replace(settings.origin, warnings=tuple(warnings))
    return replace(settings, compression=compression, summary=summary, origin=origin)


def _useless_options(origin: Origin) -> list[str]:
    """Return a line for each option in a section that does not count; files hold such sections all the same."""
    found = []
    for key, entry in origin.entries.items():
        decider, deciding = _CONDITIONAL.get(key.rpartition(".")[0], ("", {}))
        counts = any(_is_given(decider, value, origin) for value in deciding)
        if decider and not counts and entry.place.startswith("--"):
            found.append(f"{entry.place} has no effect without {decider} {' or '.join(map(str, deciding))}")
    return found


def _useless_keys(origin: Origin) -> list[str]:
    """Return a line for each key of the reference, or of a later version of it, that is given and does nothing."""
    return [
        f"{origin.place(key)}: {key} has no effect: {why}"
        for key, why in _WITHOUT_EFFECT.items()
        if key in origin.entries and origin.entries[key].value != ""
    ]


def _is_time_level(text: str) -> bool:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        return False
    return 0 < int(parts[0]) < int(parts[1])
