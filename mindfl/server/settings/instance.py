"""The settings that the management address shows (/queryInstance) and changes (/newInstance)."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from mindfl.errors import OptionError
from mindfl.modes import MODES
from mindfl.options import options_of
from mindfl.options.server_options import INT64_MAX, ServerJobOptions, TrainingOptions
from mindfl.server.settings.job_settings import JobSettings
from mindfl.server.settings.reader import with_overrides

_EXPECTED = {int: "unsigned integer number", float: "float or integer number"}
#: what /newInstance may change, in the order in which the 0.1.0 server checks it
_CHANGEABLE = (
    "global_iteration_time_window",
    "start_fl_job_threshold",
    "start_fl_job_time_window",
    "update_model_ratio",
    "update_model_time_window",
    *options_of(TrainingOptions),
    "fl_iteration_num",
)
#: settings that the reference does not have
_OWN_SETTINGS = {name for mode in MODES.values() if not mode.in_reference for name in mode.settings}
_SHOWN_SECTIONS = ("round", "compression", "aggregation")


def query_instance(settings: JobSettings) -> dict[str, Any]:
    """Return the ``result`` object of /queryInstance, keys in ascending order.

    Numbers with a fraction are given as the reference gives them: rounded to float32, printed as a double.
    """
    whole = asdict(settings)
    encrypt = whole["encrypt"]
    result = {
        "enable_ssl": settings.enable_ssl,
        "encrypt_type": encrypt["encrypt_type"],
        "fl_iteration_num": settings.fl_iteration_num,
        "pki_verify": settings.client_verify.pki_verify,
        "secure_aggregation": False,
        **encrypt["pw_encrypt"],
        **encrypt["dp_encrypt"],
        **encrypt["signds"],
        **{name: whole["client"][name] for name in options_of(TrainingOptions)},
    }
    mode = MODES[encrypt["encrypt_type"]]
    if mode.in_reference:
        for name in _OWN_SETTINGS - set(mode.settings):
            del result[name]
    for section in _SHOWN_SECTIONS:
        result |= whole[section]
    return {name: _as_float32(result[name]) for name in sorted(result)}


def apply_new_instance(settings: JobSettings, changes: object) -> JobSettings:
    """Return the settings of the instance that /newInstance starts with the JSON value ``changes``.

    Keys that cannot be changed are ignored, missing ones keep their values. Raises :class:`OptionError` whose text is
    the reference's ``error_message``. Unlike the reference, a whole number of 0 is refused too: no iteration with it
    could ever end.
    """
    if not isinstance(changes, dict):
        raise OptionError("New instance failed: Expect hyper param config to be json object")
    found = {name: changes[name] for name in _CHANGEABLE if name in changes}
    for name, value in found.items():
        fault = _fault(value, options_of(ServerJobOptions)[name].kind)
        if fault:
            raise OptionError(f"New instance failed: Field {name} in hyper param config should be {fault}")
    if found.get("update_model_ratio", 1) > 1:
        raise OptionError(
            "New instance failed: Field update_model_ratio in hyper param config should be in range of (0,1.0]"
        )
    try:
        changed = with_overrides(settings, found, place="the request")
        changed.server_config()
    except OptionError as error:
        raise OptionError(f"New instance failed: {error}") from None
    return changed


def _fault(value: object, kind: type) -> str | None:
    expected = _EXPECTED[kind]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return expected
    if kind is int and (not isinstance(value, int) or not 0 <= value <= INT64_MAX):
        return expected
    # JSON has no NaN and no infinity, but Python's reader knows them.
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        return expected
    return None if value > 0 else "larger than 0"


def _as_float32(value: Any) -> Any:
    return float(np.float32(value)) if isinstance(value, float) else value
