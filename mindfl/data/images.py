"""The tutorial's image folders -> a data set: ``<user>/train/<label>/*.png`` and ``<user>/test/<label>/*.png``.

MindSpore's documents name the label folders by class index, 0..61 (``3500_clients_img``). A single letter is also
taken: with digits both mean the same, so no name has two meanings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import ALPHABET, CLASSES, NO_SAMPLES, PARTS, Samples, natural_key
from mindfl.data.writer import Report, progress_bar, write_dataset
from mindfl.errors import DataError
from mindfl.files import PathLike, local_path, open_file
from mindfl.options import declared_arguments
from mindfl.options.command_options import ImagesOptions
from mindfl.options.job_options import DataForm

_LABELS = {str(index): index for index in range(CLASSES)} | {letter: index for index, letter in enumerate(ALPHABET)}
_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".pbm", ".pgm", ".pnm", ".ppm"),
}
#: files of Windows file managers; those of other systems are hidden
_LITTER = {"thumbs.db", "desktop.ini"}
#: sizes of LEAF's images and of resized ones
_SIZES = {(28, 28), (IMAGE_SIZE, IMAGE_SIZE)}
_MODES = {"1", "L", "P", "RGB"}


@declared_arguments(ImagesOptions)
def convert_images(
    input: PathLike,
    output: PathLike,
    *,
    format: DataForm = "bin",
    batch_size: int = 32,
    progress: bool = True,
) -> Report:
    """Convert pictures to a data set: ``input/<user>/<train|test>/<label>/*.png``.

    Pictures are PNG, JPEG, BMP, GIF, WebP, TIFF or PNM files of 28 x 28 or 32 x 32 pixels; colours become grey.
    Hidden files are ignored.

    Args:
        input: folder with one folder per user.
        output: the new folder.
        format: ``"bin"`` (the tutorial's files of each user) or ``"compact"`` (one file of 8-bit images).
        batch_size: samples per file of the form ``bin``.
        progress: show a progress bar.

    Returns:
        The report. Broken users are left out and named in ``problems``, as are files in other places than label
        folders and files there that are no pictures.

    Raises:
        DataError: no user is usable.
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> convert_images("images", "drawn", progress=False).users
        1
    """
    root = local_path(input)
    users = _folders(root)
    if not any((root / user / part).is_dir() for user in users for part in PARTS):
        raise DataError(f"no image folders in {root}", hint="expected <user>/<train|test>/<label>/*.png")
    with (
        write_dataset(output, format=format, source="images", batch_size=batch_size) as writing,
        progress_bar("reading images", len(users), "user", shown=progress) as bar,
    ):
        for problem in _strays(root, "the users' folders"):
            writing.writer.skip(problem)
        for user in users:
            try:
                for problem in _unused(root / user):
                    writing.writer.skip(problem)
                train, test = (_read_part(root / user / part, user) for part in PARTS)
                writing.writer.add(user, train, test)
            except DataError as error:
                writing.writer.skip(error)
            bar.update()
    return writing.report


def _folders(root: Path) -> list[str]:
    return [entry.name for entry in _entries(root) if entry.is_dir()]


def _files(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.suffix.lower() in _SUFFIXES]


def _strays(folder: Path, beside: str) -> list[DataError]:
    """Return a problem for images in ``folder`` that lie ``beside`` the expected folders."""
    return _left_out(_files(folder), f"beside {beside} in {folder}, where no images are read")


def _unused(user: Path) -> Iterator[DataError]:
    """Yield a problem for each place in a user's folder whose files are not read."""
    folders = _folders(user)
    yield from _strays(user, "train and test")
    if set(PARTS) <= set(folders):
        others = [user / name for name in folders if name not in PARTS]
        yield from _left_out(others, f"in {user}, of which only train and test are read")
    for part in (user / part for part in PARTS if (user / part).is_dir()):
        yield from _strays(part, "the label folders")
        for label in _folders(part):
            others = [entry for entry in _entries(part / label) if entry.suffix.lower() not in _SUFFIXES]
            yield from _left_out(others, f"in {part / label}, which is not a readable image")


def _left_out(entries: Sequence[Path], where: str) -> list[DataError]:
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return [DataError(f"{entries[0].name}{more} {where}")] if entries else []


def _entries(folder: Path) -> list[Path]:
    try:
        visible = [
            entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
        ]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None
    return sorted(visible, key=lambda entry: natural_key(entry.name))


def _read_part(folder: Path, user: str) -> Samples:
    """Return a user's images. Without a test folder, or with an empty one, the user has no test data."""
    is_test = folder.name == "test"
    if not folder.is_dir():
        if is_test and set(_folders(folder.parent)) <= set(PARTS):
            return NO_SAMPLES
        raise DataError(f"user {user} has no folder {folder}")
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for name in _folders(folder):
        if name not in _LABELS:
            raise DataError(f"user {user}: {folder / name} is not named by a class: 0..{CLASSES - 1} or a letter")
        for path in _files(folder / name):
            images.append(_read_image(path, user))
            labels.append(_LABELS[name])
    if not images and is_test:
        return NO_SAMPLES
    if not images:
        raise DataError(f"user {user} has no images in {folder}")
    return Samples(np.stack(images), np.array(labels))


def _read_image(path: Path, user: str) -> NDArray[np.uint8]:
    try:
        with open_file(path) as file, Image.open(file) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                raise DataError(f"user {user}: {path} has {opened.n_frames} frames, not one")
            image = ImageOps.exif_transpose(opened)
            if image.size not in _SIZES:
                width, height = image.size
                raise DataError(f"user {user}: {path} is {width}x{height}, not 28x28", hint="resize it first")
            if image.mode not in _MODES or "transparency" in image.info:
                mode = f"{image.mode} with transparency" if "transparency" in image.info else image.mode
                raise DataError(f"user {user}: {path} has mode {mode}, not 8-bit grey or colour")
            grey: NDArray[np.uint8] = np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = "not a readable image" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise DataError(f"user {user}: cannot read {path}: {reason}") from None
    resized: NDArray[np.uint8] = enlarge(grey[None])[0]
    return resized


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def enlarge(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize uint8 (k, h, w) to (k, 32, 32), bilinear, as the tutorial does."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = np.empty((len(grey), *size), np.uint8)
    for source, target in zip(grey, resized, strict=True):
        target[...] = np.asarray(Image.fromarray(source).resize(size, Image.Resampling.BILINEAR))
    return resized
