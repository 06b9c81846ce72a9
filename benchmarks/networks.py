"""Training steps a second of the shipped networks on one thread: one mindfl session beside PyTorch.

``python networks.py [NETWORK...]``. Both train the same layers on batches of the same size, in turns in one process,
with momentum; processor time counts, so that other work of the computer does not. Prints steps a second and the ratio.
With ``--threads N`` the other contender is the same session with N threads, and time by the clock counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch_networks
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

from mindfl.convert import convert_model
from mindfl.export import export_mindir
from mindfl.lite import Session

#: runs its steps and returns nothing
Steps = Callable[[int], object]


#: network -> batch size, shape of a sample (channels first), classes, size of a vocabulary, steps of one turn
NETWORKS: dict[str, tuple[int, tuple[int, ...], int, int | None, int]] = {
    "leaf_cnn": (20, (1, 28, 28), 62, None, 20),
    "resnet8": (32, (3, 32, 32), 10, None, 20),
    "mobilenet_v2": (32, (3, 32, 32), 10, None, 3),
    "char_lstm": (10, (80,), 90, 90, 5),
    "albert": (16, (3, 8), 4, 11682, 5),
}


def _samples(draw: np.random.Generator, batch: int, shape: tuple[int, ...], vocabulary: int | None) -> np.ndarray:
    """Return images; or token ids, of ALBERT with segments and mask."""
    if vocabulary is None:
        return draw.standard_normal((batch, *shape)).astype(np.float32)
    samples = draw.integers(0, vocabulary, (batch, *shape)).astype(np.int32)
    if len(shape) == 2:
        samples[:, 1:] = [[0], [1]]
    return samples


def _torch_steps(module: nn.Module, samples: np.ndarray, labels: np.ndarray) -> Steps:
    x, y = torch.from_numpy(samples), torch.from_numpy(labels).long()
    optimizer = torch.optim.SGD(module.parameters(), 0.01, 0.9)
    module.train()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(module(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return run


def _mindfl_steps(name: str, batch: int, samples: np.ndarray, labels: np.ndarray, threads: int = 1) -> Steps:
    with tempfile.TemporaryDirectory() as folder:
        mindir = export_mindir(Path(folder) / name, model=name, batch_size=batch).path
        session = Session(convert_model(mindir, Path(folder) / name).model, threads=threads)
    batches = session.batches(samples.transpose(0, 2, 3, 1).copy() if samples.ndim == 4 else samples)
    return lambda steps: session.train(batches, labels, steps=steps)


def compare(name: str, rounds: int, threads: int) -> tuple[list[float], list[float]]:
    """Return steps a second of mindfl's turns, and of PyTorch's, or of mindfl's with several threads."""
    batch, shape, classes, vocabulary, steps = NETWORKS[name]
    draw = np.random.default_rng(0)
    samples = _samples(draw, batch, shape, vocabulary)
    module = torch_networks.NETWORKS[name](classes, shape, **({"vocabulary": vocabulary} if vocabulary else {}))
    labels = draw.integers(0, classes, batch).astype(np.int32)
    contenders = (
        _mindfl_steps(name, batch, samples, labels),
        _torch_steps(module, samples, labels) if threads == 1 else _mindfl_steps(name, batch, samples, labels, threads),
    )
    clock = time.thread_time if threads == 1 else time.perf_counter
    rates: tuple[list[float], list[float]] = ([], [])
    for run in contenders:
        run(2)
    for _ in range(rounds):
        for run, found in zip(contenders, rates, strict=True):
            begin = clock()
            run(steps)
            found.append(steps / (clock() - begin))
    return rates


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--threads", type=int, default=1, help="compare with a session of so many threads")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks:
        mindfl, other = compare(name, arguments.rounds, arguments.threads)
        spread = [f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})" for rates in (mindfl, other)]
        ratio = statistics.median(mindfl) / statistics.median(other)
        label = "PyTorch" if arguments.threads == 1 else f"with {arguments.threads} threads"
        print(f"{name}: mindfl {spread[0]}, {label} {spread[1]} steps/s, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
