"""Registry of the operators that the runtime executes, and of the machine's instructions.

A family of operators is one module of this package. For each operator it registers a row of MindSpore Lite's schema and
a lowering, which turns a node into instructions; for each instruction its operands and its kernel. Kernels are plain
functions here: they are compiled when the machine is loaded, so that reading model files needs no compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mindfl.errors import ModelFormatError

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.own import Operator
    from mindfl.lite.plan import Plan

Lowering = Callable[["Plan", "Node"], None]
#: takes the arena, the int32 table, and the instruction's row
Kernel = Callable[[Any, Any, Any], None]
LoweringT = TypeVar("LoweringT", bound=Lowering)
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

#: int64 values per instruction row
ROW = 20
#: the one that tells an instruction within its family
KEY = ROW - 1
#: an operand without a place
NOWHERE = -1
_PLACES = """
a b bias before beta beta1 beta1_power beta2 beta2_power c0 condition dampening dbeta dc0 dcn decay dgamma dh0 dhn dw dx
dy epsilon folded gamma gates gradient h0 index indices labels logits loss mask mean momentum number numbers off on
packed panels parts pull rate reserve room running_mean running_variance scale scores share shift start stat state sums
tail total towards variance weight weights x y
"""
#: operands that name places in the arena
PLACES = frozenset(_PLACES.split())
#: activations that several families fuse
NO_ACTIVATION, RELU, RELU6 = 0, 1, 3
#: families whose kernels are compiled into the machine's loop: what LeNet needs
CHAINED = ("conv", "dense", "elements", "loss", "optimizer", "pool", "shape")


@dataclass(frozen=True)
class Instruction:
    """One instruction of the machine: a row of int64 that begins with its number, then come the operands.

    The row ends with ``key``, which tells the instructions of a family apart: below 0 outside the machine's loop. It
    does not depend on other families, so the compiled code of one does not either.

    Operands of :data:`PLACES` are element offsets into the session's float arena, or negative where there is no place;
    those called ``*_table`` are offsets into its int32 table. An ``index`` place holds one byte per element.
    """

    number: int
    key: int
    operands: tuple[str, ...]
    kernel: Kernel
    options: Mapping[str, str]

    @property
    def places(self) -> tuple[int, ...]:
        """The columns of the row that name places."""
        return tuple(column for column, name in enumerate(self.operands, 1) if name in PLACES)

    @property
    def family(self) -> str | None:
        """The family that is compiled, and called by its address; None for one compiled into the machine's loop."""
        return family_of(self.kernel)


@dataclass(frozen=True)
class Executed:
    """How the runtime executes an operator.

    Args:
        row: the operator's row of the schema, as in :mod:`mindfl.lite.schema`.
        lower: turns a node into instructions; None for an optimizer that is only recognised.
        inputs, outputs: the least numbers that a node may have.
        rate: the input that is the learning rate, for an optimizer (which changes its input 0, a parameter).
    """

    row: str
    lower: Lowering | None
    inputs: int
    outputs: int
    rate: int | None


#: operator -> how it is executed
EXECUTED: dict[str, Executed] = {}
#: instruction -> operands and kernel
INSTRUCTIONS: dict[str, Instruction] = {}
#: operators that users added (:class:`mindfl.lite.own.Operator`), the latest last
OWN: list[Operator] = []
#: functions that kernels call, compiled with them
HELPERS: list[Callable[..., Any]] = []


def operator(
    *rows: str, inputs: int = 1, outputs: int = 1, rate: int | None = None
) -> Callable[[LoweringT], LoweringT]:
    """Register a lowering for the operators of these schema rows, such as ``8 AddN``."""

    def register(lower: LoweringT) -> LoweringT:
        for row in rows:
            EXECUTED[row.split()[1]] = Executed(row, lower, inputs, outputs, rate)
        return lower

    return register


def instruction(name: str, operands: str, **options: str) -> Callable[[FunctionT], FunctionT]:
    """Register a kernel as an instruction with these operands, in the order in which the kernel unpacks its row.

    ``options`` are numba's for compiling it.
    """

    def register(kernel: FunctionT) -> FunctionT:
        names = tuple(operands.split())
        if len(names) >= KEY:
            raise TypeError(f"{name} has more than {KEY - 1} operands")
        family = family_of(kernel)
        place = sum(known.family == family for known in INSTRUCTIONS.values())
        key = place if family is None else -1 - place
        INSTRUCTIONS[name] = Instruction(len(INSTRUCTIONS), key, names, kernel, options)
        return kernel

    return register


def family_of(function: Callable[..., Any]) -> str | None:
    """Return the family of a kernel or helper: its module; None for what is compiled into the machine's loop."""
    module = function.__module__.rpartition(".")[2]
    return None if module in CHAINED else module


def helper(function: FunctionT) -> FunctionT:
    """Register a function that kernels call."""
    HELPERS.append(function)
    return function


def learning_rate_input(op: str) -> int | None:
    """Return which input of an optimizer is the learning rate; None for other operators."""
    known = EXECUTED.get(op)
    return known.rate if known is not None else None


def lowering(node: Node) -> Lowering | None:
    """Return the function that turns a node into instructions; None for an operator that the runtime lacks."""
    for own in reversed(OWN):
        if own.op == node.op and own.takes(node):
            return own.lower
    known = EXECUTED.get(node.op)
    return known.lower if known is not None else None


def is_executed(node: Node) -> bool:
    """Return whether the runtime has the operator of a node."""
    return lowering(node) is not None


def need(condition: bool, node: Node, what: str) -> None:
    """Raise :class:`ModelFormatError` that the node uses ``what``, unless the condition holds."""
    if not condition:
        raise ModelFormatError(f"node {node.label} uses {what}, which the runtime does not do")
