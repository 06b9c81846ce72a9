"""Labelled texts -> a data set of tokens, as MindSpore Federated's ALBERT demo reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.arrays import ArrayDataset
from mindfl.data.folder import refuse_filled
from mindfl.data.labelled_lines import (
    IDS_FILE,
    VOCABULARY_FILE,
    Line,
    TextFolder,
    find_texts,
    known_lines,
    read_lines,
)
from mindfl.data.samples import TEST_SHARE, natural_key, split_positions
from mindfl.data.stored_arrays import arrays_report, save_arrays
from mindfl.data.tokenizer import MOST_TOKENS, Tokenizer, make_vocabulary, read_vocabulary, without_case
from mindfl.data.without_users import Part
from mindfl.data.writer import Report, progress_bar
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike, local_path
from mindfl.options import declared_arguments
from mindfl.options.data_options import TextOptions

#: how texts were read, beside the vocabulary
READING_FILE = "reading.json"
#: pieces of a sample in the demo
LENGTH = 8
_SOURCE = "text"


@declared_arguments(TextOptions)
def convert_text(
    input: PathLike,
    output: PathLike,
    *,
    vocal_file: PathLike | None = None,
    ids_file: PathLike | None = None,
    labels: str | Sequence[str] | None = None,
    length: int = LENGTH,
    most_tokens: int = MOST_TOKENS,
    lower_case: bool = False,
    test_share: float = 0.1,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Convert labelled texts to samples of word pieces, as the device of MindSpore Federated's ALBERT demo does.

    Each sample is int32 (3, length): numbers of word pieces between ``[CLS]`` and ``[SEP]``, padded with zeros; segment
    numbers, which are 0; and the mask, which is 1 where there is no padding. Of a longer text, training has the pieces
    from a drawn one on, going on with the first behind the last; a test has the first pieces.

    Args:
        input: folder of text files (UTF-8), one for each user, with a line ``<<<label>>>text`` for each sample; they
            may be in the folder ``client`` in it. ``eval.txt`` in it, or in its folder ``eval``, is the central test
            set.
        output: the new folder. The vocabulary is written into it too.
        vocal_file: vocabulary, a word piece a line; None: ``vocab.txt`` in ``input``, or one is made from the users'
            texts.
        ids_file: number of each piece, in the lines of the vocabulary; None: ``vocab_map_ids.txt`` in ``input``, or
            the lines' own numbers from 0.
        labels: labels in the order of their classes, also as one text with commas; None: those of the users' texts, in
            natural order.
        length: word pieces of a sample, with ``[CLS]`` and ``[SEP]``.
        most_tokens: largest size of a vocabulary that is made.
        lower_case: turn texts into lower case without accents first; the demo's device does not.
        test_share: share of each user's samples that is drawn for testing; 0: none.
        seed: seed of the draws.
        progress: show a progress bar.

    Returns:
        The report. Files that are no texts, lines in another form, lines of unknown labels, and users without usable
        lines are left out and named in ``problems``.

    Raises:
        DataError: there are no usable texts, or the vocabulary cannot be used.
        OptionError: an argument has no usable value, or ``output`` holds something.
        StorageError: a file cannot be read, or the data set not written.

    Example:
        >>> Path("texts").mkdir()
        >>> lines = "<<<good>>>so glad", "<<<bad>>>so sad", "<<<good>>>glad again"
        >>> _ = Path("texts", "ann.txt").write_text("\\n".join(lines))
        >>> convert_text("texts", "tokens", progress=False).classes
        2
    """
    refuse_filled(output)
    options = TextReading(length, most_tokens, lower_case, test_share, seed)
    files = with_vocabulary(find_texts(local_path(input)), vocal_file, ids_file)
    problems: list[DataError] = []
    dataset, vocabulary = read_texts(files, options, named_labels(labels), problems, progress=progress)
    written = {
        VOCABULARY_FILE: "".join(f"{piece}\n" for piece in vocabulary),
        IDS_FILE: "".join(f"{number}\n" for number in vocabulary.values()),
        READING_FILE: json.dumps({"lower_case": lower_case}) + "\n",
    }
    save_arrays(dataset, output, source=_SOURCE, files=written, progress=progress)
    return arrays_report(dataset, output, _SOURCE, problems)


class TextReading(NamedTuple):
    """How texts become samples; see :func:`convert_text`."""

    length: int = LENGTH
    most_tokens: int = MOST_TOKENS
    lower_case: bool = False
    test_share: float = TEST_SHARE
    seed: int = 0


def with_vocabulary(files: TextFolder, vocabulary: PathLike | None, ids: PathLike | None) -> TextFolder:
    """Return ``files`` with the files of a vocabulary that were named, if any.

    Raises :class:`OptionError` where numbers are named for no vocabulary.
    """
    if vocabulary is None and ids is None:
        return files
    pieces = files.vocabulary if vocabulary is None else local_path(vocabulary)
    if pieces is None:
        raise OptionError(f"ids_file {ids} numbers a vocabulary, and there is none", hint="give --vocal_file too")
    return files._replace(vocabulary=pieces, ids=None if ids is None else local_path(ids))


def named_labels(labels: Any) -> list[str] | None:
    """Return the labels that an option names. Raises :class:`OptionError` where they are no different texts."""
    if labels is None:
        return None
    names = [each.strip() for each in labels.split(",")] if isinstance(labels, str) else list(labels)
    if not names or not all(isinstance(each, str) and each for each in names) or len({*names}) != len(names):
        raise OptionError(f"labels must be different texts such as good,bad, got {labels!r:.60}")
    return names


def read_texts(
    files: TextFolder,
    reading: TextReading,
    labels: Sequence[str] | None,
    problems: list[DataError],
    *,
    name: str = _SOURCE,
    progress: bool = False,
) -> tuple[ArrayDataset, dict[str, int]]:
    """Return the data set of texts, and its vocabulary; see :func:`convert_text`.

    What is left out is added to ``problems``.
    """
    users, test = _read_files(files, problems, progress)
    if labels is None:
        labels = sorted({line.label for lines in users.values() for line in lines}, key=natural_key)
    classes = {label: number for number, label in enumerate(labels)}
    known = {user: list(known_lines(lines, classes, problems)) for user, lines in users.items()}
    problems += [DataError(f"user {user} has no usable lines") for user, lines in known.items() if not lines]
    users = {user: lines for user, lines in known.items() if lines}
    if not users:
        raise DataError(f"no user has usable texts: {problems[0].advice() if problems else 'there are none'}")
    test = list(known_lines(test, classes, problems))
    cut = Cutting(reading, _vocabulary(files, reading, users), classes)
    parts = {user: cut.user(lines, index) for index, (user, lines) in enumerate(users.items())}
    dataset = ArrayDataset(
        parts,
        class_names=labels,
        vocabulary=cut.tokenizer.size,
        central_test=cut.part(test, None) if test else None,
        test_share=0,
        name=name,
    )
    return dataset, cut.vocabulary


def _read_files(
    files: TextFolder, problems: list[DataError], progress: bool
) -> tuple[dict[str, list[Line]], list[Line]]:
    """Return the lines of each user, and those of the test file."""
    users = {}
    with progress_bar("reading texts", len(files.users), "user", shown=progress) as bar:
        for user, path in files.users.items():
            users[user] = _read_file(path, problems)
            bar.update()
    return users, [] if files.test is None else _read_file(files.test, problems)


def _read_file(path: Path, problems: list[DataError]) -> list[Line]:
    try:
        return read_lines(path, problems)
    except DataError as error:
        problems.append(error)
        return []


def _vocabulary(files: TextFolder, reading: TextReading, users: dict[str, list[Line]]) -> dict[str, int]:
    if files.vocabulary is not None:
        return read_vocabulary(files.vocabulary, files.ids)
    texts = (line.text for lines in users.values() for line in lines)
    return make_vocabulary(map(without_case, texts) if reading.lower_case else texts, reading.most_tokens)


class Cutting:
    """Turns lines into samples and class numbers."""

    def __init__(self, reading: TextReading, vocabulary: dict[str, int], classes: dict[str, int]) -> None:
        self.tokenizer = Tokenizer(vocabulary)
        self.vocabulary = vocabulary
        self._reading, self._classes = reading, classes

    def user(self, lines: Sequence[Line], index: int) -> tuple[NDArray[Any], ...]:
        """Return a user's train and test part."""
        rng = np.random.default_rng((self._reading.seed, 2, index))
        if not self._reading.test_share:
            return self.part(lines, rng)
        train, test = split_positions(len(lines), rng, self._reading.test_share)
        return *self.part([lines[place] for place in train], rng), *self.part([lines[place] for place in test], None)

    def part(self, lines: Sequence[Line], rng: np.random.Generator | None) -> Part:
        """Return samples and labels; ``rng`` draws where longer texts begin, None: at their beginning."""
        length = self._reading.length
        samples = np.zeros((len(lines), 3, length), np.int32)
        for place, line in enumerate(lines):
            text = without_case(line.text) if self._reading.lower_case else line.text
            pieces = self.tokenizer.pieces(text)
            start = int(rng.integers(len(pieces))) if rng is not None and len(pieces) > length - 2 else 0
            samples[place] = self.tokenizer.features(pieces, length, start)
        return samples, np.array([self._classes[line.label] for line in lines], np.int32)
