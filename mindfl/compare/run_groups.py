"""Groups of runs that differ in their seed alone, and what makes runs of different groups hard to compare."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindfl.algorithms.naming import canonical, pools_data
from mindfl.compare.compared_runs import ComparedRun
from mindfl.notices import warn
from mindfl.sim.metrics import ACCURACY, Measure
from mindfl.sim.result import Result
from mindfl.sim.run_record import DECIDING, recorded_rate

#: settings that decide what a run is, beside its seed and files; others, such as --workers, do not split a group
_NAMES = (*(name for name in DECIDING if name != "seed"), "iterations", "evaluate", "metric", "callbacks", "dp_budget")
#: those that the label names by their value alone
_BARE = ("algorithm", "model", "train_dataset")


@dataclass(frozen=True)
class RunGroup:
    """Runs whose settings differ in nothing but the seed, or that the user gave one label.

    Args:
        label: what sets it apart, such as ``fedprox:mu=0.1``.
        runs: in the order in which they were given.
    """

    label: str
    runs: tuple[ComparedRun, ...]

    @property
    def by_seed(self) -> Mapping[int, ComparedRun]:
        """The runs whose seed no other run of the group has."""
        counts = Counter(run.seed for run in self.runs)
        return {run.seed: run for run in self.runs if run.seed is not None and counts[run.seed] == 1}


def grouped(runs: Sequence[ComparedRun]) -> list[RunGroup]:
    """Return the groups of ``runs``, in the order of their first runs.

    A run with the settings and the seed of an earlier one does not count. It is named in a warning, as are runs that
    can hardly be compared with the others.
    """
    identities = {run.name: identity(run.result) for run in runs}
    found: dict[str, list[ComparedRun]] = {}
    seen: dict[str, str] = {}
    for run in runs:
        own = run.label or _key(identities[run.name])
        same = f"{own} {_key(identities[run.name])} {run.seed}"
        if run.result.settings and same in seen:
            warn(f"{run.name} has the settings and the seed of {seen[same]}, and is not counted again")
            continue
        seen[same] = run.name
        found.setdefault(own, []).append(run)
    groups = [RunGroup("", tuple(members)) for members in found.values()]
    labels = _labels([identities[group.runs[0].name] for group in groups], groups)
    groups = [replace(group, label=label) for group, label in zip(groups, labels, strict=True)]
    for group in groups:
        members = [identities[run.name] for run in group.runs]
        if varied := [name for name in members[0] if _varies(name, members)]:
            listed = ", ".join(varied)
            warn(f"{group.label}: the mean of {len(members)} runs that differ in {listed}, as they have one label")
    for text in differences(groups):
        warn(text)
    return groups


def identity(result: Result) -> dict[str, Any]:
    """Return the settings that decide what a run is, by name; data and a model of the user's own by their content."""
    settings = result.settings
    values = {name: settings.get(name) for name in _NAMES}
    values |= {name: value for name, value in result.about.get("settings", {}).items() if name in _NAMES}
    if isinstance(values["algorithm"], str):
        values["algorithm"] = canonical(values["algorithm"])
    # A run that has not ended has no card, which says what was the default.
    values["learning_rate"] = recorded_rate(values)
    if values["optimizer"] not in (None, "momentum"):
        values["momentum"] = None
    values["model"] = result.about.get("network") or settings.get("model") or "lenet"
    given = settings.get("train_dataset") is not None
    values["train_dataset"] = result.about.get("data", {}).get("sha256") if given else None
    values["init_from"] = settings.get("init_from")
    if settings.get("origin_train_model_path") is not None:
        values["origin_train_model_path"] = result.about.get("starting_model_sha256")
    return values


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _labels(identities: Sequence[Mapping[str, Any]], groups: Sequence[RunGroup]) -> Iterator[str]:
    """Yield a label for each group: the user's, or the settings that are not the same in all groups."""
    own = [values for values, group in zip(identities, groups, strict=True) if not group.runs[0].label]
    names = [name for values in own for name in values if _varies(name, own)]
    if _follows_from_model("init", own):
        names = [name for name in names if name != "init"]
    varied = sorted(dict.fromkeys(names), key=lambda name: (name not in _BARE, name))
    used: Counter[str] = Counter()
    for values, group in zip(identities, groups, strict=True):
        first = group.runs[0]
        words = [_words(name, values.get(name), first.result) for name in varied]
        label = first.label or ", ".join(words) or str(values["algorithm"] or first.name)
        used[label] += 1
        yield label if used[label] == 1 else f"{label} ({used[label]})"


def _follows_from_model(name: str, identities: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a network of the user's has its own value, and no network has two: its name says enough."""
    found: dict[str, set[Any]] = {}
    for values in identities:
        found.setdefault(str(values["model"]), set()).add(values.get(name))
    return all(len(each) == 1 for each in found.values()) and any(None in each for each in found.values())


def _varies(name: str, identities: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the setting ``name`` is not the same in all. Pooled data have another fingerprint than apart."""
    found: dict[bool, set[str]] = {}
    for values in identities:
        kind = name == "train_dataset" and pools_data(str(values["algorithm"]))
        found.setdefault(kind, set()).add(_key({"": values.get(name)}))
    return any(len(each) > 1 for each in found.values())


def _words(name: str, value: Any, result: Result) -> str:
    if name == "algorithm":
        value = result.settings.get(name, value)
    if name == "train_dataset":
        source = result.settings.get(name)
        text = "synthetic data" if source is None else Path(str(source)).name
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
    return text if name in _BARE else f"{name}={text}"


def metrics_of(groups: Iterable[RunGroup]) -> list[Measure]:
    """Return what the runs were measured by; of one that was not evaluated it is not known."""
    histories = [run.result.history for group in groups for run in group.runs]
    return list(dict.fromkeys(each.metric for each in histories if each.evaluated)) or [ACCURACY]


def differences(groups: Sequence[RunGroup]) -> Iterator[str]:
    """Yield in words why runs can hardly be compared: other data, other clients evaluated, other numbers of rounds."""
    runs = [run for group in groups for run in group.runs]
    yield from _differing("were trained on different data", runs, _data)
    yield from _differing("were evaluated differently", runs, _measured)
    yield from _differing("have different numbers of rounds", runs, lambda run: (None, len(run.result.history)))


def _data(run: ComparedRun) -> tuple[Any, str | None]:
    """Return what must be the same for all runs that have the same first value.

    Synthetic data follow from the seed; data that lie in one place have another fingerprint than apart.
    """
    data, settings = run.result.about.get("data", {}).get("sha256"), run.result.settings
    drawn = run.seed if settings.get("train_dataset") is None else None
    return (drawn, pools_data(str(settings.get("algorithm")))), data and f"data {data[:8]}"


def _measured(run: ComparedRun) -> tuple[Any, str | None]:
    rows = run.result.history.evaluated
    return None, f"{rows[-1].metric} of {rows[-1].measured} clients" if rows else "not evaluated"


def _differing(what: str, runs: Sequence[ComparedRun], value: Any) -> Iterator[str]:
    found: dict[Any, dict[Any, list[str]]] = {}
    for run in runs:
        among, own = value(run)
        if own is not None:
            found.setdefault(among, {}).setdefault(own, []).append(run.name)
    for kinds in found.values():
        if len(kinds) > 1:
            parts = [f"{kind}: {_few(names)}" for kind, names in kinds.items()]
            yield f"the runs {what}, so they can hardly be compared: {'; '.join(parts)}"
            return


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
