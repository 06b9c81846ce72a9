"""Flower's ClientApp and ServerApp for a cell of niid_bench, with the baseline's loop, one PyTorch thread to a worker.

As in Flower's baselines/niid_bench: a sample becomes a picture and then a tensor each time it is used, a DataLoader
shuffles and makes batches, clients train with SGD, FedAvg averages, and the server evaluates on the whole test set.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from niid_work import Clock, NiidWork
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everyone calls it
from torch.utils.data import DataLoader, Dataset, Subset
from torch_networks import LeNet

WORK_VARIABLE = "MINDFL_NIID_WORK"

client_app = ClientApp()


def network() -> LeNet:
    """Return the baseline's network for 28x28 grey images."""
    return LeNet(10, (1, 28, 28), bias=True)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Samples as torchvision's FashionMNIST gives them with ToTensor: array, picture, array, tensor."""

    def __init__(self, work: NiidWork, part: str) -> None:
        self._images = torch.from_numpy(np.array(work.array(f"{part}_images")))
        self._labels = torch.from_numpy(np.array(work.array(f"{part}_labels")))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self._images[index].numpy())
        pixels = torch.from_numpy(np.array(picture, np.uint8)[None])
        return pixels.to(torch.float32).div(255), int(self._labels[index])


@cache
def _process() -> tuple[NiidWork, Pictures]:
    """Return what a worker process keeps."""
    torch.set_num_threads(1)
    work = NiidWork.load(os.environ[WORK_VARIABLE])
    return work, Pictures(work, "train")


@client_app.train()
def train_client(message: Message, context: Context) -> Message:
    """Train and answer with the weights."""
    begin = time.process_time()
    work, pictures = _process()
    settings = work.settings
    net = network()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    own = Subset(pictures, work.clients()[int(context.node_config["partition-id"])].tolist())
    loader = DataLoader(own, settings.batch_size, shuffle=True)
    optimizer = torch.optim.SGD(
        net.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )
    for _ in range(settings.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    metrics = MetricRecord({"num-examples": len(own), "processor": time.process_time() - begin})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


def server_app(work: NiidWork, clock: Clock) -> ServerApp:
    """Return a server that trains every client in each round, evaluates the model, and tells ``clock``."""
    app = ServerApp()
    spent: list[float] = []
    loader = DataLoader(Pictures(work, "test"), 10_000)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        net = network()
        net.load_state_dict(arrays.to_torch_state_dict())
        with torch.inference_mode():
            right = sum(int((net(images).argmax(1) == labels).sum()) for images, labels in loader)
        if server_round:
            clock.accuracies.append(right / len(work.array("test_labels")))
        clock.tick(sum(spent))  # also before the first round
        return MetricRecord({"accuracy": float(right)})

    def all_trained(replies: list[RecordDict], _: str) -> MetricRecord:
        if len(replies) != len(work.clients()):
            raise RuntimeError(f"{len(replies)} of {len(work.clients())} clients answered")
        spent.extend(float(cast(float, reply.metric_records["metrics"]["processor"])) for reply in replies)
        return MetricRecord({})

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        clients = len(work.clients())
        strategy = FedAvg(
            fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=clients, train_metrics_aggr_fn=all_trained
        )
        initial = ArrayRecord(network().state_dict())
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=work.settings.rounds, evaluate_fn=evaluate)

    return app
