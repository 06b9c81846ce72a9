"""Writing vector code as LLVM IR: loads, stores, arithmetic and loops over registers of 16 float32 lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from mindfl.lite.kernels.primitives import VECTOR

FLOAT = ir.FloatType()
I8 = ir.IntType(8)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
LANES = ir.VectorType(FLOAT, VECTOR)
NUMBERS = ir.VectorType(I32, VECTOR)
BYTES = ir.VectorType(I8, VECTOR)


class Emitter:
    """An IR builder whose addresses are element offsets into one float array, and whose values are vectors."""

    def __init__(self, context: Any, builder: Any, arena_type: Any, arena: Any) -> None:
        self.builder = builder
        self.context = context
        self.base = self.data(arena_type, arena)

    def data(self, array_type: Any, array: Any) -> Any:
        return cgutils.create_struct_proxy(array_type)(self.context, self.builder, array).data

    def add(self, first: Any, second: Any) -> Any:
        return self.builder.add(first, second if not isinstance(second, int) else I64(second))

    def times(self, first: Any, count: int) -> Any:
        return self.builder.mul(first, I64(count))

    def entry(self, table: Any, index: Any) -> Any:
        return self.builder.sext(self.builder.load(self.builder.gep(table, [index])), I64)

    def scalar(self, offset: Any) -> Any:
        return self.builder.load(self.builder.gep(self.base, [offset]))

    def pointer(self, offset: Any, kind: Any = LANES) -> Any:
        return self.builder.bitcast(self.builder.gep(self.base, [offset]), kind.as_pointer())

    def load(self, offset: Any, width: int = VECTOR) -> Any:
        return self.builder.load(self.pointer(offset, ir.VectorType(FLOAT, width)), align=4)

    def store(self, value: Any, offset: Any) -> None:
        self.builder.store(value, self.pointer(offset, value.type), align=4)

    def first_lanes(self, count: Any) -> Any:
        """Return the mask of the first ``count`` lanes."""
        lanes = ir.Constant(ir.VectorType(I64, VECTOR), list(range(VECTOR)))
        return self.builder.icmp_signed("<", lanes, self.splat(count))

    def load_masked(self, offset: Any, mask: Any) -> Any:
        """Load the lanes of a mask, and zeros; memory of the others is not touched."""
        function = self._masked("load", LANES, [LANES.as_pointer(), I32, mask.type, LANES])
        zero = ir.Constant(LANES, [0.0] * VECTOR)
        return self.builder.call(function, [self.pointer(offset), I32(4), mask, zero])

    def store_masked(self, value: Any, offset: Any, mask: Any) -> None:
        function = self._masked("store", ir.VoidType(), [LANES, LANES.as_pointer(), I32, mask.type])
        self.builder.call(function, [value, self.pointer(offset), I32(4), mask])

    def _masked(self, what: str, result: Any, parameters: list[Any]) -> Any:
        module, name = self.builder.module, f"llvm.masked.{what}.v{VECTOR}f32.p0"
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, parameters), name)

    def choose(self, cases: list[tuple[Any, Callable[[], list[Any]]]], otherwise: list[Any]) -> list[Any]:
        """Return the values of the first case whose condition holds."""
        builder = self.builder
        after = builder.append_basic_block("chosen")
        found = []
        for condition, values in cases:
            here, elsewhere = builder.append_basic_block("case"), builder.append_basic_block("else")
            builder.cbranch(condition, here, elsewhere)
            builder.position_at_end(here)
            found.append((values(), builder.block))
            builder.branch(after)
            builder.position_at_end(elsewhere)
        found.append((otherwise, builder.block))
        builder.branch(after)
        builder.position_at_end(after)
        chosen = []
        for each in zip(*(values for values, _ in found), strict=True):
            phi = builder.phi(each[0].type)
            for value, (_, block) in zip(each, found, strict=True):
                phi.add_incoming(value, block)
            chosen.append(phi)
        return chosen

    def splat(self, value: Any, width: int = VECTOR) -> Any:
        undefined = ir.Constant(ir.VectorType(value.type, width), ir.Undefined)
        first = self.builder.insert_element(undefined, value, I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, width), [0] * width))

    def bytes_at(self, index: Any, shift: Any) -> Any:
        """Return the address of one byte per lane, ``shift`` bytes behind the element offset ``index``."""
        start = self.builder.bitcast(self.builder.gep(self.base, [index]), I8.as_pointer())
        return self.builder.bitcast(self.builder.gep(start, [shift]), BYTES.as_pointer())

    def fma(self, first: Any, second: Any, addend: Any) -> Any:
        kind, module = addend.type, self.builder.module
        name = f"llvm.fma.v{kind.count}f32"
        fma = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(fma, [first, second, addend])

    def horizontal_sum(self, value: Any) -> Any:
        width = VECTOR
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            halves = [
                self.builder.shuffle_vector(
                    value, undefined, ir.Constant(ir.VectorType(I32, width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            value = self.builder.fadd(*halves)
        return self.builder.extract_element(value, I32(0))

    def transposed(self, block: list[Any]) -> list[Any]:
        """Return the columns of 16 vectors: halves are exchanged between pairs of rows, then quarters, and so on."""
        distance = VECTOR // 2
        while distance:
            first = [lane if not lane & distance else VECTOR + lane - distance for lane in range(VECTOR)]
            second = [lane + distance if not lane & distance else VECTOR + lane for lane in range(VECTOR)]
            following = list(block)
            for row in (row for row in range(VECTOR) if not row & distance):
                pair = block[row], block[row + distance]
                following[row] = self.builder.shuffle_vector(*pair, ir.Constant(NUMBERS, first))
                following[row + distance] = self.builder.shuffle_vector(*pair, ir.Constant(NUMBERS, second))
            block = following
            distance //= 2
        return block

    def each_vector(self, size: Any, body: Callable[[Any], None]) -> None:
        """Run ``body(offset)`` for the offset of each vector among ``size`` elements, a positive multiple of VECTOR."""

        def step(number: Any, state: list[Any]) -> list[Any]:
            body(self.times(number, VECTOR))
            return state

        self.loop(self.builder.sdiv(size, I64(VECTOR)), [], step)

    def loop(self, count: Any, initial: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Run ``body(index, state)`` for index 0..count-1 (count >= 1) with the state kept in registers."""
        builder = self.builder
        before = builder.block
        inside = builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        builder.branch(inside)
        builder.position_at_end(inside)
        index = builder.phi(I64)
        state = [builder.phi(start.type) for start in initial]
        results = body(index, list(state))
        following = self.add(index, 1)
        index.add_incoming(I64(0), before)
        index.add_incoming(following, builder.block)
        for phi, start, result in zip(state, initial, results, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        return results
