"""Sums and plain means over clients, of further arrays.

The server averages further arrays as it does weights, with each client's number of samples as its weight. A client that
divides its arrays by that number, and uploads 1 divided by it, lets the server calculate the plain sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Arrays, Client, Round, zeros_like

#: name of the further array by which clients count themselves; no weight is called so, as with all numbers that travel
COUNT = "clients per sample"


def first_extras(model: Arrays) -> dict[str, NDArray[np.float32]]:
    """Return zeros for each weight, and for the clients' count."""
    return {**zeros_like(model), COUNT: np.zeros(1, np.float32)}


def per_sample(client: Client, arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Return what a client uploads so that :func:`sums` finds the sums of ``arrays`` over clients."""
    shares = {name: np.asarray(values, np.float64) / client.samples for name, values in arrays.items()}
    return {**shares, COUNT: np.full(1, 1.0 / client.samples)}


def sums(round: Round) -> dict[str, NDArray[np.float64]]:
    """Return the sums over the round's clients of what they gave :func:`per_sample`."""
    samples = round.clients / float(round.extras[COUNT][0])
    return {name: values.astype(np.float64) * samples for name, values in round.extras.items() if name != COUNT}
