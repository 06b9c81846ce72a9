"""Folders of pictures -> a data set: the tutorial's in its own forms, all others as arrays."""

from __future__ import annotations

import re
from typing import Any

from mindfl.data.class_folders import convert_class_folders
from mindfl.data.femnist_folders import convert_femnist, is_femnist
from mindfl.data.picture_folders import find_layout
from mindfl.data.without_users import Division
from mindfl.data.writer import Report
from mindfl.errors import OptionError
from mindfl.files import PathLike, local_path
from mindfl.options import declared_arguments
from mindfl.options.data_options import ImagesForm, ImagesOptions

_LARGEST = 4096


@declared_arguments(ImagesOptions)
def convert_images(
    input: PathLike,
    output: PathLike,
    *,
    format: ImagesForm | None = None,
    batch_size: int = 32,
    resize: int | tuple[int, int] | str | None = None,
    grey: bool = False,
    partition: str = "iid",
    users: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Convert pictures to a data set.

    Folders may be nested as ``<user>/<train|test>/<class>/*.png``, ``<user>/<class>/*.png`` (a tenth of each user's
    samples is for testing), ``<train|test>/<class>/*.png`` or ``<class>/*.png`` (torchvision's ImageFolder: the samples
    are divided among ``users`` clients). Pictures are PNG, JPEG, BMP, GIF, WebP, TIFF or PNM files; hidden files are
    ignored. They are turned as their EXIF data say; transparent pixels are put on white; 16-bit grey is rounded to 8
    bits, palettes and CMYK become RGB.

    Args:
        input: folder of folders of pictures.
        output: the new folder.
        format: ``"arrays"``: pictures of one size, in colour if any picture is, with the names of their classes in
            natural order (2 before 10). ``"bin"`` (the tutorial's files of each user) or ``"compact"`` (one file of
            8-bit images): grey, 32 x 32, with FEMNIST's 62 classes, for ``<user>/<train|test>/<label>`` with labels
            0..61 or letters and pictures of 28 x 28 or 32 x 32. None: ``"bin"`` for such folders, else ``"arrays"``.
        batch_size: samples per file of the form ``bin``.
        resize: height and width to resize to, bilinear: 28, (32, 48) or "32x48". None: as the pictures are.
        grey: turn colours into grey.
        partition: how samples without users are divided; see :func:`mindfl.data.partition`.
        users: number of clients, for samples without users.
        seed: seed of partition and split.
        progress: show a progress bar.

    Returns:
        The report. Pictures that cannot be read, and files in other places than class folders, are left out and named
        in ``problems``; in the forms ``bin`` and ``compact``, so are users with such a picture.

    Raises:
        DataError: the folders are nested in another way, no user is usable, or pictures differ in size.
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> convert_images("images", "drawn", progress=False).users
        1
        >>> convert_images("images", "large", resize=(24, 36), progress=False).classes
        1
    """
    size, layout = _size(resize), find_layout(local_path(input))
    if format is None:
        format = "bin" if size is None and not grey and is_femnist(layout) else "arrays"
    if format == "arrays":
        division = Division(partition, users, seed)
        return convert_class_folders(layout, output, size=size, grey=grey, division=division, progress=progress)
    if size is not None:
        raise OptionError(f"--resize is for --format arrays: {format} has images of 32x32")
    if not (layout.users and layout.parts):
        raise OptionError(
            f"{input} is nested as {layout}, --format {format} needs <user>/<train|test>/<label>/*.png",
            hint="leave --format out",
        )
    return convert_femnist(layout, output, format=format, batch_size=batch_size, progress=progress)


def _size(resize: Any) -> tuple[int, int] | None:
    """Return height and width."""
    if resize is None:
        return None
    sides = resize
    if isinstance(resize, str) and (found := re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", resize)):
        sides = (int(found[1]), int(found[2] or found[1]))
    elif type(resize) is int:
        sides = (resize, resize)
    if not isinstance(sides, tuple | list) or len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise OptionError(
            f"resize must be a size such as 28 or 32x48 (height x width), at most {_LARGEST}, got {resize!r:.60}"
        )
    return sides[0], sides[1]


def _is_side(side: object) -> bool:
    return type(side) is int and 0 < side <= _LARGEST
