"""The requests that the script is made of, and what a scenario is.

Client ``a`` has 16 samples and client ``b`` 48, and uploaded values are small multiples of 1/8: every average is exact
in float32, whatever the order of its sum, so models can be compared by hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import real_wire
from real_exchange import Step
from real_stack import Job, Model

SIZES = {"a": 16, "b": 48}
SHAPES = {"conv.weight": (2,), "fc.weight": (2, 3)}
MODEL: Model = {
    name: np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape) / np.float32(8)
    for name, shape in SHAPES.items()
}
SENT_AT = "1700000000000"
NAME = "any.name"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job and the requests to its server, in order."""

    job: Job
    steps: tuple[Step, ...]


def start(fl_id: str | bytes, step: str = "", /, **values: Any) -> Step:
    """Return a startFLJob request; ``values`` replace the usual ones, None leaves a field out."""
    return Step(name=step or f"start {fl_id!r}", path="startFLJob", body=start_body(fl_id, **values))


def update(fl_id: str, iteration: int, step: str = "", /, **values: Any) -> Step:
    """Return an updateModel request; see :func:`update_body`."""
    return Step(
        name=step or f"update {fl_id} {iteration}", path="updateModel", body=update_body(fl_id, iteration, **values)
    )


def get(iteration: int, step: str = "", /, **until: object) -> Step:
    """Return a getModel request, repeated until the reply holds ``until``."""
    return Step(name=step or f"get {iteration}", path="getModel", body=get_body(iteration), until=until)


def closed(iteration: int) -> Step:
    """Return a getModel request that is repeated until ``iteration`` has ended."""
    return get(iteration, f"model of {iteration}", retcode=200)


def start_body(fl_id: str | bytes, /, **values: Any) -> bytes:
    """Return the buffer of :func:`start`."""
    fields = {"fl_name": NAME, "fl_id": fl_id, "data_size": SIZES.get(str(fl_id), 16), "timestamp": SENT_AT}
    return real_wire.encode("RequestFLJob", fields | values)


def update_body(fl_id: str, iteration: int, /, value: float = 1.0, **values: Any) -> bytes:
    """Return the upload of a client that has trained all weights to ``value``; ``values`` replace fields."""
    fields = {
        "fl_name": NAME,
        "fl_id": fl_id,
        "iteration": iteration,
        "feature_map": feature_map(value, SIZES.get(fl_id, 16)),
        "timestamp": SENT_AT,
        "upload_loss": 0.5,
        "upload_accuracy": 0.25,
    }
    return real_wire.encode("RequestUpdateModel", fields | values)


def get_body(iteration: int) -> bytes:
    """Return the buffer of :func:`get`."""
    return real_wire.encode("RequestGetModel", {"fl_name": NAME, "iteration": iteration, "timestamp": SENT_AT})


def feature_map(value: float, size: int, **changes: Any) -> list[dict[str, Any]]:
    """Return all weights as ``value`` x ``size``; ``changes`` replace the data of one (a dot written as ``_``)."""
    data: dict[str, Any] = {
        name: np.full(int(np.prod(shape)), value * size, np.float32) for name, shape in SHAPES.items()
    }
    data |= {name.replace("_", "."): values for name, values in changes.items()}
    return [{"weight_fullname": name, "data": values} for name, values in data.items()]
