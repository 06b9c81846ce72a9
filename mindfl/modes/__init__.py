"""Upload modes: how clients upload weights, one object for each mode.

This registry is the only place that compares names of modes (``encrypt_type``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from mindfl.errors import OptionError, ProtocolError
from mindfl.extensions import installed, make_object, recorded
from mindfl.modes.dp_mode import Dp
from mindfl.modes.masked_modes import Exact, Pairwise, StablePairwise
from mindfl.modes.mode import Arrays, Basis, Settings, Trained, UploadMode, cipher_of
from mindfl.modes.plain_mode import UPLOAD_TYPES, Plain
from mindfl.modes.signds_mode import SignDs
from mindfl.protocol import ResponseFLJob
from mindfl.spelling import nearest

#: name -> mindfl's own mode; MindSpore Federated 0.1.0's but for the last
MODES: Mapping[str, type[UploadMode]] = MappingProxyType(
    {mode.name: mode for mode in (Plain, Dp, SignDs, Pairwise, StablePairwise, Exact)}
)
NAMES = tuple(MODES)
PLAIN = Plain.name
#: names that devices announce, beyond those of MindSpore Federated 0.1.0
ANNOUNCED = tuple(name for name, mode in MODES.items() if not mode.in_reference)
#: names of the modes with a privacy accountant
PRIVATE = tuple(name for name, mode in MODES.items() if mode.accountant is not UploadMode.accountant)
GROUP = "mindfl.modes"
_OPTION = "encrypt_type"

__all__ = [
    "ANNOUNCED",
    "MODES",
    "NAMES",
    "PLAIN",
    "PRIVATE",
    "UPLOAD_TYPES",
    "Arrays",
    "Basis",
    "Trained",
    "UploadMode",
    "asked_mode",
    "mode_of",
    "named_mode",
    "own_mode",
    "recorded_mode",
]


def named_mode(name: str | UploadMode, settings: Settings) -> UploadMode:
    """Return the mode that ``encrypt_type`` names, with what it takes from the ``settings`` of a job or server.

    Args:
        name: a name in :data:`MODES`, ``module:attribute``, ``file.py:attribute`` or the name of an entry point in
            ``mindfl.modes``; or a mode, which is returned as it is.
        settings: those of the job.

    Raises :class:`OptionError` for an unknown name, and for an object that is no mode.
    """
    if isinstance(name, str):
        if name in MODES:
            return MODES[name].of(settings)
        return _own(name)
    return _checked(name, name)


def mode_of(settings: Settings) -> UploadMode:
    """Return the mode of a job or server. Raises :class:`OptionError` as :func:`named_mode` does."""
    return named_mode(settings.encrypt_type, settings)


def recorded_mode(mode: UploadMode) -> str:
    """Return the text from which :func:`named_mode` makes the mode again, in angle brackets if none can."""
    return mode.name if mode.name in MODES else recorded(mode, {}, GROUP, _OPTION)


def own_mode(settings: Settings) -> UploadMode | None:
    """Return the mode of a job if it is a user's own, else None."""
    mode = mode_of(settings)
    return None if mode.name in MODES else mode


def asked_mode(answer: ResponseFLJob, own: UploadMode | None = None) -> UploadMode:
    """Return the mode that a server asks for in its ``answer`` to startFLJob.

    ``own`` is a user's mode that the client knows. Raises :class:`ProtocolError` for a mode that this client does not
    have.
    """
    name = cipher_of(answer).encrypt_type or PLAIN
    compression = answer.upload_compress_type.name
    if own is not None and own.name == name:
        return own
    if name not in MODES:
        raise ProtocolError(f"cannot do the encryption the server asks for ({name})")
    if compression not in UPLOAD_TYPES:
        raise ProtocolError(f"cannot compress as the server asks for (type {answer.upload_compress_type:d})")
    mode = MODES[name].asked(answer)
    if mode.masked and answer.upload_compress_type:
        raise ProtocolError(f"cannot compress what {name} masks, as the server asks for")
    return mode


@lru_cache(16)
def _own(name: str) -> UploadMode:
    known = (*NAMES, *installed(GROUP))
    if ":" not in name and name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else "or name one of your own: file.py:attribute"
        raise OptionError(f"{_OPTION} must be one of {', '.join(known)}, not {name!r}", hint=hint)
    return _checked(make_object(name, {}, GROUP, _OPTION), name)


def _checked(found: object, name: object) -> UploadMode:
    if isinstance(found, type) and issubclass(found, UploadMode):
        found = found()
    if not isinstance(found, UploadMode):
        raise OptionError(f"{_OPTION} {name!r} is no upload mode", hint="it must be a mindfl.modes.UploadMode")
    if found.name in MODES and type(found) is not MODES[found.name]:
        raise OptionError(f"{_OPTION} {name!r} has the name of mindfl's own {found.name}", hint="give it another name")
    return found
