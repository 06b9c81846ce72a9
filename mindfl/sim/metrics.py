"""What a model is measured by on test data: accuracy, perplexity, or the loss of a regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mindfl.errors import OptionError
from mindfl.lite.loss_part import LabelKind
from mindfl.options.job_options import MetricName


@dataclass(frozen=True)
class Measure:
    """A measure of a model on test samples.

    Args:
        name: value of the option ``metric``.
        title: name in words, beside the loss of the training.
        lower_is_better: whether smaller values are better.
        of_classes: whether it needs labels that are classes.
    """

    name: MetricName
    title: str
    lower_is_better: bool
    of_classes: bool

    def better(self, value: float, other: float) -> bool:
        """Return whether ``value`` is better than ``other``. Every number is better than NaN, and NaN never is better.

        Example:
            >>> METRICS["perplexity"].better(2.5, 7.0), ACCURACY.better(0.5, math.nan), ACCURACY.better(0.5, 0.5)
            (True, True, False)
        """
        if math.isnan(other):
            return not math.isnan(value)
        return value < other if self.lower_is_better else value > other

    def summand(self, value: float) -> float:
        """Return what is averaged over samples to average this metric: of a perplexity its logarithm."""
        return math.log(value) if self.name == "perplexity" and value > 0 else value

    def of_mean(self, mean: float) -> float:
        """Return the metric that belongs to a mean of what :meth:`summand` returns."""
        return perplexity(mean) if self.name == "perplexity" else mean


ACCURACY = Measure("accuracy", "accuracy", lower_is_better=False, of_classes=True)
METRICS: dict[str, Measure] = {
    metric.name: metric
    for metric in (
        ACCURACY,
        Measure("perplexity", "perplexity", lower_is_better=True, of_classes=True),
        Measure("loss", "test loss", lower_is_better=True, of_classes=False),
    )
}


def perplexity(cross_entropy: float) -> float:
    """Return the perplexity of a mean cross entropy; infinity where it is too large for a float."""
    try:
        return math.exp(cross_entropy)
    except OverflowError:
        return math.inf


def chosen_metric(kind: LabelKind | None, name: str | None = None) -> Measure:
    """Return the metric ``name``, by default that which belongs to the kind of labels.

    Raises :class:`OptionError` for a metric of classes where the labels are numbers to predict.
    """
    if name is None:
        return METRICS["loss"] if kind == "targets" else ACCURACY
    if kind == "targets" and METRICS[name].of_classes:
        raise OptionError(
            f"--metric {name} does not fit: the model predicts numbers, and {name} needs classes",
            hint="leave it out: a regression is measured by its loss",
        )
    return METRICS[name]
