"""The coordinator's refusals, with their codes and texts."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

import numpy as np

from mindfl.errors import StorageError
from mindfl.privacy.faults import EncodingFault
from mindfl.protocol import RequestFLJob, RequestUpdateModel, ResponseCode, texts
from mindfl.server.aggregate import FeatureFault
from mindfl.server.server_config import MAX_DATA_SIZE, ServerConfig

FLOAT32_MAX = float(np.finfo(np.float32).max)

STORAGE_RETRY_MS = 30_000
"""A device refused for want of storage is sent away for this long at least; it gives up at a second refusal."""

# Not a text of the reference, which keeps nothing: its devices log the reason and act on the code alone. With 300 they
# come back (500 would end their job), and by then there may be room again.
NOT_STORED = "The server cannot store the request, its disk may be full. Please retry later at time: {time}"

# Nor is this one: the reference has no modes that users write.
UNREADABLE = "The upload of {fl_id} is not what the job's upload mode sends: {detail}"

# Not texts of the reference either, which accepts messages that its own clients never send.
SHARES_MALFORMED = "The shares of {fl_id} are not what a device sends: {fault}"
NOT_ANNOUNCED = "This job uses {mode}, which {fl_id} did not announce: only mindfl's own devices do it."
NO_RATE = "{fault}. Please retry later at time: {time}"


class StoreDownError(StorageError):
    """The storage cannot be reached just now, or another server leads the job."""


class Refusal(Enum):
    """A refusal: ``label`` (stable key of counters), ``retcode`` (None: the answer is bare text), ``text``."""

    FINISHED = ("finished", None, texts.FINISHED)
    START_SCHEMA = ("start_schema", None, texts.START_SCHEMA)
    START_QUOTA_FULL = ("start_quota_full", ResponseCode.OUT_OF_TIME, texts.START_QUOTA_FULL)
    START_NOT_ANNOUNCED = ("start_mode_not_announced", ResponseCode.REQUEST_ERROR, NOT_ANNOUNCED)
    START_NO_RATE = ("start_no_learning_rate", ResponseCode.OUT_OF_TIME, NO_RATE)
    DATA_SIZE_SMALL = ("data_size_small", ResponseCode.OUT_OF_TIME, texts.DATA_SIZE_SMALL)
    DATA_SIZE_LARGE = ("data_size_large", ResponseCode.OUT_OF_TIME, texts.DATA_SIZE_LARGE)
    START_DUPLICATE = ("start_duplicate", ResponseCode.OUT_OF_TIME, texts.START_DUPLICATE)
    UPDATE_SCHEMA = ("update_schema", ResponseCode.REQUEST_ERROR, texts.UPDATE_SCHEMA)
    UPDATE_NOT_FINITE = ("update_loss_or_accuracy_not_finite", ResponseCode.REQUEST_ERROR, texts.UPDATE_SCHEMA)
    UPDATE_QUOTA_FULL = ("update_quota_full", ResponseCode.OUT_OF_TIME, texts.UPDATE_QUOTA_FULL)
    UPDATE_NOT_STARTED = ("update_not_started", ResponseCode.OUT_OF_TIME, texts.UPDATE_NOT_STARTED)
    UPDATE_STALE = ("update_stale_iteration", ResponseCode.OUT_OF_TIME, texts.UPDATE_STALE)
    WEIGHTS_EMPTY = ("weights_empty", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    WEIGHTS_UNKNOWN_NAME = ("weights_unknown_name", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    WEIGHTS_MISSING = ("weights_missing", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    WEIGHTS_WRONG_SHAPE = ("weights_wrong_shape", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    WEIGHTS_NOT_FINITE = ("weights_not_finite", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    WEIGHTS_REPEATED_NAME = ("weights_repeated_name", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    SPARSE_RATE = ("sparse_rate", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    QUANT_BOUNDS = ("quant_bounds", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    SIGN_INDICES = ("sign_indices", ResponseCode.REQUEST_ERROR, texts.UPDATE_FEATURES)
    UNREADABLE = ("upload_unreadable", ResponseCode.REQUEST_ERROR, UNREADABLE)
    UPDATE_DUPLICATE = ("update_duplicate", ResponseCode.OUT_OF_TIME, texts.UPDATE_DUPLICATE)
    UPDATE_NOT_SHARED = ("update_not_shared", ResponseCode.OUT_OF_TIME, texts.UPDATE_NOT_SHARED)
    EXCHANGE_NOT_STARTED = ("exchange_not_started", ResponseCode.OUT_OF_TIME, texts.UPDATE_NOT_STARTED)
    EXCHANGE_QUOTA_FULL = ("exchange_quota_full", ResponseCode.OUT_OF_TIME, texts.EXCHANGE_QUOTA_FULL)
    EXCHANGE_STALE = ("exchange_stale_iteration", ResponseCode.OUT_OF_TIME, texts.SECURE_STALE)
    EXCHANGE_OTHER_KEYS = ("exchange_other_keys", ResponseCode.OUT_OF_TIME, texts.EXCHANGE_AGAIN)
    EXCHANGE_KEYS = ("exchange_keys", ResponseCode.REQUEST_ERROR, texts.KEYS_INCOMPLETE)
    KEYS_NOT_READY = ("keys_not_ready", ResponseCode.SUC_NOT_READY, "")
    KEYS_STALE = ("keys_stale_iteration", ResponseCode.OUT_OF_TIME, "")
    KEYS_STRANGER = ("keys_not_exchanged", ResponseCode.REQUEST_ERROR, "")
    SHARE_STRANGER = ("share_not_exchanged", ResponseCode.REQUEST_ERROR, texts.SHARE_ILLEGAL)
    SHARE_QUOTA_FULL = ("share_quota_full", ResponseCode.OUT_OF_TIME, texts.SHARE_QUOTA_FULL)
    SHARE_STALE = ("share_stale_iteration", ResponseCode.OUT_OF_TIME, texts.SHARE_STALE)
    SHARE_CONTENT = ("share_content", ResponseCode.REQUEST_ERROR, SHARES_MALFORMED)
    SECRETS_NOT_READY = ("secrets_not_ready", ResponseCode.SUC_NOT_READY, "")
    SECRETS_STALE = ("secrets_stale_iteration", ResponseCode.OUT_OF_TIME, "")
    SECRETS_STRANGER = ("secrets_not_shared", ResponseCode.REQUEST_ERROR, "")
    LIST_NOT_READY = ("list_not_ready", ResponseCode.SUC_NOT_READY, texts.LIST_NOT_READY)
    LIST_STALE = ("list_stale_iteration", ResponseCode.OUT_OF_TIME, texts.SECURE_STALE)
    LIST_STRANGER = ("list_not_updated", ResponseCode.REQUEST_ERROR, texts.LIST_NOT_UPDATED)
    REVEAL_NOT_READY = ("reveal_not_ready", ResponseCode.SUC_NOT_READY, texts.REVEAL_SUCCESS)
    REVEAL_STALE = ("reveal_stale_iteration", ResponseCode.OUT_OF_TIME, texts.SECURE_STALE)
    REVEAL_STRANGER = ("reveal_not_updated", ResponseCode.REQUEST_ERROR, texts.LIST_NOT_UPDATED)
    REVEAL_CONTENT = ("reveal_content", ResponseCode.REQUEST_ERROR, SHARES_MALFORMED)
    REVEAL_NOT_STORED = ("not_stored", ResponseCode.SUC_NOT_READY, NOT_STORED)
    NOT_STORED = ("not_stored", ResponseCode.OUT_OF_TIME, NOT_STORED)
    SAFEMODE = ("safemode", None, texts.SAFEMODE)
    MODEL_NOT_READY = ("model_not_ready", ResponseCode.SUC_NOT_READY, texts.MODEL_NOT_READY)

    def __init__(self, label: str, retcode: ResponseCode | None, text: str) -> None:
        self.label = label
        self.retcode = retcode
        self.text = text


def storage_refusal(error: StorageError, usual: Refusal = Refusal.NOT_STORED) -> Refusal:
    """Return the refusal of a request that could not be stored."""
    return Refusal.SAFEMODE if isinstance(error, StoreDownError) else usual


FAULT_REFUSALS: dict[FeatureFault | EncodingFault, Refusal] = {
    FeatureFault.EMPTY: Refusal.WEIGHTS_EMPTY,
    FeatureFault.UNKNOWN_NAME: Refusal.WEIGHTS_UNKNOWN_NAME,
    FeatureFault.WRONG_SHAPE: Refusal.WEIGHTS_WRONG_SHAPE,
    FeatureFault.NOT_FINITE: Refusal.WEIGHTS_NOT_FINITE,
    EncodingFault.RATE: Refusal.SPARSE_RATE,
    EncodingFault.NO_NAMES: Refusal.WEIGHTS_EMPTY,
    EncodingFault.NO_ENTRIES: Refusal.WEIGHTS_EMPTY,
    EncodingFault.UNKNOWN_NAME: Refusal.WEIGHTS_UNKNOWN_NAME,
    EncodingFault.REPEATED_NAME: Refusal.WEIGHTS_REPEATED_NAME,
    EncodingFault.MISSING_NAME: Refusal.WEIGHTS_MISSING,
    EncodingFault.OTHER_ROUND: Refusal.UPDATE_STALE,
    EncodingFault.UNREADABLE: Refusal.UNREADABLE,
    EncodingFault.WRONG_LENGTH: Refusal.WEIGHTS_WRONG_SHAPE,
    EncodingFault.NOT_FINITE: Refusal.WEIGHTS_NOT_FINITE,
    EncodingFault.BOUNDS: Refusal.QUANT_BOUNDS,
    EncodingFault.SIGN: Refusal.SIGN_INDICES,
    EncodingFault.INDEX_COUNT: Refusal.SIGN_INDICES,
    EncodingFault.INDEX_RANGE: Refusal.SIGN_INDICES,
    EncodingFault.REPEATED_INDEX: Refusal.SIGN_INDICES,
}


def start_refusal(
    request: RequestFLJob, started: Collection[str], clients: int, config: ServerConfig
) -> Refusal | None:
    """Return the refusal of a startFLJob, or None, in an iteration of ``clients`` clients of which some ``started``."""
    if request.fl_name is None or request.fl_id is None or request.timestamp is None:
        return Refusal.START_SCHEMA
    if not config.mode.in_reference and config.mode.name not in (request.encrypt_types or ()):
        return Refusal.START_NOT_ANNOUNCED
    if len(started) >= clients:
        return Refusal.START_QUOTA_FULL
    if request.data_size < 1:
        return Refusal.DATA_SIZE_SMALL
    if request.data_size > MAX_DATA_SIZE:
        return Refusal.DATA_SIZE_LARGE
    return Refusal.START_DUPLICATE if request.fl_id in started else None


def update_form_refusal(request: RequestUpdateModel, config: ServerConfig) -> Refusal | None:
    """Return the refusal of an updateModel for any field but its weights, or None."""
    if None in (request.fl_id, request.timestamp) or not config.mode.fits(request):
        return Refusal.UPDATE_SCHEMA
    if not (abs(request.upload_loss) <= FLOAT32_MAX and abs(request.upload_accuracy) <= FLOAT32_MAX):
        return Refusal.UPDATE_NOT_FINITE
    return None
