"""LEAF's network for the next character of Shakespeare's plays."""

from __future__ import annotations

from typing import Any

from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_least
from mindfl.models.network_inputs import Input

_nn = import_mindspore().nn


class CharLSTM(_nn.Cell):  # type: ignore[misc, name-defined]
    """Character LSTM: int32 ids of characters [N, length] -> logits of the next character, float32 [N, num_class].

    An embedding of ``embedding`` values a character, ``layers`` layers of LSTM with ``hidden`` values, and a dense
    layer on the last step's. 822,570 values for 90 characters (Caldas et al. 2018, "LEAF: A Benchmark for Federated
    Settings"; TensorFlow's LSTM has one bias where MindSpore's and PyTorch's have two: 820,522).

    Args:
        num_class: number of outputs, at least 1: the characters that may follow.
        length: characters of a sample, at least 1.
        vocabulary: number of different characters, at least 1.
        embedding: values for each character, at least 1.
        hidden: values of the state of each layer, at least 1.
        layers: number of LSTM layers, at least 1.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in CharLSTM().trainable_params())
        822570
    """

    def __init__(
        self,
        num_class: int = 90,
        *,
        length: int = 80,
        vocabulary: int = 90,
        embedding: int = 8,
        hidden: int = 256,
        layers: int = 2,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_least(num_class=num_class, length=length, vocabulary=vocabulary)
        check_least(embedding=embedding, hidden=hidden, layers=layers)
        self.inputs = (Input((length,), "int32", vocabulary),)
        self.embedding = _nn.Embedding(vocabulary, embedding)
        self.lstm = _nn.LSTM(embedding, hidden, num_layers=layers, batch_first=True)
        self.head = _nn.Dense(hidden, num_class)
        set_weights(self, init, seed)

    def construct(self, ids: Any) -> Any:
        """Return the logits of the character after each row of ``ids``."""
        steps, _ = self.lstm(self.embedding(ids))
        return self.head(steps[:, -1])
