"""Networks as users write them for MindSpore 2.10, with their losses: kinds that mindfl ships none of."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype


class FrozenBackbone(nn.Cell):
    """Transfer learning: only the head is trained; the backbone's BatchNorm keeps its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, pad_mode="same"), nn.BatchNorm2d(8, use_batch_statistics=False)
        self.conv2, self.relu, self.pool = nn.Conv2d(8, 8, 3, stride=2, pad_mode="same"), nn.ReLU(), nn.MaxPool2d(2, 2)
        for cell in (self.conv1, self.norm, self.conv2):
            for parameter in cell.get_parameters():
                parameter.requires_grad = False
        self.flatten, self.head = nn.Flatten(), nn.Dense(8 * 2 * 2, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))
        return self.head(self.flatten(self.pool(x)))


class UNet(nn.Cell):
    """Down, up by transposed convolution, and a concatenated shortcut; a class for each pixel."""

    labels = (64,)

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 6, 3, pad_mode="same"), nn.Conv2d(6, 12, 3, pad_mode="same")
        self.up, self.merge = nn.Conv2dTranspose(12, 6, 2, stride=2), nn.Conv2d(12, 8, 3, pad_mode="same")
        self.pool, self.act, self.classes = nn.MaxPool2d(2, 2), nn.Tanh(), nn.Conv2d(8, 4, 1)

    def construct(self, x: Tensor) -> Tensor:
        first = self.act(self.down1(x))
        second = self.act(self.up(self.act(self.down2(self.pool(first)))))
        scores = self.classes(self.act(self.merge(ops.cat((first, second), 1))))
        return scores.transpose(0, 2, 3, 1).reshape(x.shape[0], -1, 4)


class HandGRU(nn.Cell):
    """A GRU cell written by hand, unrolled over eight steps."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.gates, self.new = nn.Embedding(20, 6), nn.Dense(6 + 10, 20), nn.Dense(6 + 10, 10)
        self.sigmoid, self.tanh, self.head = nn.Sigmoid(), nn.Tanh(), nn.Dense(10, 5)
        self.begin = Tensor(np.zeros((4, 10), np.float32))

    def construct(self, x: Tensor) -> Tensor:
        words, state = self.words(x), self.begin
        for step in range(8):
            word = words[:, step]
            gates = self.sigmoid(self.gates(ops.cat((word, state), 1)))
            reset, update = gates[:, :10], gates[:, 10:]
            fresh = self.tanh(self.new(ops.cat((word, reset * state), 1)))
            state = (1 - update) * state + update * fresh
        return self.head(state)


class MaskedAttention(nn.Cell):
    """Causal self-attention over tokens, padding (id 0) masked out, tokens predicted."""

    labels = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 12), Parameter(Tensor(np.zeros((8, 12), np.float32)), name="places")
        self.qkv, self.out, self.norm, self.head = (
            nn.Dense(12, 36),
            nn.Dense(12, 12),
            nn.LayerNorm((12,)),
            nn.Dense(12, 20),
        )
        self.causal = Tensor(np.tril(np.ones((1, 1, 8, 8), np.float32)))

    def construct(self, x: Tensor) -> Tensor:
        y = self.words(x) + self.places
        query, key, value = ops.split(self.qkv(y), 12, 2)
        scores = ops.matmul(self.heads(query), self.heads(key).transpose(0, 1, 3, 2)) * 0.5
        there = ops.expand_dims(ops.expand_dims((x != 0).astype(mstype.float32), 1), 1)
        scores = scores + (1.0 - self.causal * there) * -10000.0
        mixed = ops.matmul(ops.softmax(scores, -1), self.heads(value)).transpose(0, 2, 1, 3).reshape(4, 8, 12)
        return self.head(self.norm(y + self.out(mixed)))

    def heads(self, x: Tensor) -> Tensor:
        return x.reshape(4, 8, 3, 4).transpose(0, 2, 1, 3)


class MaskedFill(nn.Cell):
    """Attention whose mask is a fill, over a sequence of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.head = nn.Dense(6, 8), nn.Dense(6, 8), nn.Dense(6, 8), nn.Dense(8, 5)
        self.hidden = Tensor(np.triu(np.ones((1, 8, 8)), 1).astype(np.bool_))

    def construct(self, x: Tensor) -> Tensor:
        scores = ops.bmm(self.query(x), self.key(x).swapaxes(1, 2)) / 8**0.5
        weights = ops.softmax(ops.masked_fill(scores, self.hidden, -1e9), -1)
        return self.head(ops.bmm(weights, self.value(x)).mean(1))


class BuiltInAttention(nn.Cell):
    """MindSpore's own multi-head attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention, self.head = (
            nn.Embedding(20, 12),
            nn.MultiheadAttention(12, 3, batch_first=True),
            nn.Dense(12, 5),
        )

    def construct(self, x: Tensor) -> Tensor:
        y = self.words(x)
        return self.head(self.attention(y, y, y, need_weights=False)[0].mean(1))


class BuiltInEncoder(nn.Cell):
    """MindSpore's own layer of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 12), nn.Dense(12, 5)
        self.layer = nn.TransformerEncoderLayer(
            12, 3, dim_feedforward=24, dropout=0.0, activation="gelu", batch_first=True
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.words(x)).mean(1))


class Mixer(nn.Cell):
    """MLP-Mixer: patches, mixed over places and over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm1, self.norm2 = nn.Conv2d(3, 12, 2, stride=2), nn.LayerNorm((12,)), nn.LayerNorm((12,))
        self.places1, self.places2 = nn.Dense(16, 8), nn.Dense(8, 16)
        self.channels1, self.channels2 = nn.Dense(12, 20), nn.Dense(20, 12)
        self.gelu, self.head = nn.GELU(), nn.Dense(12, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.patches(x).reshape(4, 12, 16).transpose(0, 2, 1)
        x = x + self.places2(self.gelu(self.places1(self.norm1(x).transpose(0, 2, 1)))).transpose(0, 2, 1)
        x = x + self.channels2(self.gelu(self.channels1(self.norm2(x))))
        return self.head(x.mean(axis=1))


class SqueezeExcite(nn.Cell):
    """Channels weighted by their means, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.swish = nn.Conv2d(3, 8, 3, pad_mode="same"), nn.BatchNorm2d(8), nn.HSwish()
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1, has_bias=True), nn.Conv2d(4, 8, 1, has_bias=True)
        self.act, self.gate, self.head = nn.Tanh(), nn.HSigmoid(), nn.Dense(8, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.swish(self.norm(self.conv(x)))
        x = x * self.gate(self.excite(self.act(self.squeeze(ops.mean(x, (2, 3), True)))))
        return self.head(ops.adaptive_avg_pool2d(x, 1).flatten(start_dim=1))


class Siamese(nn.Cell):
    """Two images through one encoder; whether they show the same, from their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv2d(3, 6, 3, pad_mode="same"), nn.Tanh(), nn.AvgPool2d(4, 4)
        self.flatten, self.embed, self.head = nn.Flatten(), nn.Dense(24, 10), nn.Dense(10, 2)

    def encode(self, x: Tensor) -> Tensor:
        return self.embed(self.flatten(self.pool(self.act(self.conv(x)))))

    def construct(self, first: Tensor, second: Tensor) -> Tensor:
        return self.head(ops.abs(self.encode(first) - self.encode(second)))


class Cosine(nn.Cell):
    """Two towers whose outputs are compared by their angle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dense(6, 10), nn.Dense(6, 10)

    def construct(self, one: Tensor, other: Tensor) -> Tensor:
        one, other = self.unit(self.first(one)), self.unit(self.second(other))
        return ops.matmul(one, other.transpose(1, 0)) * 5.0

    def unit(self, x: Tensor) -> Tensor:
        return x / ops.norm(x, dim=1, keepdim=True)


class L2Normalised(nn.Cell):
    """Embeddings of unit length by MindSpore's operator."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.head, self.unit = nn.Dense(6, 10), nn.Dense(10, 5), ops.L2Normalize(axis=1)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.unit(self.dense(x)))


class Dense(nn.Cell):
    """Two dense layers, for losses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Dense(6, 16), nn.Tanh(), nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(self.act(self.first(x)))


class Temperature(nn.Cell):
    """Scores divided by a temperature that is trained: a parameter of one number, without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Dense(6, 16), nn.Tanh(), nn.Dense(16, 5)
        self.scale = Parameter(Tensor(0.5, mstype.float32), name="scale")

    def construct(self, x: Tensor) -> Tensor:
        return self.second(self.act(self.first(x))) * ops.exp(self.scale)


class WeightNorm(nn.Cell):
    """A layer whose weights are vectors of unit length, scaled: no input meets a weight itself."""

    def __init__(self) -> None:
        super().__init__()
        directions = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
        self.direction = Parameter(Tensor(directions), name="direction")
        self.length = Parameter(Tensor(np.ones((5, 1), np.float32)), name="length")

    def construct(self, x: Tensor) -> Tensor:
        weight = self.direction / ops.sqrt((self.direction * self.direction).sum(1, keepdims=True)) * self.length
        return ops.matmul(x, weight.T)


class Half(nn.Cell):
    """A layer that calculates with 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dense(6, 16).to_float(mstype.float16), nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).astype(mstype.float32))


class PooledWords(nn.Cell):
    """The mean of word vectors, without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.first, self.act, self.head = nn.Embedding(20, 10), nn.Dense(10, 12), nn.Tanh(), nn.Dense(12, 5)

    def construct(self, x: Tensor) -> Tensor:
        there = ops.expand_dims((x > 0).astype(mstype.float32), 2)
        mean = (self.words(x) * there).sum(1) / ops.clamp(there.sum(1), 1.0)
        return self.head(self.act(self.first(mean)))


class Series(nn.Cell):
    """One-dimensional convolutions over a series of six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv1d(6, 8, 3, pad_mode="same", has_bias=True),
            nn.Conv1d(8, 8, 3, stride=2, pad_mode="pad", padding=1),
        )
        self.act, self.pool, self.flatten, self.head = nn.Tanh(), nn.MaxPool1d(2, 2), nn.Flatten(), nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.pool(self.act(self.conv2(self.act(self.conv1(x)))))))


class Dilated(nn.Cell):
    """Causal, dilated convolutions over a series: a temporal network with gates and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.gate = (
            nn.Conv1d(6, 6, 2, dilation=2, pad_mode="valid"),
            nn.Conv1d(6, 6, 2, dilation=2, pad_mode="valid"),
        )
        self.pad, self.norm, self.head = nn.ConstantPad1d((2, 0), 0.0), nn.BatchNorm1d(6), nn.Dense(6, 5)

    def construct(self, x: Tensor) -> Tensor:
        padded = self.pad(x)
        x = x + ops.tanh(self.filter(padded)) * ops.sigmoid(self.gate(padded))
        return self.head(self.norm(x.mean(2)))


class NormedSeries(nn.Cell):
    """One-dimensional convolutions with a BatchNorm each; as many channels as places in the series."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv1d(6, 8, 3, pad_mode="same"), nn.BatchNorm1d(8)
        self.conv2, self.norm2 = nn.Conv1d(8, 8, 3, pad_mode="same"), nn.BatchNorm1d(8)
        self.first, self.head = nn.BatchNorm1d(6), nn.Dense(8, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.tanh(self.norm1(self.conv1(self.first(x))))
        return self.head(ops.tanh(self.norm2(self.conv2(x))).max(2))


class NormedVolume(nn.Cell):
    """A BatchNorm of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm3d(2), nn.Dense(24, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x).reshape(4, -1))


class GroupNormed(nn.Cell):
    """Convolutions with a normalisation between them."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.conv1, self.conv2, self.norm = (
            nn.Conv2d(3, 8, 3, pad_mode="same"),
            nn.Conv2d(8, 8, 3, stride=2, pad_mode="same"),
            norm,
        )
        self.act, self.flatten, self.head = nn.Tanh(), nn.Flatten(), nn.Dense(128, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.act(self.conv2(self.act(self.norm(self.conv1(x)))))))


class Shuffle(nn.Cell):
    """ShuffleNet's unit: channels split, shuffled and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point, self.deep = (
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 4, 3, pad_mode="same", group=4),
        )
        self.norm, self.act, self.head = nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.Dense(8, 5)

    def construct(self, x: Tensor) -> Tensor:
        kept, other = ops.split(self.stem(x), 4, 1)
        x = ops.cat((kept, self.norm(self.deep(self.act(self.point(other))))), 1)
        x = x.reshape(4, 2, 4, 8, 8).transpose(0, 2, 1, 3, 4).reshape(4, 8, 8, 8)
        return self.head(x.mean((2, 3)))


class DenseBlock(nn.Cell):
    """DenseNet's block: each convolution reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.CellList([nn.Conv2d(3 + 4 * i, 4, 3, pad_mode="same") for i in range(3)])
        self.act, self.pool, self.flatten, self.head = nn.PReLU(1), nn.AvgPool2d(4, 4), nn.Flatten(), nn.Dense(60, 5)

    def construct(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = ops.cat((x, self.act(conv(x))), 1)
        return self.head(self.flatten(self.pool(x)))


class Autoencoder(nn.Cell):
    """Images to a code and back; the labels are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.code = nn.Conv2d(3, 6, 3, stride=2, pad_mode="same"), nn.Dense(96, 10)
        self.wide, self.up = nn.Dense(10, 96), nn.Conv2dTranspose(6, 3, 3, stride=2, pad_mode="same", has_bias=True)
        self.act, self.flatten = nn.ELU(), nn.Flatten()

    def construct(self, x: Tensor) -> Tensor:
        code = self.code(self.flatten(self.act(self.down(x))))
        return self.flatten(ops.sigmoid(self.up(self.act(self.wide(code)).reshape(4, 6, 4, 4))))


class Upsampled(nn.Cell):
    """A feature map enlarged by nearest neighbours."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.down, self.conv, self.act = (
            nn.Conv2d(3, 6, 3, stride=2, pad_mode="same"),
            nn.Conv2d(6, 4, 3, pad_mode="same"),
            nn.Tanh(),
        )
        self.flatten, self.head, self.mode = nn.Flatten(), nn.Dense(256, 5), mode

    def construct(self, x: Tensor) -> Tensor:
        x = self.act(self.down(x))
        x = ops.interpolate(x, size=(8, 8), mode=self.mode)
        return self.head(self.flatten(self.act(self.conv(x))))


class TiedWords(nn.Cell):
    """A language model whose output is its embedding table."""

    labels = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(20, 10), nn.LSTM(10, 10, batch_first=True)

    def construct(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.words(x))
        return ops.matmul(y, self.words.embedding_table.transpose(1, 0))


class BothWays(nn.Cell):
    """A bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm, self.head = (
            nn.Embedding(20, 6),
            nn.LSTM(6, 7, batch_first=True, bidirectional=True),
            nn.Dense(14, 5),
        )

    def construct(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.words(x))
        return self.head(y.max(axis=1))


class BuiltInGRU(nn.Cell):
    """MindSpore's own GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.gru, self.head = nn.Embedding(20, 6), nn.GRU(6, 7, batch_first=True), nn.Dense(7, 5)

    def construct(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.words(x))
        return self.head(y[:, -1])


class BuiltInRNN(nn.Cell):
    """MindSpore's own plain recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(6, 7, batch_first=True), nn.Dense(7, 5)

    def construct(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y[:, -1])


class Tabular(nn.Cell):
    """Columns of numbers and of categories, with weights for each field: wide and deep."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.wide, self.deep = nn.Embedding(20, 4), nn.Dense(6, 5), nn.Dense(6 + 8 * 4, 12)
        self.norm, self.act, self.head = nn.BatchNorm1d(12), nn.Mish(), nn.Dense(12, 5)

    def construct(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        joined = ops.cat((numbers, self.kinds(kinds).reshape(4, -1)), 1)
        return self.wide(numbers) + self.head(self.act(self.norm(self.deep(joined))))


class Vit(nn.Cell):
    """A vision transformer with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4, has_bias=True)
        self.token = Parameter(Tensor(np.full((1, 1, 12), 0.1, np.float32)), name="token")
        self.places = Parameter(Tensor(np.full((1, 5, 12), 0.2, np.float32)), name="places")
        self.qkv, self.out, self.norm1, self.norm2 = (
            nn.Dense(12, 36),
            nn.Dense(12, 12),
            nn.LayerNorm((12,)),
            nn.LayerNorm((12,)),
        )
        self.wide, self.narrow, self.gelu, self.head = nn.Dense(12, 24), nn.Dense(24, 12), nn.GELU(), nn.Dense(12, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(start_dim=2).swapaxes(1, 2)
        x = ops.cat((ops.broadcast_to(self.token, (4, 1, 12)), x), 1) + self.places
        qkv = self.qkv(self.norm1(x)).reshape(4, 5, 3, 2, 6).transpose(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        weights = ops.softmax(ops.matmul(query, key.swapaxes(-2, -1)) * 6**-0.5, -1)
        x = x + self.out(ops.matmul(weights, value).transpose(0, 2, 1, 3).reshape(4, 5, 12))
        x = x + self.narrow(self.gelu(self.wide(self.norm2(x))))
        return self.head(x[:, 0])


class Focal(nn.Cell):
    """The focal loss, written by hand."""

    def construct(self, scores: Tensor, labels: Tensor) -> Tensor:
        chance = (ops.softmax(scores, -1) * labels).sum(-1)
        return (-((1 - chance) ** 2) * ops.log(chance)).mean()


class Centres(nn.Cell):
    """The distance from a centre of the label's class, which is trained: labels choose weights of the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = Parameter(Tensor(np.zeros((5, 5), np.float32)), name="centres")

    def construct(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores - self.centres[labels]).square().sum(-1).mean()


class OwnLoss(nn.Cell):
    """A network with its loss, as users write it: a class for each pixel; no name says which part is the loss."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.net, self.criterion = network, nn.CrossEntropyLoss()

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return self.criterion(self.net(x), y)


class PenalisedLayer(nn.Cell):
    """A cross entropy and a penalty of the weights of a convolution."""

    def __init__(self, network: Pixels) -> None:
        super().__init__()
        self.net, self._loss_fn, self.weight = network, nn.CrossEntropyLoss(), network.first.weight

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        flat = self.weight.reshape(6, -1)
        apart = ops.matmul(flat, flat.T) - ops.eye(6, 6, mstype.float32)
        return self._loss_fn(self.net(x), y) + 0.01 * (self.weight**2).sum() + 0.01 * (apart**2).sum()


class Variational(nn.Cell):
    """An autoencoder whose code is drawn: mean, logarithm of the variance, and noise from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.middle, self.spread = nn.Dense(6, 12), nn.Dense(12, 3), nn.Dense(12, 3)
        self.decode = nn.Dense(3, 5)

    def construct(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = ops.tanh(self.encode(x))
        middle, spread = self.middle(y), self.spread(y)
        return self.decode(middle + ops.exp(0.5 * spread) * noise), middle, spread


class VariationalLoss(nn.Cell):
    """The distance of the outputs, and that of the code's distribution from the normal one."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.net = network

    def construct(self, x: Tensor, noise: Tensor, y: Tensor) -> Tensor:
        found, middle, spread = self.net(x, noise)
        apart = -0.5 * (1 + spread - middle**2 - ops.exp(spread)).sum(1).mean()
        return ((found - y) ** 2).sum(1).mean() + apart


class Tasks(nn.Cell):
    """Scores of four classes for each of two tasks."""

    labels = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.first, self.second = nn.Dense(6, 8), nn.Dense(8, 4), nn.Dense(8, 4)

    def construct(self, x: Tensor) -> Any:
        x = ops.tanh(self.shared(x))
        return self.first(x), self.second(x)


class TaskLosses(nn.Cell):
    """The labels of both tasks are columns of one array."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.net, self._loss_fn = network, nn.CrossEntropyLoss()

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        first, second = self.net(x)
        return self._loss_fn(first, y[:, 0]) + 0.3 * self._loss_fn(second, y[:, 1])


class Evidence(nn.Cell):
    """A loss of the positive part of the scores: a ReLU alone reads the scores."""

    def construct(self, scores: Tensor, labels: Tensor) -> Tensor:
        evidence = ops.relu(scores)
        own = ops.gather_elements(evidence, 1, labels.reshape(-1, 1)).squeeze(1)
        return (ops.log(evidence.sum(1) + 5) - ops.log(own + 1)).mean()


class TurnedPixels(nn.Cell):
    """The cross entropy of all pixels, whose scores are turned to the last axis before."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.net = network

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return ops.cross_entropy(self.net(x).permute(0, 2, 3, 1).reshape(-1, 4), y.reshape(-1))


class TwoLayers(nn.Cell):
    """Scores of four classes for each pixel, without a normalisation."""

    labels = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, pad_mode="same", has_bias=True), nn.Conv2d(4, 4, 1, has_bias=True)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(ops.relu(self.first(x)))


class WeightedRows(nn.Cell):
    """A trained weight of each row of an image, and of each column."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, pad_mode="same"), nn.Dense(8, 5)
        self.rows = Parameter(Tensor(np.linspace(-1, 1, 8).reshape(8, 1), mstype.float32), name="rows")
        self.columns = Parameter(Tensor(np.linspace(1, 2, 8), mstype.float32), name="columns")

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.tanh(self.conv(x) * self.rows * self.columns).mean((2, 3)))


class Convolutions(nn.Cell):
    """Scores that convolutions alone make."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(ops.relu(self.norm(self.first(x)))).mean((2, 3))


class Unused(nn.Cell):
    """Layers that are left over: the optimizer has their weights, and nothing reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dense(4, 5)
        self.second, self.left, self.wide = nn.Conv2d(4, 6, 3, has_bias=True), nn.BatchNorm2d(6), nn.Dense(7, 3)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.relu(self.norm(self.conv(x))).mean((2, 3)))


class Distance(nn.Cell):
    """How far a network takes two samples apart: it has no labels."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.net = network

    def construct(self, x: Tensor, other: Tensor) -> Tensor:
        return ops.relu(1.0 - ops.norm(self.net(x) - self.net(other), dim=1)).mean()


class Positions(nn.Cell):
    """Attention of all pixels to each other, whose result is an image again: a non-local block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Dense(6, 5)

    def construct(self, x: Tensor) -> Tensor:
        rows = self.first(x).reshape(4, 4, 64)
        places = rows.transpose(0, 2, 1)
        mixed = ops.bmm(ops.softmax(ops.bmm(places, rows), -1), places)
        return self.head(self.second(mixed.transpose(0, 2, 1).reshape(4, 4, 8, 8)).mean((2, 3)))


class Flagged(nn.Cell):
    """The mean of the word vectors that flags choose."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 6), nn.Dense(6, 5)

    def construct(self, x: Tensor, there: Tensor) -> Tensor:
        chosen = ops.expand_dims(there.astype(mstype.float32), 2)
        return self.head((self.words(x) * chosen).sum(1) / (chosen.sum(1) + 1e-6))


class BiasedSeries(nn.Cell):
    """A bias of each channel of a series, with as many channels as places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bias_add, self.head = nn.Conv1d(6, 8, 3, pad_mode="same"), ops.BiasAdd(), nn.Dense(8, 5)
        self.bias = Parameter(Tensor(np.arange(8) / 8, mstype.float32), name="bias")

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.tanh(self.bias_add(self.conv(x), self.bias)).mean(2))


class Pixels(nn.Cell):
    """Scores of four classes for each pixel, [N, 4, 8, 8]."""

    labels = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, pad_mode="same"), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 1, has_bias=True)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(ops.relu(self.norm(self.first(x))))


class Causal(nn.Cell):
    """Attention whose mask is a triangle, with the heads of keys repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Dense(6, 12), nn.Dense(6, 6), nn.Dense(6, 6)
        self.head, self.size = nn.Dense(12, 5), 6

    def construct(self, x: Tensor) -> Tensor:
        query = self.query(x).reshape(4, 8, 2, 6).swapaxes(1, 2)
        key = ops.repeat_interleave(self.key(x).reshape(4, 8, 1, 6).swapaxes(1, 2), 2, 1)
        value = ops.repeat_interleave(self.value(x).reshape(4, 8, 1, 6).swapaxes(1, 2), 2, 1)
        scores = ops.matmul(query, key.swapaxes(-1, -2)) / ops.sqrt(Tensor(6.0))
        scores = ops.masked_fill(scores, ops.tril(ops.ones((8, 8), mstype.float32)) == 0, -1e4)
        mixed = ops.matmul(ops.softmax(scores, -1), value).swapaxes(1, 2).reshape(4, 8, 12)
        return self.head(mixed.mean(1))


class Quantile(nn.Cell):
    """The pinball loss of the 0.9 quantile."""

    def construct(self, scores: Tensor, targets: Tensor) -> Tensor:
        error = targets - scores
        return ops.maximum(error * 0.9, error * -0.1).mean()


IMAGES, PAIR = ((3, 8, 8), "float32"), ((3, 8, 8), "float32")
TEXT, NUMBERS, SERIES = ((8,), "int32", 20), ((6,), "float32"), ((6, 8), "float32")
STEPS = ((8, 6), "float32")

#: networks with their losses in a cell of the user's own
WITH_LOSS: dict[str, Any] = {"own loss": OwnLoss, "penalised layer": PenalisedLayer, "variational": VariationalLoss}
WITH_LOSS["turned pixels"] = TurnedPixels
WITH_LOSS["several tasks"] = TaskLosses
WEIGHTS = Tensor(np.float32([1, 2, 3, 4, 5]))
SPARSE = lambda: nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")  # noqa: E731
#: name -> network, inputs, loss, labels: "classes", "tokens", "onehot", "many" (0 or 1 each) or "numbers"
NETWORKS: dict[str, tuple[Any, tuple[Any, ...], Any, str]] = {
    "frozen backbone": (FrozenBackbone, (IMAGES,), SPARSE, "classes"),
    "unet": (UNet, (IMAGES,), SPARSE, "tokens"),
    "gru by hand": (HandGRU, (TEXT,), SPARSE, "classes"),
    "masked attention": (MaskedAttention, (TEXT,), SPARSE, "tokens"),
    "masked fill": (MaskedFill, (STEPS,), SPARSE, "classes"),
    "built-in attention": (BuiltInAttention, (TEXT,), SPARSE, "classes"),
    "built-in encoder": (BuiltInEncoder, (TEXT,), SPARSE, "classes"),
    "mixer": (Mixer, (IMAGES,), SPARSE, "classes"),
    "squeeze-excite": (SqueezeExcite, (IMAGES,), SPARSE, "classes"),
    "siamese": (Siamese, (IMAGES, PAIR), SPARSE, "classes"),
    "cosine": (Cosine, (NUMBERS, NUMBERS), SPARSE, "classes"),
    "l2 normalised": (L2Normalised, (NUMBERS,), SPARSE, "classes"),
    "temperature": (Temperature, (NUMBERS,), SPARSE, "classes"),
    "weight norm": (WeightNorm, (NUMBERS,), SPARSE, "classes"),
    "half": (Half, (NUMBERS,), SPARSE, "classes"),
    "mse": (Dense, (NUMBERS,), nn.MSELoss, "numbers"),
    "smooth l1": (Dense, (NUMBERS,), lambda: nn.SmoothL1Loss(beta=0.5, reduction="mean"), "numbers"),
    "huber": (Dense, (NUMBERS,), lambda: nn.HuberLoss(delta=0.5), "numbers"),
    "l1": (Dense, (NUMBERS,), nn.L1Loss, "numbers"),
    "rmse": (Dense, (NUMBERS,), nn.RMSELoss, "numbers"),
    "centres": (Dense, (NUMBERS,), Centres, "classes"),
    "quantile": (Dense, (NUMBERS,), Quantile, "numbers"),
    "multi-label": (Dense, (NUMBERS,), nn.BCEWithLogitsLoss, "many"),
    "multi-label, weighted": (
        Dense,
        (NUMBERS,),
        lambda: nn.BCEWithLogitsLoss(pos_weight=WEIGHTS),
        "many",
    ),
    "label smoothing": (Dense, (NUMBERS,), lambda: nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
    "class weights": (
        Dense,
        (NUMBERS,),
        lambda: nn.CrossEntropyLoss(weight=WEIGHTS),
        "classes",
    ),
    "focal": (Dense, (NUMBERS,), Focal, "onehot"),
    "kl divergence": (Dense, (NUMBERS,), nn.KLDivLoss, "numbers"),
    "pooled words": (PooledWords, (TEXT,), SPARSE, "classes"),
    "series": (Series, (SERIES,), SPARSE, "classes"),
    "dilated series": (Dilated, (SERIES,), SPARSE, "classes"),
    "group norm": (lambda: GroupNormed(nn.GroupNorm(2, 8)), (IMAGES,), SPARSE, "classes"),
    "series, normed": (NormedSeries, (SERIES,), SPARSE, "classes"),
    "volume, normed": (NormedVolume, (((2, 3, 2, 2), "float32"),), SPARSE, "classes"),
    "unused layers": (Unused, (IMAGES,), SPARSE, "classes"),
    "unused layers, decayed": (Unused, (IMAGES,), SPARSE, "classes"),
    "convolutions, decayed": (Convolutions, (IMAGES,), SPARSE, "classes"),
    "weighted rows": (WeightedRows, (IMAGES,), SPARSE, "classes"),
    "evidence": (Dense, (NUMBERS,), Evidence, "classes"),
    "several tasks": (Tasks, (NUMBERS,), None, "tokens"),
    "turned pixels": (TwoLayers, (IMAGES,), None, "tokens"),
    "series, biased": (BiasedSeries, (SERIES,), SPARSE, "classes"),
    "positions": (Positions, (IMAGES,), SPARSE, "classes"),
    "flags": (Flagged, (TEXT, ((8,), "bool")), SPARSE, "classes"),
    "penalised layer": (Pixels, (IMAGES,), None, "tokens"),
    "variational": (Variational, (NUMBERS, ((3,), "float32")), None, "numbers"),
    "own loss": (Pixels, (IMAGES,), None, "tokens"),
    "causal": (Causal, (STEPS,), SPARSE, "classes"),
    "batch norm, decayed": (lambda: GroupNormed(nn.BatchNorm2d(8)), (IMAGES,), SPARSE, "classes"),
    "neighbours": (lambda: GroupNormed(ops.LRN()), (IMAGES,), SPARSE, "classes"),
    "shuffle": (Shuffle, (IMAGES,), SPARSE, "classes"),
    "dense block": (DenseBlock, (IMAGES,), SPARSE, "classes"),
    "autoencoder": (Autoencoder, (IMAGES,), nn.MSELoss, "pixels"),
    "nearest": (lambda: Upsampled("nearest"), (IMAGES,), SPARSE, "classes"),
    "bilinear": (lambda: Upsampled("bilinear"), (IMAGES,), SPARSE, "classes"),
    "tied words": (TiedWords, (TEXT,), SPARSE, "tokens"),
    "both ways": (BothWays, (TEXT,), SPARSE, "classes"),
    "built-in gru": (BuiltInGRU, (TEXT,), SPARSE, "classes"),
    "built-in rnn": (BuiltInRNN, (STEPS,), SPARSE, "classes"),
    "tabular": (Tabular, (NUMBERS, TEXT), SPARSE, "classes"),
    "vision transformer": (Vit, (IMAGES,), SPARSE, "classes"),
    "loss scale": (Dense, (NUMBERS,), SPARSE, "classes"),
    "overflow": (Dense, (NUMBERS,), SPARSE, "classes"),
}


def one_step(name: str, loss: nn.Cell) -> nn.Cell:
    """Return a step of training with Momentum; of some networks with a scaled loss, or with decaying weights."""
    parameters, scale = loss.trainable_params(), 1024.0
    if name == "loss scale":
        optimizer = nn.Momentum(parameters, 0.02, 0.9, loss_scale=scale)
        return nn.TrainOneStepCell(loss, optimizer, sens=scale).set_train()
    if name.endswith(", decayed"):
        optimizer = nn.Momentum(parameters, 0.02, 0.9, weight_decay=0.01)
        return nn.TrainOneStepCell(loss, optimizer).set_train()
    if name == "overflow":
        optimizer = nn.Momentum(parameters, 0.02, 0.9)
        return nn.TrainOneStepWithLossScaleCell(loss, optimizer, Tensor(scale)).set_train()
    return nn.TrainOneStepCell(loss, nn.Momentum(parameters, 0.02, 0.9)).set_train()
