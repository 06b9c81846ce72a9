"""An algorithm at work in a server's job: its further arrays beside the weights, its state, and its step, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm, Arrays, ClientUpload, Round, Step, replaced
from mindfl.algorithms.checks import Checked, Fault, flat32, kept, lent, named
from mindfl.algorithms.naming import describe, make_algorithm
from mindfl.algorithms.running_statistics import is_statistic, without_negative_variances
from mindfl.errors import AlgorithmError, OptionError

if TYPE_CHECKING:
    from mindfl.modes import UploadMode

#: what the names of an algorithm's further arrays begin with where they travel beside the weights
EXTRA = "mindfl.extra/"
FEWER_HINT = "let more clients take part in an iteration, or change the algorithm's settings"


class ServerAlgorithm:
    """The server's side of ``algorithm`` (None: FedAvg).

    Args:
        algorithm: the user's object.
        constant: names of weights that keep their values.
    """

    def __init__(self, algorithm: Algorithm | None = None, constant: Set[str] = frozenset()) -> None:
        self._checked = Checked(algorithm or Algorithm())
        self._constant = constant
        self._averages = replaced(self._checked.algorithm).isdisjoint(("extras", "state", "step"))
        self.needs_uploads = self._checked.algorithm.needs_uploads
        self.description = "" if self._checked.algorithm.is_fedavg else self._checked.name

    def check(self, mode: UploadMode, clients: int | None = None) -> None:
        """Raise as :func:`check_uploads` does."""
        check_uploads(self._checked.algorithm, mode, clients)

    def first(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return ``model`` (float32, any shape, not changed) with the algorithm's further arrays.

        Raises :class:`OptionError` where a weight has the name of one, :class:`AlgorithmError` for unusable arrays.
        """
        if not self.description:
            return dict(model)
        if reserved := [name for name in model if name.startswith(EXTRA)]:
            raise OptionError(f"the weight {reserved[0]} has a name that begins with {EXTRA}, which is reserved")
        fault = self._fault(0)
        extras = self._checked.call("extras", lent(model), object, fault)
        return {**model, **marked(flat32(extras, "extras", fault))}

    def first_state(self, sent: Arrays) -> dict[str, NDArray[Any]]:
        """Return the state before the first iteration. Raises :class:`AlgorithmError`."""
        fault = self._fault(0)
        return kept(self._checked.call("state", lent(split(sent)[0]), object, fault), "state", fault)

    def next(
        self,
        iteration: int,
        sent: Arrays,
        average: Arrays,
        state: Arrays,
        clients: int,
        uploads: Sequence[tuple[str, int, Arrays]] = (),
    ) -> tuple[Arrays, Mapping[str, NDArray[Any]]]:
        """Return what the clients are sent next, and the next state.

        The running statistics of BatchNorm become the weighted mean, whatever the algorithm does with weights; one that
        needs single uploads treats them as weights. A running variance below 0 becomes 0.

        Args:
            iteration: number of the iteration that ends.
            sent: weights and further arrays that the clients began with, flat float32 by name.
            average: the weighted mean of their uploads, likewise.
            state: the algorithm's state.
            clients: number of uploads.
            uploads: client, samples and arrays of each upload, where the algorithm ``needs_uploads``.

        Raises:
            AlgorithmError: there are too few uploads, or the algorithm's ``step`` failed or returned unusable arrays.
        """
        if self._averages:
            return without_negative_variances(average), state
        (model, extras), (mean, uploaded) = split(sent), split(average)
        given = Round(
            iteration=iteration,
            model=model,
            average=mean,
            sent=extras,
            extras=uploaded,
            state=state,
            clients=clients,
            uploads=[_uploaded(*upload) for upload in uploads],
        )
        fault = self._fault(iteration)
        if cause := self._checked.call("uploads_fault", clients, str, fault):
            raise fault(cause, FEWER_HINT)
        made = self._checked.call("step", given, Step, fault)
        weights = flat32(made.model, "model", fault, like=model)
        if not self.needs_uploads:
            weights.update({name: mean[name] for name in mean if is_statistic(name)})
        weights.update({name: model[name] for name in self._constant if name in model})
        further = flat32({**extras, **named(made.extras, "extras", fault)}, "extras", fault, like=extras)
        return {**without_negative_variances(weights), **marked(further)}, kept(made.state, "state", fault)

    def _fault(self, iteration: int) -> Fault:
        return partial(_error, self._checked.name, iteration)


def check_uploads(algorithm: Algorithm, mode: UploadMode, clients: int | None) -> None:
    """Raise :class:`OptionError` where ``algorithm`` cannot calculate with a job's single uploads.

    Args:
        algorithm: the job's algorithm.
        mode: how clients upload.
        clients: number of uploads of each iteration; None: it differs.
    """
    if algorithm.needs_uploads and (reason := mode.uploads_fault):
        hint = "choose encrypt_type NOT_ENCRYPT or DP_ENCRYPT, or an algorithm that needs sums alone, such as fedavg"
        raise refusal(algorithm, f"it needs single uploads, and {reason}", hint)
    fault = partial(refusal, algorithm)
    if clients is not None and (reason := Checked(algorithm).call("uploads_fault", clients, str, fault)):
        raise fault(reason, FEWER_HINT)


def refusal(algorithm: Algorithm, reason: str, hint: str) -> OptionError:
    """Return the error for a job with which ``algorithm`` does not work."""
    return OptionError(f"algorithm {describe(algorithm)} does not work here: {reason}", hint=hint)


def served(given: str | Algorithm) -> Algorithm:
    """Return the algorithm that ``given`` is or names, for a server whose clients are devices of others.

    Raises :class:`OptionError` if there is none, or clients would have to do more than train.
    """
    algorithm = make_algorithm(given)
    if foreign := sorted(replaced(algorithm) - {"state", "step"}):
        raise refusal(
            algorithm,
            f"it replaces {', '.join(foreign)}, and devices only train",
            "an algorithm that replaces step and state alone works; `mindfl simulate --algorithm` has all others",
        )
    if algorithm.pools_data:
        raise refusal(algorithm, "the data of devices are not in one place", "mindfl simulate has them")
    return algorithm


def marked(extras: Arrays) -> dict[str, NDArray[Any]]:
    """Return further arrays by the names by which they travel."""
    return {EXTRA + name: values for name, values in extras.items()}


def split(arrays: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the weights among ``arrays`` as they travel, and an algorithm's further arrays by its own names."""
    weights = {name: values for name, values in arrays.items() if not name.startswith(EXTRA)}
    return weights, {name[len(EXTRA) :]: arrays[name] for name in arrays.keys() - weights.keys()}


def _uploaded(client: str, samples: int, arrays: Arrays) -> ClientUpload:
    weights, extras = split(arrays)
    return ClientUpload(client=client, samples=samples, weights=weights, extras=extras)


def _error(algorithm: str, iteration: int, cause: str, hint: str) -> AlgorithmError:
    return AlgorithmError(algorithm, iteration, cause, hint=hint)
