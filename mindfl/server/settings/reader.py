"""From the YAML file and the options to checked settings; every problem is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any, get_type_hints

from mindfl.errors import OptionError
from mindfl.files import PathLike
from mindfl.modes import MODES, PRIVATE
from mindfl.options import Option, options_of
from mindfl.options.declaration import shown
from mindfl.options.server_options import NOT_EVAL, ServerFilesOptions
from mindfl.privacy import PrivacyBudget
from mindfl.privacy.accountant import affordable_iterations
from mindfl.protocol import CompressType
from mindfl.server.settings.document import IgnoredSetting, Misfit, Problems, Section, read_entries
from mindfl.server.settings.job_settings import Entry, JobSettings, SettingsOrigin

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


def within_budget(settings: JobSettings, dp_budget: float, tell: Callable[[str], None]) -> JobSettings:
    """Return ``settings`` with so few iterations that a client which is in all of them spends ``dp_budget`` at most.

    ``tell`` is given a warning where these are fewer than before. Raises :class:`OptionError` where there would be
    none, or where nothing in the job is private.
    """
    found = settings.server_config().mode.accountant()
    if found is None:
        raise OptionError(
            f"dp_budget is given, but encrypt_type is {settings.encrypt.encrypt_type}",
            hint=f"only {' and '.join(PRIVATE)} say what an iteration costs",
        )
    asked = settings.fl_iteration_num
    count = affordable_iterations(PrivacyBudget(found, stop_at=dp_budget), asked)
    if count == asked:
        return settings
    tell(f"warning: the privacy budget of {dp_budget:g} pays for {count} of {asked} iterations")
    return with_overrides(settings, {"fl_iteration_num": count}, place="--dp_budget")


def declared_settings() -> dict[str, Option]:
    """Return the declarations of all settings by dotted key, in the order of the file."""

    def walk(section: str, cls: type) -> Iterator[tuple[str, Option]]:
        yield from ((_dotted(section, name), option) for name, option in options_of(cls).items())
        for name, kind in _inner(cls).items():
            yield from walk(_dotted(section, name), kind)

    return dict(walk("", JobSettings))


def _dotted(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


@cache
def _inner(cls: type) -> dict[str, type]:
    """Return the sections within a section."""
    kinds = get_type_hints(cls)
    return {
        item.name: kinds[item.name] for item in fields(cls) if is_dataclass(kinds[item.name]) and item.name != "origin"
    }


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    """Return the keys of every section by its dotted name; "" is the top of the file."""

    def walk(section: str, cls: type) -> None:
        found[section] = (*options_of(cls), *_inner(cls))
        for name, kind in _inner(cls).items():
            walk(_dotted(section, name), kind)

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


def yaml_keys(values: Mapping[str, object]) -> dict[str, object]:
    """Return ``values`` by dotted key of the file, from the last part of the key or the whole.

    Raises :class:`OptionError` for one that is no setting.
    """
    dotted = declared_settings()
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
    origin = SettingsOrigin(path, entries)
    values = _values(JobSettings, "", origin, problems)
    problems.raise_any()
    return _reconciled(JobSettings(**values, origin=origin))


def _values(cls: type, section: str, origin: SettingsOrigin, problems: Problems) -> dict[str, Any]:
    """Return the checked fields of ``cls``; one with a problem is left out, and the problem noted."""
    entry = origin.entries.get(section)
    if entry is not None and not isinstance(entry.value, (Section, IgnoredSetting)):
        problems.add(entry.place, f"{section} must be a section with keys of its own, not {shown(entry.value)}")
    decider, deciding = _CONDITIONAL.get(section, ("", {}))
    needed = next((keys for value, keys in deciding.items() if _is_given(decider, value, origin)), None)
    known = origin if not decider or needed is not None else SettingsOrigin(origin.path, {})
    values = {}
    for name, declared in options_of(cls).items():
        required = declared.file_value is MISSING or name in (needed or ())
        value = _value(declared, _dotted(section, name), known, required, problems)
        values.update({name: value} if value is not MISSING else {})
    for name, kind in _inner(cls).items():
        inner = _values(kind, _dotted(section, name), origin, problems)
        values.update({name: kind(**inner)} if len(inner) == len(fields(kind)) else {})
    return values


def _is_given(key: str, value: object, origin: SettingsOrigin) -> bool:
    return key in origin.entries and origin.entries[key].value == value


def _value(declared: Option, key: str, origin: SettingsOrigin, required: bool, problems: Problems) -> Any:
    entry = origin.entries.get(key)
    # As in the reference, an empty text counts as not given.
    if entry is None or entry.value == "" or isinstance(entry.value, IgnoredSetting):
        if required:
            found = "" if entry is None else f" (its value is {shown(entry.value)})"
            problems.add(origin.place(key), f"{key} is missing{found}", Misfit(key, None, declared))
        return declared.file_value
    if fault := declared.fault(entry.value):
        hint = _yaml_hint(entry.value, declared.kind)
        problems.add(entry.place, f"{key} {fault}{hint}", Misfit(key, entry.value, declared))
        return declared.file_value
    return declared.kind(entry.value)


def _yaml_hint(value: object, kind: type) -> str:
    """Return how to write what YAML 1.1 takes for something else: a text such as ``no``, a number such as ``1e-3``."""
    if kind is str and isinstance(value, bool):
        return " (YAML takes yes, no, on and off for truth values: write a text in quotes)"
    if kind not in (int, float) or not isinstance(value, str):
        return ""
    try:
        number = kind(float(value))
    except (ValueError, OverflowError):
        return ""
    written = repr(number) if "." in repr(number) else repr(number).replace("e", ".0e")
    return f" (YAML reads it as text: write {written})"


def _reconciled(settings: JobSettings) -> JobSettings:
    """Overrule contradictions, as the reference does, with a warning; warn of options without effect too."""
    warnings = _useless_options(settings.origin) + _useless_keys(settings.origin)
    if settings.unsupervised.eval_type != NOT_EVAL:
        place = settings.origin.place("unsupervised.eval_type")
        warnings.append(f"{place}: {settings.unsupervised.eval_type} is not computed: unsupervisedEval stays 0.0")
    encrypt_type, compression = settings.encrypt.encrypt_type, settings.compression
    if MODES[encrypt_type].uncompressed and CompressType[compression.upload_compress_type]:
        place = settings.origin.place("compression.upload_compress_type")
        warnings.append(f"{place}: uploads are not compressed, since encrypt_type is {encrypt_type}")
        compression = replace(compression, upload_compress_type=CompressType.NO_COMPRESS.name)
    summary, usual = settings.summary, options_of(ServerFilesOptions)["participation_time_level"].default
    if not _is_time_level(summary.participation_time_level):
        place = settings.origin.place("summary.participation_time_level")
        warnings.append(f"{place}: participation_time_level is not two ascending numbers of minutes: {usual} is used")
        summary = replace(summary, participation_time_level=usual)
    origin = replace(settings.origin, warnings=tuple(warnings))
    return replace(settings, compression=compression, summary=summary, origin=origin)


def _useless_options(origin: SettingsOrigin) -> list[str]:
    """Return a line for each option in a section that does not count; files hold such sections all the same."""
    found = []
    for key, entry in origin.entries.items():
        decider, deciding = _CONDITIONAL.get(key.rpartition(".")[0], ("", {}))
        counts = any(_is_given(decider, value, origin) for value in deciding)
        if decider and not counts and entry.place.startswith("--"):
            found.append(f"{entry.place} has no effect without {decider} {' or '.join(map(str, deciding))}")
    return found


def _useless_keys(origin: SettingsOrigin) -> list[str]:
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
