"""Arithmetic with numbers and constants, written out."""

from __future__ import annotations

import math

import numpy as np

from mindfl.convert.written_out import NodeWriter, written_out


@written_out("Muls")
def _muls(writer: NodeWriter) -> list[str]:
    return [writer.add("Mul", writer.node.input[0], writer.constant(writer.number(1)))]


@written_out("Divs")
def _divs(writer: NodeWriter) -> list[str]:
    return [writer.add("RealDiv", writer.node.input[0], writer.constant(writer.number(1)))]


@written_out("AddScalar", "SubScalar")
def _moved(writer: NodeWriter) -> list[str]:
    """x + number * alpha, or x - number * alpha."""
    x, number = writer.node.input[0], writer.number(1)
    if len(writer.node.input) > 2:
        number *= writer.number(2)
    adding = writer.editor.operator(writer.node) == "AddScalar"
    held = writer.editor.array(x)
    if held is not None:
        return [writer.array(np.asarray(held + number if adding else held - number, np.float32))]
    return [writer.add("Add" if adding else "Sub", x, writer.alike(number, x))]


_MAX_RANK = 8  # of arrays that the converter knows
#: comparisons with a number -> those of two tensors
_COMPARED = {
    **{f"{name}Scalar": name for name in ("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual")},
    "EqScalar": "Equal",
}


@written_out(*_COMPARED)
def _compared(writer: NodeWriter) -> list[str]:
    operator = _COMPARED[writer.editor.operator(writer.node)]
    x = writer.node.input[0]
    return [writer.add(operator, x, writer.alike(writer.number(1), x))]


@written_out("Cosh")
def _hyperbolic_cosine(writer: NodeWriter) -> list[str]:
    return _of_exponentials(writer, "Add")


@written_out("Sinh")
def _hyperbolic_sine(writer: NodeWriter) -> list[str]:
    return _of_exponentials(writer, "Sub")


def _of_exponentials(writer: NodeWriter, operator: str) -> list[str]:
    """Add half the sum, or half the difference, of exp(x) and exp(-x)."""
    x = writer.node.input[0]
    both = writer.add(operator, writer.add("Exp", x), writer.add("Exp", writer.add("Neg", x)))
    return [writer.add("Mul", both, writer.constant(0.5))]


@written_out("Log1p")
def _log_of_more(writer: NodeWriter) -> list[str]:
    return [writer.add("Log", writer.add("Add", writer.node.input[0], writer.constant(1.0)))]


@written_out("Expm1")
def _less_than_exp(writer: NodeWriter) -> list[str]:
    return [writer.add("Sub", writer.add("Exp", writer.node.input[0]), writer.constant(1.0))]


@written_out("PowTensorScalar")
def _power(writer: NodeWriter) -> list[str]:
    exponent = writer.number(1)
    if exponent == 1:
        return [writer.node.input[0]]
    if exponent == 2:
        return [writer.add("Square", writer.node.input[0])]
    return [writer.add("Pow", writer.node.input[0], writer.constant(exponent))]


@written_out("ClampScalar")
def _clamp(writer: NodeWriter) -> list[str]:
    value = writer.node.input[0]
    for place, operator in ((1, "Maximum"), (2, "Minimum")):
        if not writer.editor.is_none(writer.node.input[place]):
            value = writer.add(operator, value, writer.constant(writer.number(place)))
    return [value]


@written_out("Sign")
def _sign(writer: NodeWriter) -> list[str]:
    """x/max(|x|, smallest normal number)."""
    size = writer.add("Abs", writer.node.input[0])
    least = writer.constant(float(np.finfo(np.float32).tiny))
    return [writer.add("RealDiv", writer.node.input[0], writer.add("Maximum", size, least))]


@written_out("ClipByNorm")
def _clip_by_norm(writer: NodeWriter) -> list[str]:
    """x * c/max(sqrt(sum(x^2)), c)."""
    x, limit = writer.node.input[:2]
    axes = writer.editor.attribute(writer.node, "axis")
    if not isinstance(axes, int | tuple) or axes == ():
        axes = tuple(range(len(writer.editor.shape_of(x))))
    axes = axes if isinstance(axes, tuple) else (axes,)
    norm = writer.add("Sqrt", writer.sum(writer.add("Square", x), axes, keep_dims=True))
    return [writer.add("Mul", x, writer.add("RealDiv", limit, writer.add("Maximum", norm, limit)))]


@written_out("Rsqrt")
def _inverse_root(writer: NodeWriter) -> list[str]:
    return [writer.add("RealDiv", writer.constant(1.0), writer.add("Sqrt", writer.node.input[0]))]


@written_out("RsqrtGrad")
def _inverse_root_gradient(writer: NodeWriter) -> list[str]:
    """-dy * y^3/2."""
    y, dy = writer.node.input[:2]
    cube = writer.add("Mul", writer.add("Square", y), y)
    return [writer.add("Mul", writer.add("Mul", cube, writer.constant(-0.5)), dy)]


@written_out("FillV2")
def _fill(writer: NodeWriter) -> list[str]:
    return [writer.array(np.full(writer.editor.shape(writer.node), writer.number(1), np.float32))]


@written_out("Zeros")
def _zero_constant(writer: NodeWriter) -> list[str]:
    shape = writer.setting(0)
    if not isinstance(shape, tuple):
        raise writer.refusal("fills a shape that is not a constant")
    return [writer.array(np.zeros(shape, np.float32))]


@written_out("Eye")
def _unit_matrix(writer: NodeWriter) -> list[str]:
    rows, columns = (int(writer.number(place)) for place in (0, 1))
    kind = writer.editor.type_of(writer.node.output[0])
    if kind is None:
        raise writer.refusal("is a unit matrix of another type than float32 and whole numbers, which is not converted")
    return [writer.array(np.eye(rows, columns, dtype=kind))]


@written_out("ZerosLikeExt")
def _zeros(writer: NodeWriter) -> list[str]:
    return [writer.add("ZerosLike", writer.node.input[0])]


@written_out("Tril", "Triu")
def _triangle(writer: NodeWriter) -> list[str]:
    """Zeros above a diagonal, or below it."""
    x = writer.node.input[0]
    stated = len(writer.node.input) > 1
    diagonal = writer.setting(1) if stated else writer.editor.attribute(writer.node, "diagonal")
    rows, columns = writer.editor.shape_of(x)[-2:]
    if not isinstance(diagonal, int):
        raise writer.refusal("does not say which diagonal it means")
    lower = writer.editor.operator(writer.node) == "Tril"
    there = np.tri(rows, columns, diagonal, dtype=bool) if lower else ~np.tri(rows, columns, diagonal - 1, dtype=bool)
    held = writer.editor.array(x)
    if held is not None:
        return [writer.array(np.where(there, held, np.zeros((), held.dtype)))]
    if writer.editor.type_of(x) != np.float32:
        raise writer.refusal("cuts an array of another type than float32, which is not converted")
    return [writer.add("Mul", x, writer.array(there.astype(np.float32)))]


@written_out("MaskedFill")
def _masked_fill(writer: NodeWriter) -> list[str]:
    x, mask, value = writer.node.input
    filled = writer.editor.array(value)
    if filled is None or filled.size != 1:
        raise writer.refusal("fills with a value that is not a constant")
    full = writer.array(np.full(writer.editor.shape_of(x), filled.item(), filled.dtype))
    return [writer.add("Select", mask, full, x)]


@written_out("Cast")
def _cast(writer: NodeWriter) -> list[str]:
    """The number of the type is a tensor here."""
    kind = writer.array(np.array(int(writer.number(1)), np.int32))
    return [writer.add("Cast", writer.node.input[0], kind)]


@written_out("MatMulExt")
def _matrix_product(writer: NodeWriter) -> list[str]:
    """A product of matrices, or of stacks of them; that of a stack with one matrix is one of all rows."""
    first, second = writer.node.input
    left, right = writer.editor.shape_of(first), writer.editor.shape_of(second)
    if len(left) > 2 and left[:-2] == right[:-2]:
        return [writer.products(first, second)]
    if len(left) > 1 and len(right) > 2:
        return [_products_of_unequal_stacks(writer)]
    if len(left) < 2 or len(right) != 2:
        raise writer.refusal(f"multiplies arrays of the shapes {left} and {right}, which is not converted")
    if len(left) == 2:
        return [writer.product(first, second)]
    rows = writer.reshape(first, (math.prod(left[:-1]), left[-1]))
    return [writer.reshape(writer.product(rows, second), (*left[:-1], right[-1]))]


def _products_of_unequal_stacks(writer: NodeWriter) -> str:
    """Repeat the matrices of each stack along the axes in which the other one has more."""
    shapes = [writer.editor.shape_of(name) for name in writer.node.input[:2]]
    stack = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    repeated = []
    for name, shape in zip(writer.node.input[:2], shapes, strict=True):
        full = (*(1 for _ in range(len(stack) + 2 - len(shape))), *shape)
        y = name if len(full) == len(shape) else writer.reshape(name, full)
        times = tuple(size // own for size, own in zip(stack, full[:-2], strict=True))
        repeated.append(y if set(times) == {1} else writer.add("Tile", y, writer.constant((*times, 1, 1))))
    return writer.products(*repeated)


def _summed_axes(writer: NodeWriter) -> str:
    if writer.editor.is_none(writer.node.input[1]):
        return writer.constant(tuple(range(len(writer.editor.shape_of(writer.node.input[0])))))
    return str(writer.node.input[1])


@written_out("SumExt")
def _sum(writer: NodeWriter) -> list[str]:
    if len(writer.editor.shape_of(writer.node.input[0])) > _MAX_RANK:
        return [_sum_of_many_axes(writer)]
    return [
        writer.add(
            "ReduceSum",
            writer.node.input[0],
            _summed_axes(writer),
            keep_dims=bool(writer.setting(2)),
            skip_mode=False,
        )
    ]


def _sum_of_many_axes(writer: NodeWriter) -> str:
    """Sum what a ``Reshape`` splits into more axes than the converter knows, without the axes of one value.

    The gradient of ``Tile`` has two axes for each of its input's.
    """
    x = writer.node.input[0]
    shape = writer.editor.shape_of(x)
    source = next((node.input[0] for node in writer.editor.nodes("Reshape") if node.output[0] == x), None)
    long = [axis for axis, size in enumerate(shape) if size != 1]
    if source is None or len(long) > _MAX_RANK or writer.setting(2):
        raise writer.refusal(f"sums an array of {len(shape)} dimensions, which is not converted")
    axes = [axis % len(shape) for axis in writer.axes(1)]
    y = writer.reshape(source, tuple(shape[axis] for axis in long))
    if summed := tuple(long.index(axis) for axis in axes if axis in long):
        y = writer.sum(y, summed, keep_dims=False)
    return writer.reshape(y, tuple(size for axis, size in enumerate(shape) if axis not in axes))


@written_out("MeanExt")
def _mean(writer: NodeWriter) -> list[str]:
    return [writer.add("ReduceMean", writer.node.input[0], _summed_axes(writer), keep_dims=bool(writer.setting(2)))]
