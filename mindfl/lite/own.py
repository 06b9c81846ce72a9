"""Users' own operators: functions on NumPy arrays, called between the machine's instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.extensions import absolute, make_object, recorded
from mindfl.lite.ops.registry import OWN, learning_rate_input, need
from mindfl.lite.program import Call, Place, Program, Value, batch_first
from mindfl.user_code import raised

if TYPE_CHECKING:
    from mindfl.lite.kernels import Machine
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

#: entry points of installed packages
GROUP = "mindfl.operators"
Array = NDArray[Any]


class Operator:
    """An operator that the device runtime lacks or that a user replaces. A subclass names and computes it.

    Training also needs the operator of the gradient; ``mindfl inspect`` names both.

    Attributes:
        op: the operator's name in MindSpore Lite, as ``mindfl inspect`` shows it.
        primitives: MindSpore's names of the primitives that the converter turns into this operator, so that MINDIRs of
            MindSpore 2.1 and later with them are converted.

    Example:
        >>> class Tanh(Operator):
        ...     op, primitives = "Activation", ("Tanh",)
        ...
        ...     def takes(self, node):
        ...         return node.integer("type") == 10
        ...
        ...     def run(self, node, x):
        ...         return np.tanh(x)
    """

    op: ClassVar[str] = ""
    primitives: ClassVar[tuple[str, ...]] = ()

    def takes(self, node: Node) -> bool:
        """Return whether this class computes a node of the operator, decided by ``node.attributes``."""
        return True

    def run(self, node: Node, *inputs: Array) -> Array | tuple[Array, ...] | None:
        """Compute a node's outputs from the arguments alone: several threads call it at once.

        Args:
            node: the node, with its attributes.
            inputs: its inputs in the shapes of the file: float32, the batch first and images (batch, height, width,
                channel) where the file says so. Constants keep their type; labels are int32 (batch,).

        Returns:
            One array for each output of the node, as a tuple if there are several, in the shapes of the file. An
            optimizer returns None and changes its inputs in place.
        """
        raise NotImplementedError

    def lower(self, plan: Plan, node: Node) -> None:
        """Plan a call of :meth:`run` with the node's inputs."""
        inputs = tuple(_input(plan, index) for index in node.inputs)
        batched = any(isinstance(value, Value) and value.batched for value in inputs)
        changes = learning_rate_input(node.op) is not None
        outputs = () if changes else tuple(_output(plan, node, index, batched) for index in node.outputs)
        plan.builder.call(Call(f"{type(self).__name__} in node {node.label}", partial(self.run, node), inputs, outputs))


def use_operators(given: object) -> tuple[Operator, ...]:
    """Register users' operators with the device runtime and the converter of this process, and return them.

    If several take a node, the one added last is used; mindfl's own operators come last.

    Args:
        given: an :class:`Operator`, a subclass, several of them in a tuple or list, or a name: ``file.py:attribute``,
            ``module:attribute``, or an entry point in the group ``mindfl.operators``. None adds nothing.

    Raises:
        OptionError: the name is not found, or is no operator.

    Example:
        >>> use_operators(None)
        ()
    """
    found = tuple(_operators(given))
    for operator in found:
        OWN[:] = [known for known in OWN if type(known) is not type(operator)]
        OWN.append(operator)
    return found


def recorded_operators(given: object) -> str | list[str] | None:
    """Return texts from which :func:`use_operators` makes the operators again, in any process.

    An operator that no text can make is in angle brackets, which :func:`use_operators` refuses.

    Example:
        >>> recorded_operators("sigmoid"), recorded_operators(None)
        ('sigmoid', None)
    """
    if given is None or isinstance(given, str):
        return given and absolute(given)
    return [recorded(operator, {}, GROUP, "operator") for operator in _operators(given)]


def _operators(given: object) -> Iterable[Operator]:
    if given is None:
        return
    if isinstance(given, str):
        yield from _operators(make_object(given, {}, GROUP, "operator"))
    elif isinstance(given, type) and issubclass(given, Operator):
        yield given()
    elif isinstance(given, Operator):
        if not given.op:
            raise OptionError(f"operator {type(given).__name__} does not say which op it is")
        yield given
    elif isinstance(given, tuple | list):
        for item in given:
            yield from _operators(item)
    else:
        raise OptionError(
            f"operator must be a text, an Operator or several of them, not {type(given).__name__}",
            hint="name a subclass of mindfl.lite.Operator, or an object of one",
        )


def _input(plan: Plan, index: int) -> Value | Array | None:
    """Return the place of an input, its array if it is a constant other than float32, or None for the labels."""
    tensor = plan.tensor(index)
    if tensor.data is not None and tensor.dtype != np.float32:
        return tensor.data
    labels = plan.graph.labels
    if labels is not None and index == labels.index and plan.graph.label_kind == "classes":
        return None
    return plan.value(index)


def _output(plan: Plan, node: Node, index: int, batched: bool) -> Value:
    """Return a new value for an output. It carries the batch if an input does and its first dimension is the batch."""
    tensor = plan.tensor(index)
    need(tensor.dtype == np.float32, node, f"an output ({tensor.name}) that is not float32")
    dims = batch_first(tensor.dims, plan.batch) if batched else None
    return plan.keep(index, plan.new_parameter(tensor.dims) if dims is None else plan.new_batch(dims))


def execute(
    machine: Machine, arena: Array, table: Array, program: Program, code: Array, batches: Array, numbers: Array,
    labels: Array, steps: int, results: Array,
) -> None:  # fmt: skip
    """Run a program with users' operators in parts, with the result of the machine's ``execute``.

    The first part loads a batch; the others continue with the values in the arena.
    """
    place = program.place
    begin, later = replace(place, classes=0).row(), replace(place, features=0, batch=0, classes=0).row()
    addresses = machine.addresses
    starts = np.flatnonzero(code[:, 0] < 0)
    first, *parts = np.split(code, starts)
    calls = [_bound(program.calls[-1 - number], arena, table, place) for number in code[starts, 0]]
    nothing, unused = np.zeros((1, 0, place.lanes), np.float32), np.zeros((1, 1), np.float32)
    result = _view(Value(place.result, (place.batch, max(place.classes, 1)), place.classes > 0), arena, place)
    for step in range(steps):
        start = step * place.batch
        wanted = labels[np.arange(start * place.labels, (start + place.batch) * place.labels) % labels.size]
        chosen = numbers[np.arange(start, start + place.batch) % len(numbers)]
        batch = batches[step % len(batches)][None]
        machine.execute(arena, table, first, addresses, batch, chosen, wanted, begin, 1, unused)
        for call, part in zip(calls, parts, strict=True):
            call()
            machine.execute(arena, table, part[1:], addresses, nothing, chosen, wanted, later, 1, unused)
        if place.classes:
            results[start : start + place.batch] = result[: len(results) - start]
        else:
            results[step, 0] = arena[place.result]


def _bound(call: Call, arena: Array, table: Array, place: Place) -> Callable[[], None]:
    """Return the call with arrays in this arena. Inputs are read-only, except those of an optimizer."""
    inputs = [table[: place.batch] if item is None else _view(item, arena, place) for item in call.inputs]
    outputs = [_view(item, arena, place) for item in call.outputs]
    if outputs:
        inputs = [_read_only(array) for array in inputs]

    def run() -> None:
        try:
            with np.errstate(all="ignore"):
                found = call.function(*inputs)
        except Exception as error:
            raise OptionError(f"operator {call.label} failed: {raised(error)}") from error
        made = found if isinstance(found, tuple) else () if found is None else (found,)
        shapes, expected = [np.shape(array) for array in made], [array.shape for array in outputs]
        if shapes != expected:
            raise OptionError(f"operator {call.label} returns shapes {shapes}, the file says {expected}")
        for array, values in zip(outputs, made, strict=True):
            array[...] = values

    return run


def _read_only(array: Array) -> Array:
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _view(item: Value | Array, arena: Array, place: Place) -> Array:
    """Return the array of a value as a view with the batch first; in memory the batch is last."""
    if not isinstance(item, Value):
        return item
    if not item.batched:
        return np.reshape(arena[item.offset : item.offset + item.size], item.dims)
    flat = arena[item.offset : item.offset + item.size * place.lanes]
    return np.moveaxis(np.reshape(flat, (*item.dims[1:], place.lanes)), -1, 0)[: place.batch]
