"""Contender: federated averaging as a bare PyTorch loop, one thread to a process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache

import numpy as np
import torch
from torch import nn
from torch_networks import Weights, tensors
from torch_training import evaluate, network, train
from work import Client, Recorder, Work, contender_parser

#: folder of the work, and whether the model is kept channels last
Job = tuple[str, bool]


@cache
def _process(folder: str, channels_last: bool) -> tuple[Work, nn.Module]:
    """Return what a process keeps: the memory-mapped work and a model."""
    torch.set_num_threads(1)
    work = Work.load(folder)
    model = network(work)
    return work, model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore


def _train(job: Job, client: Client, weights: Weights) -> tuple[float, dict[str, np.ndarray]]:
    work, model = _process(*job)
    model.load_state_dict(tensors(weights))
    loss = train(model, work, client)
    return loss, {name: value.numpy().copy() for name, value in model.state_dict().items()}


def _evaluate(job: Job, client: Client, weights: Weights) -> float:
    work, model = _process(*job)
    model.load_state_dict(tensors(weights))
    return evaluate(model, work, client)


def _average(results: Sequence[dict[str, np.ndarray]], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    return {
        name: np.average([result[name] for result in results], axis=0, weights=sizes).astype(np.float32)
        for name in results[0]
    }


def main() -> None:
    """Run the work."""
    parser = contender_parser(__doc__)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--channels_last", action="store_true", help="PyTorch's other memory format")
    arguments = parser.parse_args()
    work, recorder = Work.load(arguments.work), Recorder()
    weights: Weights = {name: value.numpy() for name, value in network(work).state_dict().items()}
    sizes = [client.train for client in work.clients]
    jobs = [(arguments.work, arguments.channels_last)] * len(work.clients)
    context = multiprocessing.get_context("spawn")
    with nullcontext() if arguments.workers == 1 else ProcessPoolExecutor(arguments.workers, context) as pool:
        spread = pool.map if isinstance(pool, Executor) else map
        for _ in range(work.settings.iterations):
            losses, results = zip(*spread(_train, jobs, work.clients, [weights] * len(jobs)), strict=True)
            weights = _average(results, sizes)
            accuracies = list(spread(_evaluate, jobs, work.clients, [weights] * len(jobs)))
            recorder.iteration_ended(loss=float(np.average(losses, weights=sizes)), accuracy=float(np.mean(accuracies)))
    recorder.save(arguments.result, {"torch": torch.__version__, "numpy": np.__version__})


if __name__ == "__main__":
    main()
