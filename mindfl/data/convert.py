"""From one form to the other, without losing a bit."""

from __future__ import annotations

from mindfl.data.dataset import open_dataset
from mindfl.data.folder import local_path
from mindfl.data.progress import progress_bar
from mindfl.data.samples import Samples, Split
from mindfl.data.writer import Report, write_dataset
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike
from mindfl.spelling import checked_arguments


@checked_arguments
def convert_dataset(
    input: PathLike, output: PathLike, *, format: str, batch_size: int = 32, progress: bool = True
) -> Report:
    """Write the data set in ``input`` to the new folder ``output`` in the other (or the same) form.

    The training values stay bitwise the same; a user with images that are not 8-bit grey is left out and named in the
    report's ``problems``, as is every broken user. Raises what :func:`~mindfl.data.writer.write_dataset` raises.
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
