"""Named arrays in the entries of an upload: they come back as they were, and nothing else is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mindfl.errors import ProtocolError
from mindfl.modes.mode import pack, unpack
from mindfl.privacy import EncodingError, EncodingFault
from mindfl.protocol import CompressFeatureMap, RequestUpdateModel, decode, encode

TYPES = st.sampled_from(["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8"]).map(np.dtype)
ARRAYS = TYPES.flatmap(lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0)))


def read(entries: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unpack(entries, lambda arrays: found.update(arrays) or {})
    return found


@given(st.dictionaries(st.text(max_size=8), ARRAYS, min_size=1, max_size=3))
def test_arrays_survive_the_wire(arrays: dict[str, Any]) -> None:
    request = RequestUpdateModel(fl_id="a", timestamp="1", compress_feature_map=pack(arrays))
    found = read(decode(encode(request), RequestUpdateModel).compress_feature_map)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype.kind) == (array.shape, array.dtype.kind)
        assert found[name].astype(array.dtype).tobytes() == array.tobytes()


@given(st.text(max_size=20), st.binary(max_size=40))
def test_hostile_entries_are_refused_or_numbers(title: str, content: bytes) -> None:
    entry = CompressFeatureMap(weight_fullname=title, compress_data=np.frombuffer(content, np.int8))
    try:
        found = read([entry])
    except EncodingError as error:
        assert error.fault is EncodingFault.UNREADABLE
    else:
        assert sum(array.nbytes for array in found.values()) == len(content)


@pytest.mark.parametrize(
    "title", ["a", "a <f4", "a |O 1", "a |V4 1", "a <U1 1", "a <f4 -1", "a <f4 2", "a <f4 1,", "a <c8 1", "a <f16 1"]
)
def test_titles_that_are_none(title: str) -> None:
    entry = CompressFeatureMap(weight_fullname=title, compress_data=np.zeros(4, np.int8))
    with pytest.raises(EncodingError, match="cannot be read"):
        read([entry])


def test_no_entries_and_repeated_names() -> None:
    with pytest.raises(EncodingError, match="no compressed weights"):
        read([])
    with pytest.raises(EncodingError, match="occurs twice"):
        read([*pack({"a": np.zeros(1)})] * 2)


def test_texts_cannot_travel() -> None:
    with pytest.raises(ProtocolError, match="'a' of an upload has the type <U1"):
        pack({"a": np.array(["x"])})
