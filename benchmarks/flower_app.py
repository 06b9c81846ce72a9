"""Flower's ClientApp and ServerApp for the common work, written with the message API."""

from __future__ import annotations

import os
from functools import cache
from typing import cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from torch import nn
from torch_training import evaluate, network, train
from work import Client, Recorder, Work

#: names the folder of the work, in the simulation's process and in its workers
WORK_VARIABLE = "MINDFL_BENCHMARK_WORK"

client_app = ClientApp()


@cache
def _process() -> tuple[Work, nn.Module]:
    """Return what a worker process keeps: the memory-mapped work and a model."""
    torch.set_num_threads(1)
    work = Work.load(os.environ[WORK_VARIABLE])
    return work, network(work)


def _start(message: Message, context: Context) -> tuple[Work, nn.Module, Client]:
    """Return work and client, and the model with the weights of the message."""
    work, model = _process()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return work, model, work.clients[int(context.node_config["partition-id"])]


@client_app.train()
def train_client(message: Message, context: Context) -> Message:
    """Train and answer with the weights."""
    work, model, client = _start(message, context)
    loss = train(model, work, client)
    metrics = MetricRecord({"train_loss": loss, "num-examples": client.train})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@client_app.evaluate()
def evaluate_client(message: Message, context: Context) -> Message:
    """Evaluate and answer with the accuracy."""
    work, model, client = _start(message, context)
    metrics = MetricRecord({"accuracy": evaluate(model, work, client), "num-examples": client.test})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def server_app(work: Work, recorder: Recorder) -> ServerApp:
    """Return a server that trains and evaluates every client in each round, and tells ``recorder``."""
    app = ServerApp()
    losses: list[float] = []

    def mean_loss(replies: list[RecordDict], key: str) -> MetricRecord:
        mean = aggregate_metricrecords(replies, key)
        losses.append(float(cast(float, mean["train_loss"])))
        return mean

    def mean_accuracy(replies: list[RecordDict], _: str) -> MetricRecord:
        accuracies = [reply.metric_records["metrics"]["accuracy"] for reply in replies]
        if len(accuracies) != len(work.clients):
            raise RuntimeError(f"{len(accuracies)} of {len(work.clients)} clients answered")
        # the last thing of a round: its training, aggregation and evaluation are over
        recorder.iteration_ended(loss=losses[-1], accuracy=float(np.mean(accuracies)))
        return MetricRecord({"accuracy": float(np.mean(accuracies))})

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=1.0,
            min_available_nodes=len(work.clients),
            train_metrics_aggr_fn=mean_loss,
            evaluate_metrics_aggr_fn=mean_accuracy,
        )
        initial = ArrayRecord(network(work).state_dict())
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=work.settings.iterations)

    return app
