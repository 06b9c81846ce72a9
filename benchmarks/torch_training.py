"""The work's network, local training and evaluation in PyTorch: the same for the bare loop and for Flower."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it
from torch_networks import NETWORKS, tensors
from work import Client, Work


def network(work: Work) -> nn.Module:
    """Return the work's network with its initial weights."""
    settings = work.settings
    texts = {} if settings.vocabulary is None else {"vocabulary": settings.vocabulary}
    model = NETWORKS[settings.network](settings.classes, work.samples.shape[1:], **texts)
    missing, unknown = model.load_state_dict(tensors(work.weights), strict=False)
    wrong = [*unknown, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise RuntimeError(f"the networks differ in {', '.join(wrong)}")
    return model


def train(model: nn.Module, work: Work, client: Client) -> float:
    """Train on a client's samples with a fresh Momentum optimizer; return the mean loss of the last epoch."""
    settings = work.settings
    samples, labels = (torch.from_numpy(array) for array in work.train_batches(client))
    batches = list(zip(*(torch.split(each, settings.batch_size) for each in (samples, labels)), strict=True))
    optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate, settings.momentum)
    model.train()
    total: Tensor = torch.zeros(())
    for _ in range(settings.epochs):
        total = torch.zeros(())
        for x, y in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
    return total.item() / len(batches)


@torch.inference_mode()
def evaluate(model: nn.Module, work: Work, client: Client) -> float:
    """Return the share of a client's test samples that are predicted, all of them in one batch."""
    samples, labels = (torch.from_numpy(array) for array in work.test_samples(client))
    model.eval()
    return float((model(samples).argmax(1) == labels).float().mean())
