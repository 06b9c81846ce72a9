"""What experiments share: their files, a folder of reports, words for setting and data, and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mindfl.data import Dataset
from mindfl.files import remove_file
from mindfl.sim.config import JobConfig
from mindfl.spelling import counted
from mindfl.sweeps.experiment_file import toml_values


def shipped_text(name: str) -> str:
    """Return the experiment file ``name``, which is part of this package.

    Example:
        >>> shipped_text("femnist50").splitlines()[4]
        'client_num = 50'
    """
    return (Path(__file__).parent / f"{name}.toml").read_text("utf-8")


def shipped_experiment(name: str) -> dict[str, Any]:
    """Return what the experiment file ``name`` says, as :func:`mindfl.sweeps.read_experiment` takes it."""
    return toml_values(shipped_text(name))


def with_defaults(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` without those that are None, and ``defaults`` for the missing ones."""
    return {**defaults, **{name: value for name, value in settings.items() if value is not None}}


def remove_reports(folder: Path, files: Sequence[str]) -> None:
    """Remove the reports of an earlier experiment, so that none is taken for this one's."""
    for file in files:
        remove_file(folder / file)


@contextmanager
def written_up(write: Callable[[], None]) -> Iterator[None]:
    """Call ``write`` at the end of the block. An error that ends the block is raised, not one of ``write``."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            write()
        raise
    write()


def setting_words(config: JobConfig, clients: int, iterations: int) -> str:
    """Return the size of an experiment in words."""
    return (
        f"{counted(clients, 'client')}, {counted(iterations, 'iteration')}, {counted(config.epochs, 'epoch')}, "
        f"batch {config.network.batch_size}"
    )


def data_words(dataset: Dataset, clients: int) -> str:
    """Return whose handwriting an experiment with so many ``clients`` used."""
    if dataset.synthetic:
        return f"SYNTHETIC handwriting, no measure of FEMNIST ({counted(clients, 'synthetic writer')})"
    return f"{dataset.title} ({dataset.source}), {clients} of its {counted(len(dataset.users), 'writer')}"


def markdown(title: str, facts: Sequence[str], *lines: str) -> str:
    """Return a report in Markdown: a heading, a list of facts, and further lines."""
    return "\n".join([f"# {title}", "", *(f"- {fact}" for fact in facts), "", *lines]) + "\n"
