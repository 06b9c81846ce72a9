"""Processor time that each instruction of a training step takes: ``python instructions.py MODEL.ms``, one thread."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np

from mindfl.lite import LiteModel, Session
from mindfl.lite.kernels import load_machine
from mindfl.lite.ops import INSTRUCTIONS


def seconds(session: Session, repetitions: int) -> np.ndarray:
    """Return the least seconds that each row of the training code took, run one by one in order.

    Each call copies the batch to its place first, which is measured with an empty code and taken off.
    """
    draw = np.random.default_rng(0)
    images = draw.standard_normal((session.batch_size, *session.image_shape)).astype(np.float32)
    labels = draw.integers(0, session.classes, session.batch_size).astype(np.int32)
    session.train(images, labels, steps=1)
    program = session._programs.train
    assert program is not None
    batches, before = session.batches(images), session._arena.copy()
    machine, table, result = load_machine(), session._table(program), np.zeros((1, 1), np.float32)

    def run(code: np.ndarray) -> float:
        begin = time.thread_time()
        machine.execute(
            session._arena, table, code, machine.addresses, batches.packed, batches.numbers, labels,
            program.place.row(), 1, result,
        )  # fmt: skip
        return time.thread_time() - begin

    best = np.full(len(program.code), np.inf)
    empty = min(run(program.code[:0]) for _ in range(20))
    for _ in range(repetitions):
        session._arena[:] = before  # gradients that vanish are denormal numbers, which are slow
        for row in range(len(program.code)):
            best[row] = min(best[row], max(run(program.code[row : row + 1]) - empty, 0))
    return best


def main() -> None:
    """Print the instructions that take the most time, and the sums by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="training model (.ms)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rows", type=int, default=25, help="instructions to print")
    arguments = parser.parse_args()
    session = Session(LiteModel.load(arguments.model))
    took, known = seconds(session, arguments.repetitions), list(INSTRUCTIONS.items())
    program = session._programs.train
    assert program is not None
    kinds: dict[str, float] = defaultdict(float)
    for row, number in enumerate(program.code[:, 0].tolist()):
        kinds[known[number][0]] += took[row]
    print(f"{len(took)} instructions, {took.sum() * 1e3:.2f} ms")
    for kind, time_taken in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{time_taken * 1e3:9.3f} ms  {time_taken / took.sum():5.1%}  {kind}")
    for row in np.argsort(-took)[: arguments.rows].tolist():
        name, instruction = known[program.code[row, 0]]
        sizes = dict(zip(instruction.operands, program.code[row, 1:].tolist(), strict=False))
        small = {key: value for key, value in sizes.items() if value < 100_000 and "table" not in key}
        print(f"{took[row] * 1e3:9.3f} ms  {row:4d} {name} {small}")


if __name__ == "__main__":
    main()
