"""An experiment: the options of a job, and those that vary; its runs by name."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindfl.algorithms.naming import canonical
from mindfl.errors import OptionError
from mindfl.extensions import is_reference
from mindfl.files import PathLike, local_path
from mindfl.options import Option, options_of
from mindfl.options.declaration import shown
from mindfl.options.job_options import JobOptions
from mindfl.server.settings.document import Problems
from mindfl.spelling import counted, nearest
from mindfl.sweeps.experiment_file import (
    SWEEP,
    Document,
    PlacedCases,
    PlacedValue,
    PlacedValues,
    YamlTruth,
    document_of,
    read_document,
)

#: options that are texts in a job, and name files
_PATHS = ("vocal_file", "ids_file")
#: option -> why an experiment does not have it
_OF_A_CALL = {
    "resume": "a call decides that: give it on the command line",
    "overwrite": "a call decides that: give it on the command line",
}
#: options of the commands that a job does not have
_SWITCHES = ("live", "live_port", "quiet", "json")
#: option -> why it cannot vary
_CONSTANT = {
    **_OF_A_CALL,
    "work_dir": "each run has a folder of its own in --work_dir",
    "train_model_path": "each run has a folder of its own for its models",
    "infer_model_path": "each run has a folder of its own for its models",
    "workers": "the result does not depend on it",
}
_MOST_RUNS = 10_000
_LONGEST_NAME = 120


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment.

    Args:
        name: also the name of its folder, such as ``algorithm=fedprox_mu=0.1,seed=2``.
        settings: the options that are given, by name: texts, numbers, truth values, and lists of texts.
        varies: what the table ``[sweep]`` lets vary: options, of which only other tables have one by their value here,
            and the names of cases, None where only other tables have such cases.
        places: where each option stands.
    """

    name: str
    settings: Mapping[str, Any]
    varies: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def located(self, error: OptionError) -> OptionError:
        """Return ``error``, which a job with these settings raised, with the line of an option that it names."""
        words = re.findall(r"\w+", str(error))
        place = next((self.places[word] for word in words if word in self.places), "")
        named = f"run {self.name}: " if self.varies else ""
        return type(error)(f"{place}{place and ': '}{named}{error}", hint=error.hint)


@dataclass(frozen=True)
class ExperimentPlan:
    """What an experiment file says, checked.

    Args:
        settings: the options of all runs, by name.
        runs: the runs; one without the table ``[sweep]``.
        swept: whether there is such a table.
        path: the file; None for a dictionary.
    """

    settings: Mapping[str, Any]
    runs: tuple[PlannedRun, ...]
    swept: bool
    path: Path | None = None

    def run(self, name: str | None = None) -> PlannedRun:
        """Return the run ``name``; None: the only one. Raises :class:`OptionError`."""
        source = "the experiment" if self.path is None else str(self.path)
        if name is None and self.swept:
            raise OptionError(
                f"{source} has [{SWEEP}]: {counted(len(self.runs), 'run')}",
                hint=f"mindfl sweep runs all, --run {self.runs[0].name} one of them",
            )
        found = [run for run in self.runs if name in (None, run.name)]
        if not found:
            near = nearest(str(name), [run.name for run in self.runs])
            hint = f"did you mean {near}?" if near else "mindfl sweep --dry-run lists them"
            raise OptionError(f"{source} has no run {name}", hint=hint)
        return found[0]


def read_experiment(source: PathLike | Mapping[str, Any]) -> ExperimentPlan:
    """Read an experiment, and check each option as it is declared.

    Args:
        source: a TOML or YAML file of options of ``mindfl simulate``, or a dictionary like one. Underscores and dashes
            are the same. Lists in the table ``sweep`` are tried in all combinations; of several such tables, all those
            of each. A table there is a list of named cases, each of which sets options together. Relative paths are
            relative to the file's folder.

    Returns:
        The settings and the runs.

    Raises:
        OptionError: names every problem with its line.
        StorageError: the file cannot be read.

    Example:
        >>> grid = {"algorithm": ["fedavg", "fedprox:mu=0.1"], "seed": [0, 1]}
        >>> [run.name for run in read_experiment({"iterations": 5, "sweep": grid}).runs][2:]
        ['algorithm=fedprox_mu=0.1,seed=0', 'algorithm=fedprox_mu=0.1,seed=1']
    """
    problems = Problems()
    if isinstance(source, Mapping):
        path, folder = None, Path.cwd()
        document = document_of(source, lambda keys: ".".join(map(str, keys)), problems)
    elif isinstance(source, str | os.PathLike):
        path = local_path(source)
        folder = path.absolute().parent
        document = read_document(path, problems)
    else:
        raise OptionError(f"an experiment is a file or a dictionary, got {shown(source)}")
    found = _Checker(folder, problems).checked(document)
    problems.raise_any()
    runs = _planned(found, problems)
    problems.raise_any()
    settings = {name: each.value for name, each in found.settings.items()}
    return ExperimentPlan(settings, runs, bool(document.grids), path)


@dataclass(frozen=True, slots=True)
class _Choice:
    """One value of a list in ``[sweep]``, or one of its cases: what it sets, and the word for it in names."""

    settings: dict[str, PlacedValue]
    word: str


@dataclass(frozen=True)
class _Checked:
    settings: dict[str, PlacedValue]
    grids: tuple[dict[str, list[_Choice]], ...]


class _Checker:
    """Checks the values of a document; relative paths are relative to ``folder``."""

    def __init__(self, folder: Path, problems: Problems) -> None:
        self._folder = folder
        self._problems = problems
        self._options = options_of(JobOptions)
        #: how an option may be written -> its name
        self._names = {
            spelling.lstrip("-").replace("-", "_"): name
            for name, option in self._options.items()
            for spelling in (name, *filter(None, "/".join(option.spellings).split("/")))
        }

    def checked(self, document: Document) -> _Checked:
        """Return the values by the names of options; each problem is noted."""
        refused = (
            _OF_A_CALL
            if not document.grids
            else {name: why for name, why in _CONSTANT.items() if name not in ("work_dir", "workers")}
        )
        return _Checked(self._settings(document.settings, refused), tuple(map(self._grid, document.grids)))

    def _settings(self, values: PlacedValues, refused: Mapping[str, str]) -> dict[str, PlacedValue]:
        return {
            name: PlacedValue(self._value(self._options[name], given), given.place)
            for name, given in self._named(values, refused)
        }

    def _grid(self, grid: Mapping[str, PlacedValue | PlacedCases]) -> dict[str, list[_Choice]]:
        lists = {key: given for key, given in grid.items() if isinstance(given, PlacedValue)}
        named = dict(self._named(lists, _CONSTANT))
        found: dict[str, list[_Choice]] = {}
        for key, given in grid.items():
            if isinstance(given, PlacedValue):
                name = self._names.get(key.replace("-", "_"), "")
                if named.get(name) is given:
                    found[name] = self._choices(self._options[name], given)
            else:
                found[key] = self._cases(key, given)
        self._check_apart(found)
        return found

    def _cases(self, axis: str, cases: PlacedCases) -> list[_Choice]:
        place = next((given.place for options in cases.values() for given in options.values()), SWEEP)
        if not axis.strip():
            self._problems.add(place, f"cases have a name: [{SWEEP}.NAME]")
        if not all(word.strip() for word in cases):
            self._problems.add(place, f"a case of {axis} has no name")
        if axis.replace("-", "_") in self._names:
            self._problems.add(place, f"{axis} is an option: its values are a list, and cases have another name")
        return [_Choice(self._settings(options, _CONSTANT), word) for word, options in cases.items()]

    def _check_apart(self, grid: Mapping[str, list[_Choice]]) -> None:
        """Note options that two lists or cases of a grid set."""
        setters: dict[str, str] = {}
        for axis, choices in grid.items():
            own = {name: given.place for choice in choices for name, given in choice.settings.items()}
            for name, place in own.items():
                if name in setters:
                    self._problems.add(place, f"{name} is set by {setters[name]} and by {axis}: one of them must do")
            setters |= dict.fromkeys(own, axis)

    def _named(self, values: PlacedValues, refused: Mapping[str, str]) -> Iterator[tuple[str, PlacedValue]]:
        found: set[str] = set()
        for key, given in values.items():
            name = self._names.get(key.replace("-", "_"), "")
            if key.replace("-", "_") in _SWITCHES:
                self._problems.add(
                    given.place, f"{key} does not stand here: a call decides that: give it on the command line"
                )
            elif not name:
                near = nearest(key, self._options)
                hint = f" (did you mean {near}?)" if near else ""
                self._problems.add(given.place, f"there is no option {shown(key)}{hint}")
            elif name in refused:
                self._problems.add(given.place, f"{name} does not stand here: {refused[name]}")
            elif name in found:
                self._problems.add(given.place, f"{name} is given twice")
            else:
                found.add(name)
                yield name, given

    def _choices(self, option: Option, given: PlacedValue) -> list[_Choice]:
        if not isinstance(given.value, list | tuple | range):
            fault = f"{option.name} must be a list here, got {shown(given.value)}: one value for all runs stands above"
            self._problems.add(given.place, fault)
            return []
        if not given.value:
            self._problems.add(given.place, f"{option.name} is an empty list")
        return [
            _Choice(
                {option.name: PlacedValue(self._value(option, PlacedValue(value, given.place)), given.place)},
                _word(value),
            )
            for value in given.value
        ]

    def _value(self, option: Option, given: PlacedValue) -> Any:
        """Return the value as text, number, truth value, or list of texts."""
        value = given.value
        if option.several and isinstance(value, list | tuple):
            return [self._one(option, each, given.place) for each in value]
        if option.several:
            return [self._one(option, value, given.place)]
        return self._one(option, value, given.place)

    def _one(self, option: Option, value: Any, place: str) -> Any:
        if isinstance(value, YamlTruth):
            if option.kind not in (bool, int, float):
                fault = f"YAML takes {value.word} without quotes for {str(value.truth).lower()}"
                self._problems.add(place, f'{option.name}: {fault}: write "{value.word}"')
                return None
            value = value.truth
        if isinstance(value, list | tuple):
            self._problems.add(place, f"{option.name} takes one value, got a list: lists stand in [{SWEEP}]")
            return None
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if (option.objects or option.kind is object) and not isinstance(value, str | None):
            self._problems.add(place, f"{option.name} must be a text, such as file.py:NAME, got {shown(value)}")
            return None
        try:
            checked = option.check(self._anchored(option, value))
        except OptionError as error:
            self._problems.add(place, error.advice())
            return None
        return os.fspath(checked) if isinstance(checked, Path) else checked

    def _anchored(self, option: Option, value: Any) -> Any:
        """Return ``value`` with the path in it, if any, made absolute."""
        if not isinstance(value, str) or not value.strip():
            return value
        if option.objects or option.kind is object:
            path, suffix, rest = value.partition(".py:")
            if suffix and rest:
                return f"{self._absolute(path)}{suffix}{rest}"
        if option.kind is not Path and option.name not in _PATHS:
            return value
        named = option.objects and is_reference(value) and not (self._folder / value).exists()
        return value if named else self._absolute(value)

    def _absolute(self, path: str) -> str:
        return str(self._folder / local_path(path))


def _word(value: Any) -> str:
    if isinstance(value, YamlTruth):
        value = value.truth
    if isinstance(value, list | tuple):
        return "+".join(map(_word, value))
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "none"}[value]
    return str(value)


def _planned(found: _Checked, problems: Problems) -> tuple[PlannedRun, ...]:
    base = {name: given.value for name, given in found.settings.items()}
    places = {name: given.place for name, given in found.settings.items()}
    if not found.grids:
        return (PlannedRun("run", base, {}, places),)
    count = sum(math.prod(map(len, grid.values())) for grid in found.grids)
    if count > _MOST_RUNS:
        first = next(
            (
                given.place
                for choices in found.grids[0].values()
                for choice in choices
                for given in choice.settings.values()
            ),
            SWEEP,
        )
        raise OptionError(
            f"{first}: [{SWEEP}] makes {count} runs, more than {_MOST_RUNS}", hint="divide the experiment"
        )
    varied = tuple(dict.fromkeys(axis for grid in found.grids for axis in grid))
    options, drafts = options_of(JobOptions), []
    for grid in found.grids:
        for chosen in itertools.product(*grid.values()):
            words = dict(zip(grid, (choice.word for choice in chosen), strict=True))
            own = {name: given for choice in chosen for name, given in choice.settings.items()}
            settings = {**base, **{name: given.value for name, given in own.items()}}
            varies = {
                axis: settings.get(axis, options[axis].default) if axis in options else words.get(axis)
                for axis in varied
            }
            at = {**places, **{name: given.place for name, given in own.items()}}
            name = ",".join(f"{axis}={words[axis]}" for axis in varied if axis in words)
            drafts.append((name, PlannedRun("", settings, varies, at)))
    for place, fault in _repeated(drafts):
        problems.add(place, fault)
    names = _names([words for words, _ in drafts])
    return tuple(
        PlannedRun(name, run.settings, run.varies, run.places) for name, (_, run) in zip(names, drafts, strict=True)
    )


def _repeated(drafts: list[tuple[str, PlannedRun]]) -> Iterator[tuple[str, str]]:
    """Yield place and fault of each run that an earlier one is already, perhaps in other words or by default."""
    options = options_of(JobOptions)
    defaults = {name: options[name].default for _, run in drafts for name in run.settings}
    seen: dict[frozenset[tuple[str, Any]], str] = {}
    for words, run in drafts:
        settings = {**defaults, **run.settings}
        if isinstance(algorithm := settings.get("algorithm"), str):
            settings["algorithm"] = canonical(algorithm)
        key = frozenset((name, tuple(value) if isinstance(value, list) else value) for name, value in settings.items())
        if key in seen:
            same = "there twice" if seen[key] == words else f"the same as {seen[key]}"
            named = [
                run.places[option] for option in (*run.varies, *reversed(list(run.places))) if option in run.places
            ]
            yield next(iter(named), SWEEP), f"the run {words} is {same}"
        seen.setdefault(key, words)


def _names(texts: list[str]) -> list[str]:
    """Return a name of a folder for each of ``texts``: its letters, digits and ``.,=+-``; long ones are cut.

    A name that would stand for several texts ends with eight digits of the text's hash.
    """
    plain = [re.sub(r"[^\w.,=+-]+", "_", text) for text in texts]
    counts, names = Counter(plain), []
    for text, name in zip(texts, plain, strict=True):
        content = name.encode(errors="replace")
        if len(content) > _LONGEST_NAME or counts[name] > 1:
            digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
            name = f"{content[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"
        names.append(name)
    return names
