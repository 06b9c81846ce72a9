"""The messages that a device sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.client.config import ClientConfig
from mindfl.client.trainer import Trainer
from mindfl.modes import ANNOUNCED, UploadMode
from mindfl.protocol import (
    CompressType,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    UnsupervisedEvalItem,
    UnsupervisedEvalItems,
)

SCORES_NAME = "DirectClassifierResult"
"""What MindSpore Federated 0.1.0's device calls the mean score of each class, which it uploads after an evaluation."""

_DECODABLE = (CompressType.NO_COMPRESS, CompressType.QUANT)


def start_request(
    config: ClientConfig, trainer: Trainer, iteration: int, now_ms: int, own: UploadMode | None = None
) -> RequestFLJob:
    """Return the request to take part; ``iteration`` is the last one that this device saw.

    ``own`` is an upload mode beyond mindfl's that the device knows.
    """
    return RequestFLJob(
        fl_name=config.fl_name,
        fl_id=config.fl_id,
        iteration=iteration,
        data_size=trainer.train_size,
        eval_data_size=trainer.eval_size,
        timestamp=str(now_ms),
        download_compress_types=_DECODABLE,
        # A server asks no device for a mode beyond MindSpore Federated 0.1.0's that does not announce it.
        encrypt_types=ANNOUNCED if own is None else (*ANNOUNCED, own.name),
    )


def update_request(
    config: ClientConfig,
    trainer: Trainer,
    iteration: int,
    now_ms: int,
    *,
    fields: Mapping[str, Any],
    loss: float,
    accuracy: float | None,
) -> RequestUpdateModel:
    """Return the upload of what ``trainer`` learned, which is in ``fields``."""
    return RequestUpdateModel(
        fl_name=config.fl_name,
        fl_id=config.fl_id,
        iteration=iteration,
        timestamp=str(now_ms),
        # Rounded as on the wire, so that every transport gives the server the same numbers.
        upload_loss=float(np.float32(loss)),
        upload_accuracy=float(np.float32(accuracy or 0.0)),
        unsupervised_eval_items=_scores(None if accuracy is None else trainer.class_scores),
        **fields,
    )


def model_request(config: ClientConfig, iteration: int, now_ms: int) -> RequestGetModel:
    """Return the request for the model of ``iteration``."""
    return RequestGetModel(
        fl_name=config.fl_name,
        iteration=iteration,
        timestamp=str(now_ms),
        download_compress_types=_DECODABLE,
    )


def _scores(scores: NDArray[np.float32] | None) -> UnsupervisedEvalItems:
    """Return the vectors of an evaluation; without one there are none, but the table is there, as the reference's."""
    if scores is None:
        return UnsupervisedEvalItems(eval_items=())
    return UnsupervisedEvalItems(eval_items=(UnsupervisedEvalItem(eval_name=SCORES_NAME, eval_data=scores),))
