"""Repeats a finished run of ``mindfl simulate --model char_lstm`` in PyTorch, on one thread: the same clients in each
round, samples in the same order, initial weights, optimizer and rate; then compares the two after each evaluated round.

    mindfl data shakespeare --output roles --roles 50 --stride 10
    mindfl simulate --model char_lstm --train_dataset roles --batch_size 10 --evaluate central --work_dir run
    python repeat_torch.py run

The central test set is the test samples of all clients.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everyone calls it
from torch_networks import CharLSTM, tensors

from mindfl.algorithms.sampler import cohort
from mindfl.data import Split, open_dataset
from mindfl.lite import LiteModel
from mindfl.sim.config import JobConfig
from mindfl.sim.run_record import RunRecord

State = dict[str, Tensor]
#: settings that this program repeats only by default
_BY_DEFAULT = ("algorithm", "shuffle", "lr_schedule", "encrypt_type", "upload_compress_type", "download_compress_type")


class Outcome(NamedTuple):
    """What a round ended with: the clients' training loss, weighted by samples, and the accuracy of the mean model."""

    round: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Samples:
    """Samples of one client or of all: int64 ids (count, length) and labels (count,)."""

    ids: Tensor
    labels: Tensor

    @classmethod
    def of(cls, split: Split) -> Samples:
        """Return the samples of a part of a client's data."""
        ids, labels = split.images()[: split.size], split.labels[: split.size]
        return cls(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(labels.astype(np.int64)))

    @classmethod
    def joined(cls, parts: list[Samples]) -> Samples:
        """Return the samples of all ``parts``."""
        return cls(torch.cat([part.ids for part in parts]), torch.cat([part.labels for part in parts]))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return batches in order; samples from the first on fill the last one."""
        count = len(self.labels)
        for positions in torch.split(torch.arange(-(-count // size) * size) % count, size):
            yield self.ids[positions], self.labels[positions]

    @property
    def majority(self) -> float:
        """Share of the most frequent label."""
        return float(self.labels.bincount().max()) / len(self.labels)


class Repetition:
    """The job of the run in ``folder``."""

    def __init__(self, folder: Path) -> None:
        record = RunRecord.load(folder / "config.json")
        self.config = JobConfig(**record.repeatable())
        if changed := [name for name in _BY_DEFAULT if getattr(self.config, name) != getattr(JobConfig(), name)]:
            raise SystemExit(f"{folder}: --{changed[0]} is not repeated here")
        if self.config.network.optimizer not in ("momentum", "sgd") or self.config.network.weight_decay:
            raise SystemExit(f"{folder}: --optimizer must be momentum or sgd, without weight decay")
        users = list(islice(open_dataset(record.settings["train_dataset"]), self.config.client_num))
        self.train, tests = [Samples.of(user.train) for user in users], [Samples.of(user.test) for user in users]
        self.test = Samples.joined(tests)
        model = LiteModel.load(record.model["path"])
        self.state: State = tensors(model.to_mindspore(model.weights))
        if {"embedding.weight", "head.weight", "lstm.weight_ih_l1"} - self.state.keys() or len(self.state) != 11:
            raise SystemExit(f"{folder}: the model is no char_lstm of two layers")
        words, size = self.state["embedding.weight"].shape
        classes, hidden = self.state["head.weight"].shape
        self.module = CharLSTM(classes, self.test.ids.shape[1:], words, size, hidden)

    def rounds(self) -> Iterator[Outcome]:
        """Train all rounds; evaluate those that the run evaluated."""
        config = self.config
        for number in range(1, config.iterations + 1):
            chosen = cohort(config.chooser, clients=len(self.train), iteration=number, seed=config.seed, state={})
            sizes = [len(self.train[client].labels) for client in chosen]
            losses, states = zip(*(self._trained(self.train[client]) for client in chosen), strict=True)
            share = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            self.state = {
                name: torch.einsum(
                    "c,c...->...", share, torch.stack([state[name].double() for state in states])
                ).float()
                for name in self.state
            }
            due = number % (config.evaluate_every or 1) == 0 or number == config.iterations
            yield Outcome(number, float(np.average(losses, weights=sizes)), self._accuracy() if due else math.nan)

    def _trained(self, samples: Samples) -> tuple[float, State]:
        """Return the mean loss of the last epoch, and the weights after it."""
        config, module = self.config, self.module
        module.load_state_dict(self.state)
        momentum = config.network.momentum if config.network.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD(module.parameters(), config.rate, momentum)
        losses: list[float] = []
        for _ in range(config.epochs):
            losses.clear()
            for ids, labels in samples.batches(config.network.batch_size):
                optimizer.zero_grad()
                loss = F.cross_entropy(module(ids), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
        return float(np.mean(losses)), {name: value.clone() for name, value in module.state_dict().items()}

    @torch.inference_mode()
    def _accuracy(self) -> float:
        self.module.load_state_dict(self.state)
        scores = torch.cat([self.module(ids) for ids in torch.split(self.test.ids, 64)])
        return float((scores.argmax(1) == self.test.labels).float().mean())


def of_mindfl(folder: Path) -> dict[int, Outcome]:
    """Return the rounds of the run by number."""
    rows = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return {row["iteration"]: Outcome(row["iteration"], row["loss"], row["avg"]) for row in rows}


def table(theirs: list[Outcome], ours: dict[int, Outcome]) -> str:
    """Return a Markdown table of both, a row for each evaluated round."""
    lines = ["| round | loss, mindfl | loss, PyTorch | accuracy, mindfl | accuracy, PyTorch |", "|---|---|---|---|---|"]
    for other in theirs:
        if not math.isnan(other.accuracy):
            if other.round not in ours:
                raise SystemExit(f"round {other.round} is missing in the run: it has not ended")
            own = ours[other.round]
            values = (own.loss, other.loss, own.accuracy, other.accuracy)
            lines.append(f"| {other.round} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)


def main() -> None:
    """Repeat the run and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="work folder of the run")
    folder = parser.parse_args().run
    torch.set_num_threads(1)
    repetition, outcomes = Repetition(folder), []
    print(f"majority class: {repetition.test.majority:.4f} of {len(repetition.test.labels)} test samples", flush=True)
    begin = time.process_time()
    for outcome in repetition.rounds():
        outcomes.append(outcome)
        print(f"round {outcome.round}: loss {outcome.loss:.4f}, accuracy {outcome.accuracy:.4f}", flush=True)
    print(f"{time.process_time() - begin:.0f} s of processor time\n\n{table(outcomes, of_mindfl(folder))}")


if __name__ == "__main__":
    main()
