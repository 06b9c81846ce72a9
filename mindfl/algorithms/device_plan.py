"""What a stock device has to do for an algorithm: one that runs MindSpore Lite's training graph and cannot change it.

Such a device (MindSpore Lite's Java, C and HarmonyOS interfaces) reads and sets weights between two steps; the
optimizer is inside the graph. With v' = m v + g and w' = w_k - lr v', a correction c_k of the gradient at w_k adds
c_k, m c_k, m^2 c_k, ... to this velocity and the ones after it. A companion buffer u' = m u + c_k, from zero, holds
the sum, and w'' = w' - lr u' is the step with the corrected gradient: exact, because the update is linear in the
gradients. With a factor s of the gradient it is w'' = w_k + s (w' - w_k) - lr u'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mindfl.algorithms.algorithm import Algorithm, Client, Correction, Training, Upload, replaced
from mindfl.algorithms.listing import amount, asked, probe
from mindfl.algorithms.naming import describe, make_algorithm
from mindfl.options import declared_arguments
from mindfl.options.command_options import PlanOptions
from mindfl.options.job_options import OptimizerName

#: what the names in the formulas stand for
_NAMES = {
    "w": "the weights in the device's graph, read and set with its interface",
    "w_k": "the weights before the step",
    "x": "the received weights",
    "c": "the correction of the gradient at w_k",
    "u": "the companion buffer, of the weights' size",
    "lr": "the learning rate of the round, from the plan",
    "m": "the optimizer's momentum: {momentum:g}",
    "s": "factor of the gradient: {scale:g}",
    "mu": "strength of the pull: {pull:g}",
    "a": "the shift: {shift}",
    "b": "the move of the weights after each step: {move}",
    "v": "the client's own weights, kept from round to round; in its first round they begin with x",
    "p": "share of the client's own weights in the mixture: {share:g}",
    "w_c": "the weights of the common model, in a second session with an optimizer state of its own",
}


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """What a stock device does beside training as it is.

    The formulas are assignments of arrays over all weights, in Python's notation.

    Args:
        algorithm: name and settings.
        optimizer: ``momentum``, ``sgd``, ``adam`` or ``adam_weight_decay``.
        possible: whether a stock device can do it.
        reason: why it cannot; empty where it can.
        changed: whether anything is to be done.
        before_training: formulas and tasks before the first step of a round.
        before_step: formulas before each step.
        after_step: formulas after each step.
        after_training: tasks after the last step of a round.
        personal: the same in a second training, of the client's own weights; empty without one.
        names: what the names in the formulas stand for.
        limits: what the formulas need.
    """

    algorithm: str
    optimizer: str
    possible: bool = True
    reason: str = ""
    changed: bool = True
    before_training: tuple[str, ...] = ()
    before_step: tuple[str, ...] = ()
    after_step: tuple[str, ...] = ()
    after_training: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    names: dict[str, str]
    limits: str = ""


@declared_arguments(PlanOptions)
def device_plan(
    algorithm: Algorithm | str = "fedavg", *, optimizer: OptimizerName = "momentum", momentum: float = 0.9
) -> DevicePlan:
    """Return what a stock device has to do for an algorithm.

    Args:
        algorithm: the algorithm, as for :func:`mindfl.algorithms.naming.make_algorithm`.
        optimizer: the optimizer in the device's graph: ``momentum``, ``sgd``, ``adam`` or ``adam_weight_decay``.
        momentum: its momentum, at least 0 and below 1; for ``momentum`` alone.

    Raises:
        OptionError: there is no such algorithm or optimizer, ``momentum`` is out of range, or an algorithm of the
            user's own fails.

    Example:
        >>> device_plan("fedprox", optimizer="sgd").after_step
        ('w = w - lr * c',)
        >>> device_plan("fedadam").changed
        False
    """
    made = make_algorithm(algorithm)
    plan = DevicePlan(algorithm=describe(made), optimizer=optimizer, names={})
    if made.pools_data:
        return replace(plan, possible=False, reason="it trains on the samples of all clients in one place")
    if not replaced(made) - {"state", "step"}:
        return replace(plan, changed=False)
    client = _returning(made)
    correction = asked(made, "begin", client, Correction, optional=True)
    training = asked(made, "personal_training", client, Training, optional=True)
    if reason := _obstacle(made, optimizer, correction, training):
        return replace(plan, possible=False, reason=reason)
    lines = _Formulas(made, momentum if optimizer == "momentum" else 0.0)
    before_step, after_step = lines.step(correction)
    found = replace(
        plan,
        before_training=(*(("u = 0 * w",) if "u" in lines.names else ()), *_before(made, client)),
        before_step=before_step,
        after_step=after_step,
        after_training=tuple(_after(made, client)),
        personal=lines.personal(training),
    )
    limits = "the update must be linear in the gradients: no clipping by norm inside the graph"
    return replace(found, names=lines.names, limits=limits if _is_corrected(correction, training) else "")


def _returning(algorithm: Algorithm) -> Client:
    """Return a client that has taken part before, so that its memory is filled."""
    client = probe(algorithm)
    return replace(client, memory=asked(algorithm, "end", client, Upload).memory)


def _obstacle(algorithm: Algorithm, optimizer: str, correction: Correction | None, training: Training | None) -> str:
    """Return why a stock device cannot do it; empty where it can."""
    if optimizer not in ("adam", "adam_weight_decay"):
        return ""
    if algorithm.needs_linear_optimizer:
        return "it divides updates by the sum of the factors of their gradients, and with Adam there is no such sum"
    if _is_corrected(correction, training):
        return (
            "Adam divides each step by the root of its second moment: its update is not linear in the gradients, and "
            "nothing done after a step equals a corrected gradient; mindfl's own runtime corrects inside the graph"
        )
    return ""


def _is_corrected(correction: Correction | None, training: Training | None) -> bool:
    own = training is not None and (_corrects(training.correction) or training.share < 1)
    return own or _corrects(correction)


def _corrects(correction: Correction | None) -> bool:
    """Return whether gradients are changed; a move after each step does not change them."""
    return correction is not None and bool(correction.scale != 1 or correction.shift or correction.pull)


class _Formulas:
    """The formulas of corrected steps with a momentum (0: SGD), and the ``names`` that they use."""

    def __init__(self, algorithm: Algorithm, momentum: float) -> None:
        self.names: dict[str, str] = {}
        self._values: dict[str, object] = {
            "shift": algorithm.shift_formula,
            "move": algorithm.move_formula,
            "momentum": momentum,
        }
        self._momentum = momentum

    def step(self, correction: Correction | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what comes before and after a step."""
        before: list[str] = []
        after: list[str] = []
        if correction is not None and _corrects(correction):
            self._name("w", "w_k")
            moved = "w = w" if correction.scale == 1 else "w = w_k + s * (w - w_k)"
            before, after = self._corrected(correction, "w_k = w", moved)
        if correction is not None and correction.after:
            after.append("w = w + b")
            self._name("w", "b")
        return tuple(before), tuple(after)

    def _corrected(self, correction: Correction, *step: str) -> tuple[list[str], list[str]]:
        """Return what comes before and after a ``step``: what is done before it, and what it moves, both plainly."""
        *before, moved = step
        self._values |= {"scale": correction.scale, "pull": correction.pull}
        terms = [*(["a"] if correction.shift else []), *(["mu * (w_k - x)"] if correction.pull else [])]
        after: list[str] = []
        if terms:
            before.append(f"c = {' + '.join(terms)}")
            self._name("c", "lr")
            if self._momentum:
                after.append("u = m * u + c")
                self._name("u", "m")
            moved += f" - lr * {'u' if self._momentum else 'c'}"
        after.append(moved)
        used = {"s": "s * (" in moved, "a": correction.shift, "x": correction.pull, "mu": correction.pull}
        self._name(*(name for name, needed in used.items() if needed))
        return before, after

    def personal(self, training: Training | None) -> tuple[str, ...]:
        """Return the second training, of the client's own weights."""
        if training is None:
            return ()
        if training.share < 1:
            return self._mixed(training)
        before, after = self.step(training.correction)
        self._name("w", "x", "v")
        fresh = ["u = 0 * w"] if "u" in self.names else []
        steps = [f"before each step: {line}" for line in before] + [f"after each step: {line}" for line in after]
        return (
            "before the training of the model, in as many steps, with a fresh optimizer state:",
            *("w = v", *fresh, *steps, "v = w"),
            "then w = x, with a fresh optimizer state",
        )

    def _mixed(self, training: Training) -> tuple[str, ...]:
        correction = training.correction or Correction()
        self._values |= {"share": training.share}
        self._name("w", "w_k", "w_c", "v", "p")
        mixture = "w_k = p * v + (1 - p) * w_c"
        before, after = self._corrected(correction, mixture, "w = w_k", "v = v + s * (w - w_k)")
        if correction.after:
            after.append("v = v + b")
            self._name("b")
        return (
            "in a session of its own, in turn with each step of the model and on the same batch:",
            *(["u = 0 * w"] if "u" in self.names else []),
            *(f"before each step: {line}" for line in before),
            *(f"after each step: {line}" for line in after),
        )

    def _name(self, *names: str) -> None:
        self.names |= {name: _NAMES[name].format(**self._values) for name in names if name not in self.names}


def _before(algorithm: Algorithm, client: Client) -> Iterator[str]:
    if algorithm.needs_initial_loss:
        yield "evaluate the mean loss of the received weights on the training samples"
    if own := asked(algorithm, "start", client, Mapping, optional=True):
        yield f"set the client's own values of {amount(own)}; in its first round the received ones"


def _after(algorithm: Algorithm, client: Client) -> Iterator[str]:
    upload = asked(algorithm, "end", client, Upload)
    if upload.extras:
        yield f"upload {amount(upload.extras)} beside the weights, by the algorithm's formula"
    if upload.memory:
        yield f"keep {amount(upload.memory)} for the client's next round"
    if upload.weights:
        yield f"upload the received values of {amount(upload.weights)} in place of the trained ones"
    if asked(algorithm, "personal", client, Mapping, optional=True):
        yield "evaluate with the client's own weights"
