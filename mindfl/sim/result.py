"""The outcome of a training job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindfl.files import PathLike
from mindfl.sim.history import History
from mindfl.sim.plot import plot_history


def weight_hash(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Return the SHA-256 (hex) over names and little-endian float32 values, names ascending."""
    digest = hashlib.sha256()
    for name in sorted(weights, key=str.encode):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(weights[name], "<f4").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class TrainingResult:
    """History and final weights (flat float32 by name, convolutions KHWC) of a job; ``title`` names job and data.

    ``privacy`` says what the iterations cost in privacy; empty where that is not counted.
    ``iterations`` is how many were asked for: ``history`` is shorter where the run was interrupted.
    """

    title: str
    iterations: int
    history: History
    weights: Mapping[str, NDArray[np.float32]]
    privacy: str = ""

    @property
    def hash(self) -> str:
        """Hash of the final weights; see :func:`weight_hash`."""
        return weight_hash(self.weights)

    def plot(self, path: PathLike) -> None:
        """Draw AVG, TOP5 and LOW5 over the iterations as a PNG."""
        plot_history(self.history, path, title=self.title)

    def summary(self) -> str:
        """Return a few lines: what ran, final accuracies, speed, and the hash of the weights."""
        done = len(self.history)
        lines = [self.title]
        if done < self.iterations:
            lines.append(f"interrupted after {done} of {self.iterations} iterations")
        if done:
            first, last = self.history[0], self.history[-1]
            seconds = sum(self.history.column("seconds"))
            steps = sum(self.history.column("steps"))
            lines += [
                f"{done} iteration{'s' * (done > 1)} of {last.clients} clients, {steps:,} steps in {seconds:.1f} s"
                f" ({steps / seconds if seconds else 0:,.0f} steps/s)",
                f"AVG {last.avg:.4f}  TOP5 {last.top5:.4f}  LOW5 {last.low5:.4f}  loss {last.loss:.4f}"
                f"  (after the first iteration: AVG {first.avg:.4f})",
            ]
        lines += filter(None, [self.privacy])
        lines.append(f"weights sha256 {self.hash}")
        return "\n".join(lines)
