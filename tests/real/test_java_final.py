"""The last iteration's model, which no Java client evaluates."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from java_programs import copy_models

from mindfl.data import open_dataset
from mindfl.lite import LiteModel
from mindfl.real.java_files import JavaClientFiles, client_files, final_accuracies
from mindfl.sim.engines import LiteEngine


def by_hand(model: LiteModel, client: JavaClientFiles) -> float:
    """The accuracy on everything that is in the client's test bins."""
    images, labels = client.eval_data
    pixels = np.fromfile(images, "<f4").reshape(-1, 32, 32, 3)
    wanted = np.fromfile(labels, "<i4")
    session = LiteEngine(model).session()
    return float((session.predict(pixels).argmax(axis=1) == wanted).mean())


@pytest.fixture
def clients(converted: Callable[..., Path], bins: Path, tmp_path: Path) -> list[JavaClientFiles]:
    dataset = open_dataset(bins)
    return client_files(dataset, dataset.users[:3], copy_models(converted(), tmp_path / "ms", "lenet_train", 3))


def random_weights(client: JavaClientFiles, seed: int) -> dict[str, np.ndarray]:
    """Weights that see the client's first label more often than others."""
    generator = np.random.default_rng(seed)
    shapes = {name: values.shape for name, values in LiteModel.load(client.train_model).weights.items()}
    weights = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["fc3.bias"][np.fromfile(client.eval_data[1], "<i4")[0]] += 0.5
    return weights


def test_weights_that_the_server_gave(clients: list[JavaClientFiles]) -> None:
    start = LiteModel.load(clients[0].train_model)
    weights = random_weights(clients[0], 1)
    found = final_accuracies(clients, weights)
    assert found[clients[0].name] > 0
    model = LiteModel.from_bytes(start.patched(weights))
    assert found == {client.name: pytest.approx(by_hand(model, client)) for client in clients}
    assert LiteModel.load(clients[0].train_model).content == start.content


def test_the_model_that_each_client_left(clients: list[JavaClientFiles]) -> None:
    models = []
    for seed, client in enumerate(clients):
        start = LiteModel.load(client.train_model)
        client.train_model.write_bytes(start.patched(random_weights(client, seed)))
        models.append(LiteModel.load(client.train_model))
    found = final_accuracies(clients)
    assert found == {
        client.name: pytest.approx(by_hand(model, client)) for client, model in zip(clients, models, strict=True)
    }


def test_clients_without_images_to_evaluate_on_are_left_out(clients: list[JavaClientFiles], tmp_path: Path) -> None:
    first, second, third = clients
    text = tmp_path / "albert.txt"
    shutil.copy(second.eval_data[1], text)
    others = [
        JavaClientFiles(name="none", train_model=first.train_model),
        JavaClientFiles(name="text", train_model=first.train_model, eval_data=(text, text, text)),
    ]
    assert set(final_accuracies([*others, third])) == {third.name}
