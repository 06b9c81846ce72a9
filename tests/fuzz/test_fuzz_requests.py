"""Bodies of every endpoint, changed: a message comes out, or the one error for bytes that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fuzz_budget import budget, fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st
from protocol_messages import messages, same

from mindfl.protocol import REQUESTS, RequestFLJob, RequestUpdateModel, decode, encode
from mindfl.protocol.flatbuf import BrokenBufferError

for _type in REQUESTS.values():
    decode(encode(_type()), _type)  # the layout is made once, and is no part of what an input costs


def _read(body: bytes, kind: type[Any]) -> Any:
    """Return the message, or None where the body is refused; both at a price in proportion to its length."""
    with budget(memory=12 * len(body) + 16_384, calls=8 * len(body) + 2000):
        try:
            return decode(body, kind)
        except BrokenBufferError as error:
            assert str(error) and "\n" not in str(error)
            return None


@pytest.mark.parametrize("kind", REQUESTS.values(), ids=list(REQUESTS))
@fuzz(60)
@given(data=st.data())
def test_changed_messages(kind: type[Any], data: st.DataObject) -> None:
    body = data.draw(changed(encode(data.draw(messages(kind)))))
    message = _read(body, kind)
    assert message is None or same(decode(encode(message), kind), message)


_WEIGHTS = {f"layer{number}.weight": np.ones(50, np.float32) for number in range(20)}
_LARGE: dict[type[Any], bytes] = {
    RequestUpdateModel: encode(RequestUpdateModel(fl_id="a", feature_map=_WEIGHTS, timestamp="1", upload_loss=1.0)),
    RequestFLJob: encode(RequestFLJob(fl_name="n" * 500, fl_id="\N{SNOWMAN}" * 900, data_size=1, timestamp="1")),
}


@fuzz(150)
@given(data=st.data())
def test_changed_large_messages(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(_LARGE)))
    _read(data.draw(changed(_LARGE[kind], most=12)), kind)
