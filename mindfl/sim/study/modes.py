"""The forms in which uploads and downloads travel, as settings of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mindfl.errors import OptionError


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """A row of the study: ``key`` in options and folders, ``name`` in table and figure, ``settings`` of the job."""

    key: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_QUANT = {"download_compress_type": "QUANT"}
_SPARSE = {"upload_compress_type": "DIFF_SPARSE_QUANT"}

#: in the order of table and figure. Epsilons are those of one upload; why these: docs/privacy.md
MODES = (
    Mode("plain", "plain"),
    Mode("quant", "QUANT", _QUANT),
    Mode("sparse", "DIFF_SPARSE_QUANT", _SPARSE),
    Mode("both", "QUANT + DIFF_SPARSE_QUANT", {**_QUANT, **_SPARSE}),
    Mode("signds", "SIGNDS, epsilon 100", {"encrypt_type": "SIGNDS", "sign_eps": 100.0, "sign_global_lr": 2.0}),
    Mode("dp50", "DP_ENCRYPT, epsilon 50", {"encrypt_type": "DP_ENCRYPT", "dp_eps": 50.0, "dp_norm_clip": 8.0}),
    Mode("dp10", "DP_ENCRYPT, epsilon 10", {"encrypt_type": "DP_ENCRYPT", "dp_eps": 10.0, "dp_norm_clip": 1.0}),
    Mode("pw", "PW_ENCRYPT", {"encrypt_type": "PW_ENCRYPT"}),
    Mode("stable", "STABLE_PW_ENCRYPT", {"encrypt_type": "STABLE_PW_ENCRYPT"}),
    Mode("exact", "PW_EXACT", {"encrypt_type": "PW_EXACT"}),
)


def chosen_modes(keys: Sequence[str] | None = None) -> tuple[Mode, ...]:
    """Return the modes with these ``keys``, in the table's order; None: all.

    Raises :class:`OptionError` for a key that is none, or no key at all.
    """
    known = {mode.key: mode for mode in MODES}
    if keys is None:
        return tuple(known.values())
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        what = f"unknown mode {unknown[0]!r}" if unknown else "no mode is given"
        raise OptionError(what, hint=f"choose from {', '.join(known)}")
    return tuple(mode for key, mode in known.items() if key in keys)
