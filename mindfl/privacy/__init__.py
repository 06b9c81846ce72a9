"""Compression, local differential privacy and SignDS: the arithmetic, without sockets or clocks.

The names below are loaded on first use, so only the jobs that need scipy or cryptography import them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.imports import lazy_names

if TYPE_CHECKING:
    from mindfl.privacy.accountant import (
        Accountant,
        Decision,
        GaussianAccountant,
        PrivacyBudget,
        PureAccountant,
        Spending,
    )
    from mindfl.privacy.compression import (
        Rounding,
        SparseUpdate,
        decode_update,
        dequantise_weights,
        encode_update,
        quantise_weights,
    )
    from mindfl.privacy.dp import ClipBound, NoisyUpdate, add_noise, noise_multiplier
    from mindfl.privacy.faults import EncodingError, EncodingFault
    from mindfl.privacy.randomness import seeded_bytes
    from mindfl.privacy.signds import SignPlan, SignUpdate, decode_signs, encode_signs, sign_plan

#: public name -> module that defines it
_HOMES = {
    "Accountant": "mindfl.privacy.accountant",
    "ClipBound": "mindfl.privacy.dp",
    "Decision": "mindfl.privacy.accountant",
    "EncodingError": "mindfl.privacy.faults",
    "EncodingFault": "mindfl.privacy.faults",
    "GaussianAccountant": "mindfl.privacy.accountant",
    "NoisyUpdate": "mindfl.privacy.dp",
    "PrivacyBudget": "mindfl.privacy.accountant",
    "PureAccountant": "mindfl.privacy.accountant",
    "Rounding": "mindfl.privacy.compression",
    "SignPlan": "mindfl.privacy.signds",
    "SignUpdate": "mindfl.privacy.signds",
    "SparseUpdate": "mindfl.privacy.compression",
    "Spending": "mindfl.privacy.accountant",
    "add_noise": "mindfl.privacy.dp",
    "decode_signs": "mindfl.privacy.signds",
    "decode_update": "mindfl.privacy.compression",
    "dequantise_weights": "mindfl.privacy.compression",
    "encode_signs": "mindfl.privacy.signds",
    "encode_update": "mindfl.privacy.compression",
    "noise_multiplier": "mindfl.privacy.dp",
    "quantise_weights": "mindfl.privacy.compression",
    "seeded_bytes": "mindfl.privacy.randomness",
    "sign_plan": "mindfl.privacy.signds",
}

__all__ = [
    "Accountant",
    "ClipBound",
    "Decision",
    "EncodingError",
    "EncodingFault",
    "GaussianAccountant",
    "NoisyUpdate",
    "PrivacyBudget",
    "PureAccountant",
    "Rounding",
    "SignPlan",
    "SignUpdate",
    "SparseUpdate",
    "Spending",
    "add_noise",
    "decode_signs",
    "decode_update",
    "dequantise_weights",
    "encode_signs",
    "encode_update",
    "noise_multiplier",
    "quantise_weights",
    "seeded_bytes",
    "sign_plan",
]


__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
