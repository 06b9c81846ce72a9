"""Texts of the rounds, letter for letter those of the MindSpore Federated 0.1.0 server.

Names in braces are filled in with :meth:`str.format`. Devices key on the plain texts (by substring), and people on the
reasons, so none of them may be reworded.
"""

from __future__ import annotations

# Bare text answers.
SAFEMODE = "The cluster is in safemode."
FINISHED = "The server's training job is disabled or finished."
NOT_READY = "The server's training job is not ready."
START_SCHEMA = "Verify flatbuffers schema failed for RequestFLJob."

# Reasons of startFLJob.
START_SUCCESS = "success"
START_QUOTA_FULL = "Current amount for startFLJob has reached the threshold. Please startFLJob later."
START_DUPLICATE = "Updating device metadata failed for fl id {fl_id}"
DATA_SIZE_SMALL = "FL job data size is not enough."
DATA_SIZE_LARGE = "FL job data size is too large."

# Reasons of updateModel.
UPDATE_SUCCESS = "success not ready"
UPDATE_QUOTA_FULL = "Current amount for updateModel is enough. Please retry later."
UPDATE_NOT_STARTED = "devices_meta for {fl_id} is not set. Please retry later."
UPDATE_STALE = (
    "UpdateModel iteration number is invalid:{given}, current iteration:{current}, "
    "Retry later at time: {time}, fl id is {fl_id}"
)
UPDATE_DUPLICATE = "Updating metadata of UpdateModelClientList failed for fl id {fl_id}"
UPDATE_FEATURES = "Verify model feature map failed, retry later at time: {time}"
UPDATE_SCHEMA = "Verify flatbuffers schema failed for RequestUpdateModel."

# Reasons of getModel.
MODEL_READY = "Get model for iteration {given}"
MODEL_NOT_READY = (
    "The model is not ready yet for iteration {given}. Maybe this is because\n"
    "1. Client doesn't not send enough update model request.\n"
    "2. Worker has not push weights to server."
)

# Reasons of secure aggregation.
EXCHANGE_SUCCESS = "Success, but the server is not ready yet."
EXCHANGE_AGAIN = "The server has received the request, please do not request again."
EXCHANGE_QUOTA_FULL = "Current amount for exchangeKey is enough. Please retry later."
KEYS_INCOMPLETE = "update key or client failed"
SECURE_STALE = "iter num is error."
SHARE_SUCCESS = "OK"
SHARE_AGAIN = "client sharesecret already exists."
SHARE_QUOTA_FULL = "Current amount for ShareSecretsKernel is enough."
SHARE_STALE = "ShareSecretsKernel iteration invalid"
SHARE_ILLEGAL = "client share secret is not in getkeys list. && client is illegal"
UPDATE_NOT_SHARED = "fl_id: {fl_id} is not in get_secrets_clients. Please retry later."
LIST_SUCCESS = "send clients_list succeed!"
LIST_NOT_READY = "The server is not ready."
LIST_NOT_UPDATED = "fl_id: {fl_id} is not in the update_model_clients"
REVEAL_SUCCESS = "Success, but the server is not ready to reconstruct secret yet."
REVEAL_LAST = "Success,the secret is reconstructing."
REVEAL_QUOTA_FULL = "Current amount for ReconstructSecretsKernel is enough."

# How an iteration ended.
ROUND_TIMEOUT = "Round {endpoint} timeout! This iteration is invalid. Proceed to next iteration."
START_TIMEOUT = "Round startFLJob timeout! This iteration is invalid. Proceed to next iteration."
UPDATE_TIMEOUT = "Round updateModel timeout! This iteration is invalid. Proceed to next iteration."
GLOBAL_TIMEOUT = "Global timer timeout! This iteration is invalid. Proceed to next iteration."
