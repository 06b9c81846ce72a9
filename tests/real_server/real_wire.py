"""The tables of the round messages, written and read with the ``flatbuffers`` package alone.

On purpose nothing of ``mindfl.protocol`` is used: a mistake there must not hide itself. And what a device must not
send can be written here: a name twice, a field of another type, text that is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

Values = Mapping[str, Any]

#: table -> its fields in order, ``name:type``. S text, i int32, f float32, b int8, u uint8, ? bool; brackets: vector.
TABLES = {
    "FeatureMap": "weight_fullname:S data:[f]",
    "CompressFeatureMap": "weight_fullname:S compress_data:[b] min_val:f max_val:f",
    "UnsupervisedEvalItem": "eval_name:S eval_data:[f]",
    "UnsupervisedEvalItems": "eval_items:[UnsupervisedEvalItem]",
    "PWParams": "t:i p:[u] g:i prime:[u]",
    "DPParams": "dp_eps:f dp_delta:f dp_norm_clip:f",
    "DSParams": "sign_k:f sign_eps:f sign_thr_ratio:f sign_global_lr:f sign_dim_out:i",
    "CipherPublicParams": "encrypt_type:S pw_params:PWParams dp_params:DPParams ds_params:DSParams",
    "EarlyStop": "early_stop_type:b weight:f rounds:i",
    "Aggregation": "type:b weights:[f] iid_rate:f total_client_num:i",
    "FLPlan": "server_mode:S fl_name:S iterations:i epochs:i early_stop:EarlyStop mini_batch:i shuffle:? lr:f "
    "aggregation:Aggregation metrics:[b] cipher:CipherPublicParams",
    "RequestFLJob": "fl_name:S fl_id:S iteration:i data_size:i timestamp:S sign_data:[u] key_attestation:S "
    "equip_cert:S equip_ca_cert:S root_cert:S download_compress_types:[b] eval_data_size:i",
    "ResponseFLJob": "retcode:i reason:S iteration:i is_selected:? next_req_time:S fl_plan_config:FLPlan "
    "feature_map:[FeatureMap] timestamp:S upload_compress_type:b upload_sparse_rate:f download_compress_type:b "
    "compress_feature_map:[CompressFeatureMap] unsupervised_eval_flg:b",
    "RequestUpdateModel": "fl_name:S fl_id:S iteration:i feature_map:[FeatureMap] timestamp:S signature:[u] "
    "upload_loss:f sign:i index_array:[i] compress_feature_map:[CompressFeatureMap] upload_compress_type:b "
    "upload_sparse_rate:f name_vec:[S] upload_accuracy:f unsupervised_eval_items:UnsupervisedEvalItems",
    "ResponseUpdateModel": "retcode:i reason:S feature_map:[FeatureMap] next_req_time:S timestamp:S",
    "RequestGetModel": "fl_name:S iteration:i timestamp:S download_compress_types:[b]",
    "ResponseGetModel": "retcode:i reason:S iteration:i feature_map:[FeatureMap] timestamp:S "
    "download_compress_type:b compress_feature_map:[CompressFeatureMap]",
    "RequestPullWeight": "iteration:i weight_names:[S]",
    "ResponsePullWeight": "retcode:i reason:S iteration:i feature_map:[FeatureMap]",
    "RequestPushWeight": "iteration:i feature_map:[FeatureMap]",
    "ResponsePushWeight": "retcode:i reason:S iteration:i",
    "RequestPushMetrics": "loss:f accuracy:f",
    "ResponsePushMetrics": "retcode:i",
}
#: endpoint -> tables of its request and its response
ENDPOINTS = {
    "startFLJob": ("RequestFLJob", "ResponseFLJob"),
    "updateModel": ("RequestUpdateModel", "ResponseUpdateModel"),
    "getModel": ("RequestGetModel", "ResponseGetModel"),
    "pullWeight": ("RequestPullWeight", "ResponsePullWeight"),
    "pushWeight": ("RequestPushWeight", "ResponsePushWeight"),
    "pushMetrics": ("RequestPushMetrics", "ResponsePushMetrics"),
}
_NUMBERS: dict[str, tuple[type[Any], str]] = {
    "i": (number_types.Int32Flags, "<i4"),
    "f": (number_types.Float32Flags, "<f4"),
    "b": (number_types.Int8Flags, "<i1"),
    "u": (number_types.Uint8Flags, "<u1"),
    "?": (number_types.BoolFlags, "?"),
}


def encode(table: str, values: Values, **types: str) -> bytes:
    """Return ``values`` as a buffer; absent and None fields are left out. ``types`` replace those of the table."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write_table(builder, table, values, types))
    return bytes(builder.Output())


def decode(table: str, data: bytes) -> dict[str, Any]:
    """Return the fields of ``data`` that are present. The buffer is trusted: it comes from a server under test."""
    return _read_table(table, Table(bytearray(data), flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)))


def _fields(table: str) -> list[tuple[str, str]]:
    return [(name, kind) for name, _, kind in (field.partition(":") for field in TABLES[table].split())]


def _write_table(builder: flatbuffers.Builder, table: str, values: Values, types: Mapping[str, str]) -> int:
    fields = [(name, types.get(name, kind)) for name, kind in _fields(table)]
    present = {name for name, _ in fields if values.get(name) is not None}
    children = {
        name: _write_child(builder, kind, values[name])
        for name, kind in fields
        if name in present and kind not in _NUMBERS
    }
    builder.StartObject(len(fields))
    for slot, (name, kind) in enumerate(fields):
        if name in children:
            builder.PrependUOffsetTRelativeSlot(slot, children[name], 0)
        elif name in present:
            builder.PrependSlot(_NUMBERS[kind][0], slot, values[name], None)
    end: int = builder.EndObject()
    return end


def _write_child(builder: flatbuffers.Builder, kind: str, value: Any) -> int:
    if kind == "S":
        return int(builder.CreateString(value))
    if not kind.startswith("["):
        return _write_table(builder, kind, value, {})
    item = kind[1:-1]
    if item in _NUMBERS:
        return int(builder.CreateNumpyVector(np.asarray(value, _NUMBERS[item][1])))
    offsets = [_write_child(builder, item, each) for each in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _read_table(table: str, source: Table) -> dict[str, Any]:
    values = {}
    for slot, (name, kind) in enumerate(_fields(table)):
        offset = source.Offset(4 + 2 * slot)
        if offset:
            values[name] = _read_field(kind, source, offset + source.Pos, offset)
    return values


def _read_field(kind: str, source: Table, at: int, offset: int) -> Any:
    if kind in _NUMBERS:
        return source.Get(_NUMBERS[kind][0], at)
    if kind == "S":
        return source.String(at).decode()
    if not kind.startswith("["):
        return _read_table(kind, Table(source.Bytes, source.Indirect(at)))
    item = kind[1:-1]
    if item in _NUMBERS:
        return source.GetVectorAsNumpy(_NUMBERS[item][0], offset)
    start, count = source.Vector(offset), source.VectorLen(offset)
    return [_read_item(item, source, start + 4 * index) for index in range(count)]


def _read_item(item: str, source: Table, at: int) -> Any:
    if item == "S":
        return source.String(at).decode()
    return _read_table(item, Table(source.Bytes, source.Indirect(at)))
