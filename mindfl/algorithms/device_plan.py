"""What a stock device has to do for an algorithm: one that runs MindSpore Lite's training graph and cannot change it.

Such a device (MindSpore Lite's Java, C and HarmonyOS interfaces) reads and sets weights between two steps; the
optimizer is inside the graph. With v' = m v + g and w' = w_k - lr v', a correction c_k of the gradient at w_k adds
c_k, m c_k, m^2 c_k, ... to this velocity and the ones after it. A companion buffer u' = m u + c_k, from zero, holds
the sum, and w'' = w' - lr u' is the step with the corrected gradient: exact, because the update is linear in the
gradients. With a factor s of the gradient it is w'' = w_k + s (w' - w_k) - lr u'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mindfl.algorithms.algorithm import Algorithm, Client, Correction, Training, replaced
from mindfl.algorithms.listing import amount, probe, probing
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
        optimizer: ``momentum``, ``sgd`` or ``adam``.
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
        optimizer: the optimizer in the device's graph: ``momentum``, ``sgd`` or ``adam``.
        momentum: its momentum, at least 0 and below 1; for ``momentum`` alone.

    Raises:
        OptionError: there is no such algorithm or optimizer, or ``momentum`` is out of range.
        AlgorithmError: a method of the algorithm fails.

    Example:
        >>> device_plan("fedprox", optimizer="sgd").after_step
        ('w = w - lr * c',)
        >>> device_plan("fedadam").changed
        False
    """
    made = make_algorithm(algorithm)
    plan = DevicePlan(algorithm=describe(made), optimizer=optimizer, names={})
    if not replaced(made) - {"state", "step"}:
        return replace(plan, changed=False)
    with probing(made):
        return _plan_of(made, plan, momentum if optimizer == "momentum" else 0.0)


def _plan_of(made: Algorithm, plan: DevicePlan, factor: float) -> DevicePlan:
    client = _returning(made)
    correction, training = made.begin(client), made.personal_training(client)
    if reason := _obstacle(made, plan.optimizer, correction, training):
        return replace(plan, possible=False, reason=reason)
    lines = _Formulas(made, factor)
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
    return replace(client, memory=algorithm.end(client).memory)


def _obstacle(algorithm: Algorithm, optimizer: str, correction: Correction | None, training: Training | None) -> str:
    """Return why a stock device cannot do it; empty where it can."""
    if optimizer != "adam":
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
        if correction is None:
            return (), ()
        before, after = self._corrected(correction) if _corrects(correction) else ([], [])
        if correction.after:
            after.append("w = w + b")
            self._name("w", "b")
        return tuple(before), tuple(after)

    def _corrected(self, correction: Correction) -> tuple[list[str], list[str]]:
        self._values |= {"scale": correction.scale, "pull": correction.pull}
        terms = [*(["a"] if correction.shift else []), *(["mu * (w_k - x)"] if correction.pull else [])]
        before = ["w_k = w", *([f"c = {' + '.join(terms)}"] if terms else [])]
        after = ["u = m * u + c"] if terms and self._momentum else []
        moved = "w" if correction.scale == 1 else "w_k + s * (w - w_k)"
        after.append(f"w = {moved}" + (f" - lr * {'u' if self._momentum else 'c'}" if terms else ""))
        used = ["w", "w_k", *(["c", "lr"] if terms else []), *(["u", "m"] if terms and self._momentum else [])]
        used += ["s"] if correction.scale != 1 else []
        used += ["a"] if correction.shift else []
        self._name(*used, *(["x", "mu"] if correction.pull else []))
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
        scale = training.correction.scale if training.correction is not None else 1.0
        self._values |= {"share": training.share, "scale": scale}
        self._name("w", "w_k", "w_c", "v", "p", "s")
        return (
            "in a session of its own, in turn with each step of the model and on the same batch:",
            "before each step: w_k = p * v + (1 - p) * w_c",
            "before each step: w = w_k",
            "after each step: v = v + s * (w - w_k)",
        )

    def _name(self, *names: str) -> None:
        self.names |= {name: _NAMES[name].format(**self._values) for name in names if name not in self.names}


def _before(algorithm: Algorithm, client: Client) -> Iterator[str]:
    if algorithm.needs_initial_loss:
        yield "evaluate the mean loss of the received weights on the training samples"
    if own := algorithm.start(client):
        yield f"set the client's own values of {amount(own)}; in its first round the received ones"


def _after(algorithm: Algorithm, client: Client) -> Iterator[str]:
    upload = algorithm.end(client)
    if upload.extras:
        yield f"upload {amount(upload.extras)} beside the weights, by the algorithm's formula"
    if upload.memory:
        yield f"keep {amount(upload.memory)} for the client's next round"
    if upload.weights:
        yield f"upload the received values of {amount(upload.weights)} in place of the trained ones"
    if algorithm.personal(client):
        yield "evaluate with the client's own weights"
