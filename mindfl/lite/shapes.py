"""Shapes of tensors, compared as converters write them: dimensions of 1 say nothing about the order of the elements."""

from __future__ import annotations

import math

Dims = tuple[int, ...]


def core(dims: Dims) -> Dims:
    """Return a shape without its dimensions of 1."""
    return tuple(dim for dim in dims if dim != 1)


def alike(first: Dims, second: Dims) -> bool:
    """Whether two shapes hold the same elements in the same order: whether they differ in dimensions of 1 only."""
    return core(first) == core(second)


def batch_first(dims: Dims, batch: int) -> Dims | None:
    """Return a shape beginning with the batch, without dimensions of 1 before it; None where it does not carry it."""
    start = next((place for place, dim in enumerate(dims) if dim != 1), len(dims)) if batch > 1 else 0
    if dims[start : start + 1] == (batch,):
        return dims[start:]
    return (1, *dims) if batch == 1 else None


def matrix(dims: Dims) -> Dims | None:
    """Return a shape as that of a matrix, dimensions of 1 left out, the first ones first; None where it is none."""
    left = list(dims)
    while len(left) > 2 and 1 in left:
        left.remove(1)
    return (left[0], left[1]) if len(left) == 2 else None


def last_axis(dims: Dims) -> int:
    """Return the size of the last dimension that is not 1, or 1 where all are."""
    return core(dims)[-1] if core(dims) else 1


def broadcast(first: Dims, second: Dims) -> Dims | None:
    """Return the shape of an operation on two arrays, as NumPy broadcasts them; None where they do not fit."""
    rank = max(len(first), len(second))
    pairs = list(zip(padded(first, rank), padded(second, rank), strict=True))
    return tuple(max(pair) for pair in pairs) if all(a == b or 1 in (a, b) for a, b in pairs) else None


def padded(dims: Dims, rank: int) -> Dims:
    """Return a shape with dimensions of 1 before it, ``rank`` in all."""
    return (1,) * (rank - len(dims)) + dims


def steps(dims: Dims, target: Dims) -> Dims:
    """Return how far apart the elements of each axis of ``target`` lie in an array of shape ``dims`` that is broadcast
    to it: 0 where it is repeated."""
    own = padded(dims, len(target))
    return tuple(0 if dim == 1 else math.prod(own[axis + 1 :]) for axis, dim in enumerate(own))
