"""Error messages of MindSpore Federated 0.1.0 for unusable arguments and settings, as ``RuntimeError``.

Its scripts catch ``RuntimeError``. Errors raised here are one, and also the :class:`mindfl.MindflError` that mindfl
raises elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from mindfl.errors import MindflError, OptionError
from mindfl.options import Option
from mindfl.options.server_options import INT32_MAX, INT64_MAX, UINT32_MAX
from mindfl.server.http.sockets import ListenError
from mindfl.server.refusal import StoreDownError
from mindfl.server.settings import JobSettings, NoMappingError, SettingsError
from mindfl.server.settings.document import Misfit
from mindfl.spelling import did_you_mean

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

_TYPE_NAMES: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
_ENCRYPT_TYPES = ("NOT_ENCRYPT", "PW_ENCRYPT", "STABLE_PW_ENCRYPT", "DP_ENCRYPT", "SIGNDS")
#: settings whose upper limit comes from the wire format, not from the reference
_UNLIMITED = ("client.client_epoch_num", "client.client_batch_size")
_NO_MAPPING = "Expect content of yaml config file {path} is of the dict type, yaml config file: {path}"
_LINK_FAILED = "Link to distributed cache failed, distributed cache address: {address}, enable ssl: {tls:d}"


def refused(text: str, hint: str = "") -> MindflError:
    """Return the error with this message."""
    return as_runtime_error(OptionError)(text, hint=hint)


def as_runtime_error(kind: type[MindflError], *others: type[Exception]) -> type[MindflError]:
    """Return a subclass of ``kind``, ``RuntimeError`` and ``others``."""
    return cast(type[MindflError], type(kind.__name__, (kind, *others, RuntimeError), {}))


def check_text(name: str, value: object) -> None:
    """Raise an error if the argument is not a text or is empty."""
    if not isinstance(value, str):
        raise refused(f"Parameter '{name}' should be str, but actually {type(value)}")
    if not value:
        raise refused(f"Parameter '{name}' should not be empty str")


def check_number(name: str, value: object) -> None:
    """Raise an error if the argument is not a whole number."""
    if not isinstance(value, int):
        raise refused(f"Parameter '{name}' should be int, but actually {type(value)}")


def checked_keywords(method: MethodT) -> MethodT:
    """Decorate a method: an unknown keyword raises Python's message with a suggestion."""
    known = list(inspect.signature(method).parameters)[1:]

    @wraps(method)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        for name in keywords:
            if name not in known:
                text = f"{method.__qualname__}() got an unexpected keyword argument {name!r}"
                raise as_runtime_error(OptionError, TypeError)(text, hint=did_you_mean(name, known))
        return method(*arguments, **keywords)

    return cast(MethodT, checked)


@contextmanager
def refusing_settings(yaml_config: str) -> Iterator[None]:
    """Convert errors in reading the file ``yaml_config`` to the reference's errors."""
    with refusing():
        try:
            yield
        except NoMappingError as error:
            text = _NO_MAPPING.format(path=yaml_config)
            raise refused(text, error.hint) from error
        except SettingsError as error:
            sentences = [_sentence(misfit) for misfit in error.misfits]
            found = [f"{text}, yaml config file: {yaml_config}" if said else text for text, said in sentences if text]
            raise refused("; ".join(found) or str(error), error.hint) from error


@contextmanager
def refusing(settings: JobSettings | None = None) -> Iterator[None]:
    """Convert every :class:`MindflError` to ``RuntimeError``, with the reference's message if it has one."""
    try:
        yield
    except ListenError as error:
        raise refused(f"Http server starting failed. {error}", error.hint) from error
    except MindflError as error:
        if isinstance(error, RuntimeError):
            raise
        text, hint = str(error), error.hint
        if settings is not None and isinstance(error, StoreDownError):
            text = _LINK_FAILED.format(address=settings.distributed_cache.address, tls=settings.enable_ssl)
            hint = f"{error}; {hint}"
        raise as_runtime_error(type(error))(text, hint=hint) from error


def _sentence(misfit: Misfit) -> tuple[str, bool]:
    """Return the reference's message about ``misfit``, "" if it accepts it, and whether the message names the file."""
    key, value, declared = misfit.key, misfit.value, misfit.declared
    kind = declared.kind
    if value is None:
        return f"The parameter '{key}' is missing", True
    if not declared.is_of_kind(value):
        found = ("<< " if kind is str else "") + _TYPE_NAMES.get(type(value), "dict")
        return f"The parameter '{key}' is expected to be type {_TYPE_NAMES[kind]}, actually {found}", True
    if key == "server_mode":
        return f"{value} is invalid. Server mode must be {' or '.join(declared.choices)}", False
    if declared.choices:
        choices = _ENCRYPT_TYPES if key == "encrypt.encrypt_type" else declared.choices
        return f"The value of parameter '{key}' can be only one of [{', '.join(choices)}], but got {value}", True
    number = cast(float, value)
    expected = _expected_whole(key, number, declared) if kind is int else _expected_real(declared)
    got = f"{number:f}" if kind is float else number
    return expected and f"Failed to check value of parameter '{key}': {expected}, but got {got}", True


def _expected_whole(key: str, value: float, declared: Option) -> str:
    most = UINT32_MAX if declared.most == INT32_MAX else declared.most
    if key in _UNLIMITED or most == INT64_MAX:
        return f"value is expected >={declared.least}" if value < (declared.least or 0) else ""
    return f"value is expected to be range of [{declared.least},{most}]"


def _expected_real(declared: Option) -> str:
    match declared:
        case Option(above=float() | int() as above, most=None, below=None):
            return f"value is expected >{above:f}"
        case Option(above=float() | int() as above, below=float() | int() as below):
            return f"expect value to be range of ({above:f},{below:f})"
        case Option(above=float() | int() as above, most=float() | int() as most):
            return f"value is expected value to be range of ({above:f},{most:f}]"
    return f"value is expected to be range of [{declared.least:f},{declared.most:f}]"
