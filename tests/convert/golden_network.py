"""The networks of the golden comparison; runs under MindSpore 2.0.0 (Python 3.9) and 2.10 alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: name -> optimizer and its options; "inference" is the bare network
CASES = {
    "momentum": ("Momentum", {"learning_rate": 0.01, "momentum": 0.9}),
    "momentum_weight_decay": ("Momentum", {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0001}),
    "sgd": ("SGD", {"learning_rate": 0.01}),
    "adam": ("Adam", {"learning_rate": 0.001}),
    "inference": None,
}


def reference_lenet(mindspore):
    """LeNet written out for MindSpore 2.0.0, where mindfl does not run."""
    nn = mindspore.nn

    class ReferenceLeNet(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 6, 5, pad_mode="valid")
            self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
            self.fc1 = nn.Dense(400, 120)
            self.fc2 = nn.Dense(120, 84)
            self.fc3 = nn.Dense(84, 62)
            self.relu = nn.ReLU()
            self.max_pool2d = nn.MaxPool2d(kernel_size=2, stride=2)
            self.flatten = nn.Flatten()

        def construct(self, x):
            x = self.max_pool2d(self.relu(self.conv1(x)))
            x = self.max_pool2d(self.relu(self.conv2(x)))
            x = self.flatten(x)
            x = self.relu(self.fc1(x))
            x = self.relu(self.fc2(x))
            return self.fc3(x)

    return ReferenceLeNet()


def export_case(mindspore, network, case, folder):
    """Give ``network`` weights by formula, export ``case`` into ``folder`` and return the file."""
    nn, tensor = mindspore.nn, mindspore.Tensor
    for number, parameter in enumerate(network.trainable_params()):
        values = np.random.RandomState(number).uniform(-0.1, 0.1, parameter.shape)
        parameter.set_data(tensor(values.astype(np.float32)))
    inputs = [tensor(np.zeros((32, 3, 32, 32), np.float32))]
    cell = network
    if CASES[case] is not None:
        optimizer, options = CASES[case]
        loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
        cell = nn.TrainOneStepCell(loss, getattr(nn, optimizer)(network.trainable_params(), **options))
        cell.set_train()
        inputs.append(tensor(np.zeros(32, np.int32)))
    file = Path(folder) / (case + ".mindir")
    mindspore.export(cell, *inputs, file_name=str(file), file_format="MINDIR")
    return file
