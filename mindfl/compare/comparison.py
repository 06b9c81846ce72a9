"""The table that compares groups of runs, as text, CSV, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mindfl import markup
from mindfl.compare.compared_runs import RunSource, find_runs
from mindfl.compare.measures import (
    DIFFERENCE,
    MEASURES,
    SHOWN,
    TARGETED,
    RunMeasure,
    Spread,
    chosen_measures,
    reached,
)
from mindfl.compare.run_groups import RunGroup, grouped, metrics_of
from mindfl.errors import OptionError
from mindfl.files import PathLike, write_atomic
from mindfl.imports import require
from mindfl.options import declared_arguments
from mindfl.options.command_options import CompareOptions, TableForm
from mindfl.sim.metrics import ACCURACY
from mindfl.sim.tables import csv_text, latex_table, markdown_table, text_table
from mindfl.spelling import counted, did_you_mean

if TYPE_CHECKING:
    from pandas import DataFrame

#: suffix of a file -> form of the table
_FORMS: dict[str, TableForm] = {".txt": "text", ".csv": "csv", ".md": "markdown", ".tex": "latex"}
_DIFFERENCE_DIGITS = 4


@dataclass(frozen=True)
class RunComparison:
    """Groups of runs and what is compared of them; :func:`compare_runs` makes it.

    Args:
        groups: the rows.
        measures: the columns, without that of the paired differences.
        baseline: the group that differences are to.
        paired: whether there is a column of differences: last AVG minus that of the baseline, over common seeds.
        target: accuracy of the columns that need one; NaN if none was given.
    """

    groups: Sequence[RunGroup]
    measures: Sequence[RunMeasure]
    baseline: RunGroup
    paired: bool
    target: float = math.nan

    def spread(self, group: RunGroup, measure: RunMeasure) -> Spread:
        """Return mean and standard deviation of a measure over the runs of a group."""
        return Spread.of(measure.value(run.result, self.target) for run in group.runs)

    def difference(self, group: RunGroup) -> Spread:
        """Return the last AVG of ``group`` minus that of the baseline, over the pairs of runs with the same seed.

        There are no pairs where the groups were measured by different metrics.
        """
        if metrics_of([group, self.baseline])[1:]:
            return Spread.of([])
        ours, theirs, value = group.by_seed, self.baseline.by_seed, MEASURES["avg"].value
        common = [seed for seed in ours if seed in theirs]
        return Spread.of(value(ours[seed].result, 0) - value(theirs[seed].result, 0) for seed in common)

    def table(self, format: TableForm = "text") -> str:
        """Return the table, ending with a line feed.

        Args:
            format: ``"text"``, ``"markdown"``, ``"latex"`` (needs the package booktabs), or ``"csv"``: unrounded, with
                mean, standard deviation (of a sample) and number of known values in columns of their own, and bytes.

        Raises:
            OptionError: there is no such format.
        """
        if format not in get_args(TableForm):
            raise OptionError(f"format is {format!r}", hint=did_you_mean(str(format), get_args(TableForm)))
        if format == "csv":
            return csv_text([self._head(), *(self._numbers(group) for group in self.groups)])
        header, rows = self._header(), [self._cells(group) for group in self.groups]
        make = {"text": text_table, "markdown": markdown_table, "latex": latex_table}[format]
        return "\n".join(make(header, rows, range(1, len(header)))) + "\n"

    def __str__(self) -> str:
        """The table as text."""
        return self.table().rstrip("\n")

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return markup.table(self._header(), self.groups, self._cells, whole=True)

    def to_pandas(self) -> DataFrame:
        """Return the numbers of the CSV table as a DataFrame. Raises :class:`OptionError` if pandas is missing."""
        require("to_pandas", "pandas")
        from pandas import DataFrame

        return DataFrame([self._numbers(group) for group in self.groups], columns=self._head())

    def records(self) -> list[dict[str, str | float]]:
        """Return the numbers of the CSV table, a dictionary for each group."""
        return [dict(zip(self._head(), self._numbers(group), strict=True)) for group in self.groups]

    def _header(self) -> list[str]:
        metrics = metrics_of(self.groups)
        titles = [measure.title.format(target=self.target) for measure in self.measures]
        if metrics != [ACCURACY]:
            words = " or ".join(metric.title for metric in metrics)
            titles = [title.replace("AVG", f"AVG {words}") for title in titles]
        return ["", "runs", *titles, *[f"AVG - {self.baseline.label}"] * self.paired]

    def _cells(self, group: RunGroup) -> list[str]:
        cells = [group.label, str(len(group.runs))]
        for measure in self.measures:
            spread = self.spread(group, measure)
            whole = spread.known == 1 and measure.name == "rounds_to_target"
            text = spread.text(0 if whole else measure.digits, unit=measure.unit)
            missed = measure.name in TARGETED and all(reached(run.result, self.target) is None for run in group.runs)
            cells.append("not reached" if missed else text)
        return [*cells, *[self._difference_words(group)] * self.paired]

    def _difference_words(self, group: RunGroup) -> str:
        if group is self.baseline:
            return "baseline"
        found = self.difference(group)
        if not found.runs:
            return "another metric" if metrics_of([group, self.baseline])[1:] else "no common seed"
        return f"{found.text(_DIFFERENCE_DIGITS, sign='+')} ({counted(found.runs, 'pair')})"

    def _head(self) -> list[str]:
        names = [f"{measure.name}_{part}" for measure in self.measures for part in ("mean", "sd", "n")]
        return ["label", "runs", *names, *[f"{DIFFERENCE}_{part}" for part in ("mean", "sd", "n")] * self.paired]

    def _numbers(self, group: RunGroup) -> list[str | float]:
        spreads = [self.spread(group, measure) for measure in self.measures]
        spreads += [self.difference(group)] * self.paired
        numbers = [number for each in spreads for number in (each.mean, each.deviation, each.known)]
        return [group.label, len(group.runs), *numbers]


@declared_arguments(CompareOptions)
def compare_runs(
    runs: Iterable[RunSource],
    *,
    columns: str | None = None,
    target: float | None = None,
    baseline: str | None = None,
) -> RunComparison:
    """Compare runs: mean and standard deviation over seeds, and differences that are paired by seed.

    Runs whose settings differ in nothing but the seed are one group, a row of the table. Its label names the settings
    that are not the same in all groups. What makes runs hard to compare is a warning.

    Args:
        runs: work folders of runs, folders of sweeps, or results. ``"name=folder"`` gives a run a label; runs with the
            same label are one group.
        columns: names of the columns, separated by commas; None: the usual ones that are known of any run.
        target: AVG whose first round and seconds are columns, 0 to 1 for an accuracy.
        baseline: label of the group that differences are to; None: the first.

    Returns:
        The comparison: ``table("latex")``, ``to_pandas()``, or printed as text.

    Raises:
        OptionError: there is no run, a folder holds none, there is no such column or baseline, or no accuracy can reach
            ``target``.
        DataError: a file of a run is damaged.

    Example:
        >>> print(compare_runs(["run"], columns="rounds,bytes_up").table("csv"), end="")
        label,runs,rounds_mean,rounds_sd,rounds_n,bytes_up_mean,bytes_up_sd,bytes_up_n
        fedavg,1,1.0,,1,531232.0,,1
    """
    groups = grouped(find_runs(runs))
    results = [run.result for group in groups for run in group.runs]
    first = _baseline(groups, baseline)
    given = math.nan if target is None else float(target)
    if given > 1 and metrics_of(groups) == [ACCURACY]:
        hint = f"accuracies are 0 to 1: {given / 100:g} is {given:g} %" if given <= 100 else "accuracies are 0 to 1"
        raise OptionError(f"no accuracy reaches --target {given:g}", hint=hint)
    comparison = RunComparison(groups, [], first, paired=False, target=given)
    if columns is not None:
        names = [name.strip() for name in columns.split(",") if name.strip()]
        chosen = chosen_measures([name for name in names if name != DIFFERENCE], results)
        if not names:
            raise OptionError("--columns names no column", hint="such as avg,best, or leave it out")
        if target is None and (asked := [each.name for each in chosen if each.name in TARGETED]):
            raise OptionError(f"the column {asked[0]} needs --target", hint="such as --target 0.7")
        return RunComparison(groups, chosen, first, paired=DIFFERENCE in names, target=given)
    measures = chosen_measures(SHOWN, results)
    shown = [each for each in measures if any(comparison.spread(group, each).known for group in groups)]
    shown = [each for each in measures if each in shown or (each.name in TARGETED and target is not None)]
    paired = len(groups) > 1 and any(comparison.difference(group).runs for group in groups if group is not first)
    return RunComparison(groups, shown, first, paired=paired, target=given)


def _baseline(groups: Sequence[RunGroup], label: str | None) -> RunGroup:
    if label is None:
        return groups[0]
    labels = [group.label for group in groups]
    if label not in labels:
        raise OptionError(f"--baseline {label!r} is no group", hint=did_you_mean(label, labels))
    return groups[labels.index(label)]


def table_form(path: PathLike) -> TableForm:
    """Return the form of a table that the suffix of ``path`` names. Raises :class:`OptionError` for other suffixes."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMS:
        raise OptionError(
            f"the name {Path(path).name} does not say the format of a table",
            hint=f"end it with {', '.join(_FORMS)}, or give --format",
        )
    return _FORMS[suffix]


def save_table(comparison: RunComparison, path: PathLike, format: TableForm | None = None) -> None:
    """Write the table as ``format``, or as the suffix of ``path`` says. Raises :class:`StorageError`."""
    write_atomic(path, comparison.table(format or table_form(path)))
