"""Writers who do not exist: a 62-class, writer-partitioned set of drawn characters. It is not FEMNIST.

It is shaped like FEMNIST (LEAF): about 227 +- 89 samples per writer, split 9:1, digits half of all; a class mix of its
own for each writer; 8-bit grey, ink on white paper.
"""

from __future__ import annotations

import numpy as np

from mindfl.data.handwriting import Hand
from mindfl.data.samples import CLASSES, SYNTHETIC, Samples
from mindfl.data.writer import Report, progress_bar, random_generator, write_dataset
from mindfl.errors import OptionError
from mindfl.files import PathLike
from mindfl.spelling import checked_arguments
from mindfl.words import counted

#: As many as FEMNIST has writers in the tutorial's ``3500_clients_bin``.
MAX_USERS = 3500
#: Mean and standard deviation of FEMNIST's samples per writer (MindSpore Federated's data set description).
_MEAN, _DEVIATION = 226.83, 88.94
_FEWEST, _MOST = 40, 480
#: FEMNIST's rough share of digits; the rest falls equally on capitals and small letters.
_CLASS_SHARES = np.repeat([0.48 / 10, 0.26 / 26, 0.26 / 26], [10, 26, 26])
#: Dirichlet concentration: the smaller, the more a writer's mix differs from the shares above.
_CONCENTRATION = 60.0


@checked_arguments
def make_synthetic(
    output: PathLike,
    *,
    users: int = 50,
    seed: int = 0,
    format: str = "compact",
    batch_size: int = 32,
    progress: bool = True,
) -> Report:
    """Draw a data set of synthetic handwriting: 62 classes, partitioned by writer. It is not FEMNIST.

    Args:
        output: the new folder.
        users: writers, 1 to 3500, named ``synthetic_0000`` and so on.
        seed: a writer depends on it and on the writer's number alone, not on how many others there are.
        format: ``"compact"`` (one file of 8-bit images) or ``"bin"`` (the tutorial's files of each user).
        batch_size: samples per file of the form ``bin``.
        progress: show a progress bar.

    Returns:
        What was written.

    Raises:
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> make_synthetic("two writers", users=2, progress=False).users
        2
    """
    if not 1 <= users <= MAX_USERS:
        raise OptionError(f"{counted(users, 'synthetic user')} asked for", hint=f"choose 1 to {MAX_USERS}")
    with (
        write_dataset(output, format=format, source=SYNTHETIC, batch_size=batch_size) as writing,
        progress_bar("drawing synthetic writers", users, "user", shown=progress) as bar,
    ):
        for number in range(users):
            writing.writer.add(f"{SYNTHETIC}_{number:04d}", *draw_writer(seed, number))
            bar.update()
    return writing.report


def draw_writer(seed: int, number: int) -> tuple[Samples, Samples]:
    """Return the train and test samples of writer ``number``."""
    rng = random_generator(seed, number)
    size = int(np.clip(round(rng.normal(_MEAN, _DEVIATION)), _FEWEST, _MOST))
    mix = rng.dirichlet(_CLASS_SHARES * _CONCENTRATION)
    labels = rng.choice(CLASSES, size, p=mix)
    return Samples(Hand.choose(rng).write(labels, rng), labels).split(rng)
