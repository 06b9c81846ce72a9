"""The seam of federated algorithms: :class:`Algorithm`, and what its methods are given and return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.local_optimizer import LocalOptimizer

#: flat arrays by name
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """Every local step uses ``scale * g + shift + pull * (w - towards)`` in place of the gradient g.

    Args:
        scale: factor of the gradient.
        shift: one flat float32 array per weight that is shifted; weights that are missing are not.
        pull: strength of the pull towards ``towards``, at least 0.
        towards: one flat float32 array per weight that is pulled; weights that are missing are not. Needed where
            ``pull`` is not 0.
        after: one flat float32 array per weight that is moved by it after each step, outside the optimizer: its
            momentum does not know of it. Weights that are missing are not moved.
    """

    scale: float = 1.0
    shift: Arrays = field(default_factory=dict)
    pull: float = 0.0
    towards: Arrays = field(default_factory=dict)
    after: Arrays = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """One client in one iteration, as an algorithm sees it. Its arrays are read-only and reused: copy what you keep.

    Args:
        name: the client's name.
        iteration: the iteration's number, from 1.
        received: the weights that the client began with, flat float32 by name.
        extras: the further arrays that came with them (:meth:`Algorithm.extras`).
        memory: what :meth:`Algorithm.end` kept in the client's latest iteration; empty before its first.
        learning_rate: that of the local training.
        batch_size: samples per step.
        epochs: passes over the training samples.
        samples: number of training samples.
        population: number of clients of the job, whether or not they take part in this iteration.
        optimizer: that of the local training.
        layers: names of the network's layers, from input to output: what the names of their weights begin with.
        initial_loss: mean loss of the received weights on the training samples; nan unless the algorithm asks for it
            (:attr:`Algorithm.needs_initial_loss`).
        trained: the weights after training; empty before.
        personal: the weights after the personal training (:meth:`Algorithm.personal_training`); empty without.
        steps: steps that were trained; 0 before.
        loss: mean loss of the last epoch; nan before.
    """

    name: str
    iteration: int
    received: Arrays
    extras: Arrays
    memory: Arrays
    learning_rate: float
    batch_size: int
    epochs: int
    samples: int
    population: int
    optimizer: LocalOptimizer
    layers: tuple[str, ...] = ()
    initial_loss: float = float("nan")
    trained: Arrays = field(default_factory=dict)
    personal: Arrays = field(default_factory=dict)
    steps: int = 0
    loss: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A training of a client beside that of the model: of a model v, which has the same layers, on the same batches.

    Args:
        start: the weights that it begins with, flat float32 by name; weights that are missing are the received ones.
        correction: what its gradients are corrected by; None: nothing.
        share: its gradients are those at ``share * v + (1 - share) * w``, where w is the model in training. With 1 they
            are its own, and it is trained before the model. Else the two take their steps in turn, both from what v and
            w were before the turn; a correction's pull acts on the mixture.
    """

    start: Arrays = field(default_factory=dict)
    correction: Correction | None = None
    share: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Upload:
    """What a client adds to its trained weights.

    Args:
        extras: values of the further arrays, which travel to the server; those that are missing go back as they came.
        memory: arrays of any numeric type that this client is given in its next iteration.
        weights: weights that are uploaded in place of the trained ones, so that these stay on the device.
    """

    extras: Arrays = field(default_factory=dict)
    memory: Arrays = field(default_factory=dict)
    weights: Arrays = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientUpload:
    """The upload of one client as the server reads it. Its arrays are read-only.

    Args:
        client: the client's id, by which the uploads of a round are sorted.
        samples: samples of the client's training, as it told.
        weights: its weights, flat float32 by name. Weights that it did not upload, or that the job keeps constant, are
            those of the model that the round began with.
        extras: the further arrays that it uploaded, likewise.
    """

    client: str
    samples: int
    weights: Arrays
    extras: Arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """One iteration as the server sees it when all uploads are there. Its arrays are read-only.

    Args:
        iteration: the iteration's number, from 1.
        model: the weights that the clients began with, flat float32 by name.
        average: the mean of the clients' weights, weighted by their samples.
        sent: the further arrays that the clients were given.
        extras: the mean of those that they uploaded, also weighted by the clients' samples.
        state: what :meth:`Algorithm.step` kept in the latest iteration; at first :meth:`Algorithm.state`.
        clients: number of uploads.
        uploads: the single uploads, in an order that does not depend on which came first. Only for algorithms with
            :attr:`Algorithm.needs_uploads`; else empty.
    """

    iteration: int
    model: Arrays
    average: Arrays
    sent: Arrays
    extras: Arrays
    state: Arrays
    clients: int
    uploads: Sequence[ClientUpload] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What the server does at the end of an iteration.

    Args:
        model: the next model: an array of numbers per weight, kept as float32.
        state: the server's state, arrays of any numeric type.
        extras: the further arrays that clients get with the model; those that are missing keep their values.
    """

    model: Arrays
    state: Arrays = field(default_factory=dict)
    extras: Arrays = field(default_factory=dict)


class Algorithm:
    """FedAvg (arXiv 1602.05629): clients train plainly, and the next model is the mean weighted by their samples.

    A subclass replaces the methods that differ. They must depend on their arguments and on the settings alone: what is
    remembered is returned as named arrays, and an attribute that changes is refused.

    Example:
        >>> class FedProx(Algorithm):
        ...     def __init__(self, mu: float = 0.1) -> None:
        ...         self.mu = mu
        ...
        ...     def begin(self, client: Client) -> Correction:
        ...         return Correction(pull=self.mu, towards=client.received)
    """

    #: whether what clients calculate holds only where updates are weighted sums of gradients (SGD, momentum)
    needs_linear_optimizer: ClassVar[bool] = False
    #: whether clients evaluate the received model on their training samples before they train
    needs_initial_loss: ClassVar[bool] = False
    #: whether :meth:`step` uses :attr:`Round.uploads`. The server then keeps each upload until the iteration ends
    needs_uploads: ClassVar[bool] = False
    #: whether one client trains on the samples of all, and the others are evaluated only; for a simulation alone
    pools_data: ClassVar[bool] = False
    #: the shift of :meth:`begin`'s correction as a formula, for who writes the client's part elsewhere
    shift_formula: ClassVar[str] = "what the algorithm shifts gradients by"
    #: likewise the move ``after`` each step
    move_formula: ClassVar[str] = "what the algorithm moves weights by"

    @property
    def is_fedavg(self) -> bool:
        """Whether, with its settings, it is plain federated averaging."""
        return type(self) is Algorithm

    def extras(self, model: Arrays) -> Arrays:
        """Return the further arrays that travel beside the weights, both ways.

        Args:
            model: the weights that the job begins with, flat float32 by name.

        Returns:
            Their first values; kept flat and as float32.
        """
        return {}

    def state(self, model: Arrays) -> Arrays:
        """Return the server's state before the first iteration.

        Args:
            model: the weights that the job begins with, flat float32 by name.

        Returns:
            Arrays of any shape and numeric type by name.
        """
        return {}

    def start(self, client: Client) -> Arrays | None:
        """Return the weights that a client begins with in place of the received ones, by name; None: none.

        Such weights are personal: the client is evaluated with them too, with its memory after training.
        """
        return None

    def personal(self, client: Client) -> Arrays | None:
        """Return the weights that a client is evaluated with in place of the received ones, by name; None: none.

        By default they are those of :meth:`start`.
        """
        return self.start(client)

    def personal_training(self, client: Client) -> Training | None:
        """Return a second training, before that of the model or in turn with it; :meth:`end` gets its weights."""
        return None

    def begin(self, client: Client) -> Correction | None:
        """Return what a client corrects its gradients by, before it trains; None: nothing."""
        return None

    def end(self, client: Client) -> Upload:
        """Return what a client uploads beside its weights, and what it remembers, after it trained."""
        return Upload(memory=client.memory)

    def uploads_fault(self, clients: int) -> str:
        """Return why uploads of that many clients do not suffice for :meth:`step`; empty: they do.

        A job whose iterations all have the same number of clients is refused with it before it begins, any other at the
        iteration that has too few.
        """
        return ""

    def step(self, round: Round) -> Step:
        """Return the next model, at the end of an iteration that received all of its uploads.

        Example:
            >>> class Halfway(Algorithm):
            ...     def step(self, round: Round) -> Step:
            ...         return Step(model={name: (old + round.average[name]) / 2 for name, old in round.model.items()})
        """
        return Step(model=round.average, state=round.state)


def replaced(algorithm: Algorithm) -> frozenset[str]:
    """Return the names of the methods in which ``algorithm`` differs from FedAvg.

    Example:
        >>> replaced(Algorithm())
        frozenset()
    """
    if algorithm.is_fedavg:
        return frozenset()
    methods = ("extras", "state", "start", "personal", "personal_training", "begin", "end", "step")
    return frozenset(name for name in methods if getattr(type(algorithm), name) is not getattr(Algorithm, name))


def zeros_like(model: Arrays) -> dict[str, NDArray[np.float32]]:
    """Return float32 zeros of the model's names and sizes, the usual first state."""
    return {name: np.zeros(np.size(values), np.float32) for name, values in model.items()}
