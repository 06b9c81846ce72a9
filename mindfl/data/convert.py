"""From one form to the other, without losing a bit."""

from __future__ import annotations

from mindfl.data.dataset import open_dataset
from mindfl.data.folder import local_path
from mindfl.data.samples import Samples, Split
from mindfl.data.writer import Report, progress_bar, write_dataset
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike
from mindfl.spelling import checked_arguments


@checked_arguments
def convert_dataset(
    input: PathLike, output: PathLike, *, format: str, batch_size: int = 32, progress: bool = True
) -> Report:
    """Write the data set in ``input`` in another form. Training values stay bitwise the same.

    Args:
        input: folder of the data set.
        output: the new folder.
        format: ``"compact"`` (one file of 8-bit images) or ``"bin"`` (the tutorial's files of each user).
        batch_size: samples per file of the form ``bin``.
        progress: show a progress bar.

    Returns:
        What was written. Broken users, and those whose images are not 8-bit grey, are left out and named in
        ``problems``.

    Raises:
        DataError: there is no data set, or it has no usable user.
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> convert_dataset("writers", "writers_bin", format="bin", progress=False).users
        3
    """
    dataset = open_dataset(input)
    if local_path(output).resolve().is_relative_to(dataset.root.resolve()):
        raise OptionError(f"the output {output} lies in the input {input}", hint="choose a folder outside it")
    with (
        write_dataset(output, format=format, source=dataset.source, batch_size=batch_size) as writing,
        progress_bar("converting", len(dataset), "user", shown=progress) as bar,
    ):
        for name in dataset.users:
            try:
                user = dataset.user(name)
                writing.writer.add(name, _samples(user.train), _samples(user.test))
            except DataError as error:
                writing.writer.skip(error)
            bar.update()
    return writing.report


def _samples(split: Split) -> Samples:
    return Samples(split.grey(), split.labels[: split.size])
