"""The dataclasses are the schema: field order is the FlatBuffers field index."""

import dataclasses
import pickle

import numpy as np
import pytest

import mindfl.protocol as protocol
from mindfl.protocol import CompressType, ResponseCode, split_weights, weights_bytes

# Tables of MindSpore Federated 0.1.0's schema; the last field of RequestFLJob is mindfl's own.
TABLES = {
    "CompressFeatureMap": "weight_fullname compress_data min_val max_val",
    "UnsupervisedEvalItem": "eval_name eval_data",
    "UnsupervisedEvalItems": "eval_items",
    "Aggregation": "type weights iid_rate total_client_num",
    "EarlyStop": "early_stop_type weight rounds",
    "FLPlan": "server_mode fl_name iterations epochs early_stop mini_batch shuffle lr aggregation metrics cipher",
    "CipherPublicParams": "encrypt_type pw_params dp_params ds_params",
    "PWParams": "t p g prime",
    "DPParams": "dp_eps dp_delta dp_norm_clip",
    "DSParams": "sign_k sign_eps sign_thr_ratio sign_global_lr sign_dim_out",
    "RequestFLJob": "fl_name fl_id iteration data_size timestamp sign_data key_attestation equip_cert equip_ca_cert "
    "root_cert download_compress_types eval_data_size encrypt_types",
    "ResponseFLJob": "retcode reason iteration is_selected next_req_time fl_plan_config feature_map timestamp "
    "upload_compress_type upload_sparse_rate download_compress_type compress_feature_map unsupervised_eval_flg",
    "RequestUpdateModel": "fl_name fl_id iteration feature_map timestamp signature upload_loss sign index_array "
    "compress_feature_map upload_compress_type upload_sparse_rate name_vec upload_accuracy unsupervised_eval_items",
    "ResponseUpdateModel": "retcode reason feature_map next_req_time timestamp",
    "RequestGetModel": "fl_name iteration timestamp download_compress_types",
    "ResponseGetModel": "retcode reason iteration feature_map timestamp download_compress_type compress_feature_map",
    "FeatureMapList": "feature_map",
    "RequestAsyncUpdateModel": "fl_name fl_id iteration data_size feature_map",
    "ResponseAsyncUpdateModel": "retcode reason iteration",
    "RequestAsyncGetModel": "fl_name iteration",
    "ResponseAsyncGetModel": "retcode reason iteration feature_map",
    "RequestPushWeight": "iteration feature_map",
    "ResponsePushWeight": "retcode reason iteration",
    "RequestPullWeight": "iteration weight_names",
    "ResponsePullWeight": "retcode reason iteration feature_map",
    "RequestPushMetrics": "loss accuracy",
    "ResponsePushMetrics": "retcode",
    "ClientShare": "fl_id share index",
    "ClientPublicKeys": "fl_id c_pk s_pk pw_iv pw_salt timestamp iteration signature certificate_chain",
    "ClientListSign": "fl_id signature",
    "RequestExchangeKeys": "fl_id c_pk s_pk iteration timestamp ind_iv pw_iv pw_salt signature certificate_chain",
    "ResponseExchangeKeys": "retcode reason next_req_time iteration",
    "GetExchangeKeys": "fl_id iteration timestamp signature",
    "ReturnExchangeKeys": "retcode iteration remote_publickeys next_req_time",
    "RequestShareSecrets": "fl_id encrypted_shares iteration timestamp signature",
    "ResponseShareSecrets": "retcode reason next_req_time iteration",
    "GetShareSecrets": "fl_id iteration timestamp signature",
    "ReturnShareSecrets": "retcode iteration encrypted_shares next_req_time",
    "GetClientList": "fl_id iteration timestamp signature",
    "ReturnClientList": "retcode reason clients iteration next_req_time",
    "SendClientListSign": "fl_id iteration timestamp signature req_signature",
    "ResponseClientListSign": "retcode reason iteration next_req_time",
    "RequestAllClientListSign": "fl_id iteration timestamp signature",
    "ReturnAllClientListSign": "retcode reason client_list_sign iteration next_req_time",
    "SendReconstructSecret": "fl_id reconstruct_secret_shares iteration timestamp signature",
    "ReconstructSecret": "retcode reason iteration next_req_time",
}


@pytest.mark.parametrize("table", TABLES)
def test_fields_follow_the_schema(table):
    fields = dataclasses.fields(getattr(protocol, table))

    assert [field.name for field in fields] == TABLES[table].split()


@pytest.mark.parametrize("table", TABLES)
def test_absent_fields_read_as_the_schema_defaults(table):
    message = getattr(protocol, table)()

    for field in dataclasses.fields(message):
        assert getattr(message, field.name) in (None, 0, False)


def test_no_message_is_missing_here():
    messages = {name for name in protocol.__all__ if dataclasses.is_dataclass(getattr(protocol, name))}

    assert messages - {"PlainText"} == TABLES.keys()


def test_messages_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.RequestFLJob(fl_id="a").fl_id = "b"


def test_codes_are_those_on_the_wire():
    assert [int(code) for code in ResponseCode] == [200, 201, 300, 400, 500]


@pytest.mark.parametrize("value", [-128, -1, 3, 77, 127])
def test_unknown_values_of_an_enumeration_are_kept(value):
    kept = CompressType(value)

    assert (kept, kept.value, repr(kept)) == (value, value, f"<CompressType.UNKNOWN_{value}: {value}>")
    assert kept != CompressType.QUANT and pickle.loads(pickle.dumps(kept)) == kept


@pytest.mark.parametrize("value", [128, -129, "QUANT", 0.5])
def test_what_is_no_int8_is_no_member_of_an_enumeration(value):
    with pytest.raises(ValueError, match="is not a valid CompressType"):
        CompressType(value)


def test_split_weights_are_read_only_views_in_order():
    flat = np.arange(5, dtype=np.float32)

    weights = split_weights(flat, {"b": slice(0, 2), "a": slice(2, 5)})

    assert list(weights) == ["b", "a"]
    assert weights["a"].base is not None and np.shares_memory(weights["a"], flat)
    with pytest.raises(ValueError, match="read-only"):
        weights["a"][0] = 1
    assert weights_bytes(weights) == 20
    assert weights_bytes(None) == 0


def test_all_is_sorted_and_complete():
    assert sorted(protocol.__all__) == sorted(set(protocol.__all__))
    assert all(hasattr(protocol, name) for name in protocol.__all__)
