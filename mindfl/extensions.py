"""Loads users' own classes by registered name, ``module:attribute``, ``file.py:attribute`` or entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mindfl.errors import MindflError, OptionError
from mindfl.files import PathLike, file_digest
from mindfl.spelling import did_you_mean
from mindfl.user_code import raised

#: ``module:attribute`` or ``file.py:attribute``, perhaps with settings
_REFERENCE = re.compile(r"(?P<where>.+\.py|[^\W\d][\w.]*)(?P<rest>:[^\W\d][\w.]*(:[^:]*=.*)?)")
#: prefix of the names of modules that were loaded from a file
FILE_MODULE = "mindfl_file_"

#: hint for a user's object that failed during a run
RESUME_HINT = "correct it, then --resume: the iterations before are kept"
_SETTINGS_HINT = "settings are name:key=value,key=value"
#: types of settings that can be written as text
_TOLD = (int, float, bool, str, type(None))
#: a class or function that makes the object, and the settings that it is given
Named = tuple[Any, dict[str, Any]]


def find_object(text: str, registered: Mapping[str, Any], group: str, option: str) -> Named:
    """Return the object that ``text`` names, and its settings.

    Args:
        text: ``name``, ``module:attribute`` or ``path/to/file.py:attribute``; settings may follow a colon, as in
            ``fedprox:mu=0.1,seed=3``. Values are numbers, ``true`` and ``false``, else texts.
        registered: mindfl's own objects by name.
        group: entry points of installed packages, such as ``mindfl.algorithms``.
        option: the option that is named in errors.

    Raises:
        OptionError: the name is unknown, the module cannot be imported, or it has no such attribute.

    Example:
        >>> find_object("ordered:reverse=true", {"ordered": sorted}, "mindfl.algorithms", "algorithm")
        (<built-in function sorted>, {'reverse': True})
    """
    name, settings = reference_settings(text, option)
    if name in registered:
        return registered[name], settings
    if ":" in name:
        first, _, rest = name.partition(":")
        if first in registered and importlib.util.find_spec(first) is None:
            raise OptionError(f"{option} {text}: {rest!r} is not key=value", hint=_SETTINGS_HINT)
        return load_object(name, option), settings
    packaged = installed(group)
    if name in packaged:
        try:
            return packaged[name].load(), settings
        except (ImportError, AttributeError) as error:
            raise OptionError(f"{option} {name}: cannot load {packaged[name].value}: {error}") from None
    known = [*registered, *packaged]
    hint = did_you_mean(name, known) if known else "give module:attribute or file.py:attribute"
    raise OptionError(f"{option}: unknown name {name!r}", hint=hint)


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of installed packages in ``group``, by name; of equal names the first."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, entry)
    return found


def load_object(text: str, option: str) -> Any:
    """Return the attribute that ``module:attribute`` or ``file.py:attribute`` names.

    A file is loaded once per process, however often it is named. Raises :class:`OptionError` as :func:`find_object`
    does.

    Example:
        >>> load_object("math:pi", "model")
        3.141592653589793
    """
    where, _, attribute = text.rpartition(":")
    if not where or not attribute:
        raise OptionError(f"{option} {text!r} is not module:attribute", hint="for example nets.py:TinyNet")
    found: Any = _module(where, option)
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")]
            raise OptionError(f"{option}: {where} has no {part}", hint=did_you_mean(part, names) if names else "")
        found = getattr(found, part)
    return found


def is_reference(text: object) -> bool:
    """Return whether ``text`` is ``module:attribute`` or ``file.py:attribute``, and not the path of a file.

    Example:
        >>> is_reference("nets.py:TinyNet"), is_reference("package.nets:TinyNet:width=8"), is_reference("lenet")
        (True, True, False)
    """
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None and not Path(text).exists()


def reference_settings(text: str, option: str) -> Named:
    """Split ``text`` into the reference and its settings."""
    name, colon, last = text.rpartition(":")
    return (name, _settings(last, option)) if colon and "=" in last else (text, {})


def make_object(text: str, registered: Mapping[str, Any], group: str, option: str) -> Any:
    """Return the object of :func:`find_object`; a class or function is called with its settings.

    Raises :class:`OptionError` also for settings that it does not accept.
    """
    if text.startswith("<"):
        raise OptionError(
            f"the run was made with the {option} {text}, an object that its record cannot make again",
            hint=f"give it again: {option}=... in Python, --{option} file.py:Class on the command line",
        )
    found, settings = find_object(text, registered, group, option)
    if settings and not callable(found):
        raise OptionError(f"{option} {text}: it is an object already and takes no settings", hint="name its class")
    if not callable(found) or (settings == {} and not isinstance(found, type)):
        return found
    _check_settings(found, settings, f"{option} {text}")
    try:
        return found(**settings)
    except OptionError as error:
        raise OptionError(f"{option} {text}: {error}", hint=error.hint) from error
    except Exception as error:
        raise OptionError(f"{option} {text}: {raised(error)}") from error


def _check_settings(made: Any, settings: Mapping[str, Any], owner: str) -> None:
    """Raise :class:`OptionError` for the first of ``settings`` that the class or function ``made`` does not take."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # a class of C, which says itself what it takes
        return
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return
    known = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known) if known else "leave the settings out"
            raise OptionError(f"{owner}: {made.__name__} has no setting {name}", hint=hint)


def absolute(text: str) -> str:
    """Return the reference ``text`` with the path of its file, if any, made absolute."""
    path, suffix, rest = text.partition(".py:")
    return f"{Path(path).expanduser().absolute()}{suffix}{rest}" if suffix else text


def recorded(given: Any, registered: Mapping[str, Any], group: str, option: str) -> str:
    """Return the text from which ``given`` can be created again, for the record of a run.

    If there is no such text, return a description in angle brackets, which :func:`make_object` refuses.

    Example:
        >>> recorded("ordered", {}, "mindfl.none", "sampler"), recorded(object(), {}, "mindfl.none", "sampler")
        ('ordered', 'builtins:object')
    """
    if isinstance(given, str):
        return absolute(given)
    kind, settings = type(given), getattr(given, "__dict__", {})
    home = kind.__module__
    if home.startswith(FILE_MODULE):
        home = str(sys.modules[home].__file__)
    words = ",".join(f"{name}={word(value)}" for name, value in settings.items() if value is not None)
    text = next((name for name, known in registered.items() if known is kind), f"{home}:{kind.__qualname__}")
    text += words and f":{words}"
    if home != "__main__" and all(type(value) in _TOLD for value in settings.values()):
        with suppress(MindflError):
            again = make_object(text, registered, group, option)
            if type(again) is kind and _typed(again) == _typed(given):
                return text
    return f"<{kind.__module__}:{kind.__qualname__}{words and f' {words}'}>"


def word(value: Any) -> str:
    """Return a setting as one word: the hash of an array, the class of other objects."""
    if hasattr(value, "tobytes") and hasattr(value, "shape") and value.shape:
        return f"array({hashlib.sha256(value.tobytes()).hexdigest()[:8]})"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | str) else type(value).__name__


def _typed(given: Any) -> list[tuple[str, type, Any]]:
    return [(name, type(value), value) for name, value in getattr(given, "__dict__", {}).items()]


def module_files(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 (hex) of the Python files of the imported modules ``names``, by path."""
    files = {getattr(sys.modules[name], "__file__", None) or "" for name in names}
    return {path: code_digest(path) for path in sorted(files) if path.endswith(".py")}


def code_digest(path: PathLike) -> str:
    """Return the SHA-256 (hex) of a file; empty if it cannot be read."""
    try:
        return file_digest(path)
    except MindflError:
        return ""


def code_files(named: object) -> list[str]:
    """Return the Python files in references ``file.py:attribute``: of a text, or of a list of texts.

    Example:
        >>> code_files("nets.py:Net:width=8"), code_files(["own.py:Stop", "fedavg"]), code_files(None)
        (['nets.py'], ['own.py'], [])
    """
    texts = named if isinstance(named, list | tuple) else [named]
    parts = [text.partition(".py:") for text in texts if isinstance(text, str)]
    return [f"{path}.py" for path, suffix, _ in parts if suffix]


def module_origin(text: str) -> str | None:
    """Return the file of the module, or of its package, that ``module:attribute`` names; None if there is none."""
    where = text.rpartition(":")[0]
    if where.endswith(".py"):
        return where
    spec = importlib.machinery.PathFinder.find_spec(where.partition(".")[0])
    return None if spec is None else str(spec.origin)


def object_reference(thing: Any) -> str | None:
    """Return the reference of a class or function; None if other processes cannot import it.

    Example:
        >>> from pathlib import Path
        >>> object_reference(Path), object_reference(lambda: None)
        ('pathlib:Path', None)
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    where, found = module, sys.modules.get(module)
    if module.startswith(FILE_MODULE):
        where = str(getattr(found, "__file__", ""))
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{where}:{name}" if found is thing else None


def _module(where: str, option: str) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ImportError as error:
            raise OptionError(f"{option}: cannot import {where}: {error}", hint="is it on PYTHONPATH?") from None
        except Exception as error:
            raise OptionError(f"{option}: {where} cannot be loaded: {raised(error)}") from error
    path = Path(where).expanduser().resolve()
    # The name follows from the path, so that objects of the module can be pickled for another process of this machine.
    name = f"{FILE_MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise OptionError(f"{option}: no file {where}")
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Without a .pyc file: one of the same second and size would be taken for that of a changed text.
        exec(loader.source_to_code(loader.get_data(str(path)), str(path)), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise OptionError(f"{option}: {where} cannot be loaded: {raised(error)}") from error
    return module


def _settings(text: str, option: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise OptionError(f"{option}: {item!r} is not key=value", hint=_SETTINGS_HINT)
        if name.strip() in settings:
            raise OptionError(f"{option}: {name.strip()} is given twice in {text!r}", hint="leave one of them out")
        settings[name.strip()] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
