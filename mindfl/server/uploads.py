"""Uploads in the forms of :mod:`mindfl.modes`, as if they had come as plain weights."""

from __future__ import annotations

from mindfl.modes import Basis, UploadMode
from mindfl.privacy.faults import EncodingError
from mindfl.protocol import RequestUpdateModel
from mindfl.server.events import Content
from mindfl.server.refusal import FAULT_REFUSALS, Refusal


def uploaded_content(request: RequestUpdateModel, mode: UploadMode, basis: Basis) -> Content | Refusal:
    """Return the weights of an upload, each multiplied by the data size, or why they cannot be known.

    With ``PW_EXACT`` they are masked words, see :class:`mindfl.privacy.secagg.FixedPoint`.
    """
    try:
        return mode.content(request, basis)
    except EncodingError as error:
        return FAULT_REFUSALS[error.fault]
